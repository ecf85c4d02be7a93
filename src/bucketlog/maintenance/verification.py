"""Verification: read everything, check everything, report instead of raising; and the numbers of a stream."""

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
from bucketlog.log.regions import starting_at
from bucketlog.log.settings import StreamSettings

if TYPE_CHECKING:
    from bucketlog.format.segments import Segment
    from bucketlog.log.partition_reader import PartitionReader
    from bucketlog.log.stream_state import StreamState


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, and what. `partition` is empty for what concerns all of the stream."""

    partition: str
    what: str
    key: str = ""
    byte: int = -1
    offset: int = -1


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `stream.verify()` found; `ok` when there are no problems."""

    stream: str
    partitions: int
    segments: int
    commits: int
    events: int
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class PartitionStats:
    """The numbers of a partition: offsets `[start, next_offset)`, and what is stored for them.

    Of `segments` and `bytes`, so many are compacted. What no longer counts and waits for a vacuum is not among them.
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
        """How many events the log holds."""
        return self.next_offset - self.start


@dataclass(frozen=True, slots=True)
class StreamStats:
    """The numbers of a stream."""

    stream: str
    partition_by: str | None
    partitions: tuple[PartitionStats, ...] = ()

    @property
    def events(self) -> int:
        """How many events the log holds."""
        return sum(one.events for one in self.partitions)

    @property
    def segments(self) -> int:
        """How many segments hold them."""
        return sum(one.segments for one in self.partitions)

    @property
    def bytes(self) -> int:
        """How many bytes these take."""
        return sum(one.bytes for one in self.partitions)

    @property
    def compacted_segments(self) -> int:
        """How many of the segments are compacted."""
        return sum(one.compacted_segments for one in self.partitions)

    @property
    def compacted_bytes(self) -> int:
        """How many of the bytes are those of compacted segments."""
        return sum(one.compacted_bytes for one in self.partitions)


def stats(state: StreamState) -> StreamStats:
    """Count, reading no more than the newest segment of each partition.

    Raises:
        CorruptSegmentError: A newest segment is damaged.
    """
    found = []
    for name in state.partitions():
        reader = state.reader(name)
        listed = reader.list_segments()
        end = reader.end()
        compacted = [one.size for one in listed if one.next is not None]
        found.append(
            PartitionStats(
                name,
                reader.bounds.start,
                end,
                segments=len(listed),
                bytes=sum(one.size for one in listed),
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
    """Read and check everything of a stream.

    Raises:
        BackendUnavailableError: The storage could not be read, which says nothing about damage.
        AccessDeniedError: As before.
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
        return  # merged with others and removed meanwhile: what counts now is read below
    except DamageError as err:
        damage = reader.damaged(err)
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
    for found in reader.regions(by_commit=True):
        region = starting_at(found, reader.bounds.start)
        try:
            offsets = range(region.first, region.first + region.events)
            events = decode_events(memoryview(region.data)[: region.end], name, offsets, eager=True)
        except msgspec.DecodeError as err:
            findings.problems.append(
                Problem(name, f"not every line is an event: {err}", region.key, region.byte, region.first)
            )
            continue
        if len(events) != region.events:
            what = f"{len(events)} lines stand where the trailers say {region.events}"
            findings.problems.append(Problem(name, what, region.key, region.byte, region.first))
        findings.commits += len(region.spans)
        findings.events += len(events)
        for event in events:
            if event.id in seen:
                findings.problems.append(
                    Problem(name, f"the id {event.id!r} is stored twice", region.key, offset=event.offset or 0)
                )
            seen.add(event.id)
            if by_day and findings.days.setdefault(event.id, name) != name:
                what = f"the id {event.id!r} is stored on {findings.days[event.id]} too: two writers raced"
                findings.problems.append(Problem(name, what, region.key, offset=event.offset or 0))
    for key, size in listed.items():
        one = parse_segment(reader.folder, key.removeprefix(reader.folder), size)
        if one is not None and one.next is None and one.first > reader.offset:
            what = f"{key} is not connected to the log, which ends at offset {reader.offset}: a segment is missing"
            findings.problems.append(Problem(name, what, key, offset=one.first))
