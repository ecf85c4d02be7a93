"""Random histories of a store, compared with a model: processes that fail, sleep, race, die and restart.

A step is one call in one process, with troubles at chosen calls of its backend: failures, lost and late answers,
crashes, and calls of other processes in between. After each step a process without troubles reads all events, and the
model checks that they are possible.
"""

from __future__ import annotations

import itertools
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace
from world import ANY, DAY, HOUR, ObjectStore, Process, World, event, ids_of

import bucketlog
from bucketlog import ABSENT, errors
from bucketlog.clock import Staleness
from bucketlog.format import compacted, compacting
from bucketlog.format import segments as seg
from bucketlog.log import (
    commit_by_append,
    commit_by_put,
    commit_rule,
    compacted_reading,
    ids,
    listing,
    partition_reader,
    partition_view,
    partition_writer,
)
from bucketlog.log.bounds import read_bounds
from bucketlog.log.raw_batch import starting_at
from bucketlog.log.settings import SINGLE_PARTITION
from bucketlog.maintenance import compaction, truncation, vacuum
from bucketlog.reading import reader
from bucketlog.reading import recent as lookup
from bucketlog.state import checkpoints
from bucketlog.state.snapshots import Snapshots
from bucketlog.testing import (
    ANYTHING,
    Crash,
    CrashAfter,
    Fail,
    FakeClock,
    Hold,
    LoseAnswer,
    ModelCheckpoint,
    ModelStream,
    PowerCutBackend,
    PowerCutDisk,
    SimulatedCrash,
    Tear,
    on,
)
from bucketlog_backends import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bucketlog import Commit, Event
    from bucketlog.log.commit_rule import OnDuplicate
    from bucketlog.testing import Attempt, Call, Change, HeldCall
    from bucketlog.testing.faults import Fault

pytestmark = pytest.mark.slow

SEARCH_LONGER = int(os.environ.get("BUCKETLOG_MODEL_EXAMPLES", "0"))
"""The number of examples per machine, to search for longer than a test run should take."""

READ_BYTES = 400  # smaller than some commits
LIST_ENTRIES = 4
FAN_IN = 3


@pytest.fixture
def small_sizes(monkeypatch):
    """Let machines read little at a time and set the segment size. Everything is reset when the test ends.

    A few events then fill several blocks of a compacted segment, several runs of ids and several pages of a listing.
    """
    monkeypatch.setattr(seg, "SEGMENT_BYTES_MAX", seg.SEGMENT_BYTES_MAX)
    monkeypatch.setattr(partition_reader, "READ_BYTES", READ_BYTES)
    monkeypatch.setitem(partition_reader.PartitionReader._live.__kwdefaults__, "want", READ_BYTES)
    monkeypatch.setattr(compacted_reading, "_READ_BYTES", READ_BYTES)
    monkeypatch.setattr(compacted_reading, "_UNPACKED_BYTES", READ_BYTES)
    monkeypatch.setattr(listing, "PAGE_ENTRIES", LIST_ENTRIES)
    monkeypatch.setattr(compacting, "BLOCK_BYTES", 250)
    monkeypatch.setattr(compacted, "_TAIL_BYTES", 200)
    monkeypatch.setattr(compacting, "_OVERLAPS_MAX", 1)
    monkeypatch.setattr(compaction, "SEGMENT_BYTES_MAX", 4000)
    monkeypatch.setattr(compaction, "_PUT_BYTES", 5000)
    monkeypatch.setitem(compaction.plan.__kwdefaults__, "bytes_max", 4000)
    monkeypatch.setitem(compaction.plan.__kwdefaults__, "fan_in", FAN_IN)
    monkeypatch.setattr(ids, "RUN_EVENTS", 3)
    monkeypatch.setattr(lookup, "_BLOCKS_AT_ONCE", 1)
    monkeypatch.setattr(lookup, "_BLOCKS_AT_ONCE_REMOTE", 2)
    monkeypatch.setattr(lookup, "_GAP_BYTES", 100)


STREAMS = {"by subject": "subject", "single": None}
SUBJECTS = ("a", "b", "c")

# -- troubles ----------------------------------------------------------------------------------------------------------

WRITES = ("put", "append", "sync", "seal", "cut")


def unknown() -> errors.OutcomeUnknownError:
    return errors.OutcomeUnknownError("no answer came")


def taken() -> errors.ConflictError:
    return errors.ConflictError("already exists")


# By kind: the methods it applies to (all, if none is named), and the fault. `size` is the size of the trouble.
FAULTS: dict[str, tuple[Sequence[str], Callable[[int], Fault]]] = {
    "unavailable": ((), lambda size: Fail()),
    "denied": ((), lambda size: Fail(errors.AccessDeniedError("no"))),
    "full": (("put", "append"), lambda size: Fail(errors.StorageFullError("no room"))),
    "not done, no answer": (WRITES, lambda size: Fail(unknown())),
    "done, no answer": (WRITES, lambda size: LoseAnswer(unknown())),
    "not done, called a conflict": (("put",), lambda size: Fail(taken())),
    "done, called a conflict": (("put",), lambda size: LoseAnswer(taken())),
    "late": (("put",), lambda size: Hold(unknown())),
    "dies before": ((), lambda size: Crash()),
    "dies after": ((), lambda size: CrashAfter()),
    "torn": (("append",), lambda size: Tear(size)),
}
BY_OTHERS = ("another goes first", "all is compacted", "all is compacted and removed")
INCIDENTS = (*BY_OTHERS, "late ones land", "sleeps", "clock goes back")

# The errors of a fault that promise that nothing was written.
HARMLESS = (errors.BackendUnavailableError, errors.AccessDeniedError, errors.StorageFullError)


