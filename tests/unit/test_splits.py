"""Splits: parts of a stream for parallel readers, which together hold what a read would have handed out."""

import dataclasses
import multiprocessing
import pickle
import pickletools
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import reduce
from pathlib import Path

import pytest

pytest.importorskip("fsspec")
pytest.importorskip("obstore")

import fsspec
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import MemoryStore, S3Store

import bucketlog
from bucketlog import Cursor, Event, OffsetRange
from bucketlog.errors import CapabilityError, OffsetOutOfRangeError, StoreNotFoundError, UnsupportedFormatError
from bucketlog.reading.splits import _part_evenly, _Span
from bucketlog.storage.location import Location

from .split_readers import counts_of, places_of
from .stores import KINDS, event, ids, opened_storage

SECRET = "not-to-be-shown"


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    yield from opened_storage(request.param, tmp_path)


def fill(stream, *, commits=20, events=10, **fields):
    for number in range(commits):
        stream.append([event(number * events + place, **fields) for place in range(events)])


def joined(splits):
    return [(one.partition, one.offset, one.id) for split in splits for one in split.read()]


def places(events):
    return [(one.partition, one.offset, one.id) for one in events]


@pytest.fixture(scope="module")
def pool():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2])  # a process that is spawned inherits where modules are found
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
            yield executor


# -- what they hold ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 7, 500])
def test_splits_together_are_what_a_read_hands_out(storage, n):
    stream = storage.open().stream("s", partition_by="hash:4")
    for number in range(30):
        stream.append([event(number * 9 + place, subject=f"o-{place}") for place in range(9)])

    splits = stream.splits(n)

    assert joined(splits) == places(stream.read())
    assert len(splits) == min(n, 270)
    assert sum(split.events for split in splits) == 270


def test_splits_of_compacted_segments_are_cut_inside_them(storage):
    stream = storage.open().stream("s")
    fill(stream)
    stream.compact()
    stream.append(event(1000))

    splits = stream.splits(4)

    assert joined(splits) == places(stream.read())
    assert len(splits) == 4
    assert max(split.events for split in splits) < 1.5 * 201 / 4


def test_a_split_passes_over_blocks_without_a_match_and_not_over_its_end(storage):
    stream = storage.open().stream("s")
    for number in range(0, 600, 10):
        stream.append([event(number + k, type=f"t{number // 100}", data="x" * 2000) for k in range(10)])
    stream.compact()
    splits = stream.splits(5)
    assert {split.events for split in splits} == {120}

    for kind in ("t0", "t3", "none"):
        readers = [split.read(types=[kind]) for split in splits]
        assert [one.id for reader in readers for one in reader] == ids(stream.read(types=[kind]))
        assert [reader.cursor for reader in readers] == [split.cursor for split in splits]


def test_splits_begin_at_a_cursor_and_leave_out_other_partitions(storage):
    stream = storage.open().stream("s", partition_by="subject")
    for number in range(40):
        stream.append(event(number, subject="abcd"[number % 4]))
    after = Cursor({"a": 7, "b": 10})

    splits = stream.splits(3, after, partitions=["a", "b", "d"])

    assert joined(splits) == places(stream.read(after, partitions=["a", "b", "d"]))
    assert {one.partition for split in splits for one in split.ranges} == {"a", "d"}


def test_what_is_appended_later_is_in_none_of_them_and_comes_after_their_cursors(storage):
    stream = storage.open().stream("s", partition_by="hash:3")
    for number in range(40):
        stream.append(event(number, subject=f"o-{number % 7}"))
    after = Cursor(dict.fromkeys(stream.partitions(), 1))
    splits = stream.splits(5, after)
    before = stream.cursor()

    for number in range(40, 60):
        stream.append(event(number, subject=f"o-{number % 7}"))

    read = joined(splits)
    cursor = reduce(Cursor.merge, (split.cursor for split in splits), after)
    assert len(read) == 40 - 3
    assert cursor == before
    assert sorted(read + places(stream.read(cursor))) == sorted(places(stream.read(after)))


