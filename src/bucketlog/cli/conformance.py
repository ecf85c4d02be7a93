"""`bucketlog conformance`: run the public test suites against the user's own storage."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from bucketlog.cli.arguments import SingleWriter, StorageOptions, Url, storage_options_of
from bucketlog.cli.output import print_table, print_text, say
from bucketlog.cli.run import FAILED, INTERRUPTED, NO, USAGE

EXAMPLE = """\
bucketlog conformance s3://acme-events/prod -k 'put_if_absent or expected_offset'"""

TIME_LIMIT_SECONDS = 540.0  # leaves a minute of the ten for the last test and the clean-up

_SUITE = "bucketlog.testing.own_store"
_OUTCOMES = ("passed", "skipped", "failed", "not run")
# The settings of the user's project or shell are meant for other tests.
_UNSET = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")
_NO_PLUGINS = "PYTEST_DISABLE_PLUGIN_AUTOLOAD"
_STOPPED, _WRONG_USAGE, _NONE_FOUND = 2, 4, 5  # pytest's exit codes
_TARGET = "bucketlog-target"
_LATE = "ten minutes are over"

Expression = Annotated[
    str | None,
    typer.Option("-k", metavar="EXPR", help="Only tests whose names match a pytest expression, e.g. 'race or list'."),
]


def conformance(
    url: Url, expression: Expression = None, single_writer: SingleWriter = False, option: StorageOptions = None
) -> None:
    """Run the conformance suites against your own storage.

    Takes less than ten minutes. The tests write only to a scratch folder below the URL and remove it at the end, also
    after Ctrl-C; a store at the URL is not touched. Exits with 1 if a test fails or the time runs out. Needs the extra
    `testing`.
    """
    if importlib.util.find_spec("pytest") is None:
        say('bucketlog: pytest is missing; run: pip install "bucketlog[testing]"')
        raise typer.Exit(USAGE)
    run = _Run(_Target(url, storage_options_of(option), single_writer))
    code = _run_pytest(run, expression)
    if code == _NONE_FOUND:
        say(f"bucketlog: no test matches -k {expression!r}")
    if code in (_NONE_FOUND, _WRONG_USAGE):
        raise typer.Exit(USAGE)
    if code == FAILED:  # the storage could not be used at all; pytest printed the reason
        raise typer.Exit(FAILED)
    run.show()
    if code == _STOPPED:
        raise typer.Exit(INTERRUPTED)
    if code or run.out_of_time:
        raise typer.Exit(NO)


@dataclass(frozen=True, slots=True)
class _Target:
    """The storage to test, as `bucketlog.testing.own_store` expects it."""

    url: str
    options: Mapping[str, object] = field(repr=False)  # may hold a secret
    single_writer: bool


class _Run:
    """A pytest plugin: passes the target to the suites, counts the outcomes and enforces the time limit."""

    def __init__(self, target: _Target) -> None:
        self.target = target
        self.out_of_time = False
        self._begin = time.monotonic()
        self._outcomes: dict[str, str] = {}

    def show(self) -> None:
        """Print the number of tests per suite and outcome."""
        counts: dict[str, dict[str, int]] = {}
        for test, outcome in self._outcomes.items():
            suite = "event store" if "::TestStore::" in test else "backend"
            counts.setdefault(suite, dict.fromkeys(_OUTCOMES, 0))[outcome] += 1
        rows = [[suite, *found.values()] for suite, found in counts.items()]
        if len(rows) > 1:
            rows.append(["both", *(sum(found[outcome] for found in counts.values()) for outcome in _OUTCOMES)])
        print_table(["suite", *_OUTCOMES], rows)
        print_text(
            f"in {time.monotonic() - self._begin:.0f} s; skipped tests need what the storage does not claim to do"
        )
        if self.out_of_time:
            print_text("time ran out: run the rest in parts, with -k")

    # -- pytest's hooks ------------------------------------------------------------------------------------------------

    def pytest_configure(self, config: Any) -> None:  # noqa: ANN401  (pytest may be missing)
        config.pluginmanager.register(self.target, _TARGET)

    def pytest_collection_finish(self, session: Any) -> None:  # noqa: ANN401
        self._outcomes = {item.nodeid: "not run" for item in session.items}

    def pytest_runtest_setup(self) -> None:
        if time.monotonic() - self._begin > TIME_LIMIT_SECONDS:
            import pytest

            self.out_of_time = True
            pytest.skip(_LATE)

    def pytest_runtest_logreport(self, report: Any) -> None:  # noqa: ANN401
        if report.failed:
            self._outcomes[report.nodeid] = "failed"
        elif report.skipped and _LATE not in str(report.longrepr):
            self._outcomes[report.nodeid] = "skipped"
        elif report.passed and report.when == "call":
            self._outcomes[report.nodeid] = "passed"


def _run_pytest(run: _Run, expression: str | None) -> int:
    """Run the suites, with pytest's own output on stderr, and return pytest's exit code."""
    import pytest

    args = ["--pyargs", _SUITE, "-c", os.devnull, "--rootdir", os.curdir, "--noconftest", "-p", "no:cacheprovider"]
    args += ["-q", "--no-header", "--tb=short", "--disable-warnings"]
    args += ["-k", expression] if expression else []
    with _environment(), contextlib.redirect_stdout(sys.stderr):
        return int(pytest.main(args, plugins=[run]))


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Disable plugins and options that are meant for the user's own tests."""
    before = {name: os.environ.pop(name, None) for name in (*_UNSET, _NO_PLUGINS)}
    os.environ[_NO_PLUGINS] = "1"
    try:
        yield
    finally:
        os.environ.pop(_NO_PLUGINS)
        os.environ.update({name: value for name, value in before.items() if value is not None})