@dataclass
class Trouble:
    """A trouble at the nth matching call, counted from 0. A torn append keeps `size` bytes."""

    kind: str
    nth: int
    size: int

    @classmethod
    def of(cls, kind: str, nth: int, size: int) -> Trouble:
        # A step has few calls that write.
        return cls(kind, nth // 2 if kind in FAULTS and FAULTS[kind][0] else nth, size)

    def applies_to(self, call: Call) -> bool:
        methods = FAULTS[self.kind][0] if self.kind in FAULTS else ()
        if methods and call.method not in methods:
            return False
        self.nth -= 1
        return self.nth < 0


@dataclass
class Step:
    """One call of a process: troubles to come, and whether one has happened."""

    coming: list[Trouble]
    befallen: bool = False


ANY_TROUBLES = st.lists(
    st.builds(
        Trouble.of,
        st.sampled_from((*FAULTS, *INCIDENTS, *BY_OTHERS, "late")),
        st.integers(0, 5),
        st.integers(0, 250),
    ),
    max_size=3,
)
SLOTS = st.integers(0, 2)
NAMES = st.sampled_from(sorted(STREAMS))
# Each event of a batch: a new one, or an earlier one (counted backwards) with other content.
BATCHES = st.lists(st.tuples(st.one_of(st.none(), st.none(), st.integers(0, 9)), st.sampled_from(SUBJECTS)), max_size=4)


@dataclass
class Consumer:
    """A consumer, which outlives its process: its cursor, and the events it got."""

    cursor: dict[str, int] = field(default_factory=dict)
    given: dict[str, list[Event]] = field(default_factory=dict)

    def take(self, events: Sequence[Event]) -> None:
        for each in events:
            self.given.setdefault(each.partition, []).append(each)

    def skip(self, where: str, log: Sequence[Event]) -> None:
        """Count these events as read, because the log starts after them."""
        self.given[where] = [*log]
        self.cursor[where] = len(log)


# -- machines ----------------------------------------------------------------------------------------------------------


class History(RuleBasedStateMachine):
    """Processes on one storage that start, end, sleep and have troubles. Subclasses decide what they do."""

    mode: ClassVar[str]
    segment_bytes = 900  # a few commits

    def __init__(self) -> None:
        super().__init__()
        seg.SEGMENT_BYTES_MAX = self.segment_bytes  # `small_sizes` resets it
        self.world = World(self.mode)
        self.processes: list[Process | None] = [None, None, None]
        self.numbers = itertools.count(1)
        self.held: list[HeldCall] = []
        self.failed = False
        self.observer = self.world.open(read_only=True)
        self.observer.use_one_thread()

    def start(self, slot: int) -> Process:
        process = self.processes[slot] = self.world.open()
        process.use_one_thread()
        return process

    @initialize()
    def begin(self) -> None:
        self.start(0)
        self.start(1)

    def alive(self, slot: int) -> Process:
        """Return the process of a slot, starting one if there is none."""
        return self.processes[slot] or self.start(slot)

    def bury(self, process: Process) -> None:
        self.processes = [None if other is process else other for other in self.processes]

    def teardown(self) -> None:
        if not self.failed:
            self.conclude()

    def conclude(self) -> None:
        """Land all late calls, then check the final state."""
        self.land(self.held)
        self.observe()

    # -- steps ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def step(self, process: Process, coming: list[Trouble], go_first: Callable[[Process], None]) -> Iterator[Step]:
        """Run one call in a process, with troubles, then check what is stored."""
        now = Step([*coming])

        def plan(call: Call) -> Fault | None:
            for trouble in [*now.coming]:
                if trouble.applies_to(call) and (fault := self.let_happen(trouble, process, now, go_first)):
                    return fault
            return None

        process.plan(plan)
        try:
            try:
                yield now
            finally:
                process.calm()
                self.held += process.faulty.held
                process.faulty.held.clear()
                if process.faulty.crashed:
                    self.bury(process)
            self.observe()
        except BaseException:
            self.failed = True
            raise

    def let_happen(
        self, trouble: Trouble, process: Process, now: Step, go_first: Callable[[Process], None]
    ) -> Fault | None:
        others = [other for other in self.processes if other is not None and other is not process]
        if trouble.kind in BY_OTHERS and not others:
            return None
        if trouble.kind not in FAULTS and self.is_locked():
            return None  # at a later call: another process would wait for the lock forever
        now.coming.remove(trouble)
        now.befallen = True
        if trouble.kind in FAULTS:
            return FAULTS[trouble.kind][1](trouble.size)
        if trouble.kind == "another goes first":
            go_first(others[0])
        elif trouble.kind in BY_OTHERS:
            self.compact_and_vacuum(others[0], wait=trouble.kind == "all is compacted and removed")
        elif trouble.kind == "sleeps":
            process.clock.advance(50_000)
        elif trouble.kind == "clock goes back":
            process.clock.step(-5_000)
        else:
            self.land([*self.held, *process.faulty.held])
        return None

    def is_locked(self) -> bool:
        """Return True if a lock is held: another process would wait forever, because all share one thread."""
        return self.world.is_locked()

    def observe(self) -> None:
        """Check what is stored."""
        raise NotImplementedError

    def compact_and_vacuum(self, process: Process, *, wait: bool) -> None:
        """Compact and vacuum everything in a process. To remove segments, wait for more than a day."""

    # -- processes -----------------------------------------------------------------------------------------------------

    @rule(slot=SLOTS, cleanly=st.booleans())
    def end(self, slot: int, cleanly: bool) -> None:
        process = self.alive(slot)
        if cleanly:
            process.close()
        process.faulty.crashed = True
        self.bury(process)

    @rule(slot=SLOTS, seconds=st.sampled_from((1, 100, 50_000, 500_000)), suspended=st.booleans())
    def time_passes(self, slot: int, seconds: int, suspended: bool) -> None:
        self.alive(slot).clock.suspend(seconds, elapsed_counts=not suspended)

    def pass_time(self, seconds: float) -> None:
        """Advance the clocks of all processes and of the storage."""
        self.world.pass_time(seconds)
        for process in self.processes:
            if process is not None:
                process.clock.advance(seconds)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9))
    def late_one_lands(self, which: int) -> None:
        self.land([self.held.pop(which % len(self.held))])
        self.observe()

    def land(self, held: Sequence[HeldCall]) -> None:
        for call in held:
            with suppress(SimulatedCrash):  # the call was lost with its machine
                call.land()


