"""Tails: what they hand out, where their cursor stands, and that they end."""

import gc
import threading
import time
import weakref
from datetime import timedelta

import pytest

from bucketlog.errors import (
    BackendUnavailableError,
    CorruptSegmentError,
    InvalidNameError,
    InvalidValueError,
    OffsetOutOfRangeError,
)
from bucketlog.testing import Fail, FakeClock, on

from .stores import DEADLINE_SECONDS, KINDS, event, ids, opened_storage, start, wait_until


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    yield from opened_storage(request.param, tmp_path)


@pytest.fixture
def putting(tmp_path):
    yield from opened_storage("put", tmp_path)


def take(tail, count):
    """Take events in a thread: a tail that never wakes fails the test instead of hanging it."""
    return start(lambda: [next(tail).id for _ in range(count)]).result(DEADLINE_SECONDS)


def drain(tail):
    """Poll until there is nothing more."""
    found = []
    while more := tail.poll():
        found += more
    return found


# -- events and cursor -------------------------------------------------------------------------------------------------


def test_cursor_is_behind_the_event_that_was_handed_out(storage):
    stream = storage.open().stream("orders")
    stream.append([event(0), event(1), event(2)])

    with stream.tail() as tail:
        assert tail.cursor == {}
        for number in range(3):
            assert take(tail, 1) == [f"e{number}"]
            assert tail.cursor == {"0": number + 1}
    assert tail.cursor == {"0": 3}


def test_resuming_a_tail_anywhere_loses_and_repeats_nothing(storage):
    stream = storage.open().stream("orders", partition_by="subject")
    for number in range(6):
        stream.append([event(2 * number, subject="a"), event(2 * number + 1, subject="b")])
    everything = set(ids(stream.read()))

    for count in range(13):
        with stream.tail() as first:
            taken = take(first, count)
        with stream.tail(first.cursor) as second:
            rest = ids(drain(second))
        assert len(taken) + len(rest) == 12
        assert {*taken, *rest} == everything


def test_poll_returns_what_has_come_and_moves_the_cursor_over_it(storage):
    stream = storage.open().stream("orders")
    tail = stream.tail(poll=0.001)

    assert tail.poll() == []
    stream.append([event(0), event(1)])
    wait_until(lambda: drain(tail) or tail.cursor)
    stream.append(event(2))

    assert tail.cursor == {"0": 2}
    assert ids(tail.poll()) == ["e2"]
    assert tail.cursor == {"0": 3}
    assert tail.poll() == []
    tail.close()


def test_filtered_tail_moves_over_what_it_passed_when_it_waits(storage):
    stream = storage.open().stream("orders")
    stream.append([event(0), event(1, type="wanted"), event(2), event(3)])
    tail = stream.tail(types=["wanted"])

    assert ids(drain(tail)) == ["e1"]
    assert tail.cursor == {"0": 4}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"types": ["a"]}, ["e0", "e3"]),
        ({"subjects": ["s"]}, ["e1", "e3"]),
        ({"sources": ["x"]}, ["e2"]),
        ({"tags": ["t", "u"]}, ["e1", "e2"]),
        ({"types": ["a"], "subjects": ["s"]}, ["e3"]),
    ],
)
def test_tail_filters_as_read_does(storage, filters, expected):
    stream = storage.open().stream("orders")
    stream.append(
        [
            event(0, type="a"),
            event(1, type="b", subject="s", tags=("t",)),
            event(2, type="b", source="x", tags=("u", "v")),
            event(3, type="a", subject="s"),
        ]
    )

    assert ids(drain(stream.tail(**filters))) == ids(stream.read(**filters)) == expected


def test_long_history_is_handed_out_in_parts(storage):
    stream = storage.open().stream("orders")
    text = "x" * 100_000
    for number in range(60):
        stream.append([event(2 * number, data=text), event(2 * number + 1, data=text)])
    tail = stream.tail()

    parts = []
    while part := tail.poll():
        parts.append(len(part))
        assert tail.cursor == {"0": sum(parts)}

    assert sum(parts) == 120
    assert len(parts) > 1


