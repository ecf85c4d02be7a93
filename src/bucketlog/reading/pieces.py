"""Pieces: the events of a read, decoded partition by partition in pieces of bounded size."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bucketlog.format import filters
from bucketlog.format.filters import Filter
from bucketlog.format.lines import is_touched
from bucketlog.log.read_errors import not_events
from bucketlog.log.settings import StreamSettings, day_matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bucketlog.cursor import Cursor
    from bucketlog.event import Event
    from bucketlog.log.partition_reader import PartitionReader
    from bucketlog.log.raw_batch import RawBatch
    from bucketlog.log.stream_state import StreamState

PIECE_BYTES = 128 * 1024  # decoded at once: a few hundred events, which fit a processor's cache
_SMALL_PARTITION_BYTES = 1024 * 1024
_SAMPLES = 16  # events of a piece that are checked for whether the caller accessed `data`


class Batch(NamedTuple):
    """Events of one partition, in order. Without a filter, `events[i]` has the offset `first_offset + i`."""

    partition: str
    first_offset: int
    events: list[Event]


class Piece(NamedTuple):
    """A batch, and the partition's next offset after it."""

    batch: Batch
    next_offset: int


def names_to_read(state: StreamState, after: Cursor, partitions: Sequence[str] | None) -> list[str]:
    """Return the names of the partitions to read, sorted."""
    if partitions is None:
        return sorted({*state.partitions(), *(name for name, offset in after.items() if offset)})
    if isinstance(partitions, str):
        msg = f"partitions takes a list of names, got the text {partitions!r}; write [{partitions!r}]"
        raise TypeError(msg)
    return sorted(set(partitions))


def read_pieces(
    state: StreamState,
    after: Cursor,
    partitions: Sequence[str] | None,
    wanted: Filter,
    *,
    stops: Mapping[str, int] | None = None,
) -> Iterator[Piece]:
    """Yield the events of a stream, in pieces.

    Args:
        state: The stream.
        after: As for `read`.
        partitions: As for `read`.
        wanted: The filter.
        stops: The offset to stop at in each partition; it is an error if the log ends before it.
    """
    settings = state.stored_settings() or StreamSettings()
    by_day = settings.partition_by == "day"
    names = names_to_read(state, after, partitions)
    if by_day:
        names = [name for name in names if day_matches(name, wanted)]
    seen: set[int] | None = set() if by_day and len(names) > 1 else None
    for reader, raw_batches in _opened(state, names, after, wanted, stops or {}):
        for piece in pieces(reader, raw_batches, wanted, offset=after.get(reader.partition, -1)):
            yield piece if seen is None else _once(state, piece, seen, names)


def _opened(
    state: StreamState, names: Sequence[str], after: Mapping[str, int], wanted: Filter, stops: Mapping[str, int]
) -> Iterator[tuple[PartitionReader, Iterator[RawBatch]]]:
    """Yield the partitions with their raw batches; on an object store, open the next few ahead of time."""

    def begin(name: str) -> tuple[PartitionReader, list[RawBatch], Iterator[RawBatch]]:
        reader = state.reader(name)
        reader.seek(after.get(name, -1), stop=stops.get(name))
        raw_batches = reader.raw_batches(wanted)
        first = next(raw_batches, None)
        begun = [] if first is None else [first]
        while begun and len(begun) < 64 and sum(raw_batch.end for raw_batch in begun) < _SMALL_PARTITION_BYTES:
            following = next(raw_batches, None)
            if following is None:
                break
            begun.append(following)
        return reader, begun, raw_batches

    for reader, begun, raw_batches in state.root.side_by_side(begin, names):
        yield reader, chain(begun, raw_batches)


