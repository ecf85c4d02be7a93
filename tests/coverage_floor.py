"""`pytest -p tests.coverage_floor --cov` fails if the coverage of a folder, branches included, is below its floor."""

from __future__ import annotations

from io import StringIO

import coverage
import pytest

# Percent of the lines and branches of src/bucketlog/<folder>/ that the quick unit tests and the histories reach.
FLOORS = {
    "format": 96,
    "log": 92,
    "state": 99,
    "storage": 98,
}
_LINES = pytest.StashKey[list[str]]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return  # one process of a parallel run, which has only seen its own tests
    if session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return  # interrupted
    data = coverage.Coverage()
    data.load()
    reached = {folder: data.report(include=[f"*/src/bucketlog/{folder}/*"], file=StringIO()) for folder in FLOORS}
    session.config.stash[_LINES] = [
        f"{folder + '/':<9} {percent:6.2f} %, floor {FLOORS[folder]} %{', TOO LOW' * (percent < FLOORS[folder])}"
        for folder, percent in reached.items()
    ]
    if any(percent < FLOORS[folder] for folder, percent in reached.items()) and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(_LINES, [])
    if lines:
        terminalreporter.section("branch coverage by the quick unit tests and the histories")
    for line in lines:
        terminalreporter.write_line(line)