def test_every_way_to_read_a_split_takes_the_filters(storage):
    stream = storage.open().stream("s")
    for number in range(60):
        stream.append(event(number, type="ab"[number % 2], tags=("t",) if number % 3 else ()))
    splits = stream.splits(3)

    for filters in ({"types": ["a"]}, {"tags": ["t"], "types": ["b"]}, {"since": event(40).time}, {"sources": ["x"]}):
        expected = ids(stream.read(**filters))
        assert [one.id for split in splits for one in split.read(**filters)] == expected
        assert [
            one.id for split in splits for batch in split.read_batches(**filters) for one in batch.events
        ] == expected
        assert [
            one for split in splits for batch in split.read_arrow(**filters) for one in batch["id"].to_pylist()
        ] == expected
    assert [len(list(split.read(limit=2))) for split in splits] == [2, 2, 2]


def test_the_reader_of_a_split_tells_how_far_it_came(storage):
    stream = storage.open().stream("s")
    fill(stream)
    split = stream.splits(2)[1]
    first = split.ranges[0].first

    with split.read() as reader:
        before = reader.cursor
        next(reader)
        after = reader.cursor

    assert (before, after) == ({"0": first}, {"0": first + 1})
    reader = split.read(types=["none"])
    assert list(reader) == []
    assert reader.cursor == split.cursor == {"0": 200}


def test_a_stream_by_day_hands_out_an_id_once_within_a_split(storage):
    one, other = storage.open(), storage.open()
    one.stream("s", partition_by="day").append(event(0))
    state = one.stream("s")._state
    twice = [event(5, id="twice", days=day) for day in (1, 2)]
    one.stream("s").append(twice[0])
    other.stream("s").append(event(6, days=2))
    other.stream("s")._state.days.day_of = state.days.day_of = lambda _: {}  # as if neither had seen the other's commit
    other.stream("s").append(twice[1])

    (split,) = one.stream("s").splits(1)

    assert [ids(one.stream("s").read(partitions=[day])).count("twice") for day in one.stream("s").partitions()[1:]] == [
        1,
        1,
    ]
    assert ids(split.read()).count("twice") == 1
    assert ids(split.read()) == ids(one.stream("s").read())


def test_there_are_none_where_there_is_nothing_to_read(storage):
    stream = storage.open().stream("s")
    assert stream.splits(3) == []
    assert stream.splits(3, partitions=["0"]) == []
    fill(stream, commits=1)

    assert stream.splits(3, stream.cursor()) == []
    assert [split.events for split in stream.splits(3, {"0": 9})] == [1]


# -- how they are cut --------------------------------------------------------------------------------------------------


@st.composite
def stretches(draw):
    made = []
    for partition in draw(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True)):
        here = draw(st.integers(0, 100))
        for events in draw(st.lists(st.integers(1, 50), max_size=6)):
            size = draw(st.integers(1, 1000)) * events
            made.append(_Span(partition, here, here + events, size))
            here += events
    return made


@pytest.mark.slow
@given(stretches(), st.integers(1, 12))
def test_parts_hold_each_event_once_in_order(made, n):
    parts = _part_evenly(made, n)

    def every(run):
        return [(one.partition, offset) for one in run for offset in range(one.first, one.next)]

    assert [place for part in parts for place in every(part)] == every(made)
    assert sum(one.size for part in parts for one in part) == sum(one.size for one in made)
    assert len(parts) <= n
    assert all(one.first < one.next for part in parts for one in part)
    assert all(parts)


@pytest.mark.slow
@given(stretches(), st.integers(1, 12))
def test_parts_are_of_about_equal_size(made, n):
    total = sum(one.size for one in made)
    largest_event = max((one.size / (one.next - one.first) for one in made), default=0)

    parts = _part_evenly(made, n)

    for part in parts:
        assert sum(one.size for one in part) <= 1.2 * total / n + 2 * largest_event + 1


