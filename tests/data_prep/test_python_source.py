"""The demo's source kind: what it reads from the running Python installation, and what it refuses."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.errors import SourceError
from data_prep.sources import Document, SourceSpec, documents
from data_prep.sources.python_doctests import CATEGORIES, doctest_categories, doctest_pairs, output_category
from data_prep.sources.python_modules import documented, parse, python_files


def spec(what: str, **fields: object) -> SourceSpec:
    return SourceSpec(name="demo", kind="python", what=what, **fields)  # type: ignore[arg-type]


def test_code_is_the_files_of_the_standard_library() -> None:
    found = {document.id: document for document in documents(spec("stdlib_code"))}
    assert found["json.decoder"].text == Path(sys.modules["json.decoder"].__file__ or "").read_text(encoding="utf-8")
    assert sum(len(document.text) for document in found.values()) > 5_000_000
    assert not any(".test." in name or name.startswith(("test.", "site-packages")) for name in found)
    assert all(document.group == name for name, document in found.items())


def test_docs_have_the_language_reference_docstrings_and_readmes() -> None:
    found = {document.id: document.text for document in documents(spec("docs", paths=("stdlib", "numpy")))}
    assert "statement" in found["topics.while"]
    assert "cleandoc(doc)" in found["inspect"]
    assert "Clean up indentation from docstrings." in found["inspect"]
    assert "Return evenly spaced values" in found["numpy._core._add_newdocs"]  # added by numpy's add_newdoc
    assert "readme.numpy" in found


def test_math_is_sympys_docstrings_a_document_a_module() -> None:
    found = list(documents(spec("math", paths=("sympy",))))
    assert sum(len(document.text) for document in found) > 2_000_000
    assert len({document.id for document in found}) == len(found)
    assert all(document.id.startswith("sympy") for document in found)


def test_nothing_is_imported() -> None:
    code = (
        "import sys\nfrom data_prep.sources import SourceSpec, documents\n"
        "n = sum(1 for _ in documents(SourceSpec(name='x', kind='python', what='math', paths=('mpmath',))))\n"
        "assert n > 10\nassert not {'mpmath', 'sympy', 'torch'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_order_and_content_are_the_same_again() -> None:
    wanted = spec("math", paths=("mpmath",))
    assert list(documents(wanted)) == list(documents(wanted))


def test_pairs_say_what_the_docstring_says() -> None:
    pairs = {pair.id: pair for pair in doctest_pairs(("mpmath",))}
    some = [pair for pair in pairs.values() if "-prints-" in pair.id]
    assert len(some) > 300
    for pair in some[:50]:  # the answer stands in the file, below the statement
        lines = pair.file.read_text(encoding="utf-8").splitlines()
        text = "\n".join(line.strip() for line in lines[pair.line - 1 :])
        assert "\n".join(line.strip() for line in pair.response.splitlines()) in text


def test_a_function_to_complete_has_its_own_body() -> None:
    pair = next(
        pair
        for pair in doctest_pairs(("networkx",))
        if pair.id.startswith("networkx.algorithms.chordal.is_chordal#") and pair.id.endswith("-body")
    )
    code = pair.prompt.split("```python\n")[1].removesuffix("```") + pair.response.removeprefix("```python\n").removesuffix(
        "```"
    )
    function = ast.parse(code).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert function.name == "is_chordal"
    assert pair.category == "code"


def test_categories_are_told_truthfully() -> None:
    counts = doctest_categories(("mpmath", "networkx"))
    assert tuple(counts) == CATEGORIES
    assert counts["commonsense"] == 0
    assert all(counts[name] > 100 for name in ("math", "code", "logic", "knowledge"))
    assert output_category("sympy.logic.boolalg") == "logic"
    assert output_category("sympy.solvers.ode") == "math"
    assert output_category("textwrap") == "code"


def test_doctests_come_rendered_with_a_mask_and_without_runs_own_output() -> None:
    found = list(documents(spec("doctests", category="math", paths=("mpmath",), loss_on="responses", prompt_variants=1)))
    for document in found:
        assert isinstance(document, Document)
        assert "".join(segment.text for segment in document.segments) == document.text
        assert document.meta["category"] == "math"
        answer = "".join(segment.text for segment in document.segments if segment.loss)
        assert document.text.endswith(answer)
        assert " object at 0x" not in answer
    assert len({document.meta["variant"] for document in found}) >= 10


def test_added_docstrings_are_found() -> None:
    tree = parse("add_newdoc('numpy', 'cos', '''Cosine, element by element, of a whole array of angles.''')\n")
    assert tree is not None
    assert [(entry.name, entry.doc[:6]) for entry in documented(tree)] == [("numpy.cos", "Cosine")]


def test_a_package_that_is_not_there_has_no_files() -> None:
    assert python_files("no_such_package_anywhere") == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"what": "novels"}, "stdlib_code, docs, math, doctests"),
        ({"what": "doctests", "category": "commonsense", "paths": ("mpmath",)}, "no doctests of category commonsense"),
        ({"what": "doctests", "category": "poetry"}, "'poetry' is not one of"),
        ({"what": "math", "paths": ("no_such_package_anywhere",)}, "no math in no_such_package_anywhere"),
    ],
)
def test_what_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        list(documents(SourceSpec(name="demo", kind="python", **fields)))  # type: ignore[arg-type]
