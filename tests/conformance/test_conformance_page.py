"""The examples of docs/conformance.md run unchanged, and its numbers are right."""

import re
from pathlib import Path

import pytest

from bucketlog.errors import OutcomeUnknownError
from bucketlog.testing import BackendSuite, StoreSuite

from . import test_backends, test_stores
from .table import HEADER, SERVERS, rows_of

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
OWN_BACKEND, OWN_STORE, OWN_SERVER, FAULTS = re.findall(
    r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE
)
WITHOUT_PLUGINS = [f"-pno:{name}" for name in ("cacheprovider", "asyncio", "anyio", "hypothesispytest", "xdist")]


def test_backend_of_the_page_passes_the_suite(pytester):
    path = pytester.makepyfile(OWN_BACKEND)

    passed, _, failed = pytester.inline_run(*WITHOUT_PLUGINS, path).listoutcomes()

    assert not failed
    assert len(passed) > 100


def test_store_suite_of_the_page_runs_on_its_backend(pytester):
    path = pytester.makepyfile(OWN_BACKEND + OWN_STORE)

    # In a process of its own: pytester unloads modules afterwards, and numpy cannot be loaded twice.
    result = pytester.runpytest_subprocess(*WITHOUT_PLUGINS, f"{path.name}::TestShelfStore", "-kappend")

    outcomes = result.parseoutcomes()
    assert outcomes["passed"] >= 10
    assert "failed" not in outcomes


def test_page_has_the_number_of_tests_in_each_suite():
    for suite in (BackendSuite, StoreSuite):
        tests = [name for name in dir(suite) if name.startswith("test_")]
        assert f"`bucketlog.testing.{suite.__name__}`, {len(tests)} tests" in PAGE.read_text()


def test_class_for_a_server_runs_against_one(pytester, monkeypatch, s3_url, s3_bucket):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_bucket["endpoint_url"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_bucket["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_bucket["secret_access_key"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", s3_bucket["region"])
    monkeypatch.setenv("BUCKET", s3_url.removeprefix("s3://"))
    path = pytester.makepyfile(OWN_SERVER)

    passed, _, failed = pytester.inline_run(*WITHOUT_PLUGINS, path, "-kput_if_absent").listoutcomes()

    assert not failed
    assert len(passed) >= 4


def test_faults_of_the_page_are_injected():
    found = {}
    exec(FAULTS, found)
    backend = found["backend"]
    backend.put("a", b"first")

    with pytest.raises(OutcomeUnknownError, match="lost"):
        backend.put("a", b"second")

    assert backend.get("a").data == b"second"


@pytest.mark.parametrize("module", [test_backends, test_stores], ids=["backends", "stores"])
def test_table_of_the_page_has_the_rows_of_a_run(module):
    table = next(part for part in PAGE.read_text().split("\n\n") if part.startswith(f"| {HEADER[0]} "))
    shown = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines()[2:]]

    for (kind, server), (shown_kind, shown_server) in zip(rows_of(vars(module).values()), shown, strict=True):
        assert kind == shown_kind
        assert shown_server.startswith(SERVERS[server])