def test_a_cut_near_the_beginning_of_a_segment_is_made_there():
    made = [_Span("0", first, first + 100, 1000) for first in range(0, 700, 100)]

    parts = _part_evenly(made, 3)  # of 2333 bytes each

    assert [(part[0].first, part[-1].next) for part in parts] == [(0, 233), (233, 467), (467, 700)]
    assert [[one.first for one in part] for part in _part_evenly(made, 7)] == [[first] for first in range(0, 700, 100)]
    many = [_Span("0", first, first + 100, 1000) for first in range(0, 2900, 100)]
    assert [part[0].first for part in _part_evenly(many, 3)] == [0, 1000, 1900]


def test_the_reader_of_a_split_fetches_its_own_segments_alone():
    storage = next(opened := opened_storage("put", None))
    store = storage.open()
    stream = store.stream("s")
    for number in range(60):
        stream.append(event(100 + number))  # all of one size
    splits = stream.splits(3)
    assert [split.ranges for split in splits] == [
        (OffsetRange("0", 0, 20),),
        (OffsetRange("0", 20, 40),),
        (OffsetRange("0", 40, 60),),
    ]

    before = len(store.backend.calls)
    list(splits[1].read())

    fetched = [
        call.key for call in store.backend.calls[before:] if call.method == "get" and call.key.endswith(".jsonl")
    ]
    assert sorted(fetched) == [f"streams/s/0/{offset:020d}.jsonl" for offset in range(20, 40)]
    opened.close()


# -- what happens meanwhile --------------------------------------------------------------------------------------------


def test_splits_outlive_compaction_and_vacuum(storage):
    stream = storage.open().stream("s")
    fill(stream)
    splits = stream.splits(3)
    expected = places(stream.read())

    stream.compact()
    assert joined(splits) == expected
    stream.vacuum(grace=0, exclusive=True)

    assert not [key for key in storage.contents("streams/s/0/") if key.endswith(".jsonl")]
    assert joined(splits) == expected


def test_a_split_of_what_was_truncated_says_where_the_log_begins(storage):
    stream = storage.open().stream("s")
    fill(stream)
    splits = stream.splits(4)

    stream.truncate(before=120, partition="0")

    with pytest.raises(OffsetOutOfRangeError) as error:
        list(splits[1].read())
    assert (error.value.partition, error.value.start) == ("0", 120)
    assert len(list(splits[3].read())) == splits[3].events


def test_a_split_beyond_the_end_of_a_restored_log_is_an_error(tmp_path):
    with bucketlog.open(tmp_path / "store") as store:
        fill(store.stream("s"), commits=1)
        shutil.copytree(tmp_path / "store", tmp_path / "copy")
        fill(store.stream("t"), commits=1)
        store.stream("s").append([event(number) for number in range(100, 140)])
        splits = store.stream("s").splits(2)
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "copy").rename(tmp_path / "store")

    for split in splits:
        with pytest.raises(OffsetOutOfRangeError) as error:
            list(split.read())
        assert error.value.next_offset == 10


def test_a_split_is_not_read_from_another_store_at_the_same_place(tmp_path):
    with bucketlog.open(tmp_path) as store:
        fill(store.stream("s"))
        (split,) = store.stream("s").splits(1)
    (tmp_path / "bucketlog.json").unlink()
    bucketlog.open(tmp_path).close()

    with pytest.raises(StoreNotFoundError, match="recreated since; make the splits again"):
        list(split.read())


def test_a_split_of_a_format_that_is_not_known_is_an_error(tmp_path):
    with bucketlog.open(tmp_path) as store:
        fill(store.stream("s"))
        (split,) = store.stream("s").splits(1)
    (tmp_path / "bucketlog.json").write_text('{"format":"bucketlog/99"}')

    with pytest.raises(UnsupportedFormatError):
        list(split.read())


