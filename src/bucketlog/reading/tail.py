"""Tails: read what is there, then wait for more."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from bucketlog.backend import WatchBackend
from bucketlog.clock import to_seconds
from bucketlog.cursor import Cursor, Progress
from bucketlog.reading.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta
    from types import TracebackType

    from bucketlog.backend import Watch
    from bucketlog.event import Event
    from bucketlog.format.filters import Filter
    from bucketlog.log.partition_reader import PartitionReader
    from bucketlog.log.raw_batch import RawBatch
    from bucketlog.log.stream_state import StreamState

_FIRST_WAIT_SECONDS = 0.02
_PARTITIONS_LISTED_SECONDS = 5.0  # between two looks for new partitions, on storage that cannot notify us
_WATCHED_WAIT_SECONDS = 5.0  # the longest wait for a notification before looking anyway


class Tail:
    """Iterates events without end, until `close()` from any thread or the end of its `with` block."""

    def __init__(
        self,
        state: StreamState,
        after: Cursor,
        *,
        partitions: Sequence[str] | None,
        wanted: Filter,
        poll: float | timedelta,
    ) -> None:
        if isinstance(partitions, str):
            msg = f"partitions takes a list of names, got the text {partitions!r}; write [{partitions!r}]"
            raise TypeError(msg)
        names = None if partitions is None else sorted(set(partitions))
        self._follower = Follower(state, after, names, wanted, max(to_seconds(poll, name="poll"), 0.001))
        self._items = self._follower.run()

    @property
    def cursor(self) -> Cursor:
        """Where to resume: just after the last event yielded, skipped ones included."""
        return self._follower.cursor

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
        """End the tail, even while another thread waits in it."""
        self._follower.close()

    def poll(self) -> list[Event]:
        """Return events that arrived since the last call, without waiting; a bounded number.

        The cursor moves past all of them.

        Raises:
            OffsetOutOfRangeError: The cursor points before the start or beyond the end of the log.
            CorruptSegmentError: A segment is damaged.
        """
        return self._follower.poll()

    def wait(self) -> bool:
        """Wait until there may be more events, or for a while; return False if the tail was closed."""
        return self._follower.wait()


class Follower:
    """The work of a tail. It has no reference to its `Tail`, so that dropping the `Tail` frees both immediately."""

    def __init__(
        self, state: StreamState, after: Cursor, partitions: list[str] | None, wanted: Filter, poll_seconds: float
    ) -> None:
        self._state, self._after, self._wanted = state, after, wanted
        self._partitions, self._poll_seconds = partitions, poll_seconds
        self._readers: dict[str, PartitionReader] = {}
        self._raw_batches: dict[str, Iterator[RawBatch]] = {}  # being read, by partition
        self._turn = ""  # the partition to look at next, so that a busy one does not starve the others
        self._progress = Progress(after)
        self._closed = threading.Event()
        self._watch: Watch | None = None
        self._wait_seconds = _FIRST_WAIT_SECONDS
        self._listed_at = float("-inf")
        state.attached.add(self)

    @property
    def cursor(self) -> Cursor:
        """See `Tail.cursor`."""
        return self._progress.cursor

    def close(self) -> None:
        """See `Tail.close`."""
        self._closed.set()
        if self._watch is not None:
            self._watch.close()

    def invalidate(self) -> None:
        """Stop trusting what was listed before; from any thread."""
        for reader in list(self._readers.values()):
            reader.listing.distrust()

    def forget(self) -> None:
        """Do nothing: a tail has no thread, and a forked child cannot use its parent's."""

    def run(self) -> Iterator[Event]:
        """Yield events until closed; when it ends, close."""
        progress = self._progress
        try:
            while not self._closed.is_set():
                before = dict(progress.offsets)
                found = self.poll()
                after, progress.offsets = progress.offsets, before
                for event in found:
                    progress.last = event
                    yield event
                    if self._closed.is_set():
                        return
                progress.move_to(after)
                if not found and not self.wait():
                    return
        finally:
            self.close()

    def poll(self) -> list[Event]:
        """See `Tail.poll`."""
        self._progress.last = None
        readers = self._find_readers()
        queue = deque(reader for reader in readers if reader.partition >= self._turn)
        queue.extend(reader for reader in readers if reader.partition < self._turn)
        while queue:
            reader = queue.popleft()
            name = self._turn = reader.partition
            position = self._progress.offsets.get(name)
            begun_before = name in self._raw_batches
            try:
                found = self._next_found(reader)
            except BaseException:
                # Nothing of it was returned: another try begins at the same offset.
                self._raw_batches.pop(name, None)
                reader.seek(self._after.get(name, -1) if position is None else position)
                self._progress.offsets.pop(name, None)
                if position is not None:
                    self._progress.offsets[name] = position
                raise
            if found:
                self._wait_seconds = _FIRST_WAIT_SECONDS
                return found
            self._turn = name + "\0"
            if begun_before:  # begun in an earlier call, it ended where the partition did then
                queue.append(reader)
        self._turn = ""
        return []

    def wait(self) -> bool:
        """See `Tail.wait`."""
        backend = self._state.root.backend
        if self._watch is None and isinstance(backend, WatchBackend) and backend.capabilities.watch:
            self._watch = backend.watch(self._state.folder)
            if self._closed.is_set():
                self._watch.close()
            return not self._closed.is_set()  # another look sees what came before the watch began
        if self._watch is not None:
            self._watch.wait(_WATCHED_WAIT_SECONDS)
        else:
            self._closed.wait(self._wait_seconds * (0.5 + self._state.root.clock.jitter() / 2))
            self._wait_seconds = min(2 * self._wait_seconds, self._poll_seconds)
        return not self._closed.is_set()

    def _next_found(self, reader: PartitionReader) -> list[Event]:
        """Return the events of the partition's next raw batch that has any; none at its end.

        One raw_batch at a time keeps a long history out of memory.
        """
        name = reader.partition
        raw_batches = self._raw_batches.setdefault(name, reader.raw_batches(self._wanted))
        before = reader.offset
        while (raw_batch := next(raw_batches, None)) is not None:
            found: list[Event] = []
            for piece in pieces(reader, [raw_batch], self._wanted, offset=before):
                found += piece.batch.events
                self._progress.offsets[name] = piece.next_offset
            if found:
                return found
            before = reader.offset
        del self._raw_batches[name]
        self._progress.offsets[name] = max(reader.offset, self._progress.offsets.get(name, 0))
        return []

    def _find_readers(self) -> list[PartitionReader]:
        now = self._state.root.clock.elapsed_seconds()
        often = (
            self._watch is not None or not self._readers
        )  # before the first append there is nothing else to look for
        if often or now - self._listed_at >= min(_PARTITIONS_LISTED_SECONDS, self._poll_seconds * 5):
            self._listed_at = now
            if self._partitions is None:
                names = self._state.partitions()
            else:  # readers need the stream's settings, which the first append stores
                names = self._partitions if self._state.stored_settings() is not None else []
            for name in (
                *names,
                *(name for name, offset in self._after.items() if offset and self._partitions is None),
            ):
                if name not in self._readers:
                    reader = self._state.reader(name)
                    reader.seek(self._after.get(name, -1))
                    self._readers[name] = reader
        return [self._readers[name] for name in sorted(self._readers)]
