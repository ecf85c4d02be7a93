"""The tables at the end of a run: the results of the conformance suites for each kind of store, and what servers do.

In a parallel run tests run in other processes: each report carries its row, and each process sends what it measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance.table import Table, row_of, suite_of
from tests.servers.facts import table

if TYPE_CHECKING:
    from collections.abc import Iterator

FACTS = pytest.StashKey[dict[str, dict[str, str]]]()
VERSIONS = pytest.StashKey[dict[str, str]]()
_SUITES = pytest.StashKey[Table]()
_ROW = "conformance"  # the property of a report that says where in the table it belongs


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FACTS] = {}
    config.stash[VERSIONS] = {}
    config.stash[_SUITES] = Table()
    config.pluginmanager.register(_Collector(config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    suite = suite_of(item)
    if suite and (row := row_of(item)):
        report.user_properties = [*report.user_properties, (_ROW, [*row, suite.__name__])]
    if suite and report.skipped:
        # pytest folds what is skipped at the same place for the same reason: a line for each reason, not for each test.
        report.longrepr = (suite.__name__, None, report.longrepr[2])
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)  # there in the processes of a parallel run
    if output is not None:
        output["facts"] = session.config.stash[FACTS]
        output["versions"] = session.config.stash[VERSIONS]


class _Collector:
    """Gathers what the reports and the processes of a parallel run bring."""

    def __init__(self, config: pytest.Config) -> None:
        self._stash = config.stash
        self._is_worker = hasattr(config, "workerinput")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not self._is_worker:
            report.nodeid = _without_group(report.nodeid)
        row = dict(report.user_properties).get(_ROW)
        if row:
            self._stash[_SUITES].add(report, *row)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", {})  # missing when the process crashed
        self._stash[FACTS].update(output.get("facts", {}))
        self._stash[VERSIONS].update(output.get("versions", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    stash = config.stash
    _print(terminalreporter, "the conformance suites", list(stash[_SUITES].lines(stash[VERSIONS])))
    if stash[FACTS]:
        _print(terminalreporter, "what the servers do", list(table(stash[FACTS])))


def _without_group(nodeid: str) -> str:
    """Return a test's id as pytest takes it on the command line: a parallel run ends it with `@` and its group."""
    test, at, group = nodeid.rpartition("@")
    return test if at and "]" not in group else nodeid


def _print(terminalreporter: pytest.TerminalReporter, title: str, lines: list[str]) -> None:
    if lines:
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)