def test_partition_that_never_rests_does_not_keep_the_others_waiting(storage):
    stream = storage.open().stream("orders")
    stream.append(event(0), partition="a")
    stream.append(event(1), partition="b")
    tail = stream.tail(poll=0.001)
    number, seen = 2, []
    tail.wait()  # begins to watch, where that can be done

    for _ in range(8):
        seen += ids(tail.poll())
        stream.append(event(number), partition="a")
        number += 1

    assert "e1" in seen
    tail.close()


def test_event_of_an_old_day_reaches_a_tail(storage):
    stream = storage.open().stream("days", partition_by="day")
    stream.append(event(0))
    with stream.tail(poll=0.01) as tail:
        assert take(tail, 1) == ["e0"]

        stream.append(event(1, days=-30))

        assert take(tail, 1) == ["e1"]


def test_named_partitions_may_begin_later(storage):
    stream = storage.open().stream("orders")
    with stream.tail(partitions=["side"], poll=0.01) as tail:
        waiting = start(lambda: next(tail).id)
        stream.append(event(0))
        stream.append(event(1), partition="side")

        assert waiting.result(DEADLINE_SECONDS) == "e1"
        assert tail.cursor == {"side": 1}


# -- refused -----------------------------------------------------------------------------------------------------------


def test_cursor_beyond_the_end_is_told_by_a_tail(storage):
    stream = storage.open().stream("orders")
    stream.append(event(0))

    for cursor in ({"0": 2}, {"0": 1, "gone": 1}):
        with pytest.raises(OffsetOutOfRangeError):
            stream.tail(cursor).poll()


def test_cursor_beyond_a_stream_that_is_not_there_is_told_by_a_tail(storage):
    with pytest.raises(OffsetOutOfRangeError):
        storage.open().stream("orders").tail({"0": 1}).poll()


@pytest.mark.parametrize("poll", [-1, float("nan"), timedelta(seconds=-1)])
def test_poll_that_is_no_duration_is_refused(storage, poll):
    with pytest.raises(ValueError, match="poll"):
        storage.open().stream("orders").tail(poll=poll)


def test_bad_arguments_are_refused_at_the_call(storage):
    stream = storage.open().stream("orders")

    with pytest.raises(TypeError, match="types"):
        stream.tail(types="text")
    with pytest.raises(TypeError, match="partitions"):
        stream.tail(partitions="text")
    with pytest.raises(InvalidValueError):
        stream.tail({"0": -1})
    stream.append(event(0))
    with pytest.raises(InvalidNameError):
        stream.tail(partitions=["\0"]).poll()


# -- failures ----------------------------------------------------------------------------------------------------------


def test_tail_that_failed_can_be_polled_again_without_a_loss(storage):
    store = storage.open()
    stream = store.stream("orders")
    stream.append([event(0), event(1)], partition="a")
    stream.append([event(2), event(3)], partition="b")
    tail = stream.tail(poll=0.001)
    assert ids(tail.poll()) == ["e0", "e1"]
    store.backend.plan = on("get", Fail(BackendUnavailableError("gone")), key="/b/0000")

    with pytest.raises(BackendUnavailableError):
        drain(tail)

    assert tail.cursor == {"a": 2}
    assert ids(drain(tail)) == ["e2", "e3"]
    assert tail.cursor == {"a": 2, "b": 2}


def test_damage_is_not_passed_over_by_polling_again(storage):
    stream = storage.open().stream("orders")
    stream.append(event(0))
    with stream.tail(poll=0.001) as tail:
        assert ids(drain(tail)) == ["e0"]
        stream.append(event(1))
        stream.append(event(2))
        if storage.kind == "put":
            key, data = "streams/orders/0/00000000000000000001.jsonl", b"x"
        else:
            [(key, data)] = storage.contents("streams/orders/0/").items()
            data = data.replace(b'"e1"', b'"eX"')
        storage.backend.delete([key])
        storage.backend.put(key, data)

        for _ in range(3):
            with pytest.raises(CorruptSegmentError):
                drain(tail)
            assert tail.cursor == {"0": 1}


# -- waiting and ending ------------------------------------------------------------------------------------------------