class LogHistory(History):
    """Processes that append to streams, read them and follow them."""

    def __init__(self) -> None:
        super().__init__()
        self.tried: dict[str, list[Event]] = {name: [] for name in STREAMS}
        self.model = {name: ModelStream() for name in STREAMS}
        self.readers = {name: Consumer() for name in STREAMS}
        self.followers = {name: Consumer() for name in STREAMS}
        self.tails: dict[str, tuple[Process, bucketlog.Tail]] = {}
        self.troubled: set[str] = set()  # tails that may have a pending error from reading ahead
        self.starts: dict[str, dict[str, int]] = {name: {} for name in STREAMS}  # where partitions start
        self.tried_starts: dict[tuple[str, str], set[int]] = {}  # where truncates may have moved the start

    def conclude(self) -> None:
        """Check that consumers get every event once, nothing is damaged, and the log can be appended to."""
        super().conclude()
        process = self.alive(0)
        for name in STREAMS:
            self.append_calmly(process, name, [(None, "a"), (None, "b")])
        self.observe()
        for name in STREAMS:
            while not self.read_on(process, name, None, in_batches=False):
                pass
            self.tail(process, name)
            self.tails[name][0].clock.advance(60)  # so that it looks for new partitions
            with suppress(*(HARMLESS if name in self.troubled else ())):
                while self.poll(process, name):
                    pass
            while self.poll(process, name):
                pass
            for consumer in (self.readers[name], self.followers[name]):
                self.skip_what_nobody_can_read(name, consumer)
                assert consumer.given == {key: log for key, log in self.model[name].log.items() if log}
            process.stream(name).compact()
            self.look_up(0, name, 1, "a")
            assert self.world.problems(name) == ()
        self.observe()

    def skip_what_nobody_can_read(self, name: str, consumer: Consumer) -> None:
        """Skip partitions without remaining events, which a consumer cannot have read."""
        for where, start in self.starts[name].items():
            if start == len(self.model[name].log.get(where, [])) and where not in consumer.given and start:
                consumer.skip(where, self.before(name, where, start))

    def observe(self) -> None:
        """Check what is stored, and what consumers got."""
        for name, model in self.model.items():
            self.observe_starts(name)
            model.observe(self.stored(name), may_land_later=self.mode == "put")
            for consumer in (self.readers[name], self.followers[name]):
                for where, given in consumer.given.items():
                    assert given == model.log[where][: len(given)]
                    assert [each.offset for each in given] == [*range(len(given))]
                    assert consumer.cursor.get(where, 0) == len(given)

    def stored(self, name: str) -> dict[str, list[Event]]:
        """Read all events, with those before the start of the log as they were."""
        found = {where: self.before(name, where, start) for where, start in self.starts[name].items()}
        for each in self.observer.stream(name).read():
            found.setdefault(each.partition, []).append(each)
        return found

    def before(self, name: str, where: str, end: int) -> list[Event]:
        """Return the events before an offset as they were when last readable."""
        log = self.model[name].log.get(where, [])
        assert len(log) >= end
        return [replace(each, partition=where, offset=offset) for offset, each in enumerate(log[:end])]

    def observe_starts(self, name: str) -> None:
        """Check that the start of a partition only moves forward, and only to an offset that was requested."""
        state = self.observer.stream(name)._state
        for where in [where for stream, where in self.tried_starts if stream == name]:
            start = read_bounds(self.world.backend(), state.folder_of(where), where="").start
            before = self.starts[name].get(where, 0)
            assert start == before or (start > before and start in self.tried_starts[name, where])
            self.starts[name][where] = start

    def gone(self, name: str) -> set[str]:
        """Return the ids of events that are, or may soon be, before the start of their partition."""
        return {
            each.id
            for (stream, where), starts in self.tried_starts.items()
            if stream == name
            for each in self.model[name].log.get(where, [])[: max(starts, default=0)]
        }

    # -- append --------------------------------------------------------------------------------------------------------

    def make_events(self, name: str, batch: Sequence[tuple[int | None, str]]) -> list[Event]:
        gone, events = self.gone(name), []
        for again, subject in batch:
            number = next(self.numbers)
            # Whether an id before the start may be used again depends on when its writer learns of the start.
            tried = [each for each in self.tried[name][-20:] if each.id not in gone]
            if again is None or not tried:
                made = f"e{number}" if number % 3 else f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}"
                new = event(made, subject=subject, time=FakeClock().now(), data="x" * (number * 37 % 250))
                self.tried[name].append(new)
            else:
                before = tried[-1 - again % len(tried)]
                new = event(before.id, subject=before.subject, time=before.time, data=f"e{number}")
            events.append(new)
        return events

    def announce(
        self, name: str, events: Sequence[Event], *, pinned: str | None, on_duplicate: OnDuplicate
    ) -> dict[str, Attempt]:
        """Announce to the model what is tried in each partition."""
        only = pinned or (SINGLE_PARTITION if STREAMS[name] is None else None)
        groups: dict[str, list[int]] = {} if only is None else {only: []}
        for index, each in enumerate(events):
            groups.setdefault(only or each.subject, []).append(index)
        return {
            where: self.model[name].begin(
                [events[index] for index in indexes], partition=where, indexes=indexes, on_duplicate=on_duplicate
            )
            for where, indexes in groups.items()
        }

    def acknowledge(self, process: Process, name: str, attempts: dict[str, Attempt], done: object) -> None:
        for commit in done if isinstance(done, list) else [done]:
            assert commit.partition in attempts
            attempts[commit.partition].acknowledge(commit)

    def append_calmly(self, process: Process, name: str, batch: Sequence[tuple[int | None, str]]) -> None:
        """Append without troubles, which must succeed."""
        events = self.make_events(name, batch)
        attempts = self.announce(name, events, pinned=None, on_duplicate="return")
        done = process.stream(name, partition_by=STREAMS[name]).append(events, on_duplicate="return")
        self.acknowledge(process, name, attempts, done)

    @rule(
        slot=SLOTS,
        name=NAMES,
        batch=BATCHES,
        pinned=st.sampled_from((None, None, "a")),
        expected=st.sampled_from((None, None, None, 0, 0, -1, 1)),
        on_duplicate=st.sampled_from(("raise", "skip", "return")),
        coming=ANY_TROUBLES,
    )
    def append(
        self,
        slot: int,
        name: str,
        batch: list[tuple[int | None, str]],
        pinned: str | None,
        expected: int | None,
        on_duplicate: OnDuplicate,
        coming: list[Trouble],
    ) -> None:
        """Append. `expected` is relative to the next offset at the start of the step."""
        self.try_to_append(slot, name, batch, coming, pinned=pinned, expected=expected, on_duplicate=on_duplicate)

    def try_to_append(
        self,
        slot: int,
        name: str,
        batch: list[tuple[int | None, str]],
        coming: list[Trouble],
        *,
        pinned: str | None = None,
        expected: int | None = None,
        on_duplicate: OnDuplicate = "raise",
    ) -> None:
        process = self.alive(slot)
        pinned = pinned if STREAMS[name] else None
        events = self.make_events(name, batch)
        attempts = self.announce(name, events, pinned=pinned, on_duplicate=on_duplicate)
        expected_offset = None
        if expected is not None and len(attempts) == 1:
            ((where, attempt),) = attempts.items()
            expected_offset = attempt.expected_offset = max(0, len(self.model[name].log.get(where, [])) + expected)
        due = self.refusal(name, attempts)
        check = None

        def go_first(other: Process) -> None:
            self.append_calmly(other, name, batch[:2])

        with self.step(process, coming, go_first) as now:
            try:
                done = process.stream(name, partition_by=STREAMS[name]).append(
                    events, partition=pinned, expected_offset=expected_offset, on_duplicate=on_duplicate
                )
            except (SimulatedCrash, errors.BucketlogError) as err:
                self.acknowledge(process, name, attempts, [*getattr(err, "commits", ())])
                self.classify(err, attempts, now)
                check = err
            else:
                self.acknowledge(process, name, attempts, done)
            if not now.befallen:
                assert type(check) is type(due), f"{check!r}, but the model expects {due!r}"
                # A conflict with other processes may only show in the commit of the second partition.
                assert check is None or not check.commits or len(attempts) > 1
        self.check_refusal(name, check, events)

    def refusal(self, name: str, attempts: dict[str, Attempt]) -> errors.ConflictError | None:
        """Return the error that an append without troubles must raise, if any."""
        for where, attempt in attempts.items():
            try:
                attempt.answer(self.model[name].log.get(where, []))
            except errors.ConflictError as err:
                return err
        return None

    def classify(self, err: BaseException, attempts: dict[str, Attempt], now: Step) -> None:
        """Report to the model what an error means for the attempts that were not acknowledged."""
        pending = [attempt for attempt in attempts.values() if attempt.outcome == "under way"]
        for attempt in pending:
            attempt.refuse()
        if isinstance(err, SimulatedCrash):
            for attempt in pending:
                attempt.lose_sight()
        elif isinstance(err, errors.OutcomeUnknownError):
            assert now.befallen
            for attempt in pending[:1]:
                attempt.lose_sight()
        elif not isinstance(err, (errors.DuplicateEventError, errors.OffsetConflictError)):
            assert now.befallen, err
            assert isinstance(err, HARMLESS), err

    def check_refusal(self, name: str, err: BaseException | None, events: Sequence[Event]) -> None:
        """Check that the fields of a refusal are right."""
        match err:
            case errors.DuplicateEventError():
                log = self.model[name].log.get(err.partition, [])
                assert events[err.index].id == err.event_id
                assert sum(each.id == err.event_id for each in events) > 1 or log[err.offset].id == err.event_id
            case errors.OffsetConflictError():
                assert err.expected_offset != err.next_offset <= len(self.model[name].log.get(err.partition, []))

    @rule(slot=SLOTS, name=NAMES, subjects=st.lists(st.sampled_from(SUBJECTS), min_size=1), coming=ANY_TROUBLES)
    def append_new(self, slot: int, name: str, subjects: list[str], coming: list[Trouble]) -> None:
        self.try_to_append(slot, name, [(None, subject) for subject in subjects[:4]], coming)

    @rule(slot=SLOTS, name=NAMES, batch=BATCHES, on_duplicate=st.sampled_from(("raise", "skip")), coming=ANY_TROUBLES)
    def write_buffered(
        self,
        slot: int,
        name: str,
        batch: list[tuple[int | None, str]],
        on_duplicate: OnDuplicate,
        coming: list[Trouble],
    ) -> None:
        process = self.alive(slot)
        events = self.make_events(name, batch)
        attempts = self.announce(name, events, pinned=None, on_duplicate=on_duplicate)

        def go_first(other: Process) -> None:
            self.append_calmly(other, name, batch[:2])

        with self.step(process, coming, go_first) as now:
            try:
                with process.stream(name, partition_by=STREAMS[name]).writer(
                    linger=0, on_duplicate=on_duplicate
                ) as writer:
                    writer.append(events)
            except errors.UnwrittenEventsError as err:
                left, cause = err.events, err.__cause__
                for attempt in attempts.values():
                    if not any(each in left for each in attempt.events):
                        attempt.acknowledge()
                    else:
                        assert all(each in left for each in attempt.events)
                assert cause is not None
                self.classify(cause, attempts, now)
            else:
                assert writer.written == len(events)
                for attempt in attempts.values():
                    attempt.acknowledge()

    # -- read ----------------------------------------------------------------------------------------------------------

    def read_on(self, process: Process, name: str, limit: int | None, *, in_batches: bool) -> bool:
        """Let the reader of a stream continue. Returns False if its cursor was before the start."""
        consumer, source = self.readers[name], process.stream(name)
        if in_batches or limit is None:
            reading = (source.read_batches if in_batches else source.read)(consumer.cursor, limit=limit)
        else:
            reading = source.read(consumer.cursor, limit=limit + 1)  # and stop before the last one
        try:
            for item in reading if in_batches else itertools.islice(reading, limit):
                self.deliver(name, consumer, item.events if in_batches else [item])
        except errors.OffsetOutOfRangeError as err:
            consumer.cursor = dict(reading.cursor)
            self.skip_to_start(name, consumer, err)
            return False
        finally:
            consumer.cursor = dict(reading.cursor) | {
                where: end for where, end in consumer.cursor.items() if end > reading.cursor.get(where, 0)
            }
        return True

    def deliver(self, name: str, consumer: Consumer, events: Sequence[Event]) -> None:
        """Give events to a consumer. Its first event in a partition is the one at the start."""
        for each in events:
            where = each.partition
            if where not in consumer.given and where not in consumer.cursor and each.offset:
                assert each.offset in (self.starts[name].get(where), *self.tried_starts[name, where])
                consumer.given[where] = self.before(name, where, each.offset)
            consumer.take([each])

    def skip_to_start(self, name: str, consumer: Consumer, err: errors.OffsetOutOfRangeError) -> None:
        """Continue at the start of the log that the error names."""
        assert len(consumer.given.get(err.partition, [])) == err.offset < err.start
        assert err.start in self.tried_starts[name, err.partition]
        consumer.skip(err.partition, self.before(name, err.partition, err.start))

    def tail(self, process: Process, name: str) -> bucketlog.Tail:
        """Return the tail of a stream, restarted at its cursor if its process died."""
        if name not in self.tails or self.tails[name][0] not in self.processes:
            self.tails[name] = (process, process.stream(name).tail(self.followers[name].cursor))
        return self.tails[name][1]

    @rule(slot=SLOTS, name=NAMES, limit=st.integers(1, 9), in_batches=st.booleans(), coming=ANY_TROUBLES)
    def read(self, slot: int, name: str, limit: int, in_batches: bool, coming: list[Trouble]) -> None:
        process = self.alive(slot)

        with self.step(process, coming, lambda other: self.append_calmly(other, name, [(None, "a")])) as now:
            try:
                self.read_on(process, name, limit, in_batches=in_batches)
            except (SimulatedCrash, errors.OutcomeUnknownError, *HARMLESS):
                assert now.befallen

    @rule(slot=SLOTS, name=NAMES, coming=ANY_TROUBLES)
    def follow(self, slot: int, name: str, coming: list[Trouble]) -> None:
        self.tail(self.alive(slot), name)
        process = self.tails[name][0]
        process.clock.advance(10)

        with self.step(process, coming, lambda other: self.append_calmly(other, name, [(None, "a")])) as now:
            try:
                found = self.poll(process, name)
            except (SimulatedCrash, errors.OutcomeUnknownError, *HARMLESS):
                assert now.befallen or name in self.troubled
            else:
                if not found:
                    self.troubled.discard(name)
            finally:
                if now.befallen:
                    self.troubled.add(name)

    def poll(self, process: Process, name: str) -> bool:
        """Poll the tail of a stream once. Returns False if it has no more events."""
        tail, consumer = self.tail(process, name), self.followers[name]
        try:
            found = tail.poll()
        except errors.OffsetOutOfRangeError as err:
            consumer.cursor = dict(tail.cursor)
            self.skip_to_start(name, consumer, err)
            tail.close()
            del self.tails[name]
            return True
        else:
            self.deliver(name, consumer, found)
            for where, end in tail.cursor.items():
                if end and where not in consumer.given:  # a partition whose start is its end
                    assert end in self.tried_starts[name, where]
                    consumer.skip(where, self.before(name, where, end))
            return bool(found)
        finally:
            if name in self.tails:
                consumer.cursor = dict(tail.cursor)

    @rule(slot=SLOTS, name=NAMES)
    def ask_where_it_ends(self, slot: int, name: str) -> None:
        found = self.alive(slot).stream(name).cursor()

        assert {where: end for where, end in found.items() if end} == {
            where: len(log) for where, log in self.model[name].log.items() if log
        }

    # -- maintenance ---------------------------------------------------------------------------------------------------

    def compact_and_vacuum(self, process: Process, *, wait: bool) -> None:
        for name in STREAMS:
            process.stream(name).compact()
            process.stream(name).vacuum()
        if wait:
            self.pass_time(DAY + HOUR)
            for name in STREAMS:
                process.stream(name).vacuum()

    @rule(hours=st.sampled_from((1, 13, 25)))
    def hours_pass(self, hours: int) -> None:
        self.pass_time(hours * HOUR)

    @rule(slot=SLOTS, name=NAMES, coming=ANY_TROUBLES)
    def compact(self, slot: int, name: str, coming: list[Trouble]) -> None:
        process = self.alive(slot)

        with self.step(process, coming, lambda other: self.append_calmly(other, name, [(None, "a")])) as now:
            try:
                process.stream(name).compact()
            except (SimulatedCrash, errors.OutcomeUnknownError, *HARMLESS):
                assert now.befallen
        if not now.befallen:
            assert all(report.segments_before == 0 for report in process.stream(name).compact())

    @rule(slot=SLOTS, name=NAMES, hasty=st.sampled_from((False, False, False, True)), coming=ANY_TROUBLES)
    def vacuum(self, slot: int, name: str, hasty: bool, coming: list[Trouble]) -> None:
        process = self.alive(slot)
        if hasty and not self.held:  # no call is in flight, and no other process keeps its knowledge
            for other in self.processes:
                if other is not None and other is not process:
                    other.faulty.crashed = True
                    self.bury(other)
            process.stream(name).vacuum(grace=0, exclusive=True)
            self.observe()
            return

        with self.step(process, coming, lambda other: self.append_calmly(other, name, [(None, "a")])) as now:
            try:
                process.stream(name).vacuum()
            except (SimulatedCrash, errors.OutcomeUnknownError, errors.ConflictError, *HARMLESS):
                assert now.befallen

    @rule(slot=SLOTS, name=NAMES, where=st.sampled_from(SUBJECTS), back=st.integers(0, 6), coming=ANY_TROUBLES)
    def truncate(self, slot: int, name: str, where: str, back: int, coming: list[Trouble]) -> None:
        """Move the start of a partition to `back` events before its end."""
        process = self.alive(slot)
        where = where if STREAMS[name] else SINGLE_PARTITION
        start = len(self.model[name].log.get(where, [])) - back
        if start <= 0:
            return
        self.tried_starts.setdefault((name, where), {0}).add(start)

        with self.step(process, coming, lambda other: self.append_calmly(other, name, [(None, where)])) as now:
            try:
                process.stream(name).truncate(before=start, partition=where)
            except (SimulatedCrash, errors.OutcomeUnknownError, errors.ConflictError, *HARMLESS):
                assert now.befallen
            else:
                self.observe_starts(name)
                assert self.starts[name][where] >= start

    @rule(slot=SLOTS, name=NAMES, n=st.integers(0, 6), subject=st.sampled_from((None, *SUBJECTS)))
    def look_up(self, slot: int, name: str, n: int, subject: str | None) -> None:
        """Check that filtered, newest and single events are those of the model."""
        source, log = self.alive(slot).stream(name), self.model[name].log
        there = [each for where in sorted(log) for each in log[where][self.starts[name].get(where, 0) :]]
        chosen = [each for each in there if subject in (None, each.subject)]
        assert list(source.read(subjects=subject and [subject], types=["e"])) == chosen
        newest = sorted(((each.time, each.id) for each in chosen), reverse=True)  # two partitions may share an id
        assert [(each.time, each.id) for each in source.recent(n, subject=subject)] == newest[:n]
        for each in self.tried[name][-2:] + there[:1]:
            assert (source.get(each.id) is not None) == any(each.id == other.id for other in there)


