"""Apply, undo, fingerprints; a patch that no longer fits upstream is an error that can be read."""

import dataclasses
import subprocess
import sys
from types import ModuleType

import pytest

import megatron_patches
from megatron_patches import report, upstream
from megatron_patches.apply import resolve
from megatron_patches.catalog import catalogue
from megatron_patches.errors import FingerprintError, PatchError
from megatron_patches.mup.rules import Mup
from megatron_patches.patch import Rung
from megatron_patches.wsd.half_life import HalfLife

EVERYTHING = {"cpu": True, "attention": "sdpa", "mup": Mup(), "wsd": HalfLife(5000)}


@pytest.mark.parametrize("patch", catalogue(), ids=lambda patch: patch.name)
def test_patch_fits_this_version(patch) -> None:
    if not upstream.in_range(patch):
        pytest.skip(f"not for {upstream.version()}")
    resolve(patch.target)
    tested = upstream.check(patch)
    assert tested in ("", upstream.version())
    assert patch.why
    assert patch.retires_when
    assert (patch.install is not None) >= (patch.rung in (Rung.WRAP, Rung.REPLACE))


def snapshot() -> dict[str, object]:
    found = {}
    for patch in catalogue():
        if patch.install and upstream.in_range(patch):
            owner, name = resolve(patch.target)
            found[patch.target] = vars(owner).get(name, "inherited")
    return found


def test_apply_changes_and_undo_restores_identity() -> None:
    before = snapshot()
    applied = megatron_patches.apply(**EVERYTHING)
    try:
        during = snapshot()
        assert all(during[target] is not before[target] for target in before)
        with pytest.raises(PatchError, match="in force"):
            megatron_patches.apply(cpu=True)
    finally:
        applied.undo()
    after = snapshot()
    assert all(after[target] is before[target] for target in before)
    applied.undo()  # twice does nothing


def test_a_script_that_took_a_name_over_before_is_patched_too(monkeypatch) -> None:
    """`from megatron.core.optimizer import get_megatron_optimizer`, and only then `apply(mup=…)`."""
    from megatron.core.optimizer import get_megatron_optimizer as upstreams

    script = ModuleType("script")
    script.get_megatron_optimizer = upstreams
    monkeypatch.setitem(sys.modules, "script", script)
    with megatron_patches.apply(cpu=True, mup=Mup()):
        assert script.get_megatron_optimizer is sys.modules["megatron.core.optimizer"].get_megatron_optimizer
        assert script.get_megatron_optimizer is not upstreams
    assert script.get_megatron_optimizer is upstreams


def test_failing_apply_leaves_nothing_behind(monkeypatch) -> None:
    before = snapshot()
    broken = dataclasses.replace(catalogue()[-1], fingerprints={"0.0": "000000000000"})
    broken_catalogue = (*catalogue()[:-1], broken)
    monkeypatch.setattr(sys.modules["megatron_patches.apply"], "catalogue", lambda: broken_catalogue)
    with pytest.raises(FingerprintError):
        megatron_patches.apply(**EVERYTHING)
    assert snapshot() == before
    monkeypatch.undo()
    megatron_patches.apply(cpu=True).undo()


def test_changed_upstream_is_told_line_by_line(monkeypatch) -> None:
    """A statement added to upstream's function changes its fingerprint, and the error shows that statement."""
    import ast

    patch = next(patch for patch in catalogue() if patch.name == "wsd/half_life")
    upstream.check(patch)
    node = upstream.find(patch.target)
    module = patch.target.split(":")[0]
    tree, lines = upstream._tree(module)
    added = ast.parse("surprise = 41 + 1").body[0]
    added.lineno = added.end_lineno = len(lines) + 1
    changed = ast.FunctionDef(**{**dict(ast.iter_fields(node)), "body": [*node.body, added]}, lineno=node.lineno)
    monkeypatch.setattr(upstream, "find", lambda target: changed if target == patch.target else node)
    monkeypatch.setattr(upstream, "_tree", lambda name: (tree, (*lines, "surprise = 41 + 1")))
    with pytest.raises(FingerprintError, match="surprise = 41"):
        upstream.check(patch)


def test_fingerprints_ignore_comments_docstrings_and_formatting() -> None:
    import ast

    one = ast.parse("def f(a, b=1):\n    'doc'\n    # why\n    return (a +\n        b)").body[0]
    two = ast.parse("def f(a, b=1):\n    return a + b").body[0]
    three = ast.parse("def f(a, b=2):\n    return a + b").body[0]
    assert upstream._hash(one) == upstream._hash(two) != upstream._hash(three)


def test_listing_needs_no_torch() -> None:
    code = "import sys; from megatron_patches import report; assert report.rows(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_report_says_what_holds() -> None:
    assert {row["status"] for row in report.rows()} <= {f"matches {upstream.version()}", "outside megatron-core"}
