"""The suite turns red for every backend of `broken`, green for the one they derive from, and shows why."""

import importlib
import pkgutil

import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook

from bucketlog import testing
from bucketlog.testing import BackendSuite, StoreSuite

from .broken import NOTICED_BY
from .dict_backend import DictBackend, Root

pytestmark = pytest.mark.slow

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


# Runs in a process of its own, where nothing imports the suites before the author's file does.
IN_A_SUBCLASS = """
import uuid
import bucketlog
import pytest
from bucketlog.backend import find_factory
from bucketlog.testing import BackendSuite, StoreSuite

class TestBackend(BackendSuite):
    @pytest.fixture
    def open_backend(self):
        backend = find_factory("memory")("memory://rewritten", {}, create=True)
        backend.get = lambda key: type(backend).get(backend, key)._replace(data=b"wrong")
        return lambda: backend

class TestStore(StoreSuite):
    @pytest.fixture
    def open_store(self):
        url = f"memory://{uuid.uuid4()}"
        return lambda **options: bucketlog.open(url, **options)

    @pytest.fixture
    def stream(self, store):
        store.stream("orders").append(bucketlog.Event(type="test.event"))
        return store.stream("orders")
"""


@pytest.mark.parametrize(
    ("test", "shown"),
    [
        ("TestBackend::test_put_replaces_the_object", "assert b'wrong' == b'short'"),
        ("TestStore::test_batch_of_duplicates_writes_nothing", "assert ((2, 1), (0, 1)) == ((1, 0), (0, 1))"),
    ],
)
def test_assertion_that_fails_in_a_subclass_shows_its_values(pytester, test, shown):
    path = pytester.makepyfile(IN_A_SUBCLASS)

    result = pytester.runpytest_subprocess(*WITHOUT_PLUGINS, "-q", f"{path.name}::{test}")

    result.stdout.fnmatch_lines([f"E*{shown}*"])


def test_assertions_of_every_module_of_the_suites_are_rewritten():
    modules = [module.name for module in pkgutil.walk_packages(testing.__path__, "bucketlog.testing.")]
    suites = [name for name in modules if name.startswith(("bucketlog.testing.backend", "bucketlog.testing.store"))]

    plain = [
        name for name in suites if not isinstance(importlib.import_module(name).__loader__, AssertionRewritingHook)
    ]

    assert len(suites) >= 15
    assert plain == []


def test_author_who_forgets_the_fixture_sees_its_name(pytester):
    path = pytester.makepyfile("from bucketlog.testing import BackendSuite\nclass TestIt(BackendSuite): pass")

    test = f"{path.name}::TestIt::test_closing_twice_does_nothing"
    _, _, failed = pytester.inline_run(*WITHOUT_PLUGINS, test).listoutcomes()

    assert ["TestIt must define the fixture open_backend" in report.longreprtext for report in failed] == [True]


@pytest.mark.parametrize("suite", [BackendSuite, StoreSuite])
def test_every_inherited_test_says_what_it_specifies(suite):
    tests = {name: getattr(suite, name) for name in dir(suite) if name.startswith("test_")}

    assert tests
    assert [name for name, test in tests.items() if not test.__doc__] == []
