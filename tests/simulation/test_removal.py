"""Vacuums and truncates that die, fail, or run at the same time: the log does not change."""

from __future__ import annotations

import random
import threading

import pytest
from world import DAY, World, event, ids_of

from bucketlog import errors
from bucketlog.testing.faults import Crash, CrashAfter, Fail, LoseAnswer, SimulatedCrash

EVENTS = 9
MODES = ["put", "append"]


def filled(mode):
    """Return a log whose first part was compacted, truncated and vacuumed. Its floor is a day old."""
    world = World(mode)
    stream = world.open().stream()
    for number in range(0, EVENTS, 3):
        stream.append([event(str(number + place)) for place in range(3)])
        if number < 6:
            stream.compact()
    stream.truncate(before=1)
    stream.vacuum()
    world.pass_time(DAY + 1)
    stream.compact()
    return world


def ids_from(first, end=EVENTS):
    return [str(number) for number in range(first, end)]


def is_sound(world, *, start):
    """Check that all events are there, that a writer can append, and that another vacuum succeeds."""
    assert world.ids() == ids_from(start)
    assert world.problems() == ()
    assert world.open().stream().append(event("after")).offsets == (EVENTS,)
    world.open().stream().vacuum()
    world.pass_time(DAY + 1)
    world.open().stream().vacuum()
    assert world.ids() == [*ids_from(start), "after"]
    assert world.problems() == ()
    return True


def vacuum(process):
    process.stream().vacuum()


def truncate(process):
    process.stream().truncate(before=5)


def all_at_once(process):
    process.stream().vacuum(grace=0, exclusive=True)


UPKEEP = {"vacuum": vacuum, "truncate": truncate, "exclusive": all_at_once}


