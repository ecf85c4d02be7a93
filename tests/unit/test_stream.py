"""Streams, where it takes faults, a gate or a look at the storage to see that a promise is kept."""

import threading
from datetime import timedelta

import pytest

import bucketlog
from bucketlog import Event
from bucketlog.backend import PUT_BYTES_MAX
from bucketlog.errors import (
    BackendUnavailableError,
    CorruptCheckpointError,
    CorruptSegmentError,
    DuplicateEventError,
    InvalidEventError,
    InvalidNameError,
    OffsetConflictError,
    OffsetOutOfRangeError,
    OutcomeUnknownError,
    StorageFullError,
    StreamSettingsError,
)
from bucketlog.format.lines import StoredEvent, is_touched
from bucketlog.format.segments import ALL_BEFORE_SYNCED, seal_commit
from bucketlog.log.days import Days
from bucketlog.testing import Fail, FakeClock, LoseAnswer, on, with_faults
from bucketlog_backends.s3 import open_s3

from .stores import DEADLINE_SECONDS, KINDS, Gate, Storage, event, ids, opened_storage, start, wait_until


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    yield from opened_storage(request.param, tmp_path)


@pytest.fixture
def putting(tmp_path):
    yield from opened_storage("put", tmp_path)


# -- what it costs -----------------------------------------------------------------------------------------------------


def test_making_a_stream_does_no_io(storage):
    store = storage.open()
    before = store.backend.count()

    stream = store.stream("orders", partition_by="day")
    reader, batches, tail = stream.read(), stream.read_batches(), stream.tail()

    assert store.backend.count() == before
    assert not reader.cursor
    assert not batches.cursor
    assert not tail.cursor


# (I3)
def test_commit_on_an_object_store_is_one_put(putting):
    store = putting.open()
    stream = store.stream("orders")
    stream.append(event(0))

    for number in range(1, 6):
        before = store.backend.count()
        stream.append([event(10 * number), event(10 * number + 1)])
        assert store.backend.count() - before == 1
        assert store.backend.calls[-1].method == "put"


def test_commit_on_s3_is_one_put(s3_url, s3_bucket):
    backend = with_faults(open_s3(f"{s3_url}/root", s3_bucket, create=True))
    with bucketlog.open(backend) as store:
        stream = store.stream("orders")
        stream.append(event(0))
        before = backend.count()

        for number in range(1, 6):
            stream.append(event(number))

        assert [call.method for call in backend.calls[before:]] == ["put"] * 5
        assert ids(stream.read()) == [f"e{number}" for number in range(6)]


def test_opening_a_proven_store_costs_two_requests(storage):
    store = storage.open()

    assert [call.method for call in store.backend.calls] == ["get", "get"]


def test_first_append_of_a_reopened_stream_reads_no_more_than_it_must(putting):
    stream = putting.open().stream("orders")
    for number in range(20):
        stream.append(event(number))
    store = putting.open()
    before = store.backend.count()

    store.stream("orders").append(event(20))

    assert store.backend.count("put") == 1
    assert store.backend.count() - before <= 20 + 5


def test_nothing_but_duplicates_asks_nothing_of_the_storage(storage):
    store = storage.open()
    stream = store.stream("orders")
    stream.append([event(0), event(1)])
    before = store.backend.count()

    stream.append([event(0), event(1)], on_duplicate="skip")

    assert store.backend.count() == before


# -- group commit ------------------------------------------------------------------------------------------------------


def waiting(stream):
    return stream._state.writer("0")._group._queue


def held_group(storage, requests, then=None):
    """Let requests queue up behind a commit that a gate holds; return the stream and what becomes of each."""
    store = storage.open()
    stream = store.stream("orders")
    stream.append(event(0))
    gate = store.backend.plan = Gate(storage.writes, then)
    first = start(lambda: stream.append([event(1)]))  # a batch: a single event may take a shorter way
    assert gate.reached.wait(DEADLINE_SECONDS)
    futures = []
    for count, request in enumerate(requests, start=1):
        futures.append(start(request(stream)))
        wait_until(lambda count=count: len(waiting(stream)) == count)
    gate.opened.set()
    assert first.result(DEADLINE_SECONDS).offsets == (1,)
    for future in futures:
        future.exception(DEADLINE_SECONDS)
    return stream, futures


