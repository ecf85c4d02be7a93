"""Vacuum: removes segments that compaction and truncation left behind, once nothing can rely on them any more.

A first run raises the floor to the end of the compacted segments. A grace later, by the storage's clock, the live
segments below the floor are removed. Writers, readers and compactors trust a listing for half a grace, so none of them
claims a name that became free. What to remove is decided by pure functions: `floor_of`, `covers`, `out_of_use` and
`due_for_removal`. A stale listing can only make them too cautious: bounds never go down and compacted segments never
change.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

from bucketlog.backend import ABSENT
from bucketlog.clock import Staleness, to_seconds
from bucketlog.errors import BackendUnavailableError, NotFoundError, StreamSettingsError
from bucketlog.format.names import SCRATCH
from bucketlog.format.segments import chain
from bucketlog.log.bounds import BoundsRecord, InForce, raise_bounds, read_record
from bucketlog.log.listing import segments_after
from bucketlog.log.settings import StreamSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bucketlog.backend import AppendBackend
    from bucketlog.format.segments import Segment
    from bucketlog.log.partition_reader import PartitionReader
    from bucketlog.log.stream_state import StreamState
    from bucketlog.storage.root import Root

_LARGE_BYTES = 8 * 1024 * 1024  # segments larger than this are read one at a time
_KEYS_A_DELETE = 1000  # the limit of an object store's request; in a directory, appends wait for one such batch
_FOREVER_SECONDS = 100 * 365 * 24 * 3600.0
_LOOKS_MAX = 16  # listings of a partition, before a vacuum gives up; almost always one is enough


@dataclass(frozen=True, slots=True)
class PartitionVacuum:
    """What a vacuum did in one partition, or would do.

    Waiting segments are unused; a vacuum removes them at `waiting_until` or later, by the storage's clock.
    """

    partition: str
    floor_before: int
    floor: int
    segments_removed: int = 0
    bytes_removed: int = 0
    segments_waiting: int = 0
    bytes_waiting: int = 0
    waiting_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class VacuumReport:
    """What `stream.vacuum()` did, partition by partition."""

    stream: str
    partitions: tuple[PartitionVacuum, ...] = ()

    @property
    def segments_removed(self) -> int:
        """The number of segments that were removed."""
        return sum(part.segments_removed for part in self.partitions)

    @property
    def bytes_removed(self) -> int:
        """Their size in bytes."""
        return sum(part.bytes_removed for part in self.partitions)

    @property
    def segments_waiting(self) -> int:
        """The number of segments that wait for their grace to pass."""
        return sum(part.segments_waiting for part in self.partitions)

    @property
    def bytes_waiting(self) -> int:
        """Their size in bytes."""
        return sum(part.bytes_waiting for part in self.partitions)

    @property
    def waiting_until(self) -> datetime | None:
        """When the last of them may be removed, by the storage's clock; None if none waits."""
        return max((part.waiting_until for part in self.partitions if part.waiting_until is not None), default=None)


# -- what may be removed -----------------------------------------------------------------------------------------------


def floor_of(compacted: Sequence[Segment], record: BoundsRecord) -> tuple[int, list[Segment]]:
    """Return the highest possible floor, and the compacted segments that would then be the only copy of events.

    Args:
        compacted: All compacted segments of a listing, including those that do not count.
        record: The bounds, read before the listing.
    """
    # Only what compacted segments hold without a gap may be hidden (I23).
    floor = record.bounds.floor
    relied_on = []
    for segment in chain(compacted, start=record.bounds.start, floor=floor):
        if _next(segment) > floor:
            relied_on.append(segment)
            floor = _next(segment)
    return floor, relied_on


def covers(compacted: Iterable[Segment], *, start: int) -> dict[Segment, Segment]:
    """Return the compacted segments that another one contains, each with the segment that contains it.

    A segment that contains another is never contained itself, so all contained ones may be removed at once. Segments
    before the start are left out, because truncation removes them.

    Args:
        compacted: All compacted segments of a listing.
        start: The start of the partition's log.
    """
    # One other segment has to contain it, not several together (I27).
    contained: dict[Segment, Segment] = {}
    farthest: Segment | None = None
    for segment in sorted(compacted, key=lambda segment: (segment.first, -_next(segment))):
        if _next(segment) <= start:
            continue
        if farthest is not None and _next(segment) <= _next(farthest):
            contained[segment] = farthest
        else:
            farthest = segment
    return contained


