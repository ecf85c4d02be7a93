"""What the parts of `StoreSuite` share: attributes, example events and names, and small helpers."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pytest

from bucketlog.commit import Commit
from bucketlog.errors import CapabilityError
from bucketlog.event import Event
from bucketlog.testing.threads import ThreadedTests, start

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bucketlog.store import EventStore

START = datetime(2026, 2, 5, 12, 30, 0, 123456, tzinfo=UTC)
IMPOSSIBLE_NAMES = ("", "nul\0byte", "lone \ud800 surrogate", "x" * 256, "é" * 43)


class OpenStore(Protocol):
    """Opens one more handle on the test's store, as `bucketlog.open` does."""

    def __call__(self, **options: Any) -> EventStore:  # noqa: ANN401  (what bucketlog.open takes)
        """Open a handle, passing the keyword arguments to `bucketlog.open`."""
        ...


class StoreTests(ThreadedTests):
    """Base of the parts of `StoreSuite`, which documents the attributes and defines the fixtures."""

    writers: ClassVar[int]
    appends_each: ClassVar[int]
    several_writers: ClassVar[bool]
    forks: ClassVar[bool]

    def _refuses_several_writers(self, open_handle: OpenStore) -> bool:
        """Return False if several handles may write; otherwise check that writing requires `single_writer=True`."""
        if self.several_writers:
            return False
        try:
            open_handle(single_writer=False).stream("race").append(make_event(0))
        except CapabilityError as err:
            assert "single_writer=True" in str(err)  # noqa: PT017  (if nothing is raised, the test is skipped)
            return True
        pytest.skip("the suite expects a single writer, but this storage is safe for several")

    def _next_ids(self, events: Iterable[Event], count: int) -> list[str]:
        """Return the ids of the next events of a tail. One that never wakes fails the test instead of hanging it."""
        return self._join([start(lambda: ids_of(itertools.islice(events, count)))])[0]


def make_event(number: int, *, days: int = 0, **fields: Any) -> Event:  # noqa: ANN401  (any field of an event)
    """Return an event with the id `e<number>`, `number` seconds after `START`."""
    given: dict[str, Any] = {
        "type": "test.event",
        "id": f"e{number}",
        "time": START + timedelta(days=days, seconds=number % 3600),
        "data": number,
    }
    return Event(**{**given, **fields})


def ids_of(events: Iterable[Event]) -> list[str]:
    """Return the ids of events, in their order."""
    return [event.id for event in events]


def one_commit(result: Commit | list[Commit]) -> Commit:
    """Narrow the result of an append to a stream with a single partition."""
    assert isinstance(result, Commit)
    return result


def loaded_value(store: EventStore, name: str) -> object:
    """Return the value of a checkpoint that must exist."""
    checkpoint = store.checkpoints.load(name)
    assert checkpoint is not None
    return checkpoint.value
