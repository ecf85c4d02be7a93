"""Imports point one way: applications → public surface → core → protocol, and backends know only that protocol."""

import ast
import importlib.util
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import bucketlog

REPOSITORY = Path(__file__).parents[2]
SOURCES = {"bucketlog": REPOSITORY / "src", "bucketlog_backends": REPOSITORY / "backends"}
# Over the public surface alone. The conformance suites look inside.
APPLICATIONS = ("cli", "signals", "registry", "workflow", "mesh")
CLIENT_LIBRARIES = {"obstore", "boto3", "botocore", "aiobotocore", "aiohttp", "fsspec", "s3fs", "numpy", "pandas"}
EXTRAS = {"typer", "rich", "sqlalchemy", "pyarrow", "pytest", "hypothesis", "moto", "zstandard", "RNS"}


# One way only: surface -> maintenance -> reading -> log -> storage -> format -> (backend, errors, clock, …).
# Each chapter may import itself and those after it. For imports at run time, inside of functions and for types alike.
CHAPTERS = ("surface", "maintenance", "reading", "log", "storage", "format", "nouns")
BESIDE = {"state": ("state", "storage", "format", "nouns")}
SURFACE = {"stream", "store", "aio", "bridge", "buffered_writer", "subscriptions"}
NOUNS = {"backend", "clock", "cloudevents", "commit", "cursor", "errors", "event", "_version"}
# `err.commits` and `err.events` are typed for users, and `Event.to_cloudevent` is public.
LEFT_ON_PURPOSE = {
    ("bucketlog.errors", "bucketlog.commit"),
    ("bucketlog.errors", "bucketlog.event"),
    ("bucketlog.event", "bucketlog.cloudevents"),
}


class Import(NamedTuple):
    importer: str
    imported: str  # a module, or a name in one where that is what was written
    at_import_time: bool
    line: int

    @property
    def package(self) -> str:
        return self.imported.partition(".")[0]


def modules() -> dict[str, Path]:
    found = {}
    for package, root in SOURCES.items():
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports_of(module: str) -> list[Import]:
    tree = ast.parse(MODULES[module].read_text())
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    return list(_walk(tree, module, package, at_import_time=True))


def _walk(node: ast.AST, module: str, package: str, *, at_import_time: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(module, alias.name, at_import_time, child.lineno)
        elif isinstance(child, ast.ImportFrom):
            base = importlib.util.resolve_name("." * child.level + (child.module or ""), package)
            for alias in child.names:
                name = f"{base}.{alias.name}"
                yield Import(module, name if name in MODULES else base, at_import_time, child.lineno)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _walk(child, module, package, at_import_time=False)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _walk(child, module, package, at_import_time=at_import_time and not inside)


def is_application(module: str) -> bool:
    return module.split(".")[1:2] != [] and module.split(".")[1] in APPLICATIONS


IMPORTS = {module: imports_of(module) for module in MODULES}
BACKENDS = [module for module in MODULES if module.startswith("bucketlog_backends")]
CORE = [
    module
    for module in MODULES
    if module.startswith("bucketlog")
    and module not in BACKENDS
    and not is_application(module)
    and "testing" not in module
]


def test_the_walk_sees_all_kinds_of_imports():
    assert {"bucketlog.store", "bucketlog.format.segments"} <= set(CORE)
    assert {"bucketlog_backends.memory", "bucketlog_backends.local", "bucketlog_backends.s3"} <= set(BACKENDS)
    seen = {(one.imported, one.at_import_time) for one in IMPORTS["bucketlog.log.commit_by_put"]}
    assert {("bucketlog.format.segments", True), ("bucketlog.backend", True), ("bucketlog.commit", False)} <= seen


@pytest.mark.parametrize("module", BACKENDS)
def test_a_backend_imports_the_protocol_and_the_errors_alone(module):
    allowed = {"bucketlog.backend", "bucketlog.errors"}

    wrong = [one for one in IMPORTS[module] if one.package == "bucketlog" and one.imported not in allowed]

    assert wrong == []


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_no_backend_and_no_client_library(module):
    wrong = [
        one
        for one in IMPORTS[module]
        if one.package == "bucketlog_backends"
        or (one.package in CLIENT_LIBRARIES | EXTRAS and one.at_import_time)
        or one.package in CLIENT_LIBRARIES - {"numpy"}
    ]

    assert wrong == []


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_no_application_and_not_the_package_itself(module):
    if module == "bucketlog":
        return  # which is the public surface

    wrong = [one for one in IMPORTS[module] if is_application(one.imported) or one.imported == "bucketlog"]

    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("module", [module for module in MODULES if is_application(module)])
def test_an_application_uses_the_public_surface_alone(module):
    own = ".".join(module.split(".")[:2])
    allowed = {"bucketlog", "bucketlog.errors"}
    if own == "bucketlog.cli":
        allowed.add("bucketlog.signals")  # its commands show what this one is for

    wrong = [
        one
        for one in IMPORTS[module]
        if one.package in SOURCES and one.imported not in allowed and not f"{one.imported}.".startswith(f"{own}.")
    ]

    assert wrong == []
    tree = ast.parse(MODULES[module].read_text())
    taken = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "bucketlog"
        for alias in node.names
    }
    assert taken <= {*bucketlog.__all__, "errors"}


