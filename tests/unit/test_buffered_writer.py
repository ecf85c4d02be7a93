"""The buffered writer: order, bounds, failures, and that nothing is called durable before it is."""

import pickle
import threading
from datetime import timedelta

import pytest

from bucketlog import Event
from bucketlog.errors import (
    BackendUnavailableError,
    DuplicateEventError,
    InvalidEventError,
    OutcomeUnknownError,
    StorageFullError,
    UnwrittenEventsError,
)
from bucketlog.testing import Fail, on

from .stores import DEADLINE_SECONDS, KINDS, Gate, event, ids, opened_storage, start, wait_until


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    yield from opened_storage(request.param, tmp_path)


FULL = Fail(StorageFullError("the disk is full"))


def commits(storage):
    return storage.open().stream("orders").verify().commits


# -- gathering ---------------------------------------------------------------------------------------------------------


def test_commit_holds_no_more_than_was_asked_for(storage):
    store = storage.open()
    with store.stream("orders").writer(max_events=10, linger=60) as writer:
        writer.append([event(number) for number in range(35)])

    assert commits(storage) == 4
    assert ids(store.stream("orders").read()) == [f"e{number}" for number in range(35)]


def test_commit_is_due_when_enough_events_wait(storage):
    store = storage.open()
    with store.stream("orders").writer(max_events=3, linger=60) as writer:
        for number in range(3):
            writer.append(event(number))
        wait_until(lambda: writer.written == 3)
    assert commits(storage) == 1


def test_commit_is_due_when_enough_bytes_wait(storage):
    store = storage.open()
    with store.stream("orders").writer(max_bytes=30_000, linger=60) as writer:
        for number in range(3):
            writer.append(event(number, data="x" * 10_000))
        wait_until(lambda: writer.written >= 2)
    assert commits(storage) == 2


@pytest.mark.slow
def test_one_large_append_becomes_commits_that_fit(tmp_path):
    """What one `append` of the stream refuses, over 64 MiB at once, a writer stores in parts."""
    for storage in opened_storage("memory", tmp_path):
        text = "x" * (7 * 1024 * 1024)
        with storage.open().stream("orders").writer(max_bytes=2**40) as writer:
            writer.append([event(number, data=text) for number in range(11)])
        assert commits(storage) == 2
        found = storage.open().stream("orders").read()
        assert [(one.id, len(one.data)) for one in found] == [(f"e{number}", len(text)) for number in range(11)]


def test_linger_is_how_long_an_append_waits_for_others(storage):
    with storage.open().stream("orders").writer(linger=timedelta(milliseconds=5)) as writer:
        writer.append(event(0))
        wait_until(lambda: writer.written == 1)


def test_event_is_written_as_it_was_when_it_was_appended(storage):
    """A caller may fill the same dict again and again."""
    stream = storage.open().stream("orders")
    row, meta = {"n": 0, "list": []}, {"m": 0}
    with stream.writer(linger=60) as writer:
        for number in range(3):
            row["n"] = meta["m"] = number
            row["list"].append(number)
            writer.append(Event(type="row", data=row, meta=meta))
        row["n"] = float("nan")

    found = list(stream.read())
    assert [one.data for one in found] == [{"n": n, "list": [*range(n + 1)]} for n in range(3)]
    assert [one.meta for one in found] == [{"m": 0}, {"m": 1}, {"m": 2}]


def test_events_go_to_their_partitions(storage):
    stream = storage.open().stream("days", partition_by="day")
    with stream.writer(linger=60) as writer:
        writer.append([event(0), event(1, days=1)])
        writer.append(event(2))

    assert stream.cursor() == {"2026-02-05": 2, "2026-02-06": 1}
    assert writer.written == 3


def test_many_threads_may_share_a_writer(storage):
    stream = storage.open().stream("orders")
    with stream.writer(max_events=50, linger=60) as writer:
        tasks = [
            start(lambda t=t: [writer.append(event(n, id=f"{t}-{n}")) for n in range(50)] and writer.flush())
            for t in range(6)
        ]
        for task in tasks:
            task.result(DEADLINE_SECONDS)
        assert writer.written == 300

    found = ids(stream.read())
    assert len(set(found)) == 300
    for t in range(6):
        assert [one for one in found if one.startswith(f"{t}-")] == [f"{t}-{n}" for n in range(50)]


# -- bounds and flush --------------------------------------------------------------------------------------------------


