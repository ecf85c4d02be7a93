"""What the docs say works: their Python runs, and prints what they say; their links, commands and names are there.

A block of `python` is run, all of a page one after the other, in an empty directory; a block of `text` right behind it
is what it prints. A block of `py` needs something that a test has not (a server), and is only compiled.
"""

import ast
import asyncio
import builtins
import contextlib
import inspect
import io
import re
import shlex
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pytest

import bucketlog

REPOSITORY = Path(__file__).parents[2]
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted(REPOSITORY.glob("docs/**/*.md"))]
IDS = [str(page.relative_to(REPOSITORY)) for page in PAGES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"python", "py", "sh", "text", "json", "toml", "mermaid", ""}
EXPLAINED = [page for page in PAGES if "```python" in page.read_text()]


class Block(NamedTuple):
    language: str
    text: str
    line: int
    printed: str | None  # what stands right behind it


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = list(FENCE.finditer(text))
    made = []
    for one, following in zip_longest(found, found[1:]):
        printed = None
        if following and following[1] == "text" and not text[one.end() : following.start()].strip():
            printed = following[2]
        made.append(Block(one[1], one[2], text.count("\n", 0, one.start()) + 2, printed))
    return made


def imported(page: Path) -> set[str]:
    """Return the packages that the Python on a page imports."""
    trees = [ast.parse(block.text) for block in blocks(page) if block.language == "python"]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("page", EXPLAINED, ids=[one.name for one in EXPLAINED])
def test_the_python_on_a_page_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in imported(page):
        pytest.importorskip(module)
    names: dict[str, object] = {"__name__": "__main__"}

    for block in blocks(page):
        if block.language != "python":
            continue
        # Lines as on the page, so that a traceback points there.
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            result = eval(code, names)
            if inspect.iscoroutine(result):
                asyncio.run(result)
        if block.printed is not None:
            assert output.getvalue() == block.printed, f"{page.name}, line {block.line}"

    for thing in names.values():
        if isinstance(thing, bucketlog.EventStore):
            thing.close()


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_other_python_on_a_page_is_at_least_python(page):
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}, line {block.line}"
        if block.language == "py":
            compile(block.text, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_inside_the_repository_lead_somewhere(page):
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def test_the_two_commands_of_the_readme_are_there():
    readme = REPOSITORY.joinpath("README.md").read_text()
    targets = re.findall(r"^(\w+):", REPOSITORY.joinpath("Makefile").read_text(), re.MULTILINE)

    for command in ("make demo", "make test"):
        assert f"\n{command} " in readme
        assert command.removeprefix("make ") in targets
    assert "336,776" in readme


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_make_targets_on_a_page_are_there(page):
    targets = re.findall(r"^([\w-]+):", REPOSITORY.joinpath("Makefile").read_text(), re.MULTILINE)

    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= set(targets)


def test_files_that_the_architecture_names_are_there():
    page = REPOSITORY.joinpath("docs", "architecture.md").read_text()
    paths = set(re.findall(r"(?:`|<i>|, )((?:[a-z_0-9]+/)+[a-z_0-9]+\.py)", page))

    assert len(paths) > 30
    for path in paths:
        assert any(REPOSITORY.joinpath(below, path).exists() for below in ("", "src/bucketlog")), path


def test_what_contributors_are_to_imitate_is_there():
    page = REPOSITORY.joinpath("CONTRIBUTING.md").read_text()
    paths = set(re.findall(r"`((?:src|backends|tests|docs|benchmarks|docker|\.ci)/[\w./-]*)`", page))

    assert len(paths) > 20
    for path in paths:
        assert REPOSITORY.joinpath(path).exists(), path


def test_the_commands_of_bucketlog_that_the_readme_shows_are_there():
    typer_main = pytest.importorskip("typer.main")
    app = pytest.importorskip("bucketlog.cli.app")
    group = typer_main.get_command(next(one for one in vars(app).values() if type(one).__name__ == "Typer"))
    shown = re.findall(r"^bucketlog .*$", REPOSITORY.joinpath("README.md").read_text(), re.MULTILINE)

    assert shown
    for line in shown:
        _, command, *arguments = shlex.split(line)
        group.commands[command].make_context(command, arguments)  # parses, and runs nothing


def test_the_errors_table_names_every_error_and_only_those():
    page = REPOSITORY.joinpath("docs", "guarantees.md").read_text()
    named = set(re.findall(r"`(\w+Error)`", page.partition("## Errors")[2]))
    errors = {
        name
        for name, one in vars(bucketlog.errors).items()
        if isinstance(one, type) and issubclass(one, bucketlog.errors.BucketlogError)
    }

    assert named - set(dir(builtins)) == errors


def test_the_changelog_has_a_place_for_what_is_to_come():
    text = REPOSITORY.joinpath("CHANGELOG.md").read_text()

    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)

    assert headings[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", one) for one in headings[1:])
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= {"Added", "Changed", "Fixed", "Removed"}


def test_every_page_can_be_reached_from_the_index():
    index = REPOSITORY.joinpath("docs", "index.md").read_text()
    pages = {str(page.relative_to(REPOSITORY / "docs")) for page in REPOSITORY.glob("docs/**/*.md")}

    assert set(re.findall(r"\]\(([^)]+)\)", index)) >= pages - {"index.md"}


def test_decisions_have_the_parts_of_their_template():
    template, *made = sorted(REPOSITORY.glob("docs/decisions/*.md"))
    parts = re.findall(r"^## .*$", template.read_text(), re.MULTILINE)

    assert made
    for page in made:
        assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", page.name)
        assert page.read_text().startswith(f"# {page.name[:4]}: ")
        assert re.findall(r"^## .*$", page.read_text(), re.MULTILINE) == parts
