"""Streams while they are compacted, and afterwards: nothing that is read changes, whatever goes wrong on the way."""

import itertools
import random
import threading
from contextlib import suppress
from datetime import timedelta

import pytest

from bucketlog import Event
from bucketlog.backend import ABSENT
from bucketlog.errors import (
    BackendUnavailableError,
    BucketlogError,
    CorruptSegmentError,
    DuplicateEventError,
    OffsetConflictError,
    ReadOnlyError,
)
from bucketlog.format import compacted, compacting
from bucketlog.format import segments as seg
from bucketlog.log import compacted_reading, listing, partition_reader
from bucketlog.log import ids as ids_module
from bucketlog.maintenance import compaction
from bucketlog.reading import recent as lookup
from bucketlog.testing import Crash, CrashAfter, Fail, FakeClock, Hold, LoseAnswer, SimulatedCrash

from .stores import DEADLINE_SECONDS, KINDS, START, Storage, event, ids, opened_storage, start

FAN_IN = 3
SUBJECTS = "abc"


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    yield from opened_storage(request.param, tmp_path)


@pytest.fixture(params=["memory", "put"])
def either_way(request, tmp_path):
    """One storage for each way to commit."""
    yield from opened_storage(request.param, tmp_path)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    """Let a few events be many blocks, many runs of ids and many orders of size."""
    monkeypatch.setattr(seg, "SEGMENT_BYTES_MAX", 1500)
    monkeypatch.setattr(compacting, "BLOCK_BYTES", 400)
    monkeypatch.setattr(compacted, "_TAIL_BYTES", 300)
    monkeypatch.setattr(ids_module, "RUN_EVENTS", 8)
    monkeypatch.setattr(compacted_reading, "_UNPACKED_BYTES", 1000)
    monkeypatch.setattr(lookup, "_BLOCKS_AT_ONCE", 2)
    monkeypatch.setattr(lookup, "_BLOCKS_AT_ONCE_REMOTE", 3)
    monkeypatch.setattr(lookup, "_GAP_BYTES", 200)
    monkeypatch.setitem(compaction.plan.__kwdefaults__, "fan_in", FAN_IN)


numbers = itertools.count()