class DocumentHistory(History):
    """Processes that save and delete a checkpoint, and save snapshots."""

    def __init__(self) -> None:
        super().__init__()
        self.checkpoint = ModelCheckpoint()
        self.snapshots = {at: ModelCheckpoint() for at in ("2026-01-01", "2026-01-02")}
        self.saved: dict[object, bucketlog.Checkpoint] = {}

    def observe(self) -> None:
        found = self.observer.checkpoints.load("c")
        assert self.observer.checkpoints.list() == ([] if found is None else ["c"])
        self.checkpoint.observe(None if found is None else found.value)
        if found is not None:
            assert self.saved.setdefault(found.value, found) == found
        for at, model in self.snapshots.items():
            try:
                snapshot = self.observer.store.snapshots.load("n", at)
            except errors.NotFoundError:
                model.observe(None)
            else:
                assert snapshot.cursor == {"a": snapshot.state}
                model.observe(snapshot.state)

    def change(self, process: Process, change: Change, expected: object, now: Step | None) -> None:
        try:
            if change.value is None:
                process.checkpoints.delete("c", expected_version=expected)
            else:
                self.saved[change.value] = process.checkpoints.save("c", change.value, expected_version=expected)
        except errors.CheckpointConflictError:
            assert change.expected is not ANYTHING or (now and now.befallen)
            change.conflict() if change.expected is not ANYTHING else change.refuse()
        except (SimulatedCrash, errors.OutcomeUnknownError):
            assert now is not None
            assert now.befallen
            change.lose_sight()
        except HARMLESS:
            assert now is not None
            assert now.befallen
            change.refuse()
        else:
            change.acknowledge()

    @rule(
        slot=SLOTS,
        deletes=st.sampled_from((False, False, True)),
        expected=st.sampled_from(("anything", "anything", "what is there", "absent", "older")),
        others=st.sampled_from(("saves", "deletes", "saves and deletes")),
        coming=ANY_TROUBLES,
    )
    def change_checkpoint(self, slot: int, deletes: bool, expected: str, others: str, coming: list[Trouble]) -> None:
        process = self.alive(slot)
        there = self.checkpoint.value
        known = {
            "what is there": (there, ABSENT if there is None else self.saved[there].version),
            "absent": (None, ABSENT),
            "older": next(((value, saved.version) for value, saved in self.saved.items()), (ANYTHING, None)),
        }
        value, version = known.get(expected, (ANYTHING, None))
        if deletes and version is ABSENT:
            value, version = ANYTHING, None
        change = self.checkpoint.begin(None if deletes else next(self.numbers), expected=value)

        def go_first(other: Process) -> None:
            for what in others.split(" and "):
                value = None if what == "deletes" else next(self.numbers)
                self.change(other, self.checkpoint.begin(value, expected=ANYTHING), None, None)

        with self.step(process, coming, go_first) as now:
            self.change(process, change, version, now)

    @rule(slot=SLOTS, at=st.sampled_from(("2026-01-01", "2026-01-02")), coming=ANY_TROUBLES)
    def save_snapshot(self, slot: int, at: str, coming: list[Trouble]) -> None:
        process = self.alive(slot)

        def save(process: Process, now: Step | None) -> None:
            state = next(self.numbers)
            change = self.snapshots[at].begin(state, expected=None)
            try:
                process.store.snapshots.save("n", state, cursor={"a": state}, at=at)
            except errors.ConflictError:
                change.conflict()
            except (SimulatedCrash, errors.OutcomeUnknownError):
                assert now is not None
                assert now.befallen
                change.lose_sight()
            except HARMLESS:
                assert now is not None
                assert now.befallen
                change.refuse()
            else:
                change.acknowledge()

        with self.step(process, coming, lambda other: save(other, None)) as now:
            save(process, now)