def calls_of(mode, work):
    world = filled(mode)
    process = world.open()
    process.stream().partitions()
    before = len(process.faulty.calls)
    work(process)
    return len(process.faulty.calls) - before


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("work", UPKEEP.values(), ids=UPKEEP)
@pytest.mark.parametrize("fault", [Crash(), CrashAfter()], ids=["before", "after"])
def test_crash_at_any_call_leaves_the_log_as_it_was(mode, work, fault):
    count = calls_of(mode, work)
    assert count > 6
    for number in range(1, count + 1):
        world = filled(mode)
        dying = world.open()
        dying.stream().partitions()
        at = len(dying.faulty.calls) + number
        dying.plan(lambda call, at=at: fault if call.number == at else None)
        with pytest.raises(SimulatedCrash):
            work(dying)

        found = world.ids()
        assert found in ([ids_from(1), ids_from(5)] if work is truncate else [ids_from(1)])
        assert is_sound(world, start=int(found[0]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("work", UPKEEP.values(), ids=UPKEEP)
@pytest.mark.parametrize(
    "fault", [Fail(), LoseAnswer(), Fail(errors.AccessDeniedError("no"))], ids=["fails", "lost", "no"]
)
def test_call_that_fails_is_told_or_settled_and_doing_it_again_ends_it(mode, work, fault):
    count = calls_of(mode, work)
    for number in range(1, count + 1):
        world = filled(mode)
        process = world.open()
        process.stream().partitions()
        at = len(process.faulty.calls) + number
        process.plan(lambda call, at=at: _fitting(fault, call) if call.number == at else None)
        try:
            work(process)
        except (errors.BackendUnavailableError, errors.OutcomeUnknownError, errors.AccessDeniedError):
            assert world.ids() in (ids_from(1), ids_from(5))
        process.calm()

        work(process)

        assert is_sound(world, start=5 if work is truncate else 1)


def _fitting(fault, call):
    return None if call.method == "lock" and isinstance(fault, LoseAnswer) else fault


@pytest.mark.parametrize("mode", MODES)
def test_vacuums_and_truncates_at_once_remove_no_event(mode):
    world = filled(mode)
    processes = [world.open() for _ in range(6)]
    begin = threading.Barrier(len(processes))
    failures = []

    def work(number):
        stream = processes[number].stream()
        begin.wait()
        try:
            for step in range(4):
                if number % 3 == 2:
                    stream.truncate(before=1 + step)
                elif number % 3 == 1:
                    stream.compact()
                else:
                    stream.vacuum()
        except BaseException as err:  # noqa: BLE001  (raised below)
            failures.append(err)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(processes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert is_sound(world, start=4)


@pytest.mark.parametrize("mode", MODES)
def test_readers_tails_and_writers_go_on_during_all_of_it(mode):
    """Vacuums with the stream's own grace remove names; the clock of the storage runs fast."""
    world = World(mode)
    first = world.open()
    first.stream().append(event("0"))
    writers, follower, upkeep, reading = [first, world.open()], world.open(), world.open(), world.open()
    tail = follower.stream().tail()
    chance = random.Random(7)
    got, expected, failures = [], ["0"], []
    over = threading.Event()

    def maintain():
        try:
            while not over.is_set():
                upkeep.stream().compact()
                upkeep.stream().vacuum()
        except BaseException as err:  # noqa: BLE001  (raised below)
            failures.append(err)

    thread = threading.Thread(target=maintain)
    thread.start()
    try:
        for number in range(1, 150):
            writer = chance.choice(writers)
            writer.stream().append(event(str(number)))
            expected.append(str(number))
            if number % 10 == 0:
                # A grace period passes, for every process: all are awake.
                world.pass_time(DAY + 1)
                for process in (*writers, follower, upkeep, reading):
                    process.clock.advance(DAY + 1)
                assert ids_of(reading.stream().read()) == expected
            got += ids_of(tail.poll())
    finally:
        over.set()
        thread.join()
    while more := tail.poll():
        got += ids_of(more)

    assert failures == []
    assert got == expected
    assert world.ids() == expected
    assert world.problems() == ()
    assert any(name.endswith(".zst") for name in world.names())


# (I24)
@pytest.mark.parametrize("mode", MODES)
def test_clocks_of_machines_do_not_matter(mode):
    """The clock of the vacuuming client is a year fast, then a year slow: only the storage's clock counts."""
    for skew in (365 * DAY, -365 * DAY):
        world = filled(mode)
        process = world.open()
        process.clock.step(skew)
        process.stream().vacuum()
        names = world.names()

        world.pass_time(DAY - 60)
        assert process.stream().vacuum().segments_removed == 0
        assert world.names() == names
        world.pass_time(60)
        assert process.stream().vacuum().segments_removed > 0
        assert world.ids() == ids_from(1)


# (I24)
@pytest.mark.parametrize("mode", MODES)
def test_names_go_a_grace_after_their_own_floor_however_often_it_is_raised(mode):
    world = World(mode)
    process = world.open()
    lowest = []
    for number in range(40):
        process.stream().append(event(str(number)))
        process.stream().compact()
        process.stream().vacuum()
        world.pass_time(3600)
        lowest.append(min(int(name[:20]) for name in world.names() if name.endswith(".jsonl")))

    assert lowest[:24] == [0] * 24
    assert lowest[-1] in range(12, 17)
    assert world.ids() == [str(number) for number in range(40)]


# (I18)
def test_vacuum_that_takes_longer_than_half_the_grace_looks_again():
    world = filled("put")
    slow = world.open()
    lists = []

    def plan(call):
        if call.method == "list" and call.key.endswith("/0/"):
            lists.append(call)
        if call.method == "get" and call.key.endswith(".zst") and len(lists) == 1:
            slow.clock.advance(DAY)

    slow.plan(plan)
    slow.stream().vacuum()

    assert len(lists) == 3  # again because it was old, and once to remove
    assert is_sound(world, start=1)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_reader_whose_segment_is_gone_again_and_again_reads_what_took_its_place(times):
    world = filled("put")
    reading = world.open()
    left = [times]

    def plan(call):
        if call.method == "get" and call.key.endswith(".zst") and left[0]:
            left[0] -= 1
            return Fail(errors.NotFoundError("merged with others, and removed"))
        return None

    reading.plan(plan)

    assert ids_of(reading.stream().read()) == ids_from(1)


def test_vacuum_whose_compacted_segment_was_removed_meanwhile_looks_again():
    world = filled("put")
    slow = world.open()

    def plan(call):
        if call.method == "get" and call.key.endswith(".zst"):
            slow.calm()
            world.open().stream().truncate(before=8)
            world.open().stream().vacuum(grace=0, exclusive=True)

    slow.plan(plan)
    slow.stream().vacuum()

    assert is_sound(world, start=8)
