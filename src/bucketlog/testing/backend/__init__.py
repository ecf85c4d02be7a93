"""The conformance suite for backends: the contract of `bucketlog.backend`, as tests to inherit.

Subclass `BackendSuite`, define the fixture `open_backend`, and run pytest. The docstrings of the tests are the
specification: a backend that passes can hold a store. For a capability that a backend does not declare, the suite tests
that the backend refuses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from bucketlog.backend import (
    PUT_BYTES_MAX,
    AppendBackend,
    Backend,
    UploadBackend,
    WatchBackend,
)
from bucketlog.testing.backend.conditions import ConditionTests
from bucketlog.testing.backend.growing import GrowingTests
from bucketlog.testing.backend.harness import appending, needs
from bucketlog.testing.backend.listing import ListingTests
from bucketlog.testing.backend.objects import ObjectTests
from bucketlog.testing.backend.watching import WatchingTests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# pytest runs the tests of the last base first.
class BackendSuite(WatchingTests, GrowingTests, ListingTests, ConditionTests, ObjectTests):
    """The tests that every backend must pass. Subclass it and define the fixture `open_backend`.

    Attributes:
        writers: Number of writers in a race.
        race_rounds: Number of rounds in a race. Lower it for a slow server; a short race proves little.
        many_keys: Number of keys in the long listing. Keep it above the server's page size.
        big_object_bytes: Size of the largest object put. bucketlog puts up to 64 MiB.
        timeout_seconds: How long a test waits for its threads before it fails.
        blocked_seconds: How long a test watches that a thread does not get a lock.
    """

    writers: ClassVar[int] = 8
    race_rounds: ClassVar[int] = 40
    many_keys: ClassVar[int] = 1_100
    big_object_bytes: ClassVar[int] = PUT_BYTES_MAX
    timeout_seconds: ClassVar[float] = 120.0
    blocked_seconds: ClassVar[float] = 0.2

    @pytest.fixture
    def open_backend(self) -> Callable[[], Backend]:
        """Return a function that opens another handle on the test's root. Define this fixture.

        The root is new and empty for each test, and all handles of a test share it.
        """
        pytest.fail(f"{type(self).__name__} must define the fixture open_backend")

    @pytest.fixture
    def open_handle(self, open_backend: Callable[[], Backend]) -> Iterator[Callable[[], Backend]]:
        """Return `open_backend`, and close the handles it opened when the test ends."""
        opened: list[Backend] = []

        def open_one() -> Backend:
            handle = open_backend()
            opened.append(handle)
            return handle

        yield open_one
        for handle in opened:
            handle.close()

    @pytest.fixture
    def backend(self, open_handle: Callable[[], Backend]) -> Backend:
        """Return a handle."""
        return open_handle()

    @pytest.fixture
    def other(self, open_handle: Callable[[], Backend]) -> Backend:
        """Return a second handle on the same root."""
        return open_handle()

    @pytest.fixture
    def rivals(self, backend: Backend, open_handle: Callable[[], Backend]) -> list[Backend]:
        """Return one handle per writer of a race."""
        return [backend, *(open_handle() for _ in range(self.writers - 1))]

    @pytest.fixture
    def appender(self, backend: Backend) -> AppendBackend:
        """Return the handle `backend` as an `AppendBackend`. Skips the test if `append` is not declared."""
        return appending(backend)

    @pytest.fixture
    def other_appender(self, other: Backend) -> AppendBackend:
        """Return the handle `other` as an `AppendBackend`."""
        return appending(other)

    @pytest.fixture
    def appending_rivals(self, rivals: list[Backend]) -> list[AppendBackend]:
        """Return one `AppendBackend` per writer of a race."""
        return [appending(handle) for handle in rivals]

    @pytest.fixture
    def watcher(self, backend: Backend) -> WatchBackend:
        """Return the handle `backend` as a `WatchBackend`. Skips the test if `watch` is not declared."""
        needs(backend, "watch")
        assert isinstance(backend, WatchBackend)
        return backend

    @pytest.fixture
    def uploader(self, backend: Backend) -> UploadBackend:
        """Return the handle `backend` as an `UploadBackend`. Skips the test if it cannot upload."""
        if not isinstance(backend, UploadBackend):
            pytest.skip(f"{backend.name} has no upload")
        return backend
