"""Plain text of the demo: code of the standard library, documentation, and docstrings of mathematics packages.

One document a module, so that the held-out split is by module. Read ``python_modules.py`` first.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.sources.python_modules import (
    STDLIB,
    Documented,
    PythonFile,
    distribution_readmes,
    documented,
    parse,
    python_files,
    source_text,
)

# Packages with much prose that the recipe's own requirements bring; a package that isn't there is left out.
DOCS_PACKAGES = (
    STDLIB,
    "numpy",
    "scipy",
    "networkx",
    "matplotlib",
    "pydantic",
    "optuna",
    "jinja2",
    "rich",
    "fontTools",
    "PIL",
    "click",
    "typer",
)
MATH_PACKAGES = ("sympy", "mpmath")
MIN_DOC_CHARS = 200  # modules with less are names without text

Text = tuple[str, str, Path]  # module (the document's id and family), text, path


def stdlib_code(packages: Sequence[str] = ()) -> Iterator[Text]:
    """Source files of the standard library (or of the packages named), a document each."""
    for package in packages or (STDLIB,):
        for file in python_files(package):
            if file.module == "pydoc_data.topics":  # prose in a dict: `docs` has it
                continue
            text = source_text(file)
            if text and text.strip():
                yield file.module, text, file.path


def docs(packages: Sequence[str] = ()) -> Iterator[Text]:
    """The language reference that pydoc carries, docstrings by module, and the packages' own long descriptions."""
    chosen = packages or DOCS_PACKAGES
    if STDLIB in chosen:
        yield from _language_reference()
    for package in chosen:
        for file in python_files(package):
            yield from _docstrings(file)
    wanted = None if not packages else {name.lower() for name in packages}
    for name, path, text in distribution_readmes():
        if wanted is None or name.lower() in wanted:
            yield f"readme.{name}", text, path


def math(packages: Sequence[str] = ()) -> Iterator[Text]:
    """Docstrings of mathematics packages, a document a module."""
    for package in packages or MATH_PACKAGES:
        for file in python_files(package):
            yield from _docstrings(file)


def _language_reference() -> Iterator[Text]:
    """``pydoc_data/topics.py``: a dict literal of topic -> text of the language reference, a document a topic."""
    for file in python_files(STDLIB):
        if file.module == "pydoc_data.topics":
            tree = parse(source_text(file) or "")
            assigned = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)] if tree else []
            for topic, text in sorted(ast.literal_eval(assigned[-1].value).items() if assigned and assigned[-1].value else []):
                yield f"topics.{topic}", text.strip() + "\n", file.path


def _docstrings(file: PythonFile) -> Iterator[Text]:
    """The docstrings of one module as one document, or none."""
    text = source_text(file)
    tree = parse(text) if text and ('"""' in text or "'''" in text) else None
    if tree is None:
        return
    parts = [_section(file.module, entry) for entry in documented(tree)]
    joined = "\n\n".join(parts)
    if len(joined) >= MIN_DOC_CHARS:
        yield file.module, joined + "\n", file.path


def _section(module: str, entry: Documented) -> str:
    """A heading (the module's name, or name and arguments) with the docstring below it."""
    heading = entry.signature or entry.name or module
    return f"{heading}\n\n{entry.doc.strip()}"
