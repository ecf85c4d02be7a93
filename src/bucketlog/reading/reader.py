"""Readers: the events of a stream, partition by partition, and the cursor to go on from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import msgspec

from bucketlog.cursor import Cursor
from bucketlog.format import filters
from bucketlog.format.lines import touches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bucketlog.event import Event
    from bucketlog.format.filters import Filter
    from bucketlog.log.partition_reader import PartitionReader
    from bucketlog.log.regions import Region

PIECE_BYTES = 128 * 1024  # decoded at once: a few hundred events, which still fit a processor's cache

T = TypeVar("T")


class Batch(NamedTuple):
    """Events of one partition in their order; without a filter, `events[i]` has the offset `first_offset + i`."""

    partition: str
    first_offset: int
    events: list[Event]


class Piece(NamedTuple):
    """A batch, and the next offset of its partition once all of it was taken."""

    batch: Batch
    next_offset: int


def pieces(
    reader: PartitionReader, regions: Iterable[Region], wanted: Filter, *, offset: int, raw: bool = False
) -> Iterator[Piece]:
    """Decode regions of one partition, from an offset (or the start of the log) on, in pieces of bounded size.

    Args:
        reader: Of the partition; where it has a `stop`, so have the pieces.
        regions: What it read.
        wanted: The filter.
        offset: The first event to be handed out.
        raw: Leave all `data` undecoded, also when whoever reads beside us would rather have it decoded.

    Raises:
        OffsetOutOfRangeError: The partition does not reach where the reader was to stop.
        CorruptSegmentError: Lines that pass their checksum are no events, or not as many as the trailers say.
    """
    needles = wanted.needles()
    eager = False
    for region in regions:
        offset = max(offset, reader.bounds.start)
        here = region.first
        if not region.data:
            following = _cut_off(reader, here + region.events)
            yield Piece(Batch(reader.partition, max(here, offset), []), following)
            if following == reader.stop:
                return
            continue
        for at, end, events in _cut(region):
            following = here + events
            if following > offset:
                before = touches.count
                try:
                    found = filters.select(
                        region.data,
                        at,
                        end,
                        offsets=range(here, following),
                        partition=reader.partition,
                        wanted=wanted,
                        needles=needles,
                        eager=eager,
                    )
                except (ValueError, msgspec.DecodeError) as err:
                    raise reader.not_events(region, err) from err
                if here < offset:
                    found = [event for event in found if event.offset is not None and event.offset >= offset]
                if following != (stop := _cut_off(reader, following)):
                    following = stop
                    found = [event for event in found if event.offset is not None and event.offset < stop]
                first = found[0].offset if found else None
                yield Piece(Batch(reader.partition, max(here, offset) if first is None else first, found), following)
                if following == reader.stop:
                    return
                # Whoever touched most of this piece's data will want that of the next one too.
                eager = eager or (not raw and (touches.count - before) * 2 > len(found))
            here = following
    if reader.stop is not None:
        reader.check_reaches(reader.stop)


def _cut_off(reader: PartitionReader, offset: int) -> int:
    return offset if reader.stop is None else min(offset, reader.stop)


def _cut(region: Region) -> Iterator[tuple[int, int, int]]:
    """Cut a region into pieces, as (start, end, events): between commits, and only large commits between lines."""
    start = events = 0
    for span in region.spans:
        events += span.events
        if span.end - start >= PIECE_BYTES:
            if span.end - start > 4 * PIECE_BYTES:
                yield from _cut_by_lines(region.data, start, span.end, events)
            else:
                yield start, span.end, events
            start, events = span.end, 0
    if events:
        yield start, region.end, events


def _cut_by_lines(data: bytes, start: int, stop: int, events: int) -> Iterator[tuple[int, int, int]]:
    while start < stop:
        end = data.find(b"\n", min(start + PIECE_BYTES, stop) - 1) + 1 or stop
        found = events if end >= stop else data.count(b"\n", start, end)
        yield start, end, found
        start, events = end, events - found


class Reader(Generic[T]):
    """Iterates what a stream held when it was reached, and knows where to go on.

    Iterating, `next()`, a `with` block and `close()` all work; it is used up once.
    """

    def __init__(
        self, source: Iterator[Piece], after: Cursor, *, limit: int | None, unpack: Callable[[Reader[T]], Iterator[T]]
    ) -> None:
        if limit is not None and limit < 0:
            msg = f"limit={limit} is negative"
            raise ValueError(msg)
        self._source = source
        self._positions = dict(after)
        self._taken: Event | None = None  # the last event handed out of a piece that is not through yet
        self._limit = limit
        self._items = unpack(self)

    @property
    def cursor(self) -> Cursor:
        """Where to go on: behind all that was handed out, and all that a filter passed over on the way there."""
        event = self._taken
        if event is None or event.partition is None or event.offset is None:
            return Cursor(self._positions)
        return Cursor({**self._positions, event.partition: event.offset + 1})

    def __iter__(self) -> Iterator[T]:
        return self._items

    def __next__(self) -> T:
        return next(self._items)

    def __enter__(self) -> Reader[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading; the cursor stays."""
        self._items.close()  # type: ignore[attr-defined]  # both are generators
        self._source.close()  # type: ignore[attr-defined]

    def _each_event(self) -> Iterator[Event]:
        for batch, next_offset in self._pieces():
            for event in batch.events:
                self._taken = event
                yield event
            self._taken = None
            self._positions[batch.partition] = next_offset

    def _each_batch(self) -> Iterator[Batch]:
        for batch, next_offset in self._pieces():
            # Whoever has the batch has taken it: the cursor may be saved while it is being worked on.
            self._positions[batch.partition] = next_offset
            if batch.events:
                yield batch

    def _pieces(self) -> Iterator[Piece]:
        """Yield the pieces of the source up to the limit, the last one cut off there."""
        left = self._limit
        if left is None:
            yield from self._source
        elif left > 0:
            for batch, next_offset in self._source:
                if len(batch.events) >= left:
                    last = batch.events[left - 1]
                    yield Piece(batch._replace(events=batch.events[:left]), (last.offset or 0) + 1)
                    return
                left -= len(batch.events)
                yield Piece(batch, next_offset)


def event_reader(source: Iterator[Piece], after: Cursor, *, limit: int | None) -> Reader[Event]:
    """Return a reader of single events."""
    return Reader(source, after, limit=limit, unpack=Reader._each_event)  # noqa: SLF001


def batch_reader(source: Iterator[Piece], after: Cursor, *, limit: int | None) -> Reader[Batch]:
    """Return a reader of batches."""
    return Reader(source, after, limit=limit, unpack=Reader._each_batch)  # noqa: SLF001