def chapter_of(module: str) -> str:
    first = module.split(".")[1]
    return "surface" if first in SURFACE else "nouns" if first in NOUNS else first


@pytest.mark.parametrize("module", [module for module in CORE if module != "bucketlog"])
def test_a_chapter_imports_itself_and_those_below_it(module):
    chapter = chapter_of(module)
    allowed = BESIDE[chapter] if chapter in BESIDE else CHAPTERS[CHAPTERS.index(chapter) :]
    if chapter == "surface":
        allowed = (*allowed, *BESIDE)

    wrong = [one for one in IMPORTS[module] if one.imported in CORE and chapter_of(one.imported) not in allowed]

    assert wrong == []


def test_modules_do_not_import_each_other_in_a_circle_not_even_for_types():
    graph = {
        module: {
            one.imported
            for one in found
            if one.imported in MODULES and one.imported != module and (module, one.imported) not in LEFT_ON_PURPOSE
        }
        for module, found in IMPORTS.items()
    }

    assert list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_arrows_left_on_purpose_are_there_and_none_of_them_at_import_time():
    found = {(module, one.imported): one.at_import_time for module in CORE for one in IMPORTS[module]}

    assert {arrow: found[arrow] for arrow in LEFT_ON_PURPOSE} == dict.fromkeys(LEFT_ON_PURPOSE, False)


def test_segments_names_and_errors_stand_on_nothing_but_errors():
    for module in (
        "bucketlog.format.torn",
        "bucketlog.format.segments",
        "bucketlog.format.names",
        "bucketlog.errors",
        "bucketlog.backend",
        "bucketlog.event",
        "bucketlog.clock",
        "bucketlog.commit",
    ):
        found = {one.imported for one in IMPORTS[module] if one.at_import_time and one.imported in MODULES}
        assert found <= {"bucketlog.errors", "bucketlog.format.torn", "bucketlog.format.trailer"}, module


LOADED = """
import json, sys
{program}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def loaded_by(program: str) -> set[str]:
    """Top-level modules that a program has loaded in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(program=program)], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_importing_bucketlog_loads_no_backend_and_no_client_library():
    loaded = loaded_by("import bucketlog")

    assert "bucketlog" in loaded
    assert loaded.isdisjoint(CLIENT_LIBRARIES | EXTRAS | {"bucketlog_backends"})


@pytest.mark.slow
def test_a_local_store_is_opened_written_and_read_without_any_client_library(tmp_path):
    loaded = loaded_by(
        f"import bucketlog\n"
        f"store = bucketlog.open({str(tmp_path)!r})\n"
        f"store.stream('s').append(bucketlog.Event(type='t'))\n"
        f"assert len(list(store.stream('s').read())) == 1"
    )

    assert "bucketlog_backends" in loaded
    assert loaded.isdisjoint(CLIENT_LIBRARIES | EXTRAS)


def test_every_public_name_is_there_and_documented():
    for name in bucketlog.__all__:
        assert name.startswith("__") or inspect.getdoc(getattr(bucketlog, name)), name