def test_appends_that_wait_go_out_as_one_commit(storage):
    def append(number):
        return lambda stream: lambda: stream.append([event(10 * number), event(10 * number + 1)])

    stream, futures = held_group(storage, [append(number) for number in range(1, 7)])

    report = stream.verify()
    assert (report.events, report.commits) == (14, 3)
    assert [future.result().offsets for future in futures] == [(2 * n, 2 * n + 1) for n in range(1, 7)]
    assert ids(stream.read({"0": 2})) == [f"e{10 * n + m}" for n in range(1, 7) for m in (0, 1)]


# (I20)
def test_each_of_a_group_gets_its_own_result(storage):
    stream, futures = held_group(
        storage,
        [
            lambda stream: lambda: stream.append(event(2)),
            lambda stream: lambda: stream.append([event(3), event(0)]),
            lambda stream: lambda: stream.append([event(2), event(4)], on_duplicate="skip"),
            lambda stream: lambda: stream.append(event(5), expected_offset=4),
            lambda stream: lambda: stream.append(event(6), expected_offset=4),
            lambda stream: lambda: stream.append([], expected_offset=5),
            lambda stream: lambda: stream.append(event(7)),
        ],
    )

    assert futures[0].result().offsets == (2,)
    assert isinstance(futures[1].exception(), DuplicateEventError)
    assert (futures[2].result().offsets, futures[2].result().duplicates) == ((2, 3), (0,))
    assert futures[3].result().offsets == (4,)
    assert isinstance(futures[4].exception(), OffsetConflictError)
    assert futures[4].exception().next_offset == 5
    assert futures[5].result().first_offset == 5
    assert futures[6].result().offsets == (5,)
    assert ids(stream.read()) == ["e0", "e1", "e2", "e4", "e5", "e7"]
    assert stream.verify().commits == 3


def test_error_of_a_group_reaches_each_caller_as_its_own(storage):
    stream, futures = held_group(
        storage,
        [lambda stream, n=n: lambda: stream.append(event(n)) for n in (2, 3, 4)],
        then=lambda call: Fail(StorageFullError("the disk is full")),
    )

    errors = [future.exception() for future in futures]
    assert [type(error) for error in errors] == [StorageFullError] * 3
    assert len({id(error) for error in errors}) == 3
    assert [str(error) for error in errors] == ["the disk is full"] * 3
    assert ids(stream.read()) == ["e0", "e1"]


# (I20)
@pytest.mark.parametrize("storage", ["memory", "put"], indirect=True)  # elsewhere the lock keeps the other one out
def test_group_that_another_handle_overtakes_is_decided_again(storage):
    other = storage.open().stream("orders")
    taken = []

    def overtake(call):
        if not taken:
            taken.append(call)
            threading.Thread(target=lambda: taken.append(other.append([event(3), event(9)]))).start()
            wait_until(lambda: len(taken) == 2)

    stream, futures = held_group(
        storage,
        [
            lambda stream: lambda: stream.append(event(2)),
            lambda stream: lambda: stream.append(event(3), on_duplicate="return"),
            lambda stream: lambda: stream.append(event(4), expected_offset=3),
        ],
        then=overtake,
    )

    assert futures[0].result().offsets == (4,)
    assert futures[1].result() == ("0", 5, 5, (2,), (0,), (0,))
    assert futures[2].exception().next_offset == 5
    assert ids(stream.read()) == ["e0", "e1", "e3", "e9", "e2"]


def test_append_works_again_after_an_error(storage):
    store = storage.open()
    stream = store.stream("orders")
    stream.append(event(0))
    store.backend.plan = on(storage.writes, Fail(StorageFullError("the disk is full")))

    with pytest.raises(StorageFullError):
        stream.append(event(1))

    assert stream.append(event(1)).offsets == (1,)
    assert ids(stream.read()) == ["e0", "e1"]