def test_breaking_off_lets_go_of_what_the_tail_holds(storage):
    """A loop over a tail that nobody else holds ends it: not some time later, when memory is tidied up."""
    store = storage.open()
    stream = store.stream("orders")
    stream.append([event(0), event(1)])
    gc.disable()
    try:
        for _ in stream.tail():
            [follower] = list(stream._state.attached)
            gone = weakref.ref(follower)
            del follower
            break
        assert gone() is None
    finally:
        gc.enable()


def test_tail_that_is_held_goes_on_after_a_break(storage):
    stream = storage.open().stream("orders")
    stream.append([event(0), event(1)])
    tail = stream.tail()

    for one in tail:
        assert one.id == "e0"
        break
    for one in tail:
        assert one.id == "e1"
        break

    assert tail.cursor == {"0": 2}
    tail.close()
    assert list(tail) == []


def test_leaving_the_block_ends_the_tail(storage):
    stream = storage.open().stream("orders")
    stream.append(event(0))

    with stream.tail() as tail:
        assert take(tail, 1) == ["e0"]

    assert list(tail) == []
    assert tail.wait() is False


def test_closing_the_store_ends_its_tails(storage):
    store = storage.open()
    before = set(threading.enumerate())
    stream = store.stream("orders")
    stream.append(event(0))
    tail = stream.tail(poll=60)
    assert take(tail, 1) == ["e0"]
    waiting = start(lambda: list(tail))
    wait_until(lambda: set(threading.enumerate()) - before)

    store.close()

    assert waiting.result(5) == []


def test_close_wakes_a_tail_that_is_about_to_wait(storage):
    """Closed at any moment, a tail ends: forty tries, each a little later."""
    stream = storage.open().stream("orders")
    for number in range(40):
        tail = stream.tail(poll=60)
        running = start(lambda tail=tail: list(tail))
        time.sleep(number / 10_000)
        tail.close()
        assert running.result(5) == []


def test_waiting_is_backed_off_and_begins_anew_with_what_comes(putting):
    """Where nothing wakes it, a tail asks at once, then less and less often, down to `poll`."""
    store = putting.open()
    stream = store.stream("orders")
    stream.append(event(0))
    tail = stream.tail(poll=0.3)
    waits = tail._follower._closed = RecordedWaits()
    drain(tail)
    for _ in range(12):
        tail.wait()
    backed_off = list(waits.seconds)
    stream.append(event(1))
    assert ids(tail.poll()) == ["e1"]
    tail.wait()

    assert backed_off[0] <= 0.02
    assert all(one <= 0.3 for one in backed_off)
    assert backed_off[-1] >= 0.15
    assert waits.seconds[-1] <= 0.02


class RecordedWaits(threading.Event):
    """An event that waits for nothing, but remembers how long it would have."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def wait(self, timeout=None):
        self.seconds.append(timeout)
        return self.is_set()


def test_waiting_on_an_object_store_asks_for_the_next_name_alone(putting):
    store = putting.open(clock=FakeClock())
    stream = store.stream("orders")
    stream.append(event(0))
    tail = stream.tail()
    drain(tail)
    before = store.backend.count()

    assert tail.poll() == []

    assert [(call.method, call.key) for call in store.backend.calls[before:]] == [
        ("get", "streams/orders/0/00000000000000000001.jsonl")
    ]


def test_stream_that_has_not_begun_is_looked_for_at_the_pace_of_poll(putting):
    store = putting.open(clock=FakeClock())
    tail = store.stream("orders").tail(poll=60)
    assert tail.poll() == []

    putting.open().stream("orders").append(event(0))

    assert ids(tail.poll()) == ["e0"]


def test_new_partitions_are_looked_for_now_and_then(putting):
    clock = FakeClock()
    store = putting.open(clock=clock)
    stream = store.stream("orders")
    stream.append(event(0), partition="a")
    tail = stream.tail(poll=1)
    assert ids(drain(tail)) == ["e0"]
    stream.append(event(1), partition="b")
    assert tail.poll() == []

    clock.advance(5)

    assert ids(drain(tail)) == ["e1"]