def out_of_use(found: Iterable[Segment], record: BoundsRecord) -> dict[Segment, datetime]:
    """Return the unused segments, and since when: live ones below the floor, compacted ones before the start."""
    since: dict[Segment, datetime] = {}
    for segment in found:
        for bounds, moment in record.steps:
            if (segment.first < bounds.floor) if segment.next is None else (segment.next <= bounds.start):
                since[segment] = moment
                break
    return since


class Due(NamedTuple):
    """The segments to remove now, and those to remove later; from `waiting_until` on, all of them may be removed."""

    remove: list[Segment]
    waiting: list[Segment]
    waiting_until: datetime | None


def due_for_removal(spent: Mapping[Segment, datetime], *, now: datetime, grace: timedelta) -> Due:
    """Decide which of the unused segments to remove now.

    Args:
        spent: The unused segments, and since when.
        now: The current time, by the same clock.
        grace: How long processes may still use an old listing.
    """
    # The grace counts from the moment that put a segment out of use (I24).
    later = {segment: since + grace for segment, since in spent.items() if now - since < grace}
    remove = [segment for segment in spent if segment not in later]
    return Due(remove, list(later), max(later.values(), default=None))


def _next(segment: Segment) -> int:
    return segment.first if segment.next is None else segment.next


# -- doing it ----------------------------------------------------------------------------------------------------------


