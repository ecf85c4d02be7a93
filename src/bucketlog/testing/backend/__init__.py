"""The conformance suite of the backend protocol: what `bucketlog.backend` promises, as tests to inherit.

Subclass `BackendSuite`, supply the fixture `open_backend`, and run pytest. The docstrings of the tests are the
specification; a backend that passes carries a store. Abilities that a backend does not declare are tested from the
other side: that it does not pretend to have them.
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


# pytest collects the tests of the last base first.
class BackendSuite(WatchingTests, GrowingTests, ListingTests, ConditionTests, ObjectTests):
    """Inherit this in a class that pytest collects, and define `open_backend`.

    Attributes:
        writers: How many writers race for one key.
        race_rounds: How often they do. Lower it for a slow server, though a short race proves little.
        many_keys: How many keys the listing of many keys takes; more than one page of the server.
        big_object_bytes: Size of the largest object that is put; bucketlog puts up to 64 MiB.
        timeout_seconds: How long one test waits for threads that do not end.
        blocked_seconds: How long a test watches somebody who must not get a lock.
    """

    writers: ClassVar[int] = 8
    race_rounds: ClassVar[int] = 40
    many_keys: ClassVar[int] = 1_100
    big_object_bytes: ClassVar[int] = PUT_BYTES_MAX
    timeout_seconds: ClassVar[float] = 120.0
    blocked_seconds: ClassVar[float] = 0.2

    @pytest.fixture
    def open_backend(self) -> Callable[[], Backend]:
        """Return what opens one more handle on one root, which is new and empty for each test. Define this one."""
        pytest.fail(f"{type(self).__name__} must define the fixture open_backend")

    @pytest.fixture
    def open_handle(self, open_backend: Callable[[], Backend]) -> Iterator[Callable[[], Backend]]:
        """Return `open_backend`, but close behind the test what it opened."""
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
        """Return another handle on the same root."""
        return open_handle()

    @pytest.fixture
    def rivals(self, backend: Backend, open_handle: Callable[[], Backend]) -> list[Backend]:
        """Return one handle for each writer of a race."""
        return [backend, *(open_handle() for _ in range(self.writers - 1))]

    @pytest.fixture
    def appender(self, backend: Backend) -> AppendBackend:
        """Return the handle `backend`, which can append; skips the test when that is not declared."""
        return appending(backend)

    @pytest.fixture
    def other_appender(self, other: Backend) -> AppendBackend:
        """Return the handle `other`, which can append."""
        return appending(other)

    @pytest.fixture
    def appending_rivals(self, rivals: list[Backend]) -> list[AppendBackend]:
        """Return one handle that can append for each writer of a race."""
        return [appending(handle) for handle in rivals]

    @pytest.fixture
    def watcher(self, backend: Backend) -> WatchBackend:
        """Return the handle `backend`, which can watch; skips the test when that is not declared."""
        needs(backend, "watch")
        assert isinstance(backend, WatchBackend)
        return backend

    @pytest.fixture
    def uploader(self, backend: Backend) -> UploadBackend:
        """Return the handle `backend`, which can upload; skips the test when it cannot."""
        if not isinstance(backend, UploadBackend):
            pytest.skip(f"{backend.name} has no upload")
        return backend