# -- several partitions ------------------------------------------------------------------------------------------------


def test_later_failure_carries_the_commits_that_were_made(storage):
    store = storage.open()
    stream = store.stream("orders", partition_by="subject")
    for subject in ("a", "b", "c"):
        stream.append(event(ord(subject), subject=subject))
    store.backend.plan = on(storage.writes, Fail(StorageFullError("the disk is full")), key="/b/")

    with pytest.raises(StorageFullError) as caught:
        stream.append([event(n, subject=subject) for n, subject in enumerate("caba")])

    assert [(commit.partition, commit.offsets, commit.indexes) for commit in caught.value.commits] == [
        ("c", (1,), (0,)),
        ("a", (1, 2), (1, 3)),
    ]
    assert stream.cursor() == {"a": 3, "b": 1, "c": 2}


def test_writers_that_race_to_settle_a_stream_agree(storage):
    one, two = storage.open(), storage.open()
    gate = one.backend.plan = PutGate("stream.json")
    losing = start(lambda: one.stream("orders", partition_by="subject").append(event(0, subject="a")))
    assert gate.reached.wait(DEADLINE_SECONDS)
    two.stream("orders", partition_by="day").append(event(1))
    gate.opened.set()

    assert isinstance(losing.exception(DEADLINE_SECONDS), StreamSettingsError)
    assert one.stream("orders").partitions() == ["2026-02-05"]
    assert one.stream("orders").append(event(2))[0].partition == "2026-02-05"


class PutGate:
    """A plan that holds the put of one key until it is opened."""

    def __init__(self, key):
        self.key = key
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, call):
        if call.method == "put" and call.key.endswith(self.key):
            self.reached.set()
            assert self.opened.wait(DEADLINE_SECONDS)


def test_lost_answer_to_the_settings_is_read_back(storage):
    store = storage.open(on("put", LoseAnswer(), key="stream.json"))

    store.stream("orders", partition_by="day").append(event(0))

    assert storage.open().stream("orders").partitions() == ["2026-02-05"]


def test_settings_that_could_not_be_stored_leave_nothing(storage):
    plan = NoAnswer("stream.json")
    store = storage.open(plan, clock=FakeClock())
    before = storage.contents()

    with pytest.raises(OutcomeUnknownError):
        store.stream("orders", partition_by="day").append(event(0))

    assert storage.contents() == before


class NoAnswer:
    """A plan by which no put of a key is done or answered."""

    def __init__(self, key):
        self.key = key

    def __call__(self, call):
        if call.method == "put" and call.key.endswith(self.key):
            return Fail(OutcomeUnknownError("no answer"))
        return None


def test_custom_partition_that_is_no_name_is_refused(storage):
    store = storage.open()
    before = storage.contents()

    for wrong in (7, "", None, "\0"):
        with pytest.raises(InvalidNameError):
            store.stream("orders", partition_by=lambda _, wrong=wrong: wrong).append(event(0))

    assert storage.contents() == before


def test_race_over_days_is_handed_out_once_and_reported(storage, monkeypatch):
    """Two writers that cannot see each other store one id on two days; a reader run hands it out once."""
    stream = storage.open().stream("days", partition_by="day")
    stream.append([event(0), event(1)])
    with monkeypatch.context() as blind:
        blind.setattr(Days, "day_of", lambda *_: {})
        storage.open().stream("days").append([event(1, days=1), event(2, days=1)])

    report = stream.verify()

    assert ids(stream.read()) == ["e0", "e1", "e2"]
    assert [one.id for batch in stream.read_batches() for one in batch.events] == ["e0", "e1", "e2"]
    reader = stream.read()
    assert ids(reader) == ["e0", "e1", "e2"]
    assert reader.cursor == stream.cursor() == {"2026-02-05": 2, "2026-02-06": 2}
    assert [(one.partition, one.offset) for one in report.problems] == [("2026-02-06", 0)]
    assert "e1" in report.problems[0].what


