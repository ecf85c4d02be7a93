"""The bounds of a partition never go down, and their record says since when they are in force."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest

from bucketlog.backend import ABSENT, ANY
from bucketlog.errors import BackendUnavailableError, ConflictError, CorruptCheckpointError, OutcomeUnknownError
from bucketlog.log.bounds import Bounds, BoundsRecord, raise_bounds, read_bounds, read_record
from bucketlog.testing.faults import Fail, Hold, LoseAnswer, on

FOLDER = "streams/s/0/"
KEY = FOLDER + "bounds.json"
GRACE_SECONDS = 24 * 3600.0
MOMENT = datetime(2026, 2, 5, 12, tzinfo=UTC)


def raised(root, start=0, floor=0):
    return raise_bounds(root, FOLDER, start=start, floor=floor, grace_seconds=GRACE_SECONDS, doing="test")


def stored(place):
    return json.loads(place.backend.get(KEY).data)


def test_bounds_that_were_never_set_are_zero(place):
    root = place.open()

    assert read_bounds(root.backend, FOLDER, where="test") == Bounds(0, 0)
    assert read_record(root, FOLDER, where="test") == BoundsRecord()


def test_raising_makes_and_replaces_them(place):
    root = place.open()

    assert raised(root, floor=3) == Bounds(0, 3)
    assert stored(place) == {"start": 0, "floor": 3}
    assert raised(root, floor=8) == Bounds(0, 8)

    assert read_bounds(root.backend, FOLDER, where="test") == Bounds(0, 8)


def test_neither_is_ever_lowered(place):
    root = place.open()
    raised(root, start=5, floor=9)

    assert raised(root, start=2, floor=3) == Bounds(5, 9)
    assert raised(root, start=7, floor=0) == Bounds(7, 9)
    assert raised(root, floor=12) == Bounds(7, 12)

    assert read_bounds(root.backend, FOLDER, where="test") == Bounds(7, 12)


def test_the_floor_is_never_below_the_start(place):
    assert raised(place.open(), start=6) == Bounds(6, 6)


def test_raising_to_what_is_there_writes_nothing(place):
    root = place.open()
    raised(root, floor=4)
    puts = root.backend.count("put")

    raised(root, floor=4)

    assert root.backend.count("put") == puts


@pytest.mark.parametrize(
    "fault", [LoseAnswer(), Hold(), Fail(ConflictError("taken"))], ids=["lost", "late", "conflict"]
)
def test_unclear_answers_are_settled(place, fault):
    root = place.open(on("put", fault))
    root.backend.plan = on("put", fault)

    assert raised(root, floor=4) == Bounds(0, 4)
    root.backend.release()

    assert stored(place) == {"start": 0, "floor": 4}


def test_lost_answer_whose_write_was_replaced_since_is_a_success(place):
    root, other = place.open(), place.open()
    raised(root, floor=1)

    def plan(call):
        if call.method == "put":
            root.backend.plan = then_another
            return LoseAnswer()
        return None

    def then_another(call):
        root.backend.plan = lambda call: None
        raised(other, floor=9)

    root.backend.plan = plan

    assert raised(root, floor=4) == Bounds(0, 9)
    assert stored(place)["floor"] == 9


def test_what_one_attempt_found_is_not_the_result_of_the_next(place):
    root, other = place.open(), place.open()
    raised(root, floor=1)
    others = iter([Bounds(0, 3), Bounds(2, 5)])

    def plan(call):
        bounds = next(others, None) if call.method == "put" else None
        if bounds is None:
            return None
        raised(other, start=bounds.start, floor=bounds.floor)  # first, so that our PUT conflicts, twice
        return LoseAnswer()

    root.backend.plan = plan

    assert raised(root, floor=7) == Bounds(2, 7)
    assert raised(root, floor=8) == Bounds(2, 8)


# (I22)
def test_late_write_of_older_bounds_changes_nothing(place):
    """A PUT whose caller gave up is applied after the bounds were raised further."""
    slow, quick = place.open(), place.open()
    raised(quick, floor=1)
    slow.backend.plan = lambda call: Hold() if call.method == "put" else None
    with pytest.raises(OutcomeUnknownError):
        raised(slow, start=2, floor=2)
    raised(quick, floor=7)

    answers = slow.backend.release()

    assert all(isinstance(answer, ConflictError) for answer in answers)
    assert read_bounds(quick.backend, FOLDER, where="test") == Bounds(0, 7)


def test_nothing_is_put_without_a_condition(place):
    root = place.open()
    conditions = []
    real = root.backend.put

    def put(key, data, *, if_version=ANY):
        conditions.append(if_version)
        return real(key, data, if_version=if_version)

    root.backend.put = put
    raised(root, floor=1)
    raised(root, floor=2)

    assert conditions[0] is ABSENT
    assert isinstance(conditions[1], str)


def test_many_at_once_end_with_the_highest_of_all(place):
    roots = [place.open() for _ in range(4)]
    begin = threading.Barrier(4)
    failures = []

    def work(number):
        begin.wait()
        try:
            for step in range(1, 6):
                raised(roots[number], start=step * 10 + number, floor=step * 100 - number)
        except BaseException as err:  # noqa: BLE001  (asserted below)
            failures.append(err)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert read_bounds(place.backend, FOLDER, where="test") == Bounds(53, 500)


@pytest.mark.parametrize(
    "garbage",
    [
        *(
            b"",
            b"{",
            b"[]",
            b"17",
            b"{}",
            b'{"start": 1}',
            b'{"start": "1", "floor": 1}',
            b'{"start": 1.0, "floor": 1}',
        ),
        *(b'{"start": -1, "floor": 0}', b'{"start": true, "floor": 1}', b'{"start": null, "floor": 1}'),
    ],
)
def test_damaged_bounds_are_reported_and_not_changed(place, garbage):
    root = place.open()
    place.backend.put(KEY, garbage)

    for call in (
        lambda: read_bounds(root.backend, FOLDER, where="test"),
        lambda: read_record(root, FOLDER, where="test"),
        lambda: raised(root, floor=9),
    ):
        with pytest.raises(CorruptCheckpointError, match=r"bounds\.json") as caught:
            call()
        assert caught.value.key == KEY
    assert place.backend.get(KEY).data == garbage


@pytest.mark.parametrize(
    "steps",
    [
        *('"x"', "[1]", "[[1, 2]]", '[[0, 1, "yesterday"]]', '[[0, 1, "2026-02-05T12:00:00"]]', "[[0, 1, 5]]"),
        *('[[0, 9, "2026-02-05T12:00:00Z"]]', '[[0, 3, "2026-02-05T12:00:00Z"], [0, 2, "2026-02-05T12:00:00Z"]]'),
    ],
)
def test_a_damaged_history_fails_a_vacuum_and_is_ignored_by_readers(place, steps):
    root = place.open()
    place.backend.put(KEY, b'{"start": 0, "floor": 5, "raised": %b}' % steps.encode())

    assert read_bounds(root.backend, FOLDER, where="test") == Bounds(0, 5)
    with pytest.raises(CorruptCheckpointError, match=r"bounds\.json"):
        read_record(root, FOLDER, where="test")


# -- since when --------------------------------------------------------------------------------------------------------


class Times:
    """Makes a backend report the times that a test sets."""

    def __init__(self, root):
        self.now = MOMENT
        self.stored = {}
        put, head = root.backend.put, root.backend.head

        def timed_put(key, data, **how):
            version = put(key, data, **how)
            self.stored[key] = self.now
            return version

        root.backend.put = timed_put
        root.backend.head = lambda key: head(key)._replace(modified=self.stored[key])

    def advance(self, hours):
        self.now += timedelta(hours=hours)


def test_record_tells_since_when_bounds_are_in_force(place):
    root = place.open()
    times = Times(root)
    raised(root, floor=3)
    times.advance(5)
    raised(root, start=1, floor=8)

    record = read_record(root, FOLDER, where="test")

    assert record.bounds == Bounds(1, 8)
    assert [(tuple(step.bounds), step.since) for step in record.steps] == [
        ((0, 3), MOMENT),
        ((1, 8), MOMENT + timedelta(hours=5)),
    ]
    assert stored(place)["raised"] == [[0, 3, "2026-02-05T12:00:00.000000Z"]]


def test_frequent_raising_does_not_postpone_removal(place):
    """Even with frequent raising, the record knows the floor of little more than a grace ago."""
    root = place.open()
    times = Times(root)
    raised(root, floor=1)
    for floor in range(2, 300):
        times.advance(0.5)
        raised(root, floor=floor)

    record = read_record(root, FOLDER, where="test")

    floors = [step.bounds.floor for step in record.steps if times.now - step.since >= timedelta(hours=24)]
    assert 299 - 48 - 3 <= max(floors) <= 299 - 48
    assert len(stored(place)["raised"]) <= 18


def test_of_steps_that_are_old_enough_one_is_kept(place):
    root = place.open()
    times = Times(root)
    for floor in range(1, 6):
        raised(root, floor=floor)
        times.advance(30)
    raised(root, floor=9)

    assert [floor for _, floor, _ in stored(place)["raised"]] == [4, 5]


def test_record_is_of_one_moment(place):
    """Content and time take two requests; if the object is replaced between them, both are read again."""
    root, other = place.open(), place.open()
    raised(root, floor=3)

    def plan(call):
        if call.method == "head":
            root.backend.plan = lambda call: None
            raised(other, floor=7)

    root.backend.plan = plan

    record = read_record(root, FOLDER, where="test")

    assert record.bounds == Bounds(0, 7)
    assert record.version == place.backend.head(KEY).version


def test_bounds_that_are_replaced_during_every_attempt_raise(place):
    root = place.open()
    raised(root, floor=3)
    head = root.backend.head
    root.backend.head = lambda key: head(key)._replace(version="another")

    with pytest.raises(BackendUnavailableError, match=r"bounds\.json"):
        read_record(root, FOLDER, where="test")


def test_rivals_that_win_every_attempt_raise_a_conflict(place):
    root = place.open()
    raised(root, floor=3)
    other = place.open()
    floors = iter(range(4, 10_000))

    def plan(call):
        if call.method == "put":
            raised(other, floor=next(floors))

    root.backend.plan = plan

    with pytest.raises(ConflictError, match="other processes replaced"):
        raised(root, floor=1_000_000)
