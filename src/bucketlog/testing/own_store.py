"""The conformance suites for a storage location named at run time; `bucketlog conformance` runs this module.

The caller of pytest registers a plugin that is a `Target` under the name `TARGET`. Each test gets a root of its own in
a scratch folder of the target. The root is removed after the test, and the folder at the end, also after Ctrl-C.
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
    """The location to test: a URL and options, as for `bucketlog.open`."""

    url: str
    options: Mapping[str, object]
    single_writer: bool


class Scratch:
    """A scratch folder in the target, and the roots in it."""

    def __init__(self, target: Target) -> None:
        self.single_writer = target.single_writer
        self._target = parse(target.url, target.options, {})
        self._base = f"{self._target.url.rstrip('/')}/bucketlog-conformance-{uuid.uuid4().hex[:12]}"
        self._roots = 0
        self._made = _missing_folders(self._target)

    @property
    def url(self) -> str:
        """The URL of the folder, without secrets."""
        return redact(self._base)

    @property
    def is_remote(self) -> bool:
        """Whether requests go over a network."""
        return self._target.factory not in _LOCAL

    @property
    def is_directory(self) -> bool:
        """Whether the folder is on a disk of this machine."""
        return self._target.factory == "file"

    @property
    def options(self) -> Mapping[str, object]:
        """The storage options of the target."""
        return self._target.options

    def new_root(self) -> Location:
        """Return a new, empty root."""
        self._roots += 1
        return self._at(f"{self._base}/{self._roots}")

    def check(self) -> None:
        """Try once to put, list and delete, which every test needs.

        Raises:
            BucketlogError: One of them failed.
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
            BucketlogError: The storage refused.
        """
        place = root or self._at(self._base)
        if self.is_directory:
            shutil.rmtree(_path_of(place), ignore_errors=True)
            for folder in self._made if root is None else ():
                with suppress(OSError):  # it is not empty: another process uses it
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
    """Return the directories of the target that the tests will create, innermost first."""
    if location.factory != "file":
        return []
    path = _path_of(location)
    return [folder for folder in (path, *path.parents) if not folder.exists()]


# -- fixtures ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def scratch(request: pytest.FixtureRequest) -> Iterator[Scratch]:
    """Return the scratch folder. It is removed at the end, also after Ctrl-C."""
    target = request.config.pluginmanager.get_plugin(TARGET)
    if not isinstance(target, Target):
        pytest.exit(f"no target: register a plugin named {TARGET!r}", returncode=3)
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
    """The backend of the target."""

    @pytest.fixture
    def open_backend(self, root: Location) -> Callable[[], Backend]:
        """Return a function that opens another handle on the test's root."""
        return partial(root.open_backend, create=True)


class TestStore(StoreSuite):
    """A store on the target."""

    @pytest.fixture
    def open_store(self, root: Location, scratch: Scratch) -> OpenStore:
        """Return a function that opens another handle on the test's store."""
        return partial(
            bucketlog.open, root.url, storage_options=dict(root.options), single_writer=scratch.single_writer
        )
