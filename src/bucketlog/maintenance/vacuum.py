"""Vacuum: what compaction and truncation left behind is removed, once nobody can still be relying on it.

First the floor is raised to the end of what is compacted; a grace later, by the storage's own clock, the live segments
below it go. A writer, reader or compactor trusts a listing for half of that time, so none claims a name that is free
again. `floor_of` and `decide` are pure; a listing that is old can make them too cautious, and never too bold, as bounds
are only ever raised and what a compacted segment holds is true for ever.
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
from bucketlog.errors import NotFoundError, StreamSettingsError
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

_LARGE_BYTES = 8 * 1024 * 1024  # of segments that are larger one is read at a time
_KEYS_A_DELETE = 1000  # as many as an object store takes in one request; in a directory appends wait for so many
_FOREVER_SECONDS = 100 * 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class PartitionVacuum:
    """What a vacuum did in one partition, or would do.

    What waits is no longer used, and is removed by a vacuum at `waiting_until` or later, by the storage's clock.
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
        """How many segments were removed."""
        return sum(one.segments_removed for one in self.partitions)

    @property
    def bytes_removed(self) -> int:
        """How many bytes they took."""
        return sum(one.bytes_removed for one in self.partitions)

    @property
    def segments_waiting(self) -> int:
        """How many segments wait for their grace to pass."""
        return sum(one.segments_waiting for one in self.partitions)

    @property
    def bytes_waiting(self) -> int:
        """How many bytes they take."""
        return sum(one.bytes_waiting for one in self.partitions)

    @property
    def waiting_until(self) -> datetime | None:
        """When the last of them may go, by the storage's clock; None when none waits."""
        return max((one.waiting_until for one in self.partitions if one.waiting_until is not None), default=None)


# -- what may go -------------------------------------------------------------------------------------------------------


def floor_of(compacted: Sequence[Segment], record: BoundsRecord) -> tuple[int, list[Segment]]:
    """Return what the floor may be raised to, and the compacted segments that then hold alone what is between.

    Args:
        compacted: All compacted segments of a listing, those that do not count included.
        record: The bounds, as they were before it was made.
    """
    # Only what compacted segments hold without a gap may be hidden (I23).
    floor = record.bounds.floor
    relied_on = []
    for one in chain(compacted, start=record.bounds.start, floor=floor):
        if _next(one) > floor:
            relied_on.append(one)
            floor = _next(one)
    return floor, relied_on


def covers(compacted: Iterable[Segment], *, start: int) -> dict[Segment, Segment]:
    """Return the compacted segments that are contained in one other, and that other one.

    No segment that contains another is itself among those that are contained, so all of these may go together. What
    lies before the start is left out: it goes for another reason.

    Args:
        compacted: All compacted segments of a listing.
        start: The partition's.
    """
    # One other segment has to contain it, not several together (I27).
    contained: dict[Segment, Segment] = {}
    farthest: Segment | None = None
    for one in sorted(compacted, key=lambda one: (one.first, -_next(one))):
        if _next(one) <= start:
            continue
        if farthest is not None and _next(one) <= _next(farthest):
            contained[one] = farthest
        else:
            farthest = one
    return contained


def out_of_use(found: Iterable[Segment], record: BoundsRecord) -> dict[Segment, datetime]:
    """Return what the bounds put out of use, and since when: live segments below the floor, all before the start."""
    since: dict[Segment, datetime] = {}
    for one in found:
        for bounds, moment in record.steps:
            if (one.first < bounds.floor) if one.next is None else (one.next <= bounds.start):
                since[one] = moment
                break
    return since


class Decision(NamedTuple):
    """What goes now, and what only later. `waiting_until` is the moment from which all that waits may go."""

    remove: list[Segment]
    waiting: list[Segment]
    waiting_until: datetime | None


def decide(spent: Mapping[Segment, datetime], *, now: datetime, grace: timedelta) -> Decision:
    """Decide what of the segments that are out of use goes now.

    Args:
        spent: What is out of use, and since when.
        now: The time, by the clock that those times are by.
        grace: How long names that are out of use may still be believed in.
    """
    # The grace counts from the moment that put it out of use (I24).
    later = {one: since + grace for one, since in spent.items() if now - since < grace}
    return Decision([one for one in spent if one not in later], list(later), max(later.values(), default=None))


def _next(one: Segment) -> int:
    return one.first if one.next is None else one.next


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
            f"vacuum {state.where}: its writers and readers rely on a grace of {settings.grace_seconds:g} s, "
            f"{grace_seconds:g} s is shorter; leave it out, or promise with exclusive=True that nobody else is active"
        )
        raise StreamSettingsError(msg)
    if not dry_run:
        root.check_writable(f"vacuum stream {state.name!r}")
    how = _How(
        timedelta(seconds=min(grace_seconds, _FOREVER_SECONDS)), settings.grace_seconds, dry_run, _Reading(progress)
    )

    def one(name: str) -> PartitionVacuum:
        return _vacuum_partition(state.reader(name, settings), how)

    names = state.partitions()
    try:
        # A directory is quick to look at: nothing is gained there by doing several at a time.
        done = tuple(root.side_by_side(one, names))
    finally:
        if hasty and not dry_run:
            state.look_anew()  # nobody else is active, but this handle is, and its listings are younger than the grace
    return VacuumReport(state.name, done)


