"""Tells at the end of a run what the suites found in each kind of store, and sums up what they skipped."""

from collections.abc import Iterator

import pytest
from tests.conftest import VERSIONS

from .table import Table, suite_of

TABLE = pytest.StashKey[Table]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    item.config.stash.setdefault(TABLE, Table()).add(item, report)
    if report.skipped and (suite := suite_of(item)):
        # pytest folds what is skipped at the same place for the same reason: a line for each reason, not for each test.
        report.longrepr = (suite.__name__, None, report.longrepr[2])
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = list(config.stash.get(TABLE, Table()).lines(config.stash.get(VERSIONS, {})))
    if lines:
        terminalreporter.section("the conformance suites")
        for line in lines:
            terminalreporter.write_line(line)
