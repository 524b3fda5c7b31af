"""The runner over a checkout of our own: a test that a patch breaks, one that it mends, one that can't be imported."""

from pathlib import Path

import pytest

from tests.upstream import run

CHECKOUT = {
    "test_broken.py": "import torch\n\ndef test_raises():\n    try:\n        torch.cuda.current_device()\n"
    "    except Exception:\n        return\n    assert False, 'the platform was patched'\n",
    "test_mended.py": "import torch\n\nclass TestIt:\n    def test_answers(self):\n        torch.cuda.current_device()\n",
    "test_absent.py": "import no_such_module\n",
}


def test_what_passed_must_pass_still() -> None:
    before = {"a.py::one": run.PASSED, "a.py::two": "no GPU", "a.py::three": run.PASSED}
    assert run.broken(before, before) == {}
    assert run.broken(before, {"a.py::one": "boom", "a.py::two": "boom"}) == {"a.py::one": "boom", "a.py::three": "not run"}


@pytest.mark.slow
def test_runs_a_checkout_without_and_with_patches(tmp_path: Path, monkeypatch, capsys) -> None:
    folder = tmp_path / "tests" / "unit_tests"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").touch()
    for name, text in CHECKOUT.items():
        (folder / name).write_text(text)
    monkeypatch.setattr("sys.argv", ["run", str(tmp_path), *CHECKOUT, "test_of_later.py"])
    assert run.main() == 1
    said = capsys.readouterr().out
    assert "not in this checkout: test_of_later.py" in said
    assert "BROKEN: test_broken.py::test_raises, by platform: AssertionError: the platform was patched" in said
    assert "test_mended.py::TestIt::test_answers: " in said
    assert "(passes with platform, everything)" in said
    assert "test_absent.py: ModuleNotFoundError: No module named 'no_such_module'" in said


def test_a_folder_without_tests_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["run", str(tmp_path)])
    assert run.main() == 2