def some(count, *, shuffled=False):
    """Make new events of several subjects, types and tags, a few with the same time."""
    return [
        Event(
            type=f"type {number % 5}",
            id=f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" if shuffled or number % 3 == 0 else f"z{number:06}",
            subject=SUBJECTS[number % 3],
            source=None if number % 4 else "somewhere",
            tags=(f"tag {number % 7}",) if number % 2 else (),
            time=START + timedelta(seconds=number // 2 - 40 * (number % 11 == 0)),
            data={"number": number, "text": "x" * (number * 37 % 90)},
        )
        for number in itertools.islice(numbers, count)
    ]


def append_some(stream, commits, **how):
    for _ in range(commits):
        stream.append(some(1 + next(numbers) % 5, **how))


def compacted_keys(storage):
    return [key for key in storage.contents("streams/") if key.endswith(".zst")]


def live_keys(storage):
    return [key for key in storage.contents("streams/") if key.endswith(".jsonl")]


def counting(stream):
    return [one for name in stream.partitions() for one in stream._state.reader(name).list_segments()]


def everything(stream):
    """Read all there is, in every way there is."""
    events = list(stream.read())
    by_partition = {name: [one for one in events if one.partition == name] for name in stream.partitions()}
    times = sorted({one.time for one in events})
    chosen = times[:: max(len(times) // 6, 1)]
    found = {
        "events": [(one.partition, one.offset, one.id, one.data) for one in events],
        "batches": [one.id for batch in stream.read_batches() for one in batch.events],
        "end": stream.cursor(),
        "stats": [(one.partition, one.start, one.next_offset) for one in stream.stats().partitions],
        "types": [ids(stream.read(types=[f"type {number}"])) for number in range(6)],
        "subjects": [ids(stream.read(subjects=[subject, "nobody"])) for subject in SUBJECTS],
        "sources": ids(stream.read(sources=["somewhere"])),
        "tags": [ids(stream.read(tags=[f"tag {number}", "tag 5"])) for number in range(8)],
        "all at once": ids(stream.read(types=["type 1", "type 2"], subjects=["a"], tags=["tag 1", "tag 3"])),
        "times": [ids(stream.read(since=since, until=until)) for since in (None, *chosen) for until in (None, *chosen)],
        "recent": [ids(stream.recent(n)) for n in (0, 1, 7, 10_000)],
        "recent of a subject": [ids(stream.recent(4, subject=subject)) for subject in (*SUBJECTS, "nobody")],
        "recent of a time": [ids(stream.recent(3, since=one, until=chosen[-1])) for one in chosen],
        "got": [stream.get(one.id) for one in events],
        "not got": [stream.get(one) for one in ("", "no such id", "z999999", "0" * 16)],
    }
    for name, there in by_partition.items():
        for offset in range(len(there) + 1):
            reader = stream.read({name: offset}, partitions=[name])
            assert list(reader) == there[offset:]
            assert reader.cursor == {name: len(there)}
            reader = stream.read({name: offset}, partitions=[name], types=["type 1"], limit=2)
            found[name, offset] = (ids(reader), reader.cursor)
    newest_first = sorted(events, key=lambda one: (one.time, one.id), reverse=True)
    assert found["recent"][-1] == ids(newest_first)
    assert found["recent"][2] == ids(newest_first[:7])
    assert found["got"] == events
    report = stream.verify()
    assert report.problems == ()
    assert report.events == len(events)
    return found


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("partition_by", ["single", "subject"])
def test_everything_reads_the_same_after_each_of_many_compactions(storage, partition_by):
    stream = storage.open().stream("s", partition_by=partition_by)
    other = storage.open()
    for _ in range(4):
        append_some(stream, 5)
        before = everything(stream)

        done = other.stream("s").compact()

        assert sum(one.events for one in done) > 0
        assert all(one.next is not None for one in counting(stream))
        assert everything(stream) == before
        assert everything(other.stream("s")) == before
        assert everything(storage.open(read_only=True).stream("s")) == before
    assert len(compacted_keys(storage)) >= 5


def test_compacting_again_changes_nothing(storage):
    stream = storage.open().stream("s", partition_by="subject")
    append_some(stream, 12)
    stream.compact()
    before = storage.contents()

    for process in (stream, storage.open().stream("s")):
        assert [(one.partition, one.events, one.segments_before, one.segments_after) for one in process.compact()] == [
            (name, 0, 0, 0) for name in "abc"
        ]
        assert storage.contents() == before


def test_compaction_tells_what_it_did(storage):
    stream = storage.open().stream("s")
    append_some(stream, 8)
    before = counting(stream)

    (done,) = stream.compact()

    after = counting(stream)
    assert (done.partition, done.events) == ("0", stream.cursor()["0"])
    assert (done.segments_before, done.bytes_before) == (len(before), sum(one.size for one in before))
    assert (done.segments_after, done.bytes_after) == (len(after), sum(one.size for one in after))


def test_nothing_is_removed_or_replaced_by_a_compaction(storage):
    stream = storage.open().stream("s")
    append_some(stream, 9)
    for _ in range(3):
        append_some(stream, 3)
        before = storage.contents()
        stream.compact()
        after = storage.contents()
        assert {key: after[key] for key in before} == before


@pytest.mark.timeout(60)
def test_a_compaction_comes_to_an_end_where_listings_never_show_what_it_made(either_way, monkeypatch):
    stream = either_way.open().stream("s")
    append_some(stream, 12)
    stream._state.writer("0").close_newest()
    expected = ids(stream.read())
    listed = counting(stream)
    real = partition_reader.PartitionReader.list_segments

    def list_segments(self, **how):
        real(self, **how)
        return [*listed]

    monkeypatch.setattr(partition_reader.PartitionReader, "list_segments", list_segments)

    (done,) = stream.compact()

    assert done.segments_before == len(listed)
    monkeypatch.setattr(partition_reader.PartitionReader, "list_segments", real)
    assert ids(stream.read()) == expected
    assert all(one.next is not None for one in counting(stream))


@pytest.mark.parametrize("page_entries", [1, 2, 3, 5])
def test_pages_of_a_listing_may_end_anywhere(storage, monkeypatch, page_entries):
    monkeypatch.setattr(listing, "PAGE_ENTRIES", page_entries)
    stream = storage.open().stream("s")
    for _ in range(8):
        append_some(stream, 3)
        expected = [(one.offset, one.id) for one in stream.read()]
        stream.compact()
        for process in (stream, storage.open().stream("s")):
            assert [(one.offset, one.id) for one in process.read()] == expected
            assert process.cursor() == {"0": len(expected)}
            assert all(one.segments_before == 0 for one in process.compact())


def test_a_stream_that_was_never_written_has_nothing_to_compact(storage):
    stream = storage.open().stream("never")

    assert stream.compact() == []
    assert stream.compact(dry_run=True) == []
    assert storage.contents("streams/") == {}


def test_a_dry_run_tells_what_would_be_merged_and_writes_nothing(storage):
    stream = storage.open().stream("s", partition_by="subject")
    append_some(stream, 9)
    before = storage.contents()

    dry = storage.open().stream("s").compact(dry_run=True)

    assert storage.contents() == before
    wet = stream.compact()
    assert [(one.partition, one.segments_before, one.bytes_before) for one in dry] == [
        (one.partition, one.segments_before, one.bytes_before) for one in wet
    ]
    assert all((one.events, one.segments_after, one.bytes_after) == (0, 0, 0) for one in dry)


def test_a_store_opened_for_reading_refuses_to_compact_but_tells_what_there_is_to_do(storage):
    append_some(storage.open().stream("s"), 3)
    before = storage.contents()
    stream = storage.open(read_only=True).stream("s")

    with pytest.raises(ReadOnlyError, match="compact stream 's'"):
        stream.compact()

    assert stream.compact(dry_run=True)[0].segments_before
    assert storage.contents() == before


def test_progress_is_told_of_all_that_is_read(storage):
    stream = storage.open().stream("s", partition_by="subject")
    append_some(stream, 20)
    told = []

    done = stream.compact(progress=lambda read, total: told.append((read, total)))

    reads = [read for read, _ in told]
    assert reads == sorted(reads)
    assert all(0 < read <= total for read, total in told)
    assert reads[-1] >= sum(one.bytes_before for one in done)


@pytest.mark.slow
def test_a_progress_that_raises_ends_the_compaction_and_nothing_is_lost(storage):
    stream = storage.open().stream("s")
    append_some(stream, 12)
    before = everything(stream)

    def interrupt(read, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream.compact(progress=interrupt)

    assert everything(stream) == before
    stream.compact()
    assert everything(stream) == before


def test_a_stream_by_day_is_compacted_day_by_day(storage):
    stream = storage.open().stream("s", partition_by="day")
    for number in range(24):
        stream.append(event(number, days=number % 3))
    before = ids(stream.read()), ids(stream.recent(5))

    assert [one.events for one in stream.compact()] == [8, 8, 8]

    for process in (stream, storage.open().stream("s")):
        assert (ids(process.read()), ids(process.recent(5))) == before


# -- tails -------------------------------------------------------------------------------------------------------------


def polled(tail):
    found = []
    while got := tail.poll():
        found += got
    return ids(found)


def test_tails_get_every_event_once_whenever_they_begin(storage):
    stream = storage.open().stream("s")
    follower = storage.open().stream("s")
    early, filtered = follower.tail(), follower.tail(types=["type 1"])
    seen, seen_filtered = [], []
    late = []
    for number in range(6):
        append_some(stream, 5)
        if number % 2:
            seen += polled(early)
        tail = follower.tail()
        begun = ids(tail.poll())
        late.append((tail, begun))
        stream.compact()
        seen += polled(early)
        seen_filtered += polled(filtered)

    everyone = list(stream.read())
    assert seen == ids(everyone)
    assert seen_filtered == [one.id for one in everyone if one.type == "type 1"]
    assert early.cursor == filtered.cursor == stream.cursor()
    for tail, begun in late:
        assert begun + polled(tail) == ids(everyone)
        assert tail.cursor == stream.cursor()


def test_a_reader_that_began_before_a_compaction_goes_on(storage):
    stream = storage.open().stream("s")
    append_some(stream, 12)
    whole = ids(stream.read())
    readers = [storage.open().stream("s").read({"0": offset}) for offset in range(0, len(whole), 5)]
    begun = [[next(reader).id] for reader in readers]

    stream.compact()
    append_some(stream, 3)
    stream.compact()

    for place, reader in enumerate(readers):
        found = begun[place] + ids(reader)
        assert found == whole[5 * place :][: len(found)]
        assert len(found) >= len(whole) - 5 * place


# -- duplicates --------------------------------------------------------------------------------------------------------


def check_duplicates(stream, stored):
    """Ask of every stored id, one by one and many at a time."""
    end = stream.cursor()["0"]
    for one in stored:
        done = stream.append(Event(type="again", id=one.id), on_duplicate="return")
        assert (done.offsets, done.duplicates, done.next_offset) == ((one.offset,), (0,), end)
    batch = [Event(type="again", id=one.id) for one in stored]
    assert stream.append(batch, on_duplicate="return").offsets == tuple(one.offset for one in stored)
    with pytest.raises(DuplicateEventError) as told:
        stream.append([Event(type="new", id=f"new {next(numbers)}"), batch[len(batch) // 2]])
    assert (told.value.event_id, told.value.offset) == (stored[len(stored) // 2].id, stored[len(stored) // 2].offset)
    assert stream.cursor()["0"] == end


@pytest.mark.parametrize("shuffled", [False, True], ids=["mixed ids", "random ids"])
def test_duplicates_are_found_exactly_by_writers_warm_and_cold(storage, shuffled):
    warm = storage.open().stream("s")
    compactor = storage.open().stream("s")
    for _ in range(3):
        append_some(warm, 8, shuffled=shuffled)
        compactor.compact()
        append_some(warm, 2, shuffled=shuffled)
        stored = list(warm.read())

        for stream in (warm, compactor, storage.open().stream("s")):
            check_duplicates(stream, stored)
    assert ids(warm.read()) == ids(stored)


def test_expected_offsets_mean_the_same_after_a_compaction(storage):
    stream = storage.open().stream("s")
    append_some(stream, 6)
    end = stream.cursor()["0"]
    storage.open().stream("s").compact()

    for process in (storage.open().stream("s"), stream):
        with pytest.raises(OffsetConflictError) as told:
            process.append(event(0), expected_offset=end - 1)
        assert told.value.next_offset == end
        assert process.append(some(1), expected_offset=end).first_offset == end
        end += 1


def test_an_id_stored_on_another_day_is_found_by_a_process_that_compacted_first(storage):
    storage.open().stream("s", partition_by="day").append([event(1), event(2)])
    store = storage.open()
    store.stream("s").compact()

    (done,) = store.stream("s").append(event(1, days=3), on_duplicate="return")

    assert (done.offsets, done.duplicates) == ((0,), (0,))
    assert len(ids(store.stream("s").read())) == 2


# -- the start of the log ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [1, 2, 4, 5, 11])
def test_a_log_that_begins_inside_of_a_commit_is_compacted(storage, before):
    stream = storage.open().stream("s")
    for number in range(4):
        stream.append([event(10 * number + more) for more in range(4)])
    stream.truncate(before=before)
    expected = ids(stream.read())
    assert len(expected) == 16 - before
    for number in range(4, 12):
        stream.append([event(10 * number + more) for more in range(4)])
        stream.compact()

    assert ids(storage.open().stream("s").read())[: 16 - before] == expected
    assert stream.cursor() == {"0": 48}
    assert storage.open().stream("s").verify().problems == ()
    assert any(one.next - one.first > 16 for one in counting(stream))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "put"])
def test_a_compaction_that_is_overtaken_by_a_truncation_anywhere_harms_nothing(kind, tmp_path):
    for nth in itertools.count(1):
        storage = Storage(kind, tmp_path)
        try:
            stream = storage.open(clock=FakeClock()).stream("s")
            append_some(stream, 12)
            end = stream.cursor()["0"]
            compactor = storage.open(clock=FakeClock())
            at = compactor.backend.count() + nth
            overtaken = []

            def truncate(call, storage=storage, at=at, stream=stream, end=end, overtaken=overtaken):
                if call.number >= at and not overtaken and not is_locked(storage):
                    overtaken.append(call)
                    stream.truncate(before=end - 3)

            compactor.backend.plan = truncate
            compactor.stream("s").compact()
            compactor.backend.plan = lambda call: None
            if not overtaken:
                break

            assert len(ids(stream.read())) == 3
            assert stream.verify().problems == ()
            compactor.stream("s").compact()
            assert len(ids(storage.open().stream("s").read())) == 3
            assert all(one.next is not None for one in counting(stream))
        finally:
            storage.close()
    assert nth > 10


def is_locked(storage):
    """Tell whether somebody is inside a lock: who needs it would wait for ever."""
    backend = getattr(storage.backend, "inner", storage.backend)
    return any(held.owners for held in backend._root._folders.values())


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_commits_that_hardly_get_smaller_are_kept_from_making_a_segment_larger_than_one_put_takes(storage, monkeypatch):
    monkeypatch.setattr(seg, "SEGMENT_BYTES_MAX", 20_000)
    monkeypatch.setattr(compaction, "SEGMENT_BYTES_MAX", 9000)
    monkeypatch.setitem(compaction.plan.__kwdefaults__, "bytes_max", 9000)
    monkeypatch.setattr(compaction, "_PUT_BYTES", 12_000)
    chance = random.Random(1)
    stream = storage.open().stream("s")
    for number in range(30):
        stream.append(Event(type="a", id=f"{number:03}", data=chance.randbytes(chance.randrange(100, 8000)).hex()))
        if number % 4 == 3:
            stream.compact()
            assert stream.compact()[0].segments_before == 0

    stream.compact()
    assert ids(storage.open().stream("s").read()) == [f"{number:03}" for number in range(30)]
    made = {key: len(data) for key, data in storage.contents("streams/").items() if key.endswith(".zst")}
    assert max(made.values()) <= 13_000
    assert stream.verify().problems == ()


# -- when something goes wrong -----------------------------------------------------------------------------------------


def calls_of(storage, commits):
    """Return how many calls a compaction makes."""
    store = storage.open(clock=FakeClock())
    before = store.backend.count()
    store.stream("s").compact()
    return store.backend.count() - before


FAULTS = {
    "dies before": (lambda call: Crash(), SimulatedCrash),
    "dies after": (lambda call: CrashAfter(), SimulatedCrash),
    "fails": (lambda call: Fail(), BackendUnavailableError),
    "no answer": (lambda call: LoseAnswer() if call.method != "lock" else Fail(), BucketlogError),
    "late": (lambda call: Hold() if call.method == "put" else Fail(), BucketlogError),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_compaction_that_breaks_off_at_any_call_leaves_a_sound_log_and_the_next_one_goes_on(kind, fault, tmp_path):
    make, error = FAULTS[fault]
    for nth in itertools.count(1):
        storage = Storage(kind, tmp_path / str(nth))
        try:
            stream = storage.open(clock=FakeClock()).stream("s")
            for _ in range(3):  # so that segments of several kinds are merged
                append_some(stream, 4)
                storage.open(clock=FakeClock()).stream("s").compact()
            append_some(stream, 4)
            expected = [(one.offset, one.id) for one in stream.read()]
            store = storage.open(clock=FakeClock())
            begin = store.backend.count()
            store.backend.plan = lambda call, at=begin + nth: make(call) if call.number == at else None
            with suppress(error):
                store.stream("s").compact()
            reached = store.backend.count() - begin >= nth
            store.backend.plan = lambda call: None

            for one in (storage.open(read_only=True), storage.open()):
                assert [(event.offset, event.id) for event in one.stream("s").read()] == expected
            store.backend.release()
            append_some(stream, 2)
            next_one = storage.open(clock=FakeClock()).stream("s")
            next_one.compact()
            assert all(one.next is not None for one in counting(next_one))
            found = [(event.offset, event.id) for event in next_one.read()]
            assert found[: len(expected)] == expected
            assert len(found) == stream.cursor()["0"] == len(list(stream.read()))
            assert next_one.verify().problems == ()
        finally:
            storage.close()
        if not reached:
            break
    assert nth > 10


def damage(storage, key, at, *, by=0x01):
    """Change one byte of what is stored under a key."""
    data = bytearray(storage.backend.get(key).data)
    data[at] ^= by
    storage.backend.delete([key])
    storage.backend.put(key, bytes(data), if_version=ABSENT)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_damage_in_what_is_merged_is_told_and_nothing_is_touched(either_way, which):
    stream = either_way.open().stream("s")
    append_some(stream, 12)
    key = live_keys(either_way)[which]
    damage(either_way, key, 20)
    before = either_way.contents()

    with pytest.raises(CorruptSegmentError) as told:
        either_way.open().stream("s").compact()

    assert told.value.key == key
    assert either_way.contents() == before


def test_damage_in_a_compacted_segment_is_told_by_the_compaction_that_would_merge_it(either_way):
    stream = either_way.open().stream("s")
    for _ in range(FAN_IN - 1):
        append_some(stream, 2)
        stream.compact()
    append_some(stream, 2)
    key = counting(stream)[0].key
    assert key.endswith(".zst")
    damage(either_way, key, 30)
    before = {*either_way.contents()}

    def compact_on():
        for _ in range(FAN_IN):
            append_some(stream, 2)
            either_way.open().stream("s").compact()

    with pytest.raises(CorruptSegmentError) as told:
        compact_on()

    assert told.value.key == key
    assert before <= {*either_way.contents()}


@pytest.mark.slow
def test_every_change_of_a_byte_of_a_compacted_segment_is_harmless_or_told_by_whoever_reads_it(either_way, monkeypatch):
    monkeypatch.setattr(seg, "SEGMENT_BYTES_MAX", 10**6)
    stream = either_way.open().stream("s")
    append_some(stream, 8, shuffled=True)
    stream.compact()
    stored = list(stream.read())
    recent = ids(stream.recent(3, subject="a"))
    (key,) = compacted_keys(either_way)
    size = len(either_way.backend.get(key).data)
    assert {*counting(stream)[0]} >= {key}
    told = 0

    for at in range(0, size, 7):
        damage(either_way, key, at, by=1 << at % 8)
        store = either_way.open()
        fresh = store.stream("s")
        for look in (
            lambda fresh=fresh: ids(fresh.read()) == ids(stored),
            lambda fresh=fresh: ids(fresh.read(subjects=["a"])) == [one.id for one in stored if one.subject == "a"],
            lambda fresh=fresh: ids(fresh.recent(3, subject="a")) == recent,
            lambda fresh=fresh: fresh.get(stored[5].id) == stored[5],
            lambda fresh=fresh: fresh.append(Event(type="a", id=stored[7].id), on_duplicate="return").offsets == (7,),
        ):
            try:
                assert look(), at
            except CorruptSegmentError as err:
                told += 1
                if err.key != key:
                    pytest.fail(f"damage of {key} was told of {err.key}")
        damage(either_way, key, at, by=1 << at % 8)
        store.close()
    assert told > size // 7


def test_damage_that_comes_after_a_writer_has_learnt_the_ids_is_told_as_such(either_way):
    stream = either_way.open().stream("s")
    append_some(stream, 20, shuffled=True)
    stream.compact()
    stored = list(stream.read())
    stream.append(some(1))
    for key in compacted_keys(either_way):
        data = either_way.backend.get(key).data
        either_way.backend.delete([key])
        either_way.backend.put(key, bytes(len(data)), if_version=ABSENT)

    for ask in (
        lambda: stream.append(Event(type="a", id=stored[0].id)),
        lambda: stream.append([Event(type="a", id=one.id) for one in stored]),
    ):
        with pytest.raises(CorruptSegmentError):
            ask()


def test_a_writer_that_met_damage_meets_it_again_instead_of_going_on_behind_it(either_way):
    """What was read in one go with it holds ids that would be stored a second time."""
    stream = either_way.open().stream("s")
    stream.append([event(0)])
    foreign = seg.seal_commit(b'{"number":1}\n', events=1, flags=1, write_id="0" * 16)
    (line,) = either_way.backend.get(live_keys(either_way)[0]).data.splitlines(keepends=True)
    good = seg.seal_commit(
        line.partition(b',"commit"')[0].replace(b"e0", b"e2") + b"}\n", events=1, flags=1, write_id="1" * 16
    )
    if either_way.kind == "put":
        either_way.backend.put(f"streams/s/0/{1:020}.jsonl", foreign, if_version=ABSENT)
        either_way.backend.put(f"streams/s/0/{2:020}.jsonl", good, if_version=ABSENT)
    else:
        either_way.backend.append(live_keys(either_way)[0], foreign + good, expected_size=len(line))
    before = either_way.contents()

    for process in (stream, either_way.open().stream("s")):
        for _ in range(3):
            with pytest.raises(CorruptSegmentError):
                process.append([event(2), event(3)])
    assert either_way.contents() == before


def test_lines_whose_time_has_no_zone_are_told_by_a_compaction(either_way):
    stream = either_way.open().stream("s")
    stream.append([event(0)])
    (key,) = live_keys(either_way)
    zoneless = seg.seal_commit(
        b'{"type":"a","id":"1","time":"2026-02-05T12:00:00"}\n', events=1, flags=1, write_id="0" * 16
    )
    if either_way.kind == "put":
        either_way.backend.put(f"streams/s/0/{1:020}.jsonl", zoneless, if_version=ABSENT)
    else:
        either_way.backend.append(key, zoneless, expected_size=len(either_way.backend.get(key).data))

    with pytest.raises(CorruptSegmentError, match="time"):
        either_way.open().stream("s").compact()


# -- several at once ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_several_compactors_of_different_views_overlap_and_nothing_is_doubled(storage):
    """Each stops where it does, as if it had looked at another time; what they leave behind overlaps."""
    stream = storage.open().stream("s")
    append_some(stream, 20)
    stream._state.writer("0").close_newest()
    expected = [(one.offset, one.id) for one in stream.read()]
    listed = counting(stream)
    chance = random.Random(4)

    for _ in range(12):
        begin = chance.randrange(len(listed) - 1)
        run = listed[begin : begin + chance.randrange(1, 6)]
        compaction.merge(stream._state.reader("0"), run, first=run[0].first, progress=lambda size: None)
        for process in (stream, storage.open().stream("s")):
            assert [(one.offset, one.id) for one in process.read()] == expected
            assert sorted(ids(process.recent(1000))) == sorted(one for _, one in expected)
        everything(storage.open().stream("s"))
    check_duplicates(storage.open().stream("s"), list(stream.read()))

    storage.open().stream("s").compact()

    assert [(one.offset, one.id) for one in stream.read()] == expected
    assert all(one.next is not None for one in counting(stream))
    assert stream.verify().problems == ()


@pytest.mark.slow
def test_compactors_writers_readers_and_tails_work_side_by_side(storage):
    writers, each = 3, 40
    storage.open().stream("s").append(event(-1))
    finished = threading.Event()

    def write(who):
        stream = storage.open().stream("s")
        for number in range(each):
            stream.append([event(100 * number + more, id=f"{who}-{number}-{more}") for more in range(1 + number % 3)])

    def compact():
        stream = storage.open().stream("s")
        while not finished.is_set():
            stream.compact()

    def read():
        stream, longest = storage.open().stream("s"), []
        while not finished.is_set():
            found = ids(stream.read())
            assert found[: len(longest)] == longest
            assert len({*found}) == len(found)
            recent = stream.recent(5)
            assert [(one.time, one.id) for one in recent] == sorted(
                ((one.time, one.id) for one in recent), reverse=True
            )
            longest = found
        return longest

    def follow():
        seen = []
        with storage.open().stream("s").tail(poll=0.01) as tail:
            for one in tail:
                seen.append(one.id)
                if one.id == "end":
                    return seen
        return seen

    upkeep = [start(compact), start(compact), start(read), start(follow)]
    for done in [start(lambda who=who: write(who)) for who in range(writers)]:
        done.result(DEADLINE_SECONDS)
    finished.set()
    upkeep[0].result(DEADLINE_SECONDS)
    upkeep[1].result(DEADLINE_SECONDS)
    storage.open().stream("s").append(event(0, id="end"))

    stream = storage.open().stream("s")
    stream.compact()
    found = ids(stream.read())
    expected = [
        f"{who}-{number}-{more}" for who in range(writers) for number in range(each) for more in range(1 + number % 3)
    ]
    assert sorted(found) == sorted(["e-1", "end", *expected])
    assert found[: len(upkeep[2].result(DEADLINE_SECONDS))] == upkeep[2].result()
    assert upkeep[3].result(DEADLINE_SECONDS) == found
    assert stream.verify().problems == ()
    assert len(compacted_keys(storage)) > 0
    for who in range(writers):
        mine = [one for one in found if one.startswith(f"{who}-")]
        assert mine == [one for one in expected if one.startswith(f"{who}-")]
