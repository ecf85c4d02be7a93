"""The clock for tests moves when told, and repeats its chances."""

from datetime import UTC, datetime, timedelta

import pytest

from bucketlog.testing import FakeClock

NOON = datetime(2026, 2, 5, 12, tzinfo=UTC)


def test_time_stands_still_until_it_is_advanced():
    clock = FakeClock(NOON)

    assert (clock.now(), clock.elapsed_seconds()) == (NOON, 0.0)
    assert (clock.now(), clock.elapsed_seconds()) == (NOON, 0.0)

    clock.advance(90)

    assert (clock.now(), clock.elapsed_seconds()) == (NOON + timedelta(seconds=90), 90.0)


def test_sleeping_takes_no_time_but_the_clocks():
    clock = FakeClock(NOON)

    clock.sleep(3600)
    clock.sleep(0.5)

    assert clock.slept_seconds == [3600, 0.5]
    assert (clock.now(), clock.elapsed_seconds()) == (NOON + timedelta(seconds=3600.5), 3600.5)


@pytest.mark.parametrize(("elapsed_counts", "elapsed"), [(True, 86_400.0), (False, 0.0)])
def test_suspended_machine_wakes_at_a_later_hour(elapsed_counts, elapsed):
    clock = FakeClock(NOON)

    clock.suspend(86_400, elapsed_counts=elapsed_counts)

    assert (clock.now(), clock.elapsed_seconds()) == (NOON + timedelta(days=1), elapsed)


def test_wall_clock_steps_back_while_elapsed_time_does_not():
    clock = FakeClock(NOON)
    clock.advance(10)

    clock.step(-60)

    assert (clock.now(), clock.elapsed_seconds()) == (NOON - timedelta(seconds=50), 10.0)
    with pytest.raises(ValueError, match="never goes back"):
        clock.advance(-1)


def test_same_seed_repeats_the_same_chances():
    first, same, other = FakeClock(seed=1), FakeClock(seed=1), FakeClock(seed=2)

    drawn = [(one.jitter(), one.write_id(), one.write_id()) for one in (first, same, other)]

    assert drawn[0] == drawn[1] != drawn[2]
    assert all(0 <= jitter < 1 for jitter, _, _ in drawn)
    assert len({write_id for _, *write_ids in (drawn[0], drawn[2]) for write_id in write_ids}) == 4
    assert all(len(write_id) == 16 and int(write_id, 16) >= 0 for _, *write_ids in drawn for write_id in write_ids)
