"""The conformance suite for stores: the guarantees of `bucketlog.EventStore`, as tests to inherit.

Subclass `StoreSuite`, define the fixture `open_store`, and run pytest. The docstrings of the tests are the
specification. `BackendSuite` tests how a backend stores bytes; this suite tests the event store on top of it.
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


# pytest runs the tests of the last base first.
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
    """The tests that every store must pass. Subclass it and define the fixture `open_store`.

    Attributes:
        writers: Number of writers that append to one partition at once.
        appends_each: Number of appends by each writer. Raise it for fast storage.
        several_writers: Whether several handles may write. False for storage opened with `single_writer=True`: the
            races then only check that a second writer is refused.
        forks: Whether a forked child can use the store. It cannot if the parent's memory or connections hold it.
        timeout_seconds: How long a test waits for its threads before it fails.
    """

    writers: ClassVar[int] = 8
    appends_each: ClassVar[int] = 5
    several_writers: ClassVar[bool] = True
    forks: ClassVar[bool] = False
    timeout_seconds: ClassVar[float] = 60.0

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """Return a function that opens another handle on the test's store. Define this fixture.

        The store is new for each test. The function passes its keyword arguments to `bucketlog.open`.
        """
        pytest.fail(f"{type(self).__name__} must define the fixture open_store")

    @pytest.fixture
    def open_handle(self, open_store: OpenStore) -> Iterator[OpenStore]:
        """Return `open_store`, and close the handles it opened when the test ends."""
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
        """Return a second handle on the same store."""
        del store  # requested so that it is opened first
        return open_handle()

    @pytest.fixture
    def stream(self, store: EventStore) -> Stream:
        """Return a stream of the handle `store` that has not been written yet."""
        return store.stream("orders")