def test_ids_of_many_days_by_others_are_known(storage):
    mine = storage.open().stream("days", partition_by="day")
    mine.append(event(0))
    storage.open().stream("days").append([event(number, days=number) for number in range(1, 6)])

    [*commits] = mine.append([event(number, days=9) for number in range(7)], on_duplicate="return")

    assert [(commit.partition, commit.offsets, commit.duplicates) for commit in commits] == [
        *((f"2026-02-{5 + number:02}", (0,), (number,)) for number in range(6)),
        ("2026-02-14", (0,), ()),
    ]


def test_named_day_of_a_repeat_is_refused_when_told_to_skip(storage):
    stream = storage.open().stream("days", partition_by="day")
    stream.append([event(0), event(1)])
    before = storage.contents()

    for way in ("skip", "return"):
        with pytest.raises(StreamSettingsError, match="2026-02-05"):
            stream.append(event(1, days=1), partition="2026-02-06", on_duplicate=way)

    assert storage.contents() == before


# -- reading -----------------------------------------------------------------------------------------------------------


def test_folders_of_others_are_no_streams_and_no_partitions(storage):
    store = storage.open()
    stream = store.stream("days", partition_by="day")
    stream.append(event(0))
    for key in ("streams/a b/x", "streams/%FF/x", "streams/days/%ff/0", "streams/days/a+b/00000000000000000000.jsonl"):
        storage.backend.put(key, b"somebody else's")

    assert storage.open().streams() == ["days"]
    assert stream.partitions() == ["2026-02-05"]
    assert ids(stream.read()) == ["e0"]
    assert stream.append(event(1, days=1))[0].offsets == (0,)


def test_failing_storage_fails_the_read_and_a_new_one_goes_on(storage):
    store = storage.open()
    stream = store.stream("orders")
    stream.append([event(0), event(1)], partition="a")
    stream.append([event(2), event(3)], partition="b")
    store.backend.plan = on("get", Fail(BackendUnavailableError("gone")), key="/b/0000")
    reader, found = stream.read(), []

    def read():
        for one in reader:
            found.append(one.id)  # noqa: PERF401  (what came before the error counts)

    with pytest.raises(BackendUnavailableError):
        read()

    assert found + ids(stream.read(reader.cursor)) == ["e0", "e1", "e2", "e3"]


def test_reader_is_an_iterator_and_a_context_manager(storage):
    stream = storage.open().stream("orders")
    stream.append([event(number) for number in range(4)])

    with stream.read() as reader:
        assert next(reader).id == "e0"
        assert next(iter(reader)).id == "e1"
        assert reader.cursor == {"0": 2}
    assert list(reader) == []
    assert reader.cursor == {"0": 2}


def test_get_and_recent_find_what_other_programs_wrote_with_escapes(storage):
    """A line may hold any JSON; writers of bucketlog use the shortest form of a text, and filters look for that."""
    stream = storage.open().stream("orders")
    stream.append([event(0, id='a/b\\c"d\té\u2028', subject="\x7f\x1f"), event(1)])

    assert stream.get('a/b\\c"d\té\u2028').offset == 0
    assert ids(stream.recent(1, subject="\x7f\x1f")) == ['a/b\\c"d\té\u2028']


def test_damaged_bounds_are_told(storage):
    stream = storage.open().stream("orders")
    stream.append(event(0))
    for garbage in (b"", b"{", b"[]", b'{"start": 1}', b'{"start": "x", "floor": 0}', b'{"start": -1, "floor": 0}'):
        storage.backend.put("streams/orders/0/bounds.json", garbage)
        with pytest.raises(CorruptCheckpointError, match=r"bounds\.json") as caught:
            list(storage.open().stream("orders").read())
        assert caught.value.key == "streams/orders/0/bounds.json"
        with pytest.raises(CorruptCheckpointError):
            storage.open().stream("orders").append(event(1))