class ObjectStoreLog(LogHistory):
    """One PUT per commit."""

    mode = "put"


class DirectoryLog(LogHistory):
    """Segments that grow."""

    mode = "append"


class ObjectStoreDocuments(DocumentHistory):
    mode = "put"


class DirectoryDocuments(DocumentHistory):
    mode = "append"


class PowerCutLog(LogHistory):
    """A machine with power cuts. One process syncs always, one never, one at an interval."""

    mode = "append"
    segment_bytes = 2500  # several pages
    sync = ("always", "never", "interval")

    def __init__(self) -> None:
        super().__init__()
        self.disk = PowerCutDisk(self.world.backend)
        self.durable: dict[str, dict[str, int]] = {name: {} for name in STREAMS}
        self.waiting: list[tuple[Process, str, Commit]] = []  # acknowledged but not yet synced

    def start(self, slot: int) -> Process:
        process = self.processes[slot] = self.world.open(backend=self.disk.open(), sync=self.sync[slot])
        process.use_one_thread()
        return process

    def acknowledge(self, process: Process, name: str, attempts: dict[str, Attempt], done: object) -> None:
        super().acknowledge(process, name, attempts, done)
        for commit in done if isinstance(done, list) else [done]:
            if process is self.processes[0]:
                self.lasts(name, commit.partition, max(commit.offsets, default=-1) + 1)
            elif process is self.processes[2]:
                self.waiting.append((process, name, commit))

    def lasts(self, name: str, where: str, end: int) -> None:
        """Record that no event before this offset may be lost from now on."""
        self.durable[name][where] = max(end, self.durable[name].get(where, 0))

    @rule()
    def interval_passes(self) -> None:
        process = self.alive(2)
        process.clock.advance(1)
        process.sync()
        for waiting, name, commit in self.waiting:
            if waiting is process:
                self.lasts(name, commit.partition, max(commit.offsets, default=-1) + 1)
        self.waiting.clear()

    @rule(
        pages=st.lists(st.booleans(), min_size=1, max_size=8),
        names=st.lists(st.booleans(), min_size=1, max_size=3),
        keep_sizes=st.booleans(),
    )
    def cut_power(self, pages: list[bool], names: list[bool], keep_sizes: bool) -> None:
        """Cut the power and keep some unsynced pages and names. The two lists are repeated as needed."""
        for name in STREAMS:
            for consumer in (self.readers[name], self.followers[name]):
                for where, given in consumer.given.items():
                    self.lasts(name, where, len(given))
        self.disk.power_cut(
            keep_pages=[*itertools.compress(self.disk.unsynced_pages(), itertools.cycle(pages))],
            keep_names=[*itertools.compress(self.disk.unsynced_names(), itertools.cycle(names))],
            keep_sizes=keep_sizes,
        )
        self.processes = [None, None, None]
        self.waiting.clear()
        for name, model in self.model.items():
            model.cut_power(self.stored(name), durable=self.durable[name])
        self.observe()


