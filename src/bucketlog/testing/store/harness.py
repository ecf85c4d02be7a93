"""What the tests of a store have in common."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future, wait
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import pytest

from bucketlog.commit import Commit
from bucketlog.errors import (
    CapabilityError,
)
from bucketlog.event import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bucketlog.store import EventStore


T = TypeVar("T")

START = datetime(2026, 2, 5, 12, 30, 0, 123456, tzinfo=UTC)

IMPOSSIBLE_NAMES = ("", "nul\0byte", "lone \ud800 surrogate", "x" * 256, "é" * 43)


class OpenStore(Protocol):
    """Opens one more handle on one store, which is new for each test, as `bucketlog.open` does."""

    def __call__(self, **options: Any) -> EventStore:  # noqa: ANN401  (what bucketlog.open takes)
        """Pass the keywords on to `bucketlog.open`."""
        ...


class StoreTests:
    """Base of the parts of `StoreSuite`."""

    writers: ClassVar[int]
    appends_each: ClassVar[int]
    several_writers: ClassVar[bool]
    forks: ClassVar[bool]
    timeout_seconds: ClassVar[float]

    def _refuses_several_writers(self, open_handle: OpenStore) -> bool:
        """Tell whether this storage is for one writer: then whoever does not promise to be the only one is refused."""
        if self.several_writers:
            return False
        try:
            open_handle(single_writer=False).stream("race").append(_event(0))
        except CapabilityError as err:
            assert "single_writer=True" in str(err)  # noqa: PT017  (where nothing is raised, the test is skipped)
            return True
        pytest.skip("the store was opened for one writer, though its storage is safe for several")

    def _next_ids(self, events: Iterable[Event], count: int) -> list[str]:
        """Take events from a tail in a thread, so that one that never wakes fails the test instead of hanging it."""
        return self._join([_start(lambda: _ids(itertools.islice(events, count)))])[0]

    def _together(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Run tasks in a thread each, and return their results; fails when one does not end in time."""
        return self._join([_start(task) for task in tasks])

    def _join(self, futures: Sequence[Future[T]]) -> list[T]:
        """Wait for threads, and return their results or raise the error of one."""
        if wait(futures, timeout=self.timeout_seconds).not_done:
            pytest.fail(f"a thread was still waiting after {self.timeout_seconds:g} seconds")
        return [future.result() for future in futures]


def _event(number: int, *, days: int = 0, **fields: Any) -> Event:  # noqa: ANN401  (any field of an event)
    """Return the event `e<number>`, so many seconds after the start."""
    given: dict[str, Any] = {
        "type": "test.event",
        "id": f"e{number}",
        "time": START + timedelta(days=days, seconds=number % 3600),
        "data": number,
    }
    return Event(**{**given, **fields})


def _ids(events: Iterable[Event]) -> list[str]:
    return [event.id for event in events]


def _commit(result: Commit | list[Commit]) -> Commit:
    assert isinstance(result, Commit)
    return result


def _loaded(store: EventStore, name: str) -> object:
    checkpoint = store.checkpoints.load(name)
    assert checkpoint is not None
    return checkpoint.value


def _start(task: Callable[[], T]) -> Future[T]:
    """Run a task in a thread that does not keep the process from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = task()
        except BaseException as err:  # noqa: BLE001  (handed to whoever asks for the result)
            future.set_exception(err)
        else:
            future.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return future
