"""Doctest examples of the standard library and of installed packages as instruction pairs (prompt, response).

Three kinds, all taken from what the authors wrote, nothing is run:

* what does this print: the statements of a docstring up to one with an output, and that output;
* what does this function do: its signature, and the first paragraph of its docstring;
* complete this function: signature and docstring with its examples, and the body.

Categories are the five of the decay stage. The material has nothing for ``commonsense``, and it is not made up.
"""

from __future__ import annotations

import ast
import doctest
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from data_prep.sources.python_modules import (
    STDLIB,
    Documented,
    PythonFile,
    documented,
    parse,
    python_files,
    source_text,
)

CATEGORIES = ("math", "code", "logic", "knowledge", "commonsense")  # Xmodel-2's five
# Of the outputs, by module: the longest prefix counts, and all else is `code` (what does this program print).
# networkx: an answer about a graph is deduced from the edges given. What a function does is `knowledge`, its body `code`.
OUTPUT_CATEGORY = {
    "sympy": "math", "mpmath": "math", "scipy": "math", "numpy.linalg": "math", "numpy.polynomial": "math", "numpy.fft": "math",
    "math": "math", "cmath": "math", "fractions": "math", "decimal": "math", "_pydecimal": "math",
    "statistics": "math", "numbers": "math", "random": "math",
    "sympy.logic": "logic", "sympy.assumptions": "logic", "sympy.core.logic": "logic", "networkx.algorithms": "logic",
    "sympy.codegen": "code", "sympy.printing": "code", "sympy.parsing": "code", "sympy.utilities": "code",
}  # fmt: skip
MATERIAL = frozenset({*OUTPUT_CATEGORY.values(), "code", "knowledge"})  # what doctests can fill of CATEGORIES
MAX_CONTEXT_CHARS = 1200  # statements before the one asked about; beyond that the docstring is a tutorial
MAX_BODY_LINES = 40
MAX_DOC_CHARS = 1500  # of a function to complete: more is a manual page, and the loss would be all on it
# What the recipe's requirements bring, and whose examples are run by their own tests (so that the outputs are true).
PACKAGES = (
    STDLIB,
    "sympy",
    "mpmath",
    "numpy",
    "scipy",
    "networkx",
    "pandas",
    "sklearn",
    "more_itertools",
    "packaging",
    "fontTools",
)
_DIRECTIVE = re.compile(r"\s*#\s*doctest:.*$", re.MULTILINE)
# Outputs that depend on the run or are abridged aren't answers.
_NO_ANSWER = re.compile(r"\.\.\.|0x[0-9a-f]{6,}|<[^>]* object[ >]|^Traceback", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pair:
    """An instruction pair: its category, prompt, response; ``family`` is the module, the unit of the held-out split."""

    category: str
    prompt: str
    response: str
    family: str
    id: str
    file: Path
    line: int


def doctest_pairs(packages: Sequence[str] = (), *, category: str | None = None) -> Iterator[Pair]:
    """The pairs of the standard library and of PACKAGES (where installed), or of the packages named, in a fixed order.

    Args:
        packages: Top-level package names, ``stdlib`` for the standard library; empty for PACKAGES.
        category: Only this one of CATEGORIES.
    """
    for pair in _all_pairs(tuple(packages or PACKAGES)):
        if category is None or pair.category == category:
            yield pair


@lru_cache(maxsize=1)
def _all_pairs(packages: tuple[str, ...]) -> tuple[Pair, ...]:
    """All pairs, kept because a recipe asks for each category in turn (20 MB, 15 s)."""
    pairs: list[Pair] = []
    for package in packages:
        for file in python_files(package):
            if b">>>" in file.read_bytes():
                text = source_text(file) or ""
                tree = parse(text)
                for number, entry in enumerate(documented(tree) if tree else ()):
                    pairs += _pairs(file, entry, number=number, text=text)
    return tuple(pairs)


def doctest_categories(packages: Sequence[str] = ()) -> dict[str, int]:
    """How many pairs each of the five categories has on this machine; 0 says that the material has none."""
    counts = dict.fromkeys(CATEGORIES, 0)
    for pair in doctest_pairs(packages):
        counts[pair.category] += 1
    return counts


def output_category(module: str) -> str:
    """The category of "what does this print" for a module."""
    parts = module.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((OUTPUT_CATEGORY[prefix] for prefix in prefixes if prefix in OUTPUT_CATEGORY), "code")


def _pairs(file: PythonFile, entry: Documented, *, number: int, text: str) -> Iterator[Pair]:
    """The pairs of one docstring. ``number`` keeps ids apart where a name is defined twice."""
    try:
        examples = doctest.DocTestParser().get_examples(entry.doc)
    except ValueError:  # examples that aren't well formed
        return
    if not any(example.want for example in examples):
        return
    name = f"{file.module}.{entry.name}".rstrip(".")

    def pair(kind: str, category: str, prompt: str, response: str, line: int = 0) -> Pair:
        return Pair(category, prompt, response, file.module, f"{name}#{number}-{kind}", file.path, entry.line + line)

    context = ""
    for index, example in enumerate(examples):
        source = _DIRECTIVE.sub("", example.source).rstrip("\n")
        answer = example.want.removesuffix("```\n").rstrip("\n")  # a fence that closes around the example
        if answer and len(context) <= MAX_CONTEXT_CHARS and _is_answer(example):
            prompt = f"What does the last statement print?\n\n```python\n{context}{source}\n```"
            yield pair(f"prints-{index}", output_category(file.module), prompt, answer, example.lineno)
        context += source + "\n"
    if entry.signature and (summary := _summary(entry.doc)):
        kind = "class" if isinstance(entry.node, ast.ClassDef) else "function"
        prompt = f"What does the {kind} `{entry.signature.removeprefix('class ')}` in the Python module `{file.module}` do?"
        yield pair("purpose", "knowledge", prompt, summary)
    if isinstance(entry.node, ast.FunctionDef) and len(entry.doc) <= MAX_DOC_CHARS and (body := _body(entry.node, text)):
        prompt = f"Complete this Python function.\n\n```python\n{_head(entry.node)}\n{_quoted(entry.doc)}\n```"
        yield pair("body", "code", prompt, f"```python\n{body}\n```")


def _summary(doc: str) -> str:
    """The first paragraph on one line; empty where it is a title, an example or a list of arguments."""
    summary = " ".join(doc.strip().split("\n\n")[0].split())
    return summary if len(summary) >= 20 and ">>>" not in summary else ""


def _is_answer(example: doctest.Example) -> bool:
    skipped = example.options.get(doctest.SKIP, False)
    return not skipped and not _NO_ANSWER.search(example.want)


def _head(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"def {node.name}({ast.unparse(node.args)}){returns}:"


def _quoted(doc: str) -> str:
    return textwrap.indent(f'"""{doc.strip()}\n"""', "    ")


def _body(node: ast.FunctionDef, text: str) -> str:
    """The code below the docstring as written, indented by four, or nothing where it is trivial or long."""
    statements = node.body[1:]
    if not statements or isinstance(statements[0], ast.Pass):
        return ""
    first, last = statements[0].lineno, statements[-1].end_lineno or 0
    if last - first >= MAX_BODY_LINES:
        return ""
    lines = text.split("\n")[first - 1 : last]
    return textwrap.indent(textwrap.dedent("\n".join(lines)), "    ").rstrip()
