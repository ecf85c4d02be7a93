"""The suite turns red for every backend of `broken`, green for the one they derive from, and tells why."""

import pytest

from bucketlog.testing import BackendSuite

from .broken import NOTICED_BY
from .dict_backend import DictBackend, Root

pytest_plugins = ["pytester"]

SUITE = """
import pytest
from bucketlog.testing import BackendSuite

class TestIt(BackendSuite):
    big_object_bytes = 100_000
    timeout_seconds = 4.0

    @pytest.fixture
    def open_backend(self, make_backend):
        return make_backend
"""


# The inner runs need none, and loading them takes longer than the tests do.
WITHOUT_PLUGINS = [
    f"-pno:{name}"
    for name in ("cacheprovider", "asyncio", "anyio", "hypothesispytest", "pytest_cov", "timeout", "xdist")
]


class Supply:
    """A plugin that hands a backend class to the inner run."""

    def __init__(self, backend_class: type[DictBackend]) -> None:
        self.backend_class = backend_class

    @pytest.fixture
    def make_backend(self):
        root = Root()
        return lambda: self.backend_class(root)


def run_suite(pytester: pytest.Pytester, backend_class: type[DictBackend], tests: list[str]):
    path = pytester.makepyfile(SUITE)
    names = [f"{path.name}::TestIt::{name}" for name in tests]
    return pytester.inline_run(*WITHOUT_PLUGINS, *names, plugins=[Supply(backend_class)])


@pytest.mark.parametrize(
    ("backend_class", "test"), NOTICED_BY.items(), ids=[backend_class.__name__ for backend_class in NOTICED_BY]
)
def test_suite_notices_the_backend_that(pytester, backend_class, test):
    _, _, failed = run_suite(pytester, backend_class, [test]).listoutcomes()

    assert failed
    assert {report.when for report in failed} == {"call"}


def test_suite_has_no_objection_to_the_backend_they_derive_from(pytester):
    tests = sorted(set(NOTICED_BY.values()))

    passed, skipped, failed = run_suite(pytester, DictBackend, tests).listoutcomes()

    assert not failed
    assert not skipped
    assert len(passed) >= len(tests)


def test_author_sees_the_values_that_an_assertion_compared(pytester):
    broken = next(one for one in NOTICED_BY if one.__name__ == "GivesShortRanges")

    _, _, failed = run_suite(pytester, broken, ["test_range_returns_exactly_its_bytes"]).listoutcomes()

    assert any("assert b'012' == b'0123'" in report.longreprtext for report in failed)


def test_author_who_forgets_the_fixture_is_told_its_name(pytester):
    path = pytester.makepyfile("from bucketlog.testing import BackendSuite\nclass TestIt(BackendSuite): pass")

    test = f"{path.name}::TestIt::test_closing_twice_does_nothing"
    _, _, failed = pytester.inline_run(*WITHOUT_PLUGINS, test).listoutcomes()

    assert ["TestIt must define the fixture open_backend" in report.longreprtext for report in failed] == [True]


def test_every_inherited_test_says_what_it_specifies():
    tests = {name: getattr(BackendSuite, name) for name in dir(BackendSuite) if name.startswith("test_")}

    assert tests
    assert [name for name, test in tests.items() if not test.__doc__] == []
