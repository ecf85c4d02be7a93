"""Taking fairness: who is busy on an object store lets the others in, and loses little by it."""

import pytest

import bucketlog
from bucketlog import Event
from bucketlog.log.fairness import Fairness
from bucketlog.testing import FakeClock

from .stores import PutOnly, open_memory

PUT_SECONDS = 0.05


@pytest.fixture
def clock():
    return FakeClock()


def pauses(clock, fairness, commits, *, put_seconds=PUT_SECONDS, between_seconds=0.0):
    """Return how long a writer waits before each of some commits."""
    waited = []
    for _ in range(commits):
        before = clock.elapsed_seconds()
        fairness.wait()
        waited.append(round(clock.elapsed_seconds() - before, 6))
        clock.advance(put_seconds)
        fairness.won(put_seconds)
        clock.advance(between_seconds)
    return waited


def test_who_is_alone_pauses_seldom(clock):
    waited = pauses(clock, Fairness(clock), 200)

    assert sum(waited) < 0.06 * 200 * PUT_SECONDS
    assert waited.count(0.0) == 197


def test_who_has_rivals_pauses_after_a_few_commits_for_longer_than_it_takes_to_read_and_put_one(clock):
    fairness = Fairness(clock)
    fairness.lost()

    waited = pauses(clock, fairness, 17)

    assert [place for place, seconds in enumerate(waited) if seconds] == [8, 16]
    assert min(waited[8], waited[16]) > 2 * PUT_SECONDS


def test_rivals_that_have_gone_are_forgotten(clock):
    fairness = Fairness(clock)
    fairness.lost()
    clock.advance(60)

    assert not any(pauses(clock, fairness, 60))


def test_who_is_not_busy_never_waits(clock):
    fairness = Fairness(clock)
    fairness.lost()

    assert not any(pauses(clock, fairness, 40, between_seconds=1.0))


def test_no_pause_is_long_however_slow_the_store(clock):
    fairness = Fairness(clock)
    fairness.lost()

    assert max(pauses(clock, fairness, 9, put_seconds=20.0)) <= 0.5


def test_busy_writer_on_an_object_store_gives_way_after_it_was_beaten():
    clocks = [FakeClock(seed=1), FakeClock(seed=2)]
    busy, other = (
        bucketlog.open(PutOnly(open_memory("memory://fairness", {}, create=True)), clock=clock).stream("s")
        for clock in clocks
    )
    busy.append(Event(type="e", id="0"))
    other.append(Event(type="e", id="1"))

    slow = busy._root.backend
    put = slow.put

    def put_slowly(*args, **how):
        clocks[0].advance(PUT_SECONDS)
        return put(*args, **how)

    slow.put = put_slowly
    began = clocks[0].elapsed_seconds()
    for number in range(9):
        busy.append(Event(type="e", id=f"b{number}"))

    assert clocks[0].elapsed_seconds() - began > (9 + 1 + 2) * PUT_SECONDS  # nine puts, one in vain, and a pause