def test_full_buffer_makes_its_caller_wait(storage):
    store = storage.open()
    stream = store.stream("orders")
    stream.append(event(0))
    gate = store.backend.plan = Gate(storage.writes)
    writer = stream.writer(max_events=2, linger=0)
    appended = []

    def append():
        for number in range(1, 30):
            writer.append(event(number))
            appended.append(number)

    appending = start(append)
    assert gate.reached.wait(DEADLINE_SECONDS)
    wait_until(lambda: len(appended) >= 5)

    assert not appending.done()
    assert len(appended) <= 6
    gate.opened.set()
    appending.result(DEADLINE_SECONDS)
    writer.close()
    assert ids(stream.read()) == [f"e{number}" for number in range(30)]


def test_flush_returns_only_when_the_commit_is_acknowledged(storage):
    store = storage.open()
    stream = store.stream("orders")
    stream.append(event(0))
    gate = store.backend.plan = Gate(storage.writes)
    writer = stream.writer(linger=60)
    writer.append([event(1), event(2)])
    flushing = start(writer.flush)
    assert gate.reached.wait(DEADLINE_SECONDS)

    assert not flushing.done()
    assert writer.written == 0
    gate.opened.set()
    flushing.result(DEADLINE_SECONDS)
    assert writer.written == 2
    writer.close()


def test_flush_does_not_wait_for_what_comes_after_it(storage):
    store = storage.open()
    stream = store.stream("orders")
    stream.append(event(0))
    first = Gate(storage.writes)
    second = Gate(storage.writes)
    first.then = second
    store.backend.plan = first
    writer = stream.writer(linger=60)
    writer.append([event(1), event(2)])
    flushing = start(writer.flush)
    assert first.reached.wait(DEADLINE_SECONDS)
    writer.append([event(3), event(4)])
    first.opened.set()

    flushing.result(DEADLINE_SECONDS)

    second.opened.set()
    writer.close()
    assert ids(stream.read()) == [f"e{number}" for number in range(5)]


def test_flush_of_nothing_returns(storage):
    writer = storage.open().stream("orders").writer()

    writer.flush()
    writer.append([])
    writer.flush()
    writer.close()
    writer.flush()

    assert storage.open().streams() == []
    assert writer.written == 0


# -- failures ----------------------------------------------------------------------------------------------------------


def test_failed_commit_stops_the_writer_and_hands_back_what_was_not_written(storage):
    store = storage.open()
    stream = store.stream("orders")
    stream.append(event(0))
    store.backend.plan = on(storage.writes, FULL, key=".jsonl")
    writer = stream.writer(linger=60)
    writer.append([event(1), event(2)])

    with pytest.raises(UnwrittenEventsError) as caught:
        writer.flush()

    assert [one.id for one in caught.value.events] == ["e1", "e2"]
    assert isinstance(caught.value.__cause__, StorageFullError)
    with pytest.raises(UnwrittenEventsError):
        writer.append(event(3))
    writer.close()  # it has been told
    assert ids(stream.read()) == ["e0"]
    stream.append(caught.value.events)
    assert ids(stream.read()) == ["e0", "e1", "e2"]


def test_later_event_never_overtakes_an_earlier_one(storage):
    """The commit that fails takes with it all that waits behind it, though the storage would take that now."""
    store = storage.open()
    stream = store.stream("orders")
    stream.append(event(0))
    gate = store.backend.plan = Gate(storage.writes, then=on(storage.writes, FULL, key=".jsonl"))
    writer = stream.writer(max_events=2, linger=60)
    writer.append([event(1), event(2)])
    assert gate.reached.wait(DEADLINE_SECONDS)
    writer.append([event(3), event(4), event(5)])
    gate.opened.set()

    with pytest.raises(UnwrittenEventsError) as caught:
        writer.flush()

    assert [one.id for one in caught.value.events] == ["e3", "e4", "e5"]
    assert ids(stream.read()) == ["e0", "e1", "e2"]


def test_failure_is_told_when_the_block_ends(storage):
    store = storage.open()
    stream = store.stream("orders")
    stream.append(event(0))
    store.backend.plan = on(storage.writes, FULL, key=".jsonl")

    def write():
        with stream.writer(linger=60) as writer:
            writer.append(event(1))

    with pytest.raises(UnwrittenEventsError) as caught:
        write()
    assert [one.id for one in caught.value.events] == ["e1"]


