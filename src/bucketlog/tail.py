"""Tails: read what is there, then wait for more."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from bucketlog.backend import WatchBackend
from bucketlog.cursor import Cursor
from bucketlog.durations import to_seconds
from bucketlog.reader import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta
    from types import TracebackType

    from bucketlog.backend import Watch
    from bucketlog.event import Event
    from bucketlog.filters import Filter
    from bucketlog.partition import PartitionReader, Region
    from bucketlog.stream import StreamState

_FIRST_WAIT_SECONDS = 0.02
_PARTITIONS_LISTED_SECONDS = 5.0  # where nothing wakes us, how often new partitions are looked for
_WATCHED_WAIT_SECONDS = 5.0  # where something does, how long to trust it


class Tail:
    """Iterates events without end. `close()`, from any thread, ends it at once, and so does leaving its `with` block.

    `cursor` is where to go on: behind all that was handed out.
    """

    def __init__(
        self,
        state: StreamState,
        after: Cursor,
        *,
        partitions: Sequence[str] | None,
        wanted: Filter,
        poll: float | timedelta,
    ) -> None:
        self._state, self._after, self._wanted = state, after, wanted
        self._partitions = None if partitions is None else sorted(set(partitions))
        self._poll_seconds = max(to_seconds(poll, name="poll"), 0.001)
        self._readers: dict[str, PartitionReader] = {}
        self._regions: dict[str, Iterator[Region]] = {}  # those that are being read
        self._positions = dict(after)
        self._taken: Event | None = None
        self._closed = threading.Event()
        self._watch: Watch | None = None
        self._wait_seconds = _FIRST_WAIT_SECONDS
        self._listed_at = float("-inf")
        self._items = self._run()

    @property
    def cursor(self) -> Cursor:
        """Where to go on: behind all that was handed out."""
        event = self._taken
        if event is None or event.partition is None or event.offset is None:
            return Cursor(self._positions)
        return Cursor({**self._positions, event.partition: event.offset + 1})

    def __iter__(self) -> Iterator[Event]:
        return self._items

    def __next__(self) -> Event:
        return next(self._items)

    def __enter__(self) -> Tail:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the tail, also one that waits in another thread."""
        self._closed.set()
        if self._watch is not None:
            self._watch.close()

    def poll(self) -> list[Event]:
        """Return what has come since the last call, without waiting; a bounded number of events.

        The cursor moves over all of them.

        Raises:
            OffsetOutOfRangeError: The cursor points before the start or beyond the end of the log.
            CorruptSegmentError: A segment is damaged.
        """
        self._taken = None
        for reader in self._find_readers():
            name = reader.partition
            regions = self._regions.setdefault(name, reader.regions())
            # One region at a time, so that a long history is not gathered in memory.
            before = reader.offset
            while (region := next(regions, None)) is not None:
                found: list[Event] = []
                for piece in pieces(reader, [region], self._wanted, offset=before):
                    found += piece.batch.events
                    self._positions[name] = piece.next_offset
                if found:
                    return found
                before = reader.offset
            del self._regions[name]
            self._positions[name] = max(reader.offset, self._positions.get(name, 0))
        return []

    def wait(self) -> bool:
        """Wait until there may be more, or for a while; False when the tail was closed."""
        backend = self._state.root.backend
        if self._watch is None and isinstance(backend, WatchBackend) and backend.capabilities.watch:
            self._watch = backend.watch(self._state.folder)
            if self._closed.is_set():
                self._watch.close()
            return not self._closed.is_set()  # what came before the watch began is seen by another look
        if self._watch is not None:
            self._watch.wait(_WATCHED_WAIT_SECONDS)
        else:
            self._closed.wait(self._wait_seconds * (0.5 + self._state.root.clock.jitter() / 2))
            self._wait_seconds = min(2 * self._wait_seconds, self._poll_seconds)
        return not self._closed.is_set()

    def _run(self) -> Iterator[Event]:
        try:
            while not self._closed.is_set():
                before = dict(self._positions)
                found = self.poll()
                after, self._positions = self._positions, before
                for event in found:
                    self._taken = event
                    yield event
                    if self._closed.is_set():
                        return
                self._taken, self._positions = None, after
                if found:
                    self._wait_seconds = _FIRST_WAIT_SECONDS
                elif not self.wait():
                    return
        finally:
            self.close()

    def _find_readers(self) -> list[PartitionReader]:
        now = self._state.root.clock.elapsed_seconds()
        if self._watch is not None or now - self._listed_at >= min(_PARTITIONS_LISTED_SECONDS, self._poll_seconds * 5):
            self._listed_at = now
            names = self._partitions if self._partitions is not None else self._state.partitions()
            for name in (
                *names,
                *(name for name, offset in self._after.items() if offset and self._partitions is None),
            ):
                if name not in self._readers:
                    reader = self._state.reader(name)
                    reader.seek(self._after.get(name, -1))
                    self._readers[name] = reader
        return [self._readers[name] for name in sorted(self._readers)]
