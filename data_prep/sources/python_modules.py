"""The Python files that this interpreter has on disk, found and parsed, never imported or run.

The demo's corpora are made of them (``python_text.py``, ``python_doctests.py``), so that any machine with the recipe's own
requirements has tens of megabytes of real text without a download. Order and content depend on the installation only.
"""

from __future__ import annotations

import ast
import inspect
import io
import os
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

STDLIB = "stdlib"  # the name by which a recipe asks for the standard library beside installed packages
# Tests repeat themselves, vendored copies repeat others, and `encodings` is 2 MB of character tables.
SKIPPED_FOLDERS = frozenset(
    {"__pycache__", "site-packages", "dist-packages", "test", "tests", "testing", "idle_test", "_vendor", "vendor", "encodings"}
)


@dataclass(frozen=True, slots=True)
class PythonFile:
    """One source file: its package (``stdlib`` or the top-level folder), dotted module name and path."""

    package: str
    module: str
    path: Path

    def read_bytes(self) -> bytes:
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class Documented:
    """A docstring and what it belongs to.

    Attributes:
        name: Qualified name inside the module; empty for the module itself.
        signature: ``name(arguments)``, or empty where there is none.
        doc: The docstring without its indentation.
        line: Where it stands in the file, from 1.
        node: The definition, for whoever needs its code; None for docstrings that are added by a call.
    """

    name: str
    signature: str
    doc: str
    line: int
    node: ast.AST | None


def _files_under(root: Path) -> list[tuple[str, Path]]:
    """(dotted module name, path) of the Python files below a folder, sorted by name."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS and "." not in name)
        for name in names:
            if name.endswith(".py"):
                path = Path(folder, name)
                parts = path.relative_to(root).with_suffix("").parts
                module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                found.append((module, path))
    return sorted(found)


@lru_cache(maxsize=1)
def _package_roots() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple(Path(root) for root in dict.fromkeys((paths["purelib"], paths["platlib"])))


def installed_packages() -> list[str]:
    """Names of the top-level packages (folders) in this interpreter's site-packages, sorted."""
    names = {
        entry.name
        for root in _package_roots()
        if root.is_dir()
        for entry in root.iterdir()
        if entry.is_dir() and entry.name.isidentifier() and entry.name not in SKIPPED_FOLDERS
    }
    return sorted(names)


@lru_cache(maxsize=1024)
def python_files(package: str) -> tuple[PythonFile, ...]:
    """The files of ``stdlib`` or of an installed package, sorted by module name; none if it isn't installed."""
    if package == STDLIB:
        root = Path(sysconfig.get_paths()["stdlib"])
        return tuple(PythonFile(STDLIB, module, path) for module, path in _files_under(root))
    for root in _package_roots():
        if (root / package).is_dir():
            found = _files_under(root / package)
            return tuple(PythonFile(package, f"{package}.{module}".rstrip("."), path) for module, path in found)
    return ()


def distribution_readmes() -> Iterator[tuple[str, Path, str]]:
    """(name, path, long description) of each installed distribution that has one of some length, sorted by name."""
    for root in _package_roots():
        for path in sorted(root.glob("*.dist-info/METADATA")):
            _, _, body = path.read_text(encoding="utf-8", errors="replace").partition("\n\n")
            if len(body) > 200:
                yield path.parent.name.split("-")[0], path, body.strip() + "\n"


def source_text(file: PythonFile) -> str | None:
    """The file's text by its own coding cookie, newlines as ``\\n``; None when it can't be decoded (a few tests of codecs)."""
    data = file.read_bytes()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return None


def parse(text: str) -> ast.Module | None:
    """The syntax tree, or None for a template or a file of another Python version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            return None


def documented(tree: ast.Module) -> Iterator[Documented]:
    """Every docstring of a module in the order of the file: its own, of classes and functions, and added ones.

    numpy and torch document what is written in C by calls (``add_newdoc("numpy", "add", text)``); these count, too.
    """
    if doc := ast.get_docstring(tree):
        yield Documented("", "", doc, 1, tree)
    yield from _documented(tree.body, "")


def _documented(body: Sequence[ast.stmt], prefix: str) -> Iterator[Documented]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = prefix + node.name
            if doc := ast.get_docstring(node):
                yield Documented(name, _signature(name, node), doc, node.lineno, node)
            yield from _documented(node.body, name + ".")
        elif isinstance(node, ast.If | ast.Try):
            yield from _documented(node.body, prefix)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from _added(node.value)


def _added(call: ast.Call) -> Iterator[Documented]:
    """The docstring that a call such as ``add_newdoc(place, name, doc)`` adds."""
    called = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if not called.startswith(("add_newdoc", "add_docstr")):
        return
    constants = [(node, node.value) for node in ast.walk(call) if isinstance(node, ast.Constant)]
    texts = [(node, text) for node, text in constants if isinstance(text, str)]
    longest, doc = max(texts, key=lambda item: len(item[1]), default=(None, ""))
    if longest is None or len(doc) < 40 or not call.args:
        return
    first = call.args[0]
    names = [text for node, text in texts if node is not longest and text.replace(".", "").isidentifier()]
    name = ".".join(names) if isinstance(first, ast.Constant) else ast.unparse(first)
    yield Documented(name, "", inspect.cleandoc(doc), longest.lineno, None)


def _signature(name: str, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {name}({bases})" if bases else f"class {name}"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{name}({ast.unparse(node.args)}){returns}"
