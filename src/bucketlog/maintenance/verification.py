"""Verification: reads and checks a whole stream, and reports problems instead of raising. Also: a stream's size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from bucketlog.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    BucketlogError,
    CorruptCheckpointError,
    CorruptSegmentError,
    NotFoundError,
)
from bucketlog.format.compacted import DamageError
from bucketlog.format.lines import decode_events
from bucketlog.format.segments import parse_segment
from bucketlog.log.raw_batch import starting_at
from bucketlog.log.read_errors import damaged
from bucketlog.log.settings import StreamSettings

if TYPE_CHECKING:
    from bucketlog.format.segments import Segment
    from bucketlog.log.partition_reader import PartitionReader
    from bucketlog.log.stream_state import StreamState


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem and its place. `partition` is empty if it concerns the whole stream."""

    partition: str
    what: str
    key: str = ""
    byte: int = -1
    offset: int = -1


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of `stream.verify()`."""

    stream: str
    partitions: int
    segments: int
    commits: int
    events: int
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class PartitionStats:
    """The size of a partition: its offsets `[start, next_offset)`, and the segments that hold them.

    `compacted_segments` and `compacted_bytes` are the compacted share of `segments` and `bytes`. Segments that wait for
    a vacuum are excluded.
    """

    partition: str
    start: int
    next_offset: int
    segments: int
    bytes: int
    compacted_segments: int = 0
    compacted_bytes: int = 0

    @property
    def events(self) -> int:
        """The number of events."""
        return self.next_offset - self.start


@dataclass(frozen=True, slots=True)
class StreamStats:
    """The size of a stream."""

    stream: str
    partition_by: str | None
    partitions: tuple[PartitionStats, ...] = ()

    @property
    def events(self) -> int:
        """The number of events."""
        return sum(part.events for part in self.partitions)

    @property
    def segments(self) -> int:
        """The number of segments that hold them."""
        return sum(part.segments for part in self.partitions)

    @property
    def bytes(self) -> int:
        """The size of these segments in bytes."""
        return sum(part.bytes for part in self.partitions)

    @property
    def compacted_segments(self) -> int:
        """The number of segments that are compacted."""
        return sum(part.compacted_segments for part in self.partitions)

    @property
    def compacted_bytes(self) -> int:
        """The size of the compacted segments in bytes."""
        return sum(part.compacted_bytes for part in self.partitions)


def stats(state: StreamState) -> StreamStats:
    """Count a stream's events, segments and bytes, reading only the newest segment of each partition.

    Raises:
        CorruptSegmentError: The newest segment of a partition is damaged.
    """
    found = []
    for name in state.partitions():
        reader = state.reader(name)
        listed = reader.list_segments()
        end = reader.end()
        compacted = [segment.size for segment in listed if segment.next is not None]
        found.append(
            PartitionStats(
                name,
                reader.bounds.start,
                end,
                segments=len(listed),
                bytes=sum(segment.size for segment in listed),
                compacted_segments=len(compacted),
                compacted_bytes=sum(compacted),
            )
        )
    settings = state.stored_settings()
    return StreamStats(state.name, settings.partition_by if settings else None, tuple(found))


@dataclass(slots=True)
class _Findings:
    segments: int = 0
    commits: int = 0
    events: int = 0
    problems: list[Problem] = field(default_factory=list)
    days: dict[str, str] = field(default_factory=dict)


def verify(state: StreamState) -> VerifyReport:
    """Read and check a whole stream.

    Raises:
        BackendUnavailableError: The storage could not be read, which says nothing about damage.
        AccessDeniedError: As for BackendUnavailableError.
    """
    findings = _Findings()
    settings = StreamSettings()
    try:
        settings = state.stored_settings() or settings
    except CorruptCheckpointError as err:
        findings.problems.append(Problem("", str(err), err.key))
    names = state.partitions()
    for name in names:
        reader = state.reader(name, settings)
        try:
            _verify_partition(reader, findings, by_day=settings.partition_by == "day")
        except CorruptSegmentError as err:
            findings.problems.append(Problem(name, str(err), err.key, err.byte, err.offset))
        except (AccessDeniedError, BackendUnavailableError):
            raise
        except BucketlogError as err:
            findings.problems.append(Problem(name, str(err), getattr(err, "key", "")))
    return VerifyReport(
        state.name, len(names), findings.segments, findings.commits, findings.events, tuple(findings.problems)
    )


def _verify_index(reader: PartitionReader, segment: Segment, findings: _Findings) -> None:
    try:
        opened = reader.open_compacted(segment)
        if opened is not None:
            opened.check()
    except NotFoundError:
        return  # it was merged with others and removed; the segments that count now are read below
    except DamageError as err:
        damage = damaged(reader.where, err, offset=reader.offset)
    except CorruptSegmentError as err:
        damage = err
    else:
        return
    findings.problems.append(Problem(reader.partition, str(damage), damage.key, damage.byte, segment.first))


def _verify_partition(reader: PartitionReader, findings: _Findings, *, by_day: bool) -> None:
    name = reader.partition
    counting = reader.list_segments()
    findings.segments += len(counting)
    for segment in counting:
        if segment.next is not None:
            _verify_index(reader, segment, findings)
    listed = {entry.key: entry.size for entry in reader.root.backend.list(reader.folder)}
    seen: set[str] = set()
    for found in reader.raw_batches(by_commit=True):
        raw_batch = starting_at(found, reader.bounds.start)
        try:
            offsets = range(raw_batch.first, raw_batch.first + raw_batch.events)
            events = decode_events(memoryview(raw_batch.data)[: raw_batch.end], name, offsets, eager=True)
        except msgspec.DecodeError as err:
            findings.problems.append(
                Problem(name, f"not every line is an event: {err}", raw_batch.key, raw_batch.byte, raw_batch.first)
            )
            continue
        if len(events) != raw_batch.events:
            what = f"{len(events)} lines, but the trailers say {raw_batch.events}"
            findings.problems.append(Problem(name, what, raw_batch.key, raw_batch.byte, raw_batch.first))
        findings.commits += len(raw_batch.spans)
        findings.events += len(events)
        for event in events:
            if event.id in seen:
                findings.problems.append(
                    Problem(name, f"the id {event.id!r} is stored twice", raw_batch.key, offset=event.offset or 0)
                )
            seen.add(event.id)
            if by_day and findings.days.setdefault(event.id, name) != name:
                what = f"the id {event.id!r} is also stored on {findings.days[event.id]}: two writers raced"
                findings.problems.append(Problem(name, what, raw_batch.key, offset=event.offset or 0))
    for key, size in listed.items():
        stored = parse_segment(reader.folder, key.removeprefix(reader.folder), size)
        if stored is not None and stored.next is None and stored.first > reader.offset:
            what = f"{key} does not continue the log, which ends at offset {reader.offset}: a segment is missing"
            findings.problems.append(Problem(name, what, key, offset=stored.first))