@pytest.mark.parametrize("after", [{"0": 201}, {"none": 1}])
def test_a_cursor_beyond_the_end_is_an_error_at_once(storage, after):
    stream = storage.open().stream("s")
    fill(stream)

    with pytest.raises(OffsetOutOfRangeError) as error:
        stream.splits(2, after)

    assert {error.value.partition: error.value.offset} == after


def test_a_cursor_before_the_start_is_an_error_at_once(storage):
    stream = storage.open().stream("s")
    fill(stream)
    stream.truncate(before=50, partition="0")

    with pytest.raises(OffsetOutOfRangeError) as error:
        stream.splits(2, {"0": 49})

    assert error.value.start == 50
    assert joined(stream.splits(2)) == places(stream.read())


def test_arguments_that_make_no_sense_are_refused(storage):
    stream = storage.open().stream("s")
    fill(stream, commits=1)

    with pytest.raises(ValueError, match="n=0 is less than 1"):
        stream.splits(0)
    with pytest.raises(TypeError, match="list of names"):
        stream.splits(2, partitions="0")
    with pytest.raises(ValueError, match="limit=-1 is negative"):
        stream.splits(1)[0].read(limit=-1)


# -- elsewhere ---------------------------------------------------------------------------------------------------------


def read_in(pool, splits):
    return [one for found in pool.map(places_of, splits) for one in found]


def expected_of(stream):
    return [(one.partition, one.offset, one.id, one.data) for one in stream.read()]


@pytest.mark.slow
def test_processes_read_the_splits_of_a_directory(pool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with bucketlog.open("./store") as store:
        stream = store.stream("s", partition_by="hash:3")
        for number in range(50):
            stream.append([event(number * 4 + place, subject=f"o-{place}") for place in range(4)])
        splits, expected = stream.splits(4), expected_of(stream)

    assert len(splits) == 4
    assert read_in(pool, splits) == expected
    assert list(pool.map(counts_of, splits)) == [(split.events, split.events) for split in splits]


def test_processes_read_the_splits_of_a_bucket(pool, s3_url, s3_bucket):
    with bucketlog.open(f"{s3_url}/events", **s3_bucket) as store:
        stream = store.stream("s")
        fill(stream)
        stream.compact()
        stream.append(event(1000))
        splits, expected = stream.splits(3), expected_of(stream)

    assert len(splits) == 3
    assert read_in(pool, splits) == expected


def test_processes_read_the_splits_of_a_store_on_a_ready_object_that_pickles(pool, tmp_path, s3_url, s3_bucket):
    options = {"endpoint" if name == "endpoint_url" else name: value for name, value in s3_bucket.items()}
    bucket = S3Store(s3_url.removeprefix("s3://"), **options, client_options={"allow_http": True})
    directory = fsspec.filesystem("dir", path=str(tmp_path), fs=fsspec.filesystem("file"))
    for ready in (bucket, directory):
        with bucketlog.open(ready) as store:
            stream = store.stream("s")
            fill(stream, commits=5)
            splits, expected = stream.splits(2), expected_of(stream)

        assert read_in(pool, splits) == expected


def test_a_pickled_split_equals_the_one_it_was_made_from(tmp_path):
    with bucketlog.open(tmp_path) as store:
        fill(store.stream("s"))
        first, second = store.stream("s").splits(2)

    assert pickle.loads(pickle.dumps(first)) == first != second
    assert len({first, second, pickle.loads(pickle.dumps(first))}) == 2


@pytest.mark.slow
def test_a_pickled_split_names_public_classes_alone_and_loads_in_another_process(tmp_path):
    with bucketlog.open(tmp_path / "store") as store:
        fill(store.stream("s"))
        (split,) = store.stream("s").splits(1)
        expected = [one.id for one in store.stream("s").read()]
    pickled = pickle.dumps(split)
    (tmp_path / "split").write_bytes(pickled)
    program = "import pickle, sys; print(*(one.id for one in pickle.load(open(sys.argv[1], 'rb')).read()))"

    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "split"], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.split() == expected
    assert {module for module in classes_in(pickled) if module.startswith("bucketlog")} == {"bucketlog"}


