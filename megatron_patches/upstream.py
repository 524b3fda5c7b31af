"""Reads the installed megatron-core as source text: versions, fingerprints, readable differences. No torch.

A fingerprint is a short hash of a symbol's syntax tree with docstrings and annotations-only noise removed, so comments,
formatting and line numbers don't count. `fingerprints.json` keeps one hash per statement for each tested version:
enough to say which statements changed without keeping a copy of upstream's code.

    python -m megatron_patches.upstream     # prints this version's fingerprints and records the statement hashes
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from megatron_patches.errors import FingerprintError, PatchError
from megatron_patches.patch import Patch

STATEMENTS = Path(__file__).with_name("fingerprints.json")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def version() -> str:
    """The installed megatron-core's version.

    Raises:
        PatchError: It isn't installed.
    """
    try:
        return importlib.metadata.version("megatron-core")
    except importlib.metadata.PackageNotFoundError:
        raise PatchError("megatron-core is not installed; `pip install 'megatron-core>=0.16.1,<0.20'`") from None


@cache
def _tree(module: str) -> tuple[ast.Module, tuple[str, ...]]:
    """Parses a module of a namespace package without importing it (importing megatron.core imports torch)."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        base = Path(folder, *rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                text = path.read_text(encoding="utf-8")
                return ast.parse(text), tuple(text.splitlines())
    raise PatchError(f"module {module} is not in the installed megatron-core {version()}")


def _canonical(node: object) -> object:
    """A tree as nested tuples that are equal on every Python: empty fields left out, docstrings dropped."""
    if isinstance(node, ast.AST):
        fields = dict(ast.iter_fields(node))
        body = fields.get("body")
        if isinstance(node, (ast.Module, ast.ClassDef, *_Function.__args__)) and body and _is_docstring(body[0]):
            fields["body"] = body[1:]
        kept = [(key, _canonical(value)) for key, value in fields.items() if value not in (None, []) and key != "kind"]
        return (type(node).__name__, *kept)
    if isinstance(node, list):
        return tuple(_canonical(item) for item in node)
    return repr(node)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _hash(node: object, digits: int = 12) -> str:
    return hashlib.sha256(repr(_canonical(node)).encode()).hexdigest()[:digits]


def find(target: str) -> ast.stmt:
    """Finds a symbol's definition.

    Args:
        target: `package.module:attribute.path`; an imported name or a constant is found as its statement.

    Raises:
        PatchError: It isn't there.
    """
    module, path = target.split(":")
    node: ast.AST = _tree(module)[0]
    for name in path.split("."):
        found = [child for child in ast.walk(node) if _defines(child, name)]
        if not found:
            raise PatchError(f"{target} is not in the installed megatron-core {version()}: no {name!r}")
        node = found[0]
    assert isinstance(node, ast.stmt)
    return node


def _defines(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.ClassDef | _Function):
        return node.name == name
    if isinstance(node, ast.Import | ast.ImportFrom):
        return any((alias.asname or alias.name) == name for alias in node.names)
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)


def _parts(node: ast.stmt) -> list[ast.AST]:
    """What a difference is told in: a class's members, a function's statements (and its signature first)."""
    if isinstance(node, ast.ClassDef):
        return [part for part in node.body if not _is_docstring(part)]
    if isinstance(node, _Function):
        return [node.args, *(part for part in node.body if not _is_docstring(part))]
    return [node]


def watched(patch: Patch) -> tuple[str, ...]:
    """The megatron-core symbols whose text a patch depends on."""
    return patch.watch or ((patch.target,) if patch.target.startswith("megatron.") else ())


def fingerprint(targets: Iterable[str]) -> str:
    """One hash over the definitions of `targets`; empty without any."""
    found = [_hash(find(target), 64) for target in targets]
    return hashlib.sha256("".join(found).encode()).hexdigest()[:12] if found else ""


def statements(target: str) -> list[str]:
    """A hash per part of a definition, for `difference`."""
    return [_hash(part, 8) for part in _parts(find(target))]


def difference(target: str, known: Sequence[str], *, tested: str) -> str:
    """Says in words and source lines how `target` differs from a tested version's statement hashes."""
    module, _ = target.split(":")
    lines, node = _tree(module)[1], find(target)
    now = [(_hash(part, 8), part) for part in _parts(node)]
    gone = sum(1 for item in known if item not in {key for key, _ in now})
    out = [f"{target}: {gone} of {len(known)} parts of {tested} are gone or changed; in {version()} these are new:"]
    for key, part in now:
        if key not in known:
            first = getattr(part, "lineno", node.lineno)
            last = getattr(part, "end_lineno", None) or first
            out += [f"  + {number}: {lines[number - 1]}" for number in range(first, min(last, first + 11) + 1)]
    return "\n".join(out)


def check(patch: Patch) -> str:
    """Holds a patch against the installed megatron-core.

    Returns:
        The tested version whose fingerprint matches ("" for a target outside megatron-core).

    Raises:
        FingerprintError: No tested version reads the same; the message is a readable difference.
        PatchError: The version is out of range or the symbol is gone.
    """
    from packaging.specifiers import SpecifierSet

    if version() not in SpecifierSet(patch.versions):
        raise PatchError(f"{patch.name} is for megatron-core {patch.versions}; {version()} is installed")
    targets = watched(patch)
    if not targets:
        return ""
    now = fingerprint(targets)
    matching = [tested for tested, known in patch.fingerprints.items() if known == now]
    if matching:
        return version() if version() in matching else matching[0]
    raise FingerprintError(_explain(patch, targets, now))


def _explain(patch: Patch, targets: Sequence[str], now: str) -> str:
    known = json.loads(STATEMENTS.read_text()) if STATEMENTS.exists() else {}
    tested = max(patch.fingerprints, default="(none)", key=lambda v: (v == version(), v))
    told = [
        difference(target, known[target][tested], tested=tested)
        for target in targets
        if tested in known.get(target, {}) and known[target][tested] != statements(target)
    ]
    body = "\n".join(told) or "no statement hashes are kept for it"
    return (
        f"{patch.name}: upstream's {', '.join(targets)} in megatron-core {version()} has fingerprint {now}, "
        f"which no tested version has ({dict(patch.fingerprints)}). Read the change, mend or retire the patch, then "
        f"record it with `python -m megatron_patches.upstream`.\n{body}"
    )


def main() -> None:
    """Records the installed version's statement hashes and prints the fingerprints to write into the patch files."""
    from megatron_patches.catalog import catalogue

    known = json.loads(STATEMENTS.read_text()) if STATEMENTS.exists() else {}
    for patch in catalogue():
        if not in_range(patch):
            continue
        targets = watched(patch)
        if targets:
            print(f"{patch.name}: {version()} {fingerprint(targets)}")
        for target in targets:
            known.setdefault(target, {})[version()] = statements(target)
    STATEMENTS.write_text(json.dumps(known, indent=0, sort_keys=True) + "\n")


def in_range(patch: Patch) -> bool:
    """Whether the installed version is in the patch's range (a patch may serve only some versions)."""
    from packaging.specifiers import SpecifierSet

    return version() in SpecifierSet(patch.versions)


if __name__ == "__main__":
    main()