def _once(state: StreamState, piece: Piece, seen: set[int], names: Sequence[str]) -> Piece:
    """Drop events whose id an earlier day has too, because two writers raced."""
    batch = piece.batch
    hashes = [hash(event.id) for event in batch.events]
    if seen.isdisjoint(hashes):
        seen.update(hashes)
        return piece
    repeated = [event for event, hashed in zip(batch.events, hashes, strict=True) if hashed in seen]
    wanted = Filter(ids=frozenset(event.id for event in repeated))
    earlier = [name for name in names if name < batch.partition]
    known: set[str] = set()
    for name in earlier:
        reader = state.reader(name)
        for found in pieces(reader, reader.raw_batches(wanted), wanted, offset=-1):
            known.update(event.id for event in found.batch.events)
    seen.update(hashes)
    kept = [event for event in batch.events if event.id not in known]
    return Piece(batch._replace(events=kept), piece.next_offset)


def pieces(reader: PartitionReader, raw_batches: Iterable[RawBatch], wanted: Filter, *, offset: int) -> Iterator[Piece]:
    """Decode raw_batches of one partition, starting at an offset or the start of the log, in pieces of bounded size.

    Args:
        reader: The partition's reader; if it has a `stop`, the pieces end there.
        raw_batches: What the reader read.
        wanted: The filter.
        offset: The first event to yield.

    Raises:
        OffsetOutOfRangeError: The partition ends before the reader's `stop`.
        CorruptSegmentError: Lines that pass their checksum are not events, or their number is wrong.
    """
    needles = wanted.needles()
    eager = False
    for raw_batch in raw_batches:
        offset = max(offset, reader.bounds.start)
        here = raw_batch.first
        if not raw_batch.data:
            following = _cut_off(reader, here + raw_batch.events)
            yield Piece(Batch(reader.partition, max(here, offset), []), following)
            if following == reader.stop:
                return
            continue
        for at, end, events in _cut(raw_batch):
            following = here + events
            if following > offset:
                try:
                    found = filters.select(
                        raw_batch.data,
                        at,
                        end,
                        offsets=range(here, following),
                        partition=reader.partition,
                        wanted=wanted,
                        needles=needles,
                        eager=eager,
                    )
                except (ValueError, msgspec.DecodeError) as err:
                    raise not_events(reader.where, raw_batch, err) from err
                if here < offset:
                    found = [event for event in found if event.offset is not None and event.offset >= offset]
                if following != (stop := _cut_off(reader, following)):
                    following = stop
                    found = [event for event in found if event.offset is not None and event.offset < stop]
                first = found[0].offset if found else None
                sample = [] if eager else found[:: len(found) // _SAMPLES + 1]
                yield Piece(Batch(reader.partition, max(here, offset) if first is None else first, found), following)
                if following == reader.stop:
                    return
                # A caller that accessed `data` in most of this piece will do so in the next one, and decoding a whole
                # piece at once is faster than event by event.
                eager = eager or sum(map(is_touched, sample)) * 2 > len(sample)
            here = following
    if reader.stop is not None:
        reader.check_reaches(reader.stop)


def _cut_off(reader: PartitionReader, offset: int) -> int:
    return offset if reader.stop is None else min(offset, reader.stop)


def _cut(raw_batch: RawBatch) -> Iterator[tuple[int, int, int]]:
    """Cut a raw batch into pieces, as (start, end, events): between commits, or between the lines of a large commit."""
    start = events = 0
    for span in raw_batch.spans:
        events += span.events
        if span.end - start >= PIECE_BYTES:
            if span.end - start > 4 * PIECE_BYTES:
                yield from _cut_by_lines(raw_batch.data, start, span.end, events)
            else:
                yield start, span.end, events
            start, events = span.end, 0
    if events:
        yield start, raw_batch.end, events


def _cut_by_lines(data: bytes, start: int, stop: int, events: int) -> Iterator[tuple[int, int, int]]:
    while start < stop:
        end = data.find(b"\n", min(start + PIECE_BYTES, stop) - 1) + 1 or stop
        found = events if end >= stop else data.count(b"\n", start, end)
        yield start, end, found
        start, events = end, events - found