with_small_sizes = pytest.mark.usefixtures("small_sizes")


def bounded(examples: int) -> settings:
    return settings(
        max_examples=SEARCH_LONGER or examples,
        stateful_step_count=60 if SEARCH_LONGER else 30,
        deadline=None,
        phases=[
            Phase.explicit,
            Phase.reuse,
            Phase.generate,
            Phase.shrink,
        ],  # no explain phase: tracing takes most of the time
        derandomize=not SEARCH_LONGER,
        suppress_health_check=list(HealthCheck),
    )


def retried(machine: type[History]) -> type:
    """Return the tests of a machine, run again if a thread was scheduled differently in a repetition.

    A buffered writer commits in a thread of its own, so not every example is repeatable. A failure is.
    """

    class Retried(machine.TestCase):
        def runTest(self) -> None:  # noqa: N802  (unittest's)
            try:
                super().runTest()
            except FlakyStrategyDefinition:
                super().runTest()

    return with_small_sizes(Retried)


TestObjectStoreLog = retried(ObjectStoreLog)
TestObjectStoreLog.settings = bounded(80)
TestDirectoryLog = retried(DirectoryLog)
TestDirectoryLog.settings = bounded(80)
TestPowerCutLog = retried(PowerCutLog)
TestPowerCutLog.settings = bounded(100)
TestObjectStoreDocuments = with_small_sizes(ObjectStoreDocuments.TestCase)
TestObjectStoreDocuments.settings = bounded(60)
TestDirectoryDocuments = with_small_sizes(DirectoryDocuments.TestCase)
TestDirectoryDocuments.settings = bounded(30)


# -- the machines find broken rules ------------------------------------------------------------------------------------

Patch = pytest.MonkeyPatch
MUTANTS: list[tuple[type[History], Callable[[Patch], None]]] = []