def test_what_is_public_names_the_package_as_its_module():
    named = {name: getattr(bucketlog, name) for name in bucketlog.__all__}
    wrong = {name for name, value in named.items() if getattr(value, "__module__", "bucketlog") != "bucketlog"}

    assert wrong == set()


def classes_in(pickled: bytes) -> set[str]:
    """The modules that a pickle imports from."""
    found = set()
    texts: list[object] = []
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in {"GLOBAL", "INST"}:
            found.add(argument.split(" ")[0])
        elif opcode.name == "STACK_GLOBAL":
            found.add(texts[-2])
        elif isinstance(argument, str):
            texts.append(argument)
    return found


def test_a_split_shows_no_secret(s3_url, s3_bucket):
    url = f"{s3_url}/events?session_token={SECRET}-3"
    secrets = {"access_key_id": f"{SECRET}-1", "secret_access_key": f"{SECRET}-2"}
    with bucketlog.open(url, **{**s3_bucket, **secrets}) as store:
        fill(store.stream("s"), commits=1)
        (split,) = store.stream("s").splits(1)
        shown = [repr(split), str(split), f"{split.url}", repr(split.__reduce_ex__), repr(split._place)]

    assert SECRET not in "".join(shown)
    assert repr(split).startswith(
        f"Split(url='{s3_url}/events', stream='s', ranges=(OffsetRange(partition='0', first=0"
    )
    assert SECRET.encode() in pickle.dumps(split)  # or no other process could open the store


def test_splits_of_a_store_in_memory_are_for_threads():
    with bucketlog.open("memory://splits-for-threads") as store:
        stream = store.stream("s")
        fill(stream)
        splits, expected = stream.splits(4), expected_of(stream)

        with pytest.raises(CapabilityError, match=r"opened on memory of this process; read the split in a thread, or"):
            pickle.dumps(splits[0])
    with ThreadPoolExecutor(4) as threads:
        assert read_in(threads, splits) == expected


def test_what_does_not_pickle_is_named_and_still_read_in_threads(tmp_path):
    ready = MemoryStore()
    with bucketlog.open(ready) as store:
        fill(store.stream("s"))
        (split,) = store.stream("s").splits(1)

    with pytest.raises(CapabilityError, match="opened on a ready MemoryStore, which does not pickle"):
        pickle.dumps(split)
    assert len(list(split.read())) == 200


def test_an_option_that_does_not_pickle_is_named(tmp_path):
    with bucketlog.open(tmp_path) as store:
        fill(store.stream("s"), commits=1)
        (split,) = store.stream("s").splits(1)
    options = {"region": "x", "token": lambda: SECRET}
    split = dataclasses.replace(split, _place=Location("fsspec", "gs://bucket", options))

    with pytest.raises(CapabilityError, match="opened on the option 'token', which does not pickle") as error:
        pickle.dumps(split)
    assert SECRET not in str(error.value)


def test_splits_of_a_store_on_a_backend_read_through_it_and_leave_it_open(storage):
    store = storage.open()
    fill(store.stream("s"))
    (split,) = store.stream("s").splits(1)

    with pytest.raises(CapabilityError, match="opened on a backend of this process"):
        pickle.dumps(split)
    assert len(list(split.read())) == 200

    assert store.stream("s").append(Event(type="t")).next_offset == 201


@pytest.mark.slow
def test_a_worker_without_the_store_says_so(pool, tmp_path):
    with bucketlog.open(tmp_path / "store") as store:
        fill(store.stream("s"))
        splits = store.stream("s").splits(2)
    shutil.rmtree(tmp_path / "store")

    with pytest.raises(StoreNotFoundError, match="store"):
        read_in(pool, splits)
