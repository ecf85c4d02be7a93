"""The table of the conformance suites: what passed, was skipped and failed in each kind of store, on each server.

A class that belongs to a row says so: `row` is the kind of store, and `server` the fixture of the server that it is on.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from bucketlog.testing import BackendSuite, StoreSuite

SUITES = {BackendSuite: "backend suite", StoreSuite: "store suite"}
SERVERS = {"": "", "moto": "moto", "minio": "MinIO", "ceph_rgw": "Ceph RGW", "own_server": "own server"}
HEADER = ["store", "server", *SUITES.values(), "skipped, as it is not declared"]

_EACH = {"suite_server": ("minio", "ceph_rgw"), "quick_server": ("minio",)}  # fixtures that stand for others
_OUTCOMES = ("passed", "skipped", "failed")  # the last one decides

Row = tuple[str, str]
"""The kind of store, and its server; empty where there is none."""


@dataclass
class _Test:
    """One test, whose setup, call and teardown are told one by one."""

    row: Row
    suite: str
    outcome: str = "passed"
    reason: str = ""


class Table:
    """What became of the tests of one run that have a row."""

    def __init__(self) -> None:
        self._tests: dict[str, _Test] = {}

    def add(self, report: pytest.TestReport, kind: str, server: str, suite: str) -> None:
        """Note how a test's setup, call or teardown went."""
        test = self._tests.setdefault(report.nodeid, _Test((kind, server), suite))
        test.outcome = max(test.outcome, report.outcome, key=_OUTCOMES.index)
        if report.skipped:
            reason = report.longrepr[2].removeprefix("Skipped: ")
            test.reason = reason.partition(" does not declare ")[2] or reason

    def lines(self, versions: Mapping[str, str]) -> Iterator[str]:
        """Yield the lines, in Markdown; none when no test has a row."""
        rows = sorted({test.row for test in self._tests.values()}, key=_order)
        if not rows:
            return
        cells = [HEADER, *(self._cells(row, versions) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        cells.insert(1, ["-" * width for width in widths])
        for line in cells:
            yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"

    def _cells(self, row: Row, versions: Mapping[str, str]) -> list[str]:
        kind, server = row
        tests = [test for test in self._tests.values() if test.row == row]
        counts = [Counter(test.outcome for test in tests if test.suite == suite.__name__) for suite in SUITES]
        reasons = Counter(test.reason for test in tests if test.outcome == "skipped")
        return [
            kind,
            f"{SERVERS[server]} {versions.get(server, '')}".strip(),
            *(", ".join(f"{count[outcome]} {outcome}" for outcome in _OUTCOMES if count[outcome]) for count in counts),
            ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common()),
        ]


def rows_of(classes: Iterable[type]) -> list[Row]:
    """Return the rows that a whole run has, without a server that the environment names."""
    rows = {
        (one.row, server) for one in classes if hasattr(one, "row") for server in _EACH.get(one.server, (one.server,))
    }
    return sorted(rows, key=_order)


def suite_of(item: pytest.Item) -> type | None:
    """Return the suite that a test is inherited from."""
    kind = getattr(item, "cls", None) or object
    return next((suite for suite in SUITES if issubclass(kind, suite)), None)


def row_of(item: pytest.Item) -> Row | None:
    """Return the row that a test belongs to; None if it has none."""
    kind = getattr(item, "cls", None)
    if not hasattr(kind, "row"):
        return None
    chosen = item.callspec.params if hasattr(item, "callspec") else {}
    return kind.row, chosen.get(kind.server, kind.server)


def _order(row: Row) -> tuple[int, Row]:
    return list(SERVERS).index(row[1]), row