def found_by(*machines: type[History]):
    def register(without: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS.extend((machine, without) for machine in machines)
        return without

    return register


@found_by(ObjectStoreLog)
def conflict_means_lost(patch: Patch) -> None:
    patch.setattr(seg, "read_trailer", lambda data: None)


@found_by(ObjectStoreLog, ObjectStoreDocuments)
def no_answer_means_not_written(patch: Patch) -> None:
    def hasty(root, key, data, *, if_version, resolve, doing):
        try:
            root.backend.put(key, data, if_version=if_version)
        except errors.OutcomeUnknownError as err:
            raise errors.BackendUnavailableError("try later") from err
        return True

    for module in (commit_by_put, checkpoints):
        patch.setattr(module, "put_and_settle", hasty)


@found_by(ObjectStoreLog, DirectoryLog)
def ids_of_others_are_not_learnt(patch: Patch) -> None:
    patch.setattr(partition_view, "decode_ids", lambda lines, count: [])


@found_by(ObjectStoreLog, DirectoryLog, PowerCutLog)
def batches_are_written_in_two_commits(patch: Patch) -> None:
    real = partition_writer.PartitionWriter._commit_group

    def split(self, group):
        (whole,) = group
        if len(whole.ids) < 2:
            return real(self, group)
        lines = whole.lines.splitlines(keepends=True)
        parts = [
            commit_rule.Request(
                b"".join(lines[part]),
                whole.ids[part],
                whole.indexes[part],
                expected_offset=None,
                on_duplicate=whole.on_duplicate,
            )
            for part in (slice(1), slice(1, None))
        ]
        for part in parts:
            real(self, [part])
            if part.error is not None:
                whole.error = part.error
                return None
        first, rest = (part.commit for part in parts)
        whole.commit = first._replace(
            next_offset=rest.next_offset,
            offsets=first.offsets + rest.offsets,
            duplicates=first.duplicates + rest.duplicates,
            indexes=tuple(whole.indexes),
        )
        return None

    patch.setattr(partition_writer.PartitionWriter, "_commit_group", split)


@found_by(DirectoryLog)
def appends_ignore_the_size(patch: Patch) -> None:
    patch.setattr(memory, "_why_not_to_grow", lambda there, expected_size, believed: "")


@found_by(DirectoryLog, PowerCutLog)
def torn_writes_stay(patch: Patch) -> None:
    patch.setattr(commit_by_append.AppendCommitter, "_repair", lambda self, key, end: None)


@found_by(DirectoryLog)
def segments_are_not_closed(patch: Patch) -> None:
    def roll(self):
        head = self._head
        head.key, head.byte = self._view.folder + seg.segment_name(head.offset), 0

    patch.setattr(commit_by_append.AppendCommitter, "_roll", roll)


@found_by(PowerCutLog)
def appends_are_not_synced(patch: Patch) -> None:
    real = PowerCutBackend.append

    def append(self, key, data, *, expected_size, sync=True):
        real(self, key, data, expected_size=expected_size, sync=False)

    patch.setattr(PowerCutBackend, "append", append)


@found_by(PowerCutLog)
def readers_do_not_sync(patch: Patch) -> None:
    patch.setattr(PowerCutBackend, "sync", lambda self, key: None)


@found_by(ObjectStoreLog, DirectoryLog)
def cursors_stay_behind(patch: Patch) -> None:
    patch.setattr(reader.Reader, "cursor", property(lambda self: bucketlog.Cursor(self._progress.offsets)))


@found_by(ObjectStoreLog, DirectoryLog)
def tails_begin_anew_after_an_error(patch: Patch) -> None:
    patch.setattr(
        partition_reader.PartitionReader,
        "seek",
        lambda self, offset, stop=None: self.__dict__.update(offset=min(offset, 0), stop=stop, key="", byte=0),
    )


@found_by(ObjectStoreDocuments)
def late_checkpoints_overwrite(patch: Patch) -> None:
    real = ObjectStore.put

    def put(self, key, data, *, if_version=ANY):
        return real(self, key, data, if_version=ANY if key.startswith("checkpoints/") else if_version)

    patch.setattr(ObjectStore, "put", put)


@found_by(ObjectStoreDocuments, DirectoryDocuments)
def snapshots_are_replaced(patch: Patch) -> None:
    real = Snapshots.save

    def save(self, name, state, **how):
        return real(self, name, state, **{**how, "replace": True})

    patch.setattr(Snapshots, "save", save)


@found_by(DirectoryLog, PowerCutLog)
def compaction_takes_the_growing_segment(patch: Patch) -> None:
    real = compaction.compact_partition

    def compact(state, name, **how):
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(state.writer(name), "close_newest", lambda: None)
            inner.setattr(partition_reader.PartitionReader, "may_grow", lambda self, key: False)
            return real(state, name, **how)

    patch.setattr(compaction, "compact_partition", compact)


@found_by(ObjectStoreLog, DirectoryLog)
def compaction_cuts_commits_at_the_start_of_the_log(patch: Patch) -> None:
    def cut(found, offset):
        found = starting_at(found, offset)
        return found.first, found.data[: found.end], found.events

    patch.setattr(compaction, "_commits_from", cut)


@found_by(ObjectStoreLog, DirectoryLog)
def compacted_events_are_left_out(patch: Patch) -> None:
    real = compaction._commits_from

    def without_the_last(raw_batch, offset):
        first, data, events = real(raw_batch, offset)
        return (first, data[: data.rindex(b"\n", 0, -1) + 1], events - 1) if events > 2 else (first, data, events)

    patch.setattr(compaction, "_commits_from", without_the_last)


@found_by(ObjectStoreLog, DirectoryLog)
def ids_of_compacted_segments_are_not_learnt(patch: Patch) -> None:
    patch.setattr(ids.Ids, "learn_segment", lambda self, segment: None)


@found_by(ObjectStoreLog, DirectoryLog)
def only_the_newest_ids_are_known(patch: Patch) -> None:
    patch.setattr(ids.Ids, "_old", lambda self, event_id: iter(()))


@found_by(ObjectStoreLog, DirectoryLog)
def the_index_rules_out_what_is_there(patch: Patch) -> None:
    real = compacted.CompactedSegment.may_match

    def may_match(self, wanted):
        return [matches and place % 3 != 1 for place, matches in enumerate(real(self, wanted))]

    patch.setattr(compacted.CompactedSegment, "may_match", may_match)


@found_by(ObjectStoreLog, DirectoryLog)
def the_newest_are_those_with_the_highest_offsets(patch: Patch) -> None:
    patch.setattr(
        lookup._Newest, "best", lambda self: sorted(self._events.values(), key=lambda one: -one.offset)[: self._n]
    )


@found_by(ObjectStoreLog)
def vacuum_does_not_wait(patch: Patch) -> None:
    real = vacuum.due_for_removal
    patch.setattr(vacuum, "due_for_removal", lambda *spent, now, grace: real(*spent, now=now, grace=timedelta()))


@found_by(ObjectStoreLog)
def listings_never_grow_old(patch: Patch) -> None:
    patch.setattr(Staleness, "seconds", lambda self: 0.0)


@found_by(ObjectStoreLog, DirectoryLog)
def the_floor_is_raised_over_what_is_not_compacted(patch: Patch) -> None:
    real = vacuum.floor_of

    def floor_of(found, record):
        floor, relied_on = real(found, record)
        return floor + bool(relied_on), relied_on

    patch.setattr(vacuum, "floor_of", floor_of)


@found_by(ObjectStoreLog, DirectoryLog)
def logs_are_made_to_begin_inside_of_live_segments(patch: Patch) -> None:
    patch.setattr(truncation, "_make_way", lambda writer, reader, offset: None)


@found_by(ObjectStoreLog, DirectoryLog)
def truncation_moves_the_start_too_far(patch: Patch) -> None:
    real = truncation.raise_bounds
    patch.setattr(
        truncation,
        "raise_bounds",
        lambda *where, start, floor, **how: real(*where, start=start + 1, floor=floor, **how),
    )


# Which numbers are drawn depends on the modules that are loaded, so a mutant that most runs find within 400 examples
# has to have room for the others.
@with_small_sizes
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("machine", "without"), MUTANTS, ids=[f"{machine.__name__}-{without.__name__}" for machine, without in MUTANTS]
)
def test_machine_finds_what_is_broken(machine: type[History], without: Callable[[Patch], None], monkeypatch: Patch):
    without(monkeypatch)

    with pytest.raises((AssertionError, errors.BucketlogError)):
        run_state_machine_as_test(
            machine,
            settings=settings(
                bounded(8000), phases=[Phase.generate], database=None, report_multiple_bugs=False, print_blob=False
            ),
        )