def test_own_error_of_a_block_is_seen_and_the_failure_is_noted(storage):
    store = storage.open()
    stream = store.stream("orders")
    stream.append(event(0))
    store.backend.plan = on(storage.writes, FULL, key=".jsonl")

    def write():
        with stream.writer(linger=60) as writer:
            writer.append(event(1))
            msg = "the caller's own"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="own") as caught:
        write()
    assert "the disk is full" in caught.value.__notes__[0]


def test_waiting_caller_is_told_of_the_failure(storage):
    store = storage.open()
    stream = store.stream("orders")
    stream.append(event(0))
    gate = store.backend.plan = Gate(storage.writes, then=on(storage.writes, FULL, key=".jsonl"))
    writer = stream.writer(max_events=1, linger=0)
    blocked = start(lambda: [writer.append(event(number)) for number in range(1, 20)])
    assert gate.reached.wait(DEADLINE_SECONDS)
    gate.opened.set()

    error = blocked.exception(DEADLINE_SECONDS)

    assert isinstance(error, UnwrittenEventsError)
    assert ids(stream.read()) + [one.id for one in error.events] == [f"e{n}" for n in range(2 + len(error.events))]


def test_part_that_was_written_is_not_handed_back(storage):
    """An append over several partitions fails in the middle: the commits that were made are acknowledged."""
    store = storage.open()
    stream = store.stream("orders", partition_by="subject")
    stream.append([event(0, subject="a"), event(1, subject="b")])
    store.backend.plan = on(storage.writes, FULL, key="/b/")
    writer = stream.writer(linger=60)
    writer.append([event(2, subject="a"), event(3, subject="b"), event(4, subject="a")])

    with pytest.raises(UnwrittenEventsError) as caught:
        writer.flush()

    assert [one.id for one in caught.value.events] == ["e3"]
    assert writer.written == 2
    assert ids(stream.read(partitions=["a"])) == ["e0", "e2", "e4"]


def test_duplicate_stops_the_writer_unless_it_skips_them(storage):
    stream = storage.open().stream("orders")
    stream.append(event(0))
    writer = stream.writer(linger=60)
    writer.append([event(1), event(0)])

    with pytest.raises(UnwrittenEventsError) as caught:
        writer.close()

    assert isinstance(caught.value.__cause__, DuplicateEventError)
    assert ids(stream.read()) == ["e0"]


def test_unknown_outcome_is_handed_back_as_such(storage):
    store = storage.open()
    stream = store.stream("orders", partition_by="subject")
    store.backend.plan = lambda call: Fail(OutcomeUnknownError("x")) if call.key.endswith("bounds.json") else None
    writer = stream.writer(linger=60)
    writer.append(event(0, subject="a"))

    with pytest.raises(UnwrittenEventsError) as caught:
        writer.flush()

    assert isinstance(caught.value.__cause__, OutcomeUnknownError)


def test_error_survives_pickling_with_its_events():
    error = UnwrittenEventsError("write: stopped", events=[event(0), event(1)])

    again = pickle.loads(pickle.dumps(error))

    assert str(again) == "write: stopped"
    assert again.events == [event(0), event(1)]


def test_refused_event_takes_none_of_its_call(storage):
    stream = storage.open().stream("orders")
    with stream.writer(linger=60) as writer:
        writer.append(event(0))
        with pytest.raises(InvalidEventError) as caught:
            writer.append([event(1), event(2, data=float("nan"))])
        writer.append(event(3))

    assert (caught.value.index, caught.value.field) == (1, "data")
    assert ids(stream.read()) == ["e0", "e3"]


def test_unreachable_storage_is_told_once_the_writer_is_used_again(storage):
    store = storage.open()
    stream = store.stream("orders")
    store.backend.plan = lambda call: Fail(BackendUnavailableError("gone")) if call.method == "get" else None
    writer = stream.writer(linger=0)
    writer.append(event(0))
    wait_until(lambda: not writer._thread.is_alive())

    with pytest.raises(UnwrittenEventsError):
        writer.append(event(1))


# -- arguments and threads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"max_events": 0}, {"max_bytes": 0}, {"max_events": -1}, {"linger": -1}])
def test_impossible_bounds_are_refused(storage, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        storage.open().stream("orders").writer(**wrong)


def test_writer_has_one_thread_while_it_is_open(storage):
    stream = storage.open().stream("orders")
    before = set(threading.enumerate())
    writer = stream.writer(linger=60)
    assert set(threading.enumerate()) == before

    writer.append(event(0))
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["bucketlog-writer"]

    writer.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(ValueError, match="closed"):
        writer.append(event(1))