def vacuum(
    state: StreamState,
    *,
    grace: float | timedelta | None = None,
    exclusive: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> VacuumReport:
    """Vacuum all partitions of a stream; see `Stream.vacuum`."""
    root = state.root
    settings = state.stored_settings() or StreamSettings()
    grace_seconds = settings.grace_seconds if grace is None else to_seconds(grace, name="grace")
    hasty = grace_seconds < settings.grace_seconds
    if hasty and not exclusive:
        msg = (
            f"vacuum {state.where}: a grace of {grace_seconds:g} s is shorter than the {settings.grace_seconds:g} s "
            "that its writers and readers rely on; leave it out, or promise with exclusive=True that no other process "
            "is active"
        )
        raise StreamSettingsError(msg)
    if not dry_run:
        root.check_writable(f"vacuum stream {state.name!r}")
    how = _How(
        timedelta(seconds=min(grace_seconds, _FOREVER_SECONDS)), settings.grace_seconds, dry_run, _Reading(progress)
    )

    def vacuum_one(name: str) -> PartitionVacuum:
        return _vacuum_partition(state.reader(name, settings), how)

    names = state.partitions()
    try:
        done = tuple(root.side_by_side(vacuum_one, names))
    finally:
        if hasty and not dry_run:
            state.invalidate()  # this handle is active, and its listings may be younger than the stream's grace
    return VacuumReport(state.name, done)


class _How(NamedTuple):
    grace: timedelta
    own_grace_seconds: float  # the stream's own
    dry_run: bool
    reading: _Reading


class _Reading:
    """Counts the bytes read and their total over all partitions, and reads large segments one at a time."""

    def __init__(self, progress: Callable[[int, int], None] | None) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._read = self._total = 0

    def add(self, *, read: int = 0, total: int = 0) -> None:
        with self._lock:
            self._read += read
            self._total += total
            if self._progress is not None:
                self._progress(self._read, self._total)

    def check(self, reader: PartitionReader, segment: Segment) -> None:
        with self._turn if segment.size > _LARGE_BYTES else nullcontext():  # only one of them in memory
            reader.check_compacted(segment)
        self.add(read=segment.size)


class _Removal:
    """Removes segments of a partition, or in a dry run only counts them."""

    def __init__(self, root: Root, folder: str, *, dry_run: bool) -> None:
        self._root, self._folder, self._dry_run = root, folder, dry_run
        self._now: datetime | None = None
        self.segments_removed = self.bytes_removed = self.segments_waiting = self.bytes_waiting = 0
        self.waiting_until: datetime | None = None

    def now(self) -> datetime:
        """Return the time by the storage's clock; in a dry run, which must not write, by this machine's clock."""
        if self._now is None:
            self._now = self._root.clock.now() if self._dry_run else storage_time(self._root)
        return self._now

    def remove(self, segments: Iterable[Segment]) -> None:
        left = iter(segments)
        while batch := list(islice(left, _KEYS_A_DELETE)):
            if not self._dry_run:
                keys = [segment.key for segment in batch]
                if self._root.appender is not None:
                    live = [segment.key for segment in batch if segment.next is None]
                    close_segments(self._root.appender, self._folder, live)
                self._root.backend.delete(keys)
            self.segments_removed += len(batch)
            self.bytes_removed += sum(segment.size for segment in batch)

    def wait_for(self, segments: Sequence[Segment], until: datetime | None) -> None:
        self.segments_waiting += len(segments)
        self.bytes_waiting += sum(segment.size for segment in segments)
        if until is not None and (self.waiting_until is None or until > self.waiting_until):
            self.waiting_until = until


def _vacuum_partition(reader: PartitionReader, how: _How) -> PartitionVacuum:
    """Raise a partition's floor, and remove the segments that have been unused for a grace."""
    root, folder = reader.root, reader.folder
    record, floor, contained, lowest_live = _look(reader, how)
    before = record.bounds
    if how.dry_run:
        raised = before.raised_to(0, floor)
        if raised != before:
            record = record._replace(bounds=raised, steps=(*record.steps, InForce(raised, root.clock.now())))
    elif floor > before.floor:
        doing = f"vacuum {reader.where}"
        raise_bounds(root, folder, start=0, floor=floor, grace_seconds=how.own_grace_seconds, doing=doing)
        record = read_record(root, folder, where=reader.where)
    removal = _Removal(root, folder, dry_run=how.dry_run)
    removal.remove(contained)
    if lowest_live < record.bounds.floor or record.bounds.start:
        # Listed again, in batches: there may be a million segments, and orphans may have been written since.
        listed = takewhile(lambda segment: segment.first < record.bounds.floor, segments_after(root.backend, folder, 0))
        while batch := list(islice(listed, _KEYS_A_DELETE)):
            spent = out_of_use((segment for segment in batch if segment not in contained), record)
            if spent:
                due = due_for_removal(spent, now=removal.now(), grace=how.grace)
                removal.remove(due.remove)
                removal.wait_for(due.waiting, due.waiting_until)
    return PartitionVacuum(
        reader.partition,
        before.floor,
        record.bounds.floor,
        removal.segments_removed,
        removal.bytes_removed,
        removal.segments_waiting,
        removal.bytes_waiting,
        removal.waiting_until,
    )


def storage_time(root: Root) -> datetime:
    """Return the time by the storage's clock, from an object that is created for this and removed.

    The bounds are dated by the same clock, so this machine's clock may be wrong.

    Raises:
        CapabilityError: The storage does not keep modification times.
    """
    key = f"{SCRATCH}now-{root.clock.write_id()}"
    try:
        root.backend.put(key, b"now\n", if_version=ABSENT)
        return root.backend.head(key).modified
    finally:
        root.backend.delete([key])


class _Look(NamedTuple):
    record: BoundsRecord
    floor: int
    contained: dict[Segment, Segment]
    lowest_live: float


def _look(reader: PartitionReader, how: _How) -> _Look:
    """List a partition, and check every segment that is to become the only copy of events.

    Raises:
        NotFoundError: A listed segment is missing, twice in a row.
        BackendUnavailableError: Segments were removed during every attempt.
    """
    root, folder = reader.root, reader.folder
    checked: set[str] = set()
    missing = ""
    for _ in range(_LOOKS_MAX):
        age = Staleness(root.clock)
        record = read_record(root, folder, where=reader.where)
        compacted: list[Segment] = []
        lowest_live = float("inf")
        for segment in segments_after(root.backend, folder, 0):
            if segment.next is not None:
                compacted.append(segment)
            else:
                lowest_live = min(lowest_live, segment.first)
        floor, relied_on = floor_of(compacted, record)
        contained = covers(compacted, start=record.bounds.start)
        look = _Look(record, floor, contained, lowest_live)
        if how.dry_run:
            return look
        todo = {item.key: item for item in (*relied_on, *contained.values()) if item.key not in checked}
        how.reading.add(total=sum(item.size for item in todo.values()))
        key = ""
        try:
            for key, segment in todo.items():
                how.reading.check(reader, segment)
                checked.add(key)
        except NotFoundError:
            if key == missing:
                raise
            missing = key  # another vacuum removed it; the next listing shows the segment that contains it
            continue
        # An old listing decides nothing (I18).
        if age.seconds() < how.own_grace_seconds / 2:
            return look
    msg = f"vacuum {reader.where}: its segments changed during each of {_LOOKS_MAX} attempts; try again later"
    raise BackendUnavailableError(msg)


def close_segments(appender: AppendBackend, folder: str, keys: Iterable[str]) -> None:
    """Seal segments, so that a writer with an old listing cannot append to one and lists again.

    They are sealed already, except in a copy of the directory that lost the files' modes.
    """
    for key in keys:
        if not appender.is_sealed(key):
            with appender.lock(folder), suppress(NotFoundError):
                appender.seal(key)
