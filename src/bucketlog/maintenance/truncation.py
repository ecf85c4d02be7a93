"""Truncation: a partition's log is made to begin later. What lies before its start is gone, and a vacuum removes it.

A log begins where a live segment does, or anywhere in a compacted one: what else holds the new start is compacted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from bucketlog.errors import (
    BackendUnavailableError,
    InvalidValueError,
    NotFoundError,
    OffsetOutOfRangeError,
    StreamSettingsError,
)
from bucketlog.format.filters import Filter
from bucketlog.log.bounds import raise_bounds, read_bounds
from bucketlog.log.settings import SINGLE_PARTITION, StreamSettings, day_bounds
from bucketlog.maintenance import compaction
from bucketlog.maintenance.vacuum import close_segments
from bucketlog.reading.pieces import pieces
from bucketlog.storage.retries import Retries

if TYPE_CHECKING:
    from bucketlog.format.segments import Segment
    from bucketlog.log.partition_reader import PartitionReader
    from bucketlog.log.partition_writer import PartitionWriter
    from bucketlog.log.stream_state import StreamState


@dataclass(frozen=True, slots=True)
class PartitionTruncation:
    """Where a partition began, and where it begins now (or would): equal when nothing was old enough."""

    partition: str
    start_before: int
    start: int

    @property
    def events(self) -> int:
        """How many events are gone."""
        return self.start - self.start_before


@dataclass(frozen=True, slots=True)
class TruncateReport:
    """What `stream.truncate()` did, partition by partition."""

    stream: str
    partitions: tuple[PartitionTruncation, ...] = ()

    @property
    def events(self) -> int:
        """How many events are gone."""
        return sum(one.events for one in self.partitions)


def truncate(
    state: StreamState, *, before: datetime | int, partition: str | None = None, dry_run: bool = False
) -> TruncateReport:
    """Truncate a partition at an offset, or partitions at a time; see `Stream.truncate`."""
    root = state.root
    doing = f"truncate {state.where}"
    _check_before(before, doing)
    if partition is not None:
        state.folder_of(partition)
    settings = state.stored_settings() or StreamSettings()
    if not isinstance(before, datetime) and partition is None:
        if settings.partition_by != "single":
            msg = f"{doing}: an offset is one partition's, and it has several; say which, as in partition=…"
            raise StreamSettingsError(msg)
        partition = SINGLE_PARTITION
    if not dry_run:
        root.check_writable(doing)

    def one(name: str) -> PartitionTruncation:
        reader = state.reader(name, settings)
        was = read_bounds(root.backend, reader.folder, where=reader.where).start
        if isinstance(before, datetime):
            start = max(was, _start_at(reader, before, was, by_day=settings.partition_by == "day"))
        else:
            start = max(was, _checked_start(reader, before))
        if start > was and not dry_run:
            # First the new start can be read, then the bounds rise; nothing is removed (I28).
            _make_way(state.writer(name), state.reader(name, settings), start)
            doing = f"truncate {reader.where}"
            grace_seconds = settings.grace_seconds
            raised = raise_bounds(
                root, reader.folder, start=start, floor=start, grace_seconds=grace_seconds, doing=doing
            )
            start = raised.start
        return PartitionTruncation(name, was, start)

    names = state.partitions() if partition is None else [partition]
    try:
        done = tuple(root.side_by_side(one, names))
    finally:
        if not dry_run:
            state.look_anew()  # our own writers and tails need not go on believing in what is gone
    return TruncateReport(state.name, done)


def _check_before(before: object, doing: str) -> None:
    if isinstance(before, datetime):
        if before.utcoffset() is None:
            msg = f"{doing}: before is a naive time, {before.isoformat()}; give it a time zone, such as datetime.UTC"
            raise InvalidValueError(msg)
    elif not isinstance(before, int) or isinstance(before, bool) or before < 0:
        msg = f"{doing}: before={before!r} is neither an aware datetime nor an offset"
        raise InvalidValueError(msg)


# -- where to begin ----------------------------------------------------------------------------------------------------


def _start_at(reader: PartitionReader, before: datetime, start: int, *, by_day: bool) -> int:
    """Return the first offset whose event is not older than a time; the end of the log if there is none."""
    day = day_bounds(reader.partition) if by_day else None
    if day is not None and day[0] >= before:
        return start
    if day is not None and day[1] <= before:
        return reader.end()
    wanted = Filter(since=before)
    for piece in pieces(reader, reader.regions(wanted), wanted, offset=start):
        for event in piece.batch.events[:1]:
            return event.offset or 0
    return reader.offset


def _checked_start(reader: PartitionReader, before: int) -> int:
    end = reader.end()
    if before > end:
        start = reader.bounds.start
        msg = (
            f"truncate {reader.where}: offset {before} is beyond the end of the log, which begins at {start} and whose "
            f"next offset is {end}"
        )
        raise OffsetOutOfRangeError(msg, partition=reader.partition, offset=before, start=start, next_offset=end)
    return before


# -- so that it can ----------------------------------------------------------------------------------------------------


class Crossing(NamedTuple):
    """What stands in the way of a log that is to begin at an offset.

    `live` are the live segments before it, which will no longer count: they must not grow. `holding` is the segment
    that holds the events on both sides of it; None when one begins there.
    """

    live: list[Segment]
    holding: Segment | None


def crossing(counting: list[Segment], offset: int, end: int) -> Crossing:
    """Find what stands in the way.

    Args:
        counting: The segments that count, in order.
        offset: Where the log is to begin.
        end: Where it ends.
    """
    before = [one for one in counting if one.first < offset]
    live = [one for one in before if one.next is None]
    if not before:
        return Crossing(live, None)
    last = before[-1]
    following = counting[len(before)].first if len(before) < len(counting) else end
    reaches = following if last.next is None else last.next
    return Crossing(live, last if reaches > offset else None)


def _make_way(writer: PartitionWriter, reader: PartitionReader, offset: int) -> None:
    """Let the log be able to begin at an offset that it holds, or at its end.

    Raises:
        CorruptSegmentError: The segment that holds the offset is damaged.
        BackendUnavailableError: It was another one at every look.
    """
    appender = reader.root.appender
    for _ in Retries(reader.root.clock):
        end = reader.end()
        counting = reader.list_segments()
        live, holding = crossing(counting, offset, end)
        growing = [] if appender is None else [one.key for one in live if not appender.is_sealed(one.key)]
        if appender is not None and growing:
            close_segments(appender, reader.folder, [key for key in growing if key != counting[-1].key])
            if counting[-1].key in growing:
                writer.close_newest()
            continue  # somebody may have appended before it was closed
        if holding is None:
            return
        try:
            if holding.next is not None:
                reader.check_compacted(holding)  # from now on these events are nowhere else
                return
            compaction.merge(reader, [holding], first=holding.first, progress=_tell_nobody)
        except NotFoundError:
            continue  # compacted, or merged with others, and removed
    msg = f"truncate {reader.where} at {offset}: what holds that offset was another segment at every look; try again"
    raise BackendUnavailableError(msg)


def _tell_nobody(byte: int) -> None:
    """Be a progress that nobody looks at."""