# -- histories found by the machines -----------------------------------------------------------------------------------


def faults_at(*found: tuple[str, int, Fault], key: str = ""):
    """Plan faults, each at the nth call of a method from now, counted from 1."""
    plans = [on(method, fault, nth=nth, key=key) for method, nth, fault in found]

    def plan(call: Call) -> Fault | None:
        return next(filter(None, [inject(call) for inject in plans]), None)

    return plan


@pytest.mark.parametrize("expected_offset", [None, 1])
def test_append_that_was_not_synced_and_not_taken_back_is_unknown(expected_offset):
    world = World("append")
    writer = world.open()
    writer.stream().append(event("0"))
    writer.plan(faults_at(("append", 1, LoseAnswer(unknown()))))

    with pytest.raises(errors.OutcomeUnknownError):
        writer.stream().append(event("1"), expected_offset=expected_offset)

    writer.calm()
    assert writer.stream().append(event("2")).first_offset == 2
    assert world.ids() == ["0", "1", "2"]
    assert world.problems() == ()


def test_append_whose_sync_fails_and_that_cannot_be_cut_off_is_unknown():
    world = World("append")
    writer, other = world.open(), world.open()
    writer.stream().append(event("0"))
    other.stream().append(event("1"))  # so that the writer takes the lock
    locked = False

    def plan(call: Call) -> Fault | None:
        nonlocal locked
        locked = locked or call.method == "lock"
        return {"append": LoseAnswer(unknown()), "cut": Fail()}.get(call.method) if locked else None

    writer.plan(plan)

    with pytest.raises(errors.OutcomeUnknownError):
        writer.stream().append(event("2"))

    writer.calm()
    writer.stream().append(event("3"))
    assert world.ids() == ["0", "1", "2", "3"]
    assert world.problems() == ()


def test_append_of_a_writer_that_slept_is_unknown_when_it_cannot_look_what_came_since():
    world = World("put")
    writer = world.open()
    writer.stream().append(event("0"))

    def plan(call: Call) -> Fault | None:
        if call.method == "put":
            writer.clock.advance(3 * 24 * 3600)  # before it is sent
        return Fail() if call.key.endswith("bounds.json") else None

    writer.plan(plan)

    with pytest.raises(errors.OutcomeUnknownError) as caught:
        writer.stream().append(event("1"))

    assert caught.value.write_id
    assert world.ids() == ["0", "1"]


def test_writer_that_slept_goes_on_behind_a_segment_whose_successor_was_never_begun(monkeypatch):
    monkeypatch.setattr(seg, "SEGMENT_BYTES_MAX", 600)
    world = World("append")
    sleeper, other = world.open(), world.open()
    sleeper.stream().append(event("0", data="x" * 200))
    sleeper.clock.advance(3 * 24 * 3600)
    other.plan(faults_at(("append", 1, Crash())))
    with pytest.raises(SimulatedCrash):
        other.stream().append(event("1", data="x" * 400))

    sleeper.stream().append(event("2"))

    assert world.ids() == ["0", "2"]


def test_writer_that_fails_to_list_again_acknowledges_the_right_offset_afterwards():
    world = World("append")
    writer = world.open()
    by_subject = writer.stream(partition_by="subject")
    by_subject.append(event("0", subject="a"))
    writer.clock.advance(3 * 24 * 3600)
    writer.plan(faults_at(("is_sealed", 1, Fail())))
    with pytest.raises(errors.BackendUnavailableError):
        by_subject.append([event("0", subject="a"), event("1", subject="b")])

    (done,) = by_subject.append(event("2", subject="a"))

    assert done.offsets == (1,)
    assert world.ids() == ["0", "2"]


def test_first_append_goes_on_when_making_the_stream_is_called_a_conflict_though_nobody_made_it():
    for mode in ("put", "append"):
        world = World(mode)
        writer = world.open(faults_at(("put", 1, Fail(taken())), key="stream.json"))

        writer.stream(partition_by="subject").append(event("0", subject="a"))

        assert world.ids() == ["0"]


@pytest.mark.parametrize("mode", ["put", "append"])
def test_tail_repeats_nothing_after_an_error(mode):
    world = World(mode)
    writer, follower = world.open(), world.open()
    for number in range(4):
        writer.stream().append(event(str(number)))
    tail = follower.stream().tail({"0": 2})
    follower.plan(faults_at(("get", 1, Fail()), key=".jsonl"))
    got = []
    for _ in range(5):
        with suppress(errors.BackendUnavailableError):
            got += tail.poll()

    assert ids_of(got) == ["2", "3"]
    assert tail.cursor == {"0": 4}


@pytest.mark.parametrize("mode", ["put", "append"])
def test_tail_that_polls_nothing_has_given_all(mode):
    world = World(mode)
    writer = world.open()
    tail = world.open().stream().tail()
    for number in range(3):
        writer.stream().append(event(str(number)))
        assert ids_of(tail.poll()) == [str(number)]


def test_reader_that_sleeps_again_and_again_lists_again():
    world = World("put")
    process = world.open()
    process.use_one_thread()
    for number in range(3):
        process.stream().append(event(str(number)))
    sleeps = iter(range(4))

    def plan(call: Call) -> None:
        if call.method == "get" and ".jsonl" in call.key and next(sleeps, None) is not None:
            process.clock.advance(50_000)

    process.plan(plan)

    assert ids_of(process.stream().read()) == ["0", "1", "2"]


def test_events_that_are_equal_are_not_unequal():
    one, same = event("0", time=FakeClock().now()), event("0", time=FakeClock().now())

    assert one == same
    assert (one != same) is False
    assert one != event("1", time=one.time)
