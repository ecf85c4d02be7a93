"""docs/invariants.md and the code agree: every invariant is cited where it is kept and by a test, and nothing else is.

A citation is an `I` and the number, in a comment or a docstring: `# … (I7)`.
"""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY.joinpath("docs", "invariants.md").read_text()
NUMBERS = re.findall(r"^\*\*(I\d+)\. ", PAGE, re.MULTILINE)
CITED = re.compile(r"\bI[1-9]\d?\b")  # a code of ruff's, such as I001, has three digits


def comments_and_docstrings(file: Path) -> Iterator[str]:
    if CITED.search(file.read_text()) is None:  # most files, and reading their tokens takes seconds
        return
    with file.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            if token.type == tokenize.COMMENT:
                yield token.string
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def citations(*folders: str) -> set[str]:
    return {
        number
        for folder in folders
        for file in REPOSITORY.joinpath(folder).rglob("*.py")
        if file != Path(__file__)
        for text in comments_and_docstrings(file)
        for number in CITED.findall(text)
    }


def test_invariants_are_numbered_in_order():
    assert [f"I{number}" for number in range(1, len(NUMBERS) + 1)] == NUMBERS


def test_every_invariant_is_cited_where_the_code_keeps_it():
    assert citations("src", "backends") == set(NUMBERS)


def test_every_invariant_is_cited_by_a_test():
    assert citations("tests") == set(NUMBERS)


def test_the_page_itself_refers_to_no_other_invariant():
    assert set(CITED.findall(PAGE)) == set(NUMBERS)


def test_every_test_history_and_rule_that_the_page_names_is_there():
    named = {
        name
        for tests in re.findall(r"^- Tests?: (.*(?:\n  .*)*)", PAGE, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", tests)
    }
    there = {
        name
        for file in REPOSITORY.joinpath("tests").rglob("*.py")
        for name in re.findall(r"^(?:def |    (?=\w+: bool))(\w+)", file.read_text(), re.MULTILINE)
    }

    assert len(named) > len(NUMBERS)
    assert named - there == {"BackendSuite"}


def test_every_rule_of_the_model_belongs_to_an_invariant():
    model = ast.parse(REPOSITORY.joinpath("tests", "simulation", "protocol_model.py").read_text())
    (rules,) = (node for node in model.body if isinstance(node, ast.ClassDef) and node.name == "Rules")
    names = [node.target.id for node in rules.body if isinstance(node, ast.AnnAssign)]

    assert names
    for name in names:
        assert f"`{name}`" in PAGE, name
