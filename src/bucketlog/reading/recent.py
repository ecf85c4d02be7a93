"""Finding events without reading the whole stream: the newest ones that match, and one by its id.

Compacted segments are searched by index, and only blocks that may hold a match are read. Live segments, and compacted
ones without an index, are read whole.
"""

from __future__ import annotations

from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from bucketlog.errors import NotFoundError
from bucketlog.format import filters
from bucketlog.format.compacted import DamageError, microseconds
from bucketlog.format.filters import Filter
from bucketlog.log.raw_batch import RawBatch
from bucketlog.log.read_errors import damaged, not_events
from bucketlog.log.settings import StreamSettings, day_matches
from bucketlog.reading.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from datetime import datetime

    from bucketlog.event import Event
    from bucketlog.format.compacted import Block, CompactedSegment
    from bucketlog.format.filters import Needles
    from bucketlog.format.segments import Segment
    from bucketlog.log.partition_reader import PartitionReader
    from bucketlog.log.stream_state import StreamState

_DAYS_ALONE = 4
_BLOCKS_AT_ONCE = 8  # unpacked before checking whether that is enough; in a directory
_BLOCKS_AT_ONCE_REMOTE = 64
_GAP_BYTES = 512 * 1024  # on an object store: reading this much more is faster than another request


class _Newest:
    """Keeps the newest `n` events that it is shown, by time and id; each offset counts once."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._events: dict[tuple[str | None, int | None], Event] = {}
        self.since: datetime | None = None  # older events cannot be among them

    def show(self, events: Sequence[Event]) -> None:
        since = self.since
        newer = [event for event in events if since is None or event.time >= since]
        if not newer:
            return
        for event in newer:
            self._events[event.partition, event.offset] = event
        if len(self._events) >= self._n:
            best = self.best()
            self._events = {(event.partition, event.offset): event for event in best}
            self.since = best[-1].time

    def best(self) -> list[Event]:
        return sorted(self._events.values(), key=lambda event: (event.time, event.id), reverse=True)[: self._n]


def newest(state: StreamState, wanted: Filter, n: int) -> list[Event]:
    """Return the newest `n` matching events of a stream, newest first by time and id.

    Raises:
        CorruptSegmentError: A segment is damaged.
    """
    settings = state.stored_settings() or StreamSettings()
    names = state.partitions()[::-1]
    if settings.partition_by != "day":
        return _newest_in(state, names, wanted, n)
    days = [name for name in names if day_matches(name, wanted)]
    best: list[Event] = []
    with closing(_newest_of_days(state, days, wanted, n)) as found:
        while len(best) < n and (newest := next(found, None)) is not None:  # everything of an earlier day is older
            best += newest[: n - len(best)]
    return best


def by_id(state: StreamState, event_id: str) -> Event | None:
    """Return the event of a stream with an id, or None.

    Raises:
        CorruptSegmentError: A segment is damaged.
    """
    for name in reversed(state.partitions()):
        found = _by_id_in(state, name, event_id)
        if found is not None:
            return found
    return None


def _newest_of_days(
    state: StreamState, days: Sequence[str], wanted: Filter, n: int
) -> Generator[list[Event], None, None]:
    def look(day: str) -> list[Event]:
        return _newest_in(state, [day], wanted, n)

    # Most queries hit the last few days; the rest may hit any of hundreds.
    yield from map(look, days[:_DAYS_ALONE])
    yield from state.root.side_by_side(look, days[_DAYS_ALONE:])


def _newest_in(state: StreamState, partitions: Sequence[str], wanted: Filter, n: int) -> list[Event]:
    """Return the newest `n` matching events of some partitions, newest first by time and id.

    Raises:
        CorruptSegmentError: A segment is damaged.
    """
    found = _Newest(n)
    if n <= 0:
        return []
    indexed: list[tuple[PartitionReader, CompactedSegment]] = []
    for name in partitions:
        indexed += _show_live(state, name, wanted, found)
    # Segments with the newest events first, so that most of the others can be skipped.
    indexed.sort(key=lambda reader_and_segment: reader_and_segment[1].summary.max_time, reverse=True)
    for reader, segment in indexed:
        if found.since is not None and segment.summary.max_time < microseconds(found.since):
            break
        try:
            _show_blocks(reader, segment, wanted, found)
        except NotFoundError:
            # It was merged with others and removed since it was listed.
            return _newest_in(state, partitions, wanted, n)
        except DamageError as err:
            raise damaged(reader.where, err, offset=reader.offset) from err
    return found.best()


def _show_live(
    state: StreamState, partition: str, wanted: Filter, found: _Newest
) -> list[tuple[PartitionReader, CompactedSegment]]:
    """Show the events that have no index; return the segments that have one."""
    reader, raw_batches, indexed = _without_indexed(state, partition, wanted)
    for piece in pieces(reader, raw_batches, wanted, offset=-1):
        found.show(piece.batch.events)
    return [(reader, segment) for segment in indexed]


def _without_indexed(
    state: StreamState, partition: str, wanted: Filter
) -> tuple[PartitionReader, Iterator[RawBatch], list[CompactedSegment]]:
    """Return a reader, the raw_batches of segments without an index, and the list to which it adds the others."""
    reader = state.reader(partition)
    indexed: dict[str, CompactedSegment] = {}
    listing: list[CompactedSegment] = []

    def pass_over(listed: Segment) -> bool:
        segment = reader.open_compacted(listed)
        if segment is None:
            return False
        if listed.key not in indexed:  # after another listing it may come again
            indexed[listed.key] = segment
            listing.append(segment)
        return True

    return reader, reader.raw_batches(wanted, skip=pass_over), listing


def _show_blocks(reader: PartitionReader, segment: CompactedSegment, wanted: Filter, found: _Newest) -> None:
    blocks = segment.blocks
    places = segment.newest_first(wanted)
    needles = wanted.needles()
    at_once = _BLOCKS_AT_ONCE_REMOTE if reader.root.requests_cost else _BLOCKS_AT_ONCE
    for begin in range(0, len(places), at_once):
        since = None if found.since is None else microseconds(found.since)
        chosen = [
            place for place in places[begin : begin + at_once] if since is None or blocks[place].max_time >= since
        ]
        if not chosen:
            return
        for block, lines in _unpacked(reader, segment, sorted(chosen)):
            found.show(_events_of(reader, segment, block, lines, wanted, needles))


def _unpacked(
    reader: PartitionReader, segment: CompactedSegment, places: Sequence[int]
) -> Iterator[tuple[Block, bytes]]:
    """Read blocks, with one request for those close to each other."""
    gap = _GAP_BYTES if reader.root.requests_cost else 0
    blocks = segment.blocks
    span = [places[0]]
    spans = [span]
    for place, following in pairwise(places):
        if blocks[following].start - blocks[place].end > gap:
            span = []
            spans.append(span)
        span.append(following)
    for span in spans:
        yield from zip((blocks[place] for place in span), segment.unpack(span), strict=True)


def _events_of(
    reader: PartitionReader,
    segment: CompactedSegment,
    block: Block,
    lines: bytes,
    wanted: Filter,
    needles: Needles | None,
) -> list[Event]:
    try:
        found = filters.select(
            lines,
            0,
            len(lines),
            offsets=range(block.first, block.first + block.events),
            partition=reader.partition,
            wanted=wanted,
            needles=needles,
            eager=False,
        )
    except (ValueError, msgspec.DecodeError) as err:
        raw_batch = RawBatch(block.first, block.events, lines, len(lines), segment.key, block.start, [])
        raise not_events(reader.where, raw_batch, err) from err
    start = reader.bounds.start
    return [event for event in found if event.offset is not None and event.offset >= start]


def _by_id_in(state: StreamState, partition: str, event_id: str) -> Event | None:
    """Return the event of a partition with an id, or None.

    Raises:
        CorruptSegmentError: A segment is damaged.
    """
    wanted = Filter(ids=frozenset([event_id]))
    reader, raw_batches, indexed = _without_indexed(state, partition, wanted)
    for piece in pieces(reader, raw_batches, wanted, offset=-1):
        if piece.batch.events:
            return piece.batch.events[0]
    for segment in reversed(indexed):
        try:
            places = segment.places_of(event_id)
            for block, lines in _unpacked(reader, segment, places) if places else ():
                found = _events_of(reader, segment, block, lines, wanted, wanted.needles())
                if found:
                    return found[0]
        except NotFoundError:
            return _by_id_in(state, partition, event_id)
        except DamageError as err:
            raise damaged(reader.where, err, offset=reader.offset) from err
    return None