def test_cursor_before_the_start_is_told(storage):
    stream = storage.open().stream("orders")
    stream.append([event(number) for number in range(4)])
    storage.backend.put("streams/orders/0/bounds.json", b'{"start": 2, "floor": 0}\n')

    with pytest.raises(OffsetOutOfRangeError) as caught:
        list(stream.read({"0": 1}))

    assert (caught.value.partition, caught.value.offset, caught.value.start) == ("0", 1, 2)
    assert ids(stream.read()) == ["e2", "e3"]
    assert ids(stream.read({"0": 2})) == ["e2", "e3"]


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_batch_over_64_mib_is_refused_whole(tmp_path):
    with Storage("memory", tmp_path).open() as store:
        stream = store.stream("orders")
        text = "x" * (7 * 1024 * 1024)

        with pytest.raises(InvalidEventError, match=str(PUT_BYTES_MAX)) as caught:
            stream.append([event(number, data=text) for number in range(10)])

        assert caught.value.field == "batch"
        assert store.streams() == []


def test_event_over_8_mib_is_refused(storage):
    store = storage.open()

    with pytest.raises(InvalidEventError) as caught:
        store.stream("orders").append([event(0), event(1, data="x" * (8 * 1024 * 1024))])

    assert (caught.value.index, caught.value.field) == (1, "data")
    assert store.streams() == []


# -- verify ------------------------------------------------------------------------------------------------------------


def test_verify_reports_damaged_settings_and_reads_the_rest(storage):
    storage.open().stream("orders").append([event(0), event(1)])
    storage.backend.put("streams/orders/stream.json", b"{")

    report = storage.open().stream("orders").verify()

    assert not report.ok
    assert [problem.key for problem in report.problems] == ["streams/orders/stream.json"]
    assert (report.events, report.commits) == (2, 1)


def test_verify_reports_a_missing_segment(putting):
    stream = putting.open().stream("orders")
    for number in range(4):
        stream.append(event(number))
    putting.backend.delete(["streams/orders/0/00000000000000000001.jsonl"])

    report = stream.verify()

    [problem] = report.problems
    assert (problem.partition, problem.offset) == ("0", 1)
    assert "ends before 2" in problem.what
    assert report.events == 1


def test_verify_reports_segments_that_nothing_leads_to(putting):
    stream = putting.open().stream("orders")
    for number in range(3):
        stream.append(event(number))
    putting.backend.delete(["streams/orders/0/00000000000000000000.jsonl"])

    report = stream.verify()

    assert [(problem.partition, problem.offset) for problem in report.problems] == [("0", 1), ("0", 2)]
    assert all("a segment is missing" in problem.what for problem in report.problems)


def test_verify_reports_damaged_bounds_and_goes_on_with_other_partitions(storage):
    stream = storage.open().stream("orders")
    stream.append(event(0), partition="a")
    stream.append([event(1), event(2)], partition="b")
    storage.backend.put("streams/orders/a/bounds.json", b"{")

    report = stream.verify()

    assert [(problem.partition, problem.key) for problem in report.problems] == [("a", "streams/orders/a/bounds.json")]
    assert report.events == 2


@pytest.mark.parametrize(
    ("lines", "events", "what"),
    [(b'{"no":"event"}\n', 1, "not every line is an event"), (b'{"type":"x","id":"y"}\n' * 2, 1, "")],
    ids=["no event", "another number"],
)
def test_verify_reports_commits_that_another_program_got_wrong(storage, lines, events, what):
    stream = storage.open().stream("orders")
    stream.append(event(0))
    [(key, data)] = storage.contents("streams/orders/0/").items()
    wrong = seal_commit(lines, events=events, flags=ALL_BEFORE_SYNCED, write_id="0" * 16)
    if storage.kind == "put":
        storage.backend.put("streams/orders/0/00000000000000000001.jsonl", wrong)
    else:
        storage.backend.append(key, wrong, expected_size=len(data))

    report = storage.open().stream("orders").verify()

    assert not report.ok
    assert what in report.problems[0].what


