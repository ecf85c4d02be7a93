"""Truncation: moves the start of a partition's log forward. Events before it disappear, and a vacuum removes them.

A log can begin at the start of a live segment or anywhere in a compacted one. If the new start lies inside a live
segment, that segment is compacted first.
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
    """The old and the new start of a partition's log; they are equal if no event was old enough."""

    partition: str
    start_before: int
    start: int

    @property
    def events(self) -> int:
        """The number of events that were dropped."""
        return self.start - self.start_before


@dataclass(frozen=True, slots=True)
class TruncateReport:
    """What `stream.truncate()` did, partition by partition."""

    stream: str
    partitions: tuple[PartitionTruncation, ...] = ()

    @property
    def events(self) -> int:
        """The number of events that were dropped."""
        return sum(part.events for part in self.partitions)


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
            msg = f"{doing}: an offset needs a partition, because the stream has several; pass partition=…"
            raise StreamSettingsError(msg)
        partition = SINGLE_PARTITION
    if not dry_run:
        root.check_writable(doing)

    def truncate_one(name: str) -> PartitionTruncation:
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
        done = tuple(root.side_by_side(truncate_one, names))
    finally:
        if not dry_run:
            state.invalidate()  # this handle's writers and tails know at once, without waiting for a new listing
    return TruncateReport(state.name, done)


def _check_before(before: object, doing: str) -> None:
    if isinstance(before, datetime):
        if before.utcoffset() is None:
            msg = f"{doing}: before is a naive time, {before.isoformat()}; add a time zone, such as datetime.UTC"
            raise InvalidValueError(msg)
    elif not isinstance(before, int) or isinstance(before, bool) or before < 0:
        msg = f"{doing}: before={before!r} is neither an aware datetime nor an offset"
        raise InvalidValueError(msg)


# -- the new start -----------------------------------------------------------------------------------------------------


def _start_at(reader: PartitionReader, before: datetime, start: int, *, by_day: bool) -> int:
    """Return the offset of the first event that is not older than a time, or the end of the log if there is none."""
    day = day_bounds(reader.partition) if by_day else None
    if day is not None and day[0] >= before:
        return start
    if day is not None and day[1] <= before:
        return reader.end()
    wanted = Filter(since=before)
    for piece in pieces(reader, reader.raw_batches(wanted), wanted, offset=start):
        for event in piece.batch.events[:1]:
            return event.offset or 0
    return reader.offset


def _checked_start(reader: PartitionReader, before: int) -> int:
    end = reader.end()
    if before > end:
        start = reader.bounds.start
        msg = (
            f"truncate {reader.where}: offset {before} is beyond the end of the log, which begins at {start} and has "
            f"next offset {end}; use an offset between the two"
        )
        raise OffsetOutOfRangeError(msg, partition=reader.partition, offset=before, start=start, next_offset=end)
    return before


# -- preparing the segments --------------------------------------------------------------------------------------------


class Crossing(NamedTuple):
    """The segments that must be handled before a log can begin at an offset.

    `live` are the live segments before it, which will no longer count and so must not grow. `holding` is the segment
    with events on both sides of it; None if a segment begins there.
    """

    live: list[Segment]
    holding: Segment | None


def crossing(counting: list[Segment], offset: int, end: int) -> Crossing:
    """Find the segments that must be handled before a log can begin at an offset.

    Args:
        counting: The segments that count, in order.
        offset: The new start.
        end: The end of the log.
    """
    before = [segment for segment in counting if segment.first < offset]
    live = [segment for segment in before if segment.next is None]
    if not before:
        return Crossing(live, None)
    last = before[-1]
    following = counting[len(before)].first if len(before) < len(counting) else end
    reaches = following if last.next is None else last.next
    return Crossing(live, last if reaches > offset else None)


def _make_way(writer: PartitionWriter, reader: PartitionReader, offset: int) -> None:
    """Prepare the segments so that the log can begin at an offset that it holds, or at its end.

    Raises:
        CorruptSegmentError: The segment that holds the offset is damaged.
        BackendUnavailableError: That segment was replaced during every attempt.
    """
    appender = reader.root.appender
    for _ in Retries(reader.root.clock):
        end = reader.end()
        counting = reader.list_segments()
        live, holding = crossing(counting, offset, end)
        growing = [] if appender is None else [segment.key for segment in live if not appender.is_sealed(segment.key)]
        if appender is not None and growing:
            close_segments(appender, reader.folder, [key for key in growing if key != counting[-1].key])
            if counting[-1].key in growing:
                writer.close_newest()
            continue  # another writer may have appended before it was closed
        if holding is None:
            return
        try:
            if holding.next is not None:
                reader.check_compacted(holding)  # it becomes the only copy of these events
                return
            compaction.merge(reader, [holding], first=holding.first, progress=_ignore_progress)
        except NotFoundError:
            continue  # it was compacted, or merged with others, and removed
    msg = (
        f"truncate {reader.where} at {offset}: the segment that holds this offset was replaced during every attempt; "
        "try again later"
    )
    raise BackendUnavailableError(msg)


def _ignore_progress(byte: int) -> None:
    """Ignore progress."""