class _How(NamedTuple):
    grace: timedelta
    own_grace_seconds: float  # the stream's
    dry_run: bool
    reading: _Reading


class _Reading:
    """How many bytes were read of how many, as far as is known, over all partitions; and large ones in turn."""

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

    def check(self, reader: PartitionReader, one: Segment) -> None:
        with self._turn if one.size > _LARGE_BYTES else nullcontext():  # so that memory holds one of them
            reader.check_compacted(one)
        self.add(read=one.size)


class _Removal:
    """Removes segments of a partition, or only counts them."""

    def __init__(self, root: Root, folder: str, *, dry_run: bool) -> None:
        self._root, self._folder, self._dry_run = root, folder, dry_run
        self._now: datetime | None = None
        self.segments_removed = self.bytes_removed = self.segments_waiting = self.bytes_waiting = 0
        self.waiting_until: datetime | None = None

    def now(self) -> datetime:
        """Return the time by the storage's clock; in a dry run, which writes nothing, by this machine's."""
        if self._now is None:
            self._now = self._root.clock.now() if self._dry_run else storage_time(self._root)
        return self._now

    def remove(self, segments: Iterable[Segment]) -> None:
        left = iter(segments)
        while batch := list(islice(left, _KEYS_A_DELETE)):
            if not self._dry_run:
                keys = [one.key for one in batch]
                if self._root.appender is not None:
                    live = [one.key for one in batch if one.next is None]
                    close_segments(self._root.appender, self._folder, live)
                self._root.backend.delete(keys)
            self.segments_removed += len(batch)
            self.bytes_removed += sum(one.size for one in batch)

    def wait_for(self, segments: Sequence[Segment], until: datetime | None) -> None:
        self.segments_waiting += len(segments)
        self.bytes_waiting += sum(one.size for one in segments)
        if until is not None and (self.waiting_until is None or until > self.waiting_until):
            self.waiting_until = until


def _vacuum_partition(reader: PartitionReader, how: _How) -> PartitionVacuum:
    """Raise a partition's floor, and remove what is out of use for a grace."""
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
        # Listed once more, a part at a time: they may be a million, and strays may have landed since.
        listed = takewhile(lambda one: one.first < record.bounds.floor, segments_after(root.backend, folder, 0))
        while part := list(islice(listed, _KEYS_A_DELETE)):
            spent = out_of_use((one for one in part if one not in contained), record)
            if spent:
                decision = decide(spent, now=removal.now(), grace=how.grace)
                removal.remove(decision.remove)
                removal.wait_for(decision.waiting, decision.waiting_until)
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
    """Return the time by the storage's clock: that of an object which is made for it, and removed.

    The bounds' time is by that clock too, so it does not matter whether ours is right.

    Raises:
        CapabilityError: The storage keeps no times.
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
    """List a partition, and read and check whatever will hold alone what is removed, or hidden by the floor."""
    root, folder = reader.root, reader.folder
    checked: set[str] = set()
    missing = ""
    while True:
        age = Staleness(root.clock)
        record = read_record(root, folder, where=reader.where)
        compacted: list[Segment] = []
        lowest_live = float("inf")
        for one in segments_after(root.backend, folder, 0):
            if one.next is not None:
                compacted.append(one)
            else:
                lowest_live = min(lowest_live, one.first)
        floor, relied_on = floor_of(compacted, record)
        contained = covers(compacted, start=record.bounds.start)
        look = _Look(record, floor, contained, lowest_live)
        if how.dry_run:
            return look
        todo = {one.key: one for one in (*relied_on, *contained.values()) if one.key not in checked}
        how.reading.add(total=sum(one.size for one in todo.values()))
        key = ""
        try:
            for key, one in todo.items():
                how.reading.check(reader, one)
                checked.add(key)
        except NotFoundError:
            if key == missing:
                raise
            missing = key  # another vacuum removed it: what contains it will be listed now
            continue
        # An old listing decides nothing (I18).
        if age.seconds() < how.own_grace_seconds / 2:
            return look


def close_segments(appender: AppendBackend, folder: str, keys: Iterable[str]) -> None:
    """See to it that segments never grow again: a writer that believes in one is then refused, and looks anew.

    They are closed already, but for copies of a directory that lost their modes.
    """
    for key in keys:
        if not appender.is_sealed(key):
            with appender.lock(folder), suppress(NotFoundError):
                appender.seal(key)
