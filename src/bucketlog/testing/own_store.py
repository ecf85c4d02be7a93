"""The conformance suites as pytest finds them, for a place that was named: what `bucketlog conformance` runs.

Whoever starts pytest registers a plugin that is a `Target` under the name `TARGET`. Every test gets a root of its own
below a scratch folder of the target, which is removed after the test; what is left, after Ctrl-C too, goes at the end.
"""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from urllib.parse import unquote

import pytest

import bucketlog
from bucketlog.errors import BucketlogError
from bucketlog.storage.location import Location, parse, redact
from bucketlog.testing.backend import BackendSuite
from bucketlog.testing.store import StoreSuite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bucketlog.backend import Backend
    from bucketlog.testing.store.harness import OpenStore

TARGET = "bucketlog-target"
_LOCAL = ("file", "memory")


@runtime_checkable
class Target(Protocol):
    """The place to be tested, as the user named it: a URL and options as `bucketlog.open` takes them."""

    url: str
    options: Mapping[str, object]
    single_writer: bool


class Scratch:
    """A folder below the target, and the roots in it."""

    def __init__(self, target: Target) -> None:
        self.single_writer = target.single_writer
        self._target = parse(target.url, target.options, {})
        self._base = f"{self._target.url.rstrip('/')}/bucketlog-conformance-{uuid.uuid4().hex[:12]}"
        self._roots = 0
        self._made = _missing_folders(self._target)

    @property
    def url(self) -> str:
        """Where the folder is, as it may be shown."""
        return redact(self._base)

    @property
    def is_remote(self) -> bool:
        """Whether each request takes its time."""
        return self._target.factory not in _LOCAL

    @property
    def is_directory(self) -> bool:
        """Whether it lies on a disk of this machine."""
        return self._target.factory == "file"

    @property
    def options(self) -> Mapping[str, object]:
        """Those with which the target is opened."""
        return self._target.options

    def new_root(self) -> Location:
        """Return a root under which nothing is."""
        self._roots += 1
        return self._at(f"{self._base}/{self._roots}")

    def check(self) -> None:
        """Try once what every test needs.

        Raises:
            BucketlogError: It does not work.
        """
        root = self.new_root()
        backend = root.open_backend(create=True)
        try:
            backend.put("check", b"check")
            list(backend.list(""))
            backend.delete(["check"])
        finally:
            backend.close()
        self.remove(root)

    def remove(self, root: Location | None = None) -> None:
        """Remove everything below a root, or below the whole folder.

        Raises:
            BucketlogError: The storage does not let it.
        """
        place = root or self._at(self._base)
        if self.is_directory:
            shutil.rmtree(_path_of(place), ignore_errors=True)
            for folder in self._made if root is None else ():
                with suppress(OSError):  # somebody else has put something there meanwhile
                    folder.rmdir()
            return
        backend = place.open_backend(create=True)
        try:
            backend.delete([entry.key for entry in backend.list("")])
        finally:
            backend.close()

    def _at(self, url: str) -> Location:
        return Location(self._target.factory, url, self._target.options)


def _path_of(location: Location) -> Path:
    return Path(unquote(location.url.removeprefix("file://")))


def _missing_folders(location: Location) -> list[Path]:
    """Return the directories of the target that the tests will make, the innermost first."""
    if location.factory != "file":
        return []
    path = _path_of(location)
    return [one for one in (path, *path.parents) if not one.exists()]


# -- fixtures ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def scratch(request: pytest.FixtureRequest) -> Iterator[Scratch]:
    """Return the folder in which everything happens; it is removed at the end, also after Ctrl-C."""
    target = request.config.pluginmanager.get_plugin(TARGET)
    if not isinstance(target, Target):
        pytest.exit(f"no target: a plugin {TARGET!r} is to be registered", returncode=3)
    try:
        scratch = Scratch(target)
        scratch.check()
    except BucketlogError as err:
        pytest.exit(str(err), returncode=3)
    TestBackend.race_rounds = 8 if scratch.is_remote else BackendSuite.race_rounds
    TestBackend.big_object_bytes = (16 if scratch.is_remote else 64) * 1024 * 1024
    TestStore.several_writers = not scratch.single_writer
    TestStore.forks = scratch.is_directory
    yield scratch
    scratch.remove()


@pytest.fixture
def root(scratch: Scratch) -> Iterator[Location]:
    """Return a root for one test."""
    root = scratch.new_root()
    yield root
    scratch.remove(root)


class TestBackend(BackendSuite):
    """What moves the bytes."""

    @pytest.fixture
    def open_backend(self, root: Location) -> Callable[[], Backend]:
        """Return what opens one more handle on the test's root."""
        return partial(root.open_backend, create=True)


class TestStore(StoreSuite):
    """What is built on it."""

    @pytest.fixture
    def open_store(self, root: Location, scratch: Scratch) -> OpenStore:
        """Return what opens one more handle on the test's store."""
        return partial(
            bucketlog.open, root.url, storage_options=dict(root.options), single_writer=scratch.single_writer
        )
