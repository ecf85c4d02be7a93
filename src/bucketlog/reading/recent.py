"""Finding events without reading a stream: the newest ones that match, and one by its id.

Compacted segments are searched by their indexes, and only the blocks that may hold something wanted are read. Live
ones, and compacted ones without an index, are read whole.
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
from bucketlog.log.regions import Region
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
_BLOCKS_AT_ONCE = 8  # unpacked before looking whether that was enough; from a directory
_BLOCKS_AT_ONCE_REMOTE = 64
_GAP_BYTES = 512 * 1024  # of an object store: reading over so much is quicker than another request


class _Newest:
    """The newest `n` of all events that it was shown, by time and id; each place in the log counts once."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._events: dict[tuple[str | None, int | None], Event] = {}
        self.since: datetime | None = None  # older ones cannot be among them any more

    def show(self, events: Sequence[Event]) -> None:
        since = self.since
        newer = [one for one in events if since is None or one.time >= since]
        if not newer:
            return
        for one in newer:
            self._events[one.partition, one.offset] = one
        if len(self._events) >= self._n:
            best = self.best()
            self._events = {(one.partition, one.offset): one for one in best}
            self.since = best[-1].time

    def best(self) -> list[Event]:
        return sorted(self._events.values(), key=lambda one: (one.time, one.id), reverse=True)[: self._n]


def newest(state: StreamState, wanted: Filter, n: int) -> list[Event]:
    """Return the newest `n` events of a stream that are wanted, newest first by time and id.

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
        while len(best) < n and (newest := next(found, None)) is not None:  # all of an earlier day is older
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

    # What is asked for mostly lies in the last few days. What does not may lie in any of hundreds.
    yield from map(look, days[:_DAYS_ALONE])
    yield from state.root.side_by_side(look, days[_DAYS_ALONE:])


def _newest_in(state: StreamState, partitions: Sequence[str], wanted: Filter, n: int) -> list[Event]:
    """Return the newest `n` events of some partitions that are wanted, newest first by time and id.

    Raises:
        CorruptSegmentError: A segment is damaged.
    """
    found = _Newest(n)
    if n <= 0:
        return []
    indexed: list[tuple[PartitionReader, CompactedSegment]] = []
    for name in partitions:
        indexed += _show_live(state, name, wanted, found)
    # Segments with newer events first: most of the others need not be looked at.
    indexed.sort(key=lambda one: one[1].summary.max_time, reverse=True)
    for reader, segment in indexed:
        if found.since is not None and segment.summary.max_time < microseconds(found.since):
            break
        try:
            _show_blocks(reader, segment, wanted, found)
        except NotFoundError:
            # Merged with others and removed since it was listed.
            return _newest_in(state, partitions, wanted, n)
        except DamageError as err:
            raise reader.damaged(err) from err
    return found.best()


def _show_live(
    state: StreamState, partition: str, wanted: Filter, found: _Newest
) -> list[tuple[PartitionReader, CompactedSegment]]:
    """Show what has no index; return the segments that have one."""
    reader, regions, indexed = _without_indexed(state, partition, wanted)
    for piece in pieces(reader, regions, wanted, offset=-1):
        found.show(piece.batch.events)
    return [(reader, segment) for segment in indexed]


def _without_indexed(
    state: StreamState, partition: str, wanted: Filter
) -> tuple[PartitionReader, Iterator[Region], list[CompactedSegment]]:
    """Return a reader, the regions of the segments that have no index, and where the others will be listed."""
    reader = state.reader(partition)
    indexed: dict[str, CompactedSegment] = {}
    listing: list[CompactedSegment] = []

    def pass_over(one: Segment) -> bool:
        segment = reader.open_compacted(one)
        if segment is None:
            return False
        if one.key not in indexed:  # listed anew, it may come again
            indexed[one.key] = segment
            listing.append(segment)
        return True

    return reader, reader.regions(wanted, skip=pass_over), listing


def _show_blocks(reader: PartitionReader, segment: CompactedSegment, wanted: Filter, found: _Newest) -> None:
    blocks = segment.blocks
    places = segment.newest_first(wanted)
    needles = wanted.needles()
    at_once = _BLOCKS_AT_ONCE if reader.root.appender is not None else _BLOCKS_AT_ONCE_REMOTE
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
    """Read blocks, those that lie near each other with one request."""
    gap = 0 if reader.root.appender is not None else _GAP_BYTES
    blocks = segment.blocks
    run = [places[0]]
    runs = [run]
    for place, following in pairwise(places):
        if blocks[following].start - blocks[place].end > gap:
            run = []
            runs.append(run)
        run.append(following)
    for run in runs:
        yield from zip((blocks[place] for place in run), segment.unpack(run), strict=True)


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
        region = Region(block.first, block.events, lines, len(lines), segment.key, block.start, [])
        raise reader.not_events(region, err) from err
    start = reader.bounds.start
    return [one for one in found if one.offset is not None and one.offset >= start]


def _by_id_in(state: StreamState, partition: str, event_id: str) -> Event | None:
    """Return the event of a partition with an id, or None.

    Raises:
        CorruptSegmentError: A segment is damaged.
    """
    wanted = Filter(ids=frozenset([event_id]))
    reader, regions, indexed = _without_indexed(state, partition, wanted)
    for piece in pieces(reader, regions, wanted, offset=-1):
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
            raise reader.damaged(err) from err
    return None
