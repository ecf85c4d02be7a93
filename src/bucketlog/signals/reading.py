"""Reading envelopes: replay of a window, the newest that match, and reads from a cursor."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Generic

from bucketlog.signals.envelopes import E
from bucketlog.signals.times import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from bucketlog import Cursor, Event, Reader, Stream
    from bucketlog.signals.codec import Kind
    from bucketlog.signals.selection import Selection

_GROWTH = 4  # the next request is this much larger if too few of the newest matched


class EnvelopeReader(Generic[E]):
    """Iterates over the envelopes from a cursor to the end of the stream.

    It can be iterated once. `next()`, `with` and `close()` work too.
    """

    def __init__(self, events: Reader[Event], kind: Kind[E], selection: Selection[E]) -> None:
        self._events = events
        self._envelopes = self._passing(kind, selection)

    @property
    def cursor(self) -> Cursor:
        """Where to resume: just after the last envelope yielded, skipped ones included."""
        return self._events.cursor

    def __iter__(self) -> Iterator[E]:
        return self

    def __next__(self) -> E:
        return next(self._envelopes)

    def __enter__(self) -> EnvelopeReader[E]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading; `cursor` keeps its value."""
        self._events.close()

    def _passing(self, kind: Kind[E], selection: Selection[E]) -> Iterator[E]:
        passes = selection.check()
        for event in self._events:
            envelope = kind.decode(event)
            if passes is None or passes(envelope):
                yield envelope


class Log(Generic[E]):
    """The stored envelopes of one kind. Thread-safe.

    Args:
        kind: The kind of envelopes.
        stream: Their stream, partitioned by day.
    """

    def __init__(self, kind: Kind[E], stream: Stream) -> None:
        self._kind, self._stream = kind, stream

    def replay(self, start: datetime, end: datetime, selection: Selection[E]) -> Iterator[E]:
        """Yield the envelopes of a window by day, and within a day in the order they were stored.

        Raises:
            ValueError: `end` is before `start`; raised by the first `next()`.
        """
        window = Window.of(start, end)
        yield from self._read(window.days(self._stream.partitions()), window, selection)

    def newest(self, limit: int | None, start: datetime, end: datetime, selection: Selection[E]) -> list[E]:
        """Return the newest matching envelopes of a window, newest first by time and id; without a limit, all.

        Days are read from the newest back until there are enough.

        Raises:
            ValueError: `end` is before `start`.
        """
        window = Window.of(start, end)
        if limit is None:
            return sorted(self.replay(start, end, selection), key=self.key, reverse=True)
        if selection.impossible or limit <= 0:
            return []
        if selection.core_filters_all and len(selection.filters.get("sources", ())) <= 1:
            return self._newest_by_core(limit, window, selection)
        best: list[E] = []
        for day in reversed(window.days(self._stream.partitions())):
            found = heapq.nlargest(limit - len(best), self._read([day], window, selection), key=self.key)
            best = [*self._others(best, found), *found]
            if len(best) >= limit:
                break
        return best

    def oldest(self, limit: int | None, start: datetime, end: datetime, selection: Selection[E]) -> list[E]:
        """Return the oldest matching envelopes of a window, oldest first by time and id; without a limit, all.

        Raises:
            ValueError: `end` is before `start`.
        """
        window = Window.of(start, end)
        if limit is None:
            return sorted(self.replay(start, end, selection), key=self.key)
        best: list[E] = []
        for day in window.days(self._stream.partitions()) if limit > 0 else ():
            found = heapq.nsmallest(limit, self._read([day], window, selection), key=self.key)
            best = [*best, *self._others(found, best)][:limit]
            if len(best) >= limit:
                break
        return best

    def key(self, envelope: E) -> tuple[datetime, str]:
        """Return an envelope's sort key: its time and id."""
        return envelope.timestamp, getattr(envelope, self._kind.id_field)

    def after(self, cursor: Mapping[str, int] | None, selection: Selection[E]) -> EnvelopeReader[E]:
        """Return a reader of the envelopes after a cursor, whatever their time."""
        events = self._stream.read(cursor, **selection.filters)
        return EnvelopeReader(events, self._kind, selection)

    def _read(self, days: list[str], window: Window, selection: Selection[E]) -> Iterator[E]:
        if selection.impossible or not days:
            return
        (start, end), passes, decode = window, selection.check(), self._kind.decode
        filters = selection.filters | window.bounds_within(days)
        batches = self._stream.read_batches(partitions=days, **filters)
        for batch in batches:
            for event in batch.events:
                envelope = decode(event)
                if start <= envelope.timestamp <= end and (passes is None or passes(envelope)):
                    yield envelope

    def _newest_by_core(self, limit: int, window: Window, selection: Selection[E]) -> list[E]:
        """Return the newest envelopes by searching in the core, whose filters are all but exact."""
        passes, filters = selection.check(), selection.filters | window.bounds()
        source = next(iter(filters.pop("sources", ())), None)
        asked = limit
        while True:
            events = self._stream.recent(asked, source=source, **filters)
            found = [envelope for envelope in map(self._kind.decode, events) if passes is None or passes(envelope)]
            once = {self.key(envelope)[1]: envelope for envelope in found}  # if two writers raced, keep the earlier day
            if len(once) >= limit or len(events) < asked:
                return heapq.nlargest(limit, once.values(), key=self.key)
            asked *= _GROWTH

    def _others(self, envelopes: list[E], known: list[E]) -> list[E]:
        """Return the envelopes whose id is not among the known ones: if two writers raced, one of them counts."""
        ids = {self.key(envelope)[1] for envelope in known}
        return [envelope for envelope in envelopes if self.key(envelope)[1] not in ids]
