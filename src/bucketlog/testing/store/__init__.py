"""The conformance suite of the event store: what a user of `bucketlog.EventStore` may rely on, as tests to inherit.

Subclass `StoreSuite`, supply the fixture `open_store`, and run pytest. The docstrings of the tests are the
specification. `BackendSuite` tests what moves the bytes; this one what is built on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from bucketlog.testing.store.appending import AppendingTests
from bucketlog.testing.store.contention import ContentionTests
from bucketlog.testing.store.following import FollowingTests
from bucketlog.testing.store.maintenance import MaintenanceTests
from bucketlog.testing.store.opening import OpeningTests
from bucketlog.testing.store.partitions import PartitionTests
from bucketlog.testing.store.reading import ReadingTests
from bucketlog.testing.store.state import StateTests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog.store import EventStore
    from bucketlog.stream import Stream
    from bucketlog.testing.store.harness import OpenStore


# pytest collects the tests of the last base first.
class StoreSuite(
    MaintenanceTests,
    StateTests,
    ContentionTests,
    FollowingTests,
    ReadingTests,
    PartitionTests,
    AppendingTests,
    OpeningTests,
):
    """Inherit this in a class that pytest collects, and define `open_store`.

    Attributes:
        writers: How many writers append to one partition at once.
        appends_each: How often each of them does. Raise it for a quick store.
        several_writers: Whether handles may write at once; False for storage that is opened with `single_writer=True`,
            where a race is over when its writers are refused.
        forks: Whether a forked child can use the store; it cannot where the parent's memory or connections hold it.
        timeout_seconds: How long one test waits for threads that do not end.
    """

    writers: ClassVar[int] = 8
    appends_each: ClassVar[int] = 5
    several_writers: ClassVar[bool] = True
    forks: ClassVar[bool] = False
    timeout_seconds: ClassVar[float] = 60.0

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """Return what opens one more handle on a store that is new for each test, passing keywords on. Define this."""
        pytest.fail(f"{type(self).__name__} must define the fixture open_store")

    @pytest.fixture
    def open_handle(self, open_store: OpenStore) -> Iterator[OpenStore]:
        """Return `open_store`, but close behind the test what it opened."""
        opened: list[EventStore] = []

        def open_one(**options: Any) -> EventStore:  # noqa: ANN401  (what bucketlog.open takes)
            handle = open_store(**options)
            opened.append(handle)
            return handle

        yield open_one
        for handle in opened:
            handle.close()

    @pytest.fixture
    def store(self, open_handle: OpenStore) -> EventStore:
        """Return a handle."""
        return open_handle()

    @pytest.fixture
    def other(self, store: EventStore, open_handle: OpenStore) -> EventStore:
        """Return another handle on the same store."""
        del store  # asked for so that it is there first
        return open_handle()

    @pytest.fixture
    def stream(self, store: EventStore) -> Stream:
        """Return a stream that is not written yet, of the handle `store`."""
        return store.stream("orders")