def test_verify_reports_an_id_that_is_stored_twice(storage):
    """Two commits written by hand: both whole, both with one id."""
    stream = storage.open().stream("orders")
    stream.append(event(0))
    [(key, data)] = storage.contents("streams/orders/0/").items()
    if storage.kind == "put":
        storage.backend.put("streams/orders/0/00000000000000000001.jsonl", data)
    else:
        storage.backend.append(key, data, expected_size=len(data))

    report = storage.open().stream("orders").verify()

    assert [(problem.partition, problem.offset) for problem in report.problems] == [("0", 1)]
    assert "e0" in report.problems[0].what


def test_verify_does_not_call_unreachable_storage_damaged(storage):
    store = storage.open()
    store.stream("orders").append(event(0))
    store.backend.plan = lambda call: Fail(BackendUnavailableError("gone")) if call.key.endswith(".jsonl") else None

    with pytest.raises(BackendUnavailableError):
        store.stream("orders").verify()


# -- sync --------------------------------------------------------------------------------------------------------------


def test_interval_syncs_what_waits_when_the_store_is_closed(tmp_path):
    storage = Storage("local", tmp_path)
    before = set(threading.enumerate())
    store = storage.open(sync="interval")
    stream = store.stream("orders")
    for number in range(5):
        stream.append(event(number))

    store.close()

    assert set(threading.enumerate()) <= before
    assert store.backend.count("append") == 5
    assert ids(storage.open().stream("orders").read()) == [f"e{number}" for number in range(5)]
    storage.close()


# -- the clock that a store is given -----------------------------------------------------------------------------------


def test_append_that_finds_no_server_gives_up_within_its_budget(putting):
    clock = FakeClock()
    store = putting.open(clock=clock)
    stream = store.stream("orders")
    stream.append(event(0))
    store.backend.plan = lambda call: Fail() if call.method == "put" else None

    with pytest.raises(BackendUnavailableError):
        stream.append(event(1))

    assert 0 < sum(clock.slept_seconds) <= 20
    store.backend.plan = lambda call: None
    assert ids(stream.read()) == ["e0"]


def test_times_of_events_and_of_the_clock_are_independent(storage):
    store = storage.open(clock=FakeClock())
    late = Event(type="late", time=event(0).time + timedelta(days=4000))

    store.stream("orders").append(late)

    assert next(iter(store.stream("orders").read())).time == late.time


# -- damage ------------------------------------------------------------------------------------------------------------


def test_reader_names_the_place_of_the_damage(storage):
    stream = storage.open().stream("orders")
    for number in range(4):
        stream.append([event(2 * number), event(2 * number + 1)])
    files = storage.contents("streams/orders/0/")
    if storage.kind == "put":
        key = "streams/orders/0/00000000000000000004.jsonl"
        at = 0
    else:
        [key] = files
        at = files[key].find(b'"e4"')
    damaged = bytearray(files[key])
    damaged[at + 3] ^= 1
    storage.backend.delete([key])
    storage.backend.put(key, bytes(damaged))
    reader = storage.open().stream("orders").read()

    with pytest.raises(CorruptSegmentError) as caught:
        list(reader)

    assert caught.value.key == key
    assert caught.value.offset == 4
    assert reader.cursor.get("0", 0) <= 4


def test_a_reader_whose_data_is_looked_at_gets_it_decoded_and_one_beside_it_does_not(storage):
    stream = storage.open().stream("orders")
    for number in range(6):
        stream.append([event(number * 1000 + place, data={"n": place}) for place in range(1000)])
    looking, passing = stream.read_batches(), stream.read_batches()

    for batch, other in zip(looking, passing, strict=True):
        assert all(one.data is not None for one in batch.events)
        last, untouched = batch.events[-1], other.events[-1]

    assert type(last) is Event  # decoded with all of its piece
    assert type(untouched) is StoredEvent
    assert not is_touched(untouched)
