"""A third party's backend, built and installed as its users would, is found by its URL and passes the public suites."""

import subprocess
import sys
from pathlib import Path

import pytest

import bucketlog
from bucketlog.errors import InvalidOptionError, InvalidURLError, StoreNotFoundError
from bucketlog.testing import BackendSuite

pytestmark = pytest.mark.slow

PACKAGE = Path(__file__).parent.parent / "packages" / "bucketlog-shelf"


def test_without_the_package_its_scheme_is_not_known(tmp_path):
    with pytest.raises(InvalidURLError, match="shelf"):
        bucketlog.open(f"shelf://{tmp_path}/shelf")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install the package into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(PACKAGE)],
        check=True,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder
        for name in [name for name in sys.modules if name.startswith("bucketlog_shelf")]:
            del sys.modules[name]


@pytest.mark.usefixtures("installed")
class TestShelfBackend(BackendSuite):
    race_rounds = 5
    many_keys = 1100

    @pytest.fixture
    def open_backend(self, tmp_path, installed):
        from bucketlog_shelf import open_shelf

        return lambda: open_shelf(f"shelf://{tmp_path}/shelf", {}, create=True)


@pytest.mark.usefixtures("installed")
def test_backend_of_a_third_party_is_found_by_its_scheme(tmp_path):
    url = f"shelf://{tmp_path}/shelf"

    with bucketlog.open(url) as store:
        store.stream("s").append([bucketlog.Event(type="e", data=number) for number in range(3)])

    with bucketlog.open(url, create=False) as store:
        assert [event.data for event in store.stream("s").read()] == [0, 1, 2]


@pytest.mark.usefixtures("installed")
def test_errors_of_a_third_party_backend_are_those_of_all_others(tmp_path):
    with pytest.raises(StoreNotFoundError):
        bucketlog.open(f"shelf://{tmp_path}/none", create=False)
    with pytest.raises(InvalidOptionError, match="known are none"):
        bucketlog.open(f"shelf://{tmp_path}/shelf", colour="red")
