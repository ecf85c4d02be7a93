"""The newest events and single ones are found by the index exactly as by reading everything."""

import itertools
import random
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bucketlog
from bucketlog import Event
from bucketlog.format import compacted, compacting
from bucketlog.format import segments as seg
from bucketlog.log import compacted_reading
from bucketlog.maintenance import compaction
from bucketlog.reading import recent as lookup
from bucketlog.testing import with_faults
from bucketlog_backends.memory import open_memory

from .stores import PutOnly, ids

START = datetime(2026, 2, 5, tzinfo=UTC)
DAY = timedelta(days=1)
numbers = itertools.count()


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    monkeypatch.setattr(seg, "SEGMENT_BYTES_MAX", 1200)
    monkeypatch.setattr(compacting, "BLOCK_BYTES", 300)
    monkeypatch.setattr(compacted_reading, "_UNPACKED_BYTES", 700)
    monkeypatch.setattr(lookup, "_BLOCKS_AT_ONCE", 2)
    monkeypatch.setattr(lookup, "_BLOCKS_AT_ONCE_REMOTE", 2)
    monkeypatch.setattr(lookup, "_GAP_BYTES", 100)
    monkeypatch.setitem(compaction.plan.__kwdefaults__, "fan_in", 3)


class Log:
    """A stream in memory, as a directory or an object store keeps it, that is read through a handle of its own."""

    def __init__(self, partition_by, *, put):
        self.url = f"memory://lookup-{next(numbers)}"
        self.partition_by, self.put = partition_by, put
        self.store = self.open()
        self.stream = self.store.stream("s", partition_by=partition_by)

    def open(self):
        inner = open_memory(self.url, {}, create=True)
        return bucketlog.open(with_faults(PutOnly(inner) if self.put else inner))

    def compact_a_part(self, chance):
        """Compact some neighbours, as another compactor with another view would: what is compacted overlaps."""
        for name in self.stream.partitions():
            self.stream._state.writer(name).close_newest()
            listed = self.stream._state.reader(name).list_segments()
            begin = chance.randrange(len(listed))
            run = listed[begin : begin + chance.randrange(1, 4)]
            reader = self.stream._state.reader(name)
            compaction.merge(reader, run, first=run[0].first, progress=lambda size: None)


def newest_first(events):
    return sorted(events, key=lambda one: (one.time, one.id), reverse=True)


def check_against_reading(stream, chance):
    everything = list(stream.read())
    times = [one.time for one in everything] or [START]
    for _ in range(12):
        since = chance.choice([None, None, chance.choice(times)])
        until = chance.choice([None, None, chance.choice(times), START + timedelta(days=9)])
        wanted = {
            "types": chance.choice([None, None, ["a"], ["b", "never"], []]),
            "tags": chance.choice([None, None, ["x"], ["y", "z"]]),
            "since": since,
            "until": until,
        }
        subject, source = chance.choice([None, "s1", "s2", "never"]), chance.choice([None, None, "here"])
        expected = newest_first(
            stream.read(
                **wanted,
                subjects=None if subject is None else [subject],
                sources=None if source is None else [source],
            )
        )
        for n in (0, 1, 2, 5, 20, 10_000):
            found = stream.recent(n, **wanted, subject=subject, source=source)
            assert found == expected[:n]
            assert [(one.partition, one.offset) for one in found] == [
                (one.partition, one.offset) for one in expected[:n]
            ]
    for one in chance.sample(everything, min(20, len(everything))):
        found = stream.get(one.id)
        assert found == one
        assert (found.partition, found.offset) == (one.partition, one.offset)
    assert stream.get("never") is None
    assert stream.get("") is None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 8)),
        st.tuples(st.sampled_from(["compact", "compact a part", "truncate"]), st.integers(0, 99)),
    ),
    min_size=3,
    max_size=14,
)


@pytest.mark.slow
@given(
    partition_by=st.sampled_from(["single", "subject", "day", "hash:3"]),
    put=st.booleans(),
    todo=steps,
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_the_newest_and_single_events_are_those_that_reading_finds(partition_by, put, todo, seed):
    log, chance = Log(partition_by, put=put), random.Random(seed)
    for what, number in [("append", 5), *todo]:
        if what == "append":
            for _ in range(number):
                log.stream.append(
                    [
                        Event(
                            type=chance.choice("abc"),
                            id=f"{chance.getrandbits(40):010x}",
                            subject=chance.choice(["s1", "s2", "s3"]),
                            source=chance.choice([None, "here"]),
                            tags=tuple(chance.sample("xyz", chance.randrange(3))),
                            # Few seconds, so that many are equal, over a few days, and in no order.
                            time=START + timedelta(seconds=chance.randrange(6), days=chance.randrange(3)),
                            data="x" * chance.randrange(80),
                        )
                        for _ in range(chance.randrange(1, 5))
                    ]
                )
        elif what == "compact":
            log.open().stream("s").compact()
        elif what == "compact a part":
            log.compact_a_part(chance)
        else:
            name = chance.choice(log.stream.partitions())
            log.stream.truncate(before=number * log.stream.cursor()[name] // 200, partition=name)
    check_against_reading(log.stream, chance)
    check_against_reading(log.open().stream("s"), chance)


def filled(*, put, events=300, partition_by="single"):
    log = Log(partition_by, put=put)
    for begin in range(0, events, 10):
        log.stream.append(
            [
                Event(type="a", id=f"{number:06}", subject=f"s{number % 30}", time=START + timedelta(seconds=number))
                for number in range(begin, begin + 10)
            ]
        )
    return log


@pytest.mark.parametrize("put", [False, True])
def test_late_events_are_among_the_newest_by_their_time_and_not_by_their_offset(put):
    log = filled(put=put)
    log.stream.compact()
    log.stream.append(Event(type="late", id="late", time=START + timedelta(seconds=150, milliseconds=500)))
    log.stream.append(Event(type="early", id="early", time=START + timedelta(days=1)))
    for _ in range(2):
        assert ids(log.stream.recent(3)) == ["early", "000299", "000298"]
        assert ids(log.stream.recent(2, until=START + timedelta(seconds=151))) == ["late", "000150"]
        log.stream.compact()


@pytest.mark.parametrize("put", [False, True])
def test_events_of_equal_times_are_ordered_by_their_ids(put):
    log = Log("single", put=put)
    shuffled = random.Random(1).sample(range(100), 100)
    for number in shuffled:
        log.stream.append(Event(type="a", id=f"{number:03}", time=START))
    log.stream.compact()

    for n in (1, 7, 100, 200):
        assert ids(log.stream.recent(n)) == [f"{number:03}" for number in range(99, max(99 - n, -1), -1)]


@pytest.mark.parametrize("put", [False, True])
def test_few_blocks_are_unpacked_for_the_newest(put, monkeypatch):
    log = filled(put=put)
    log.stream.compact()
    unpacked = []
    real = compacted.CompactedSegment.unpack

    def unpack(self, places):
        unpacked.extend(places)
        return real(self, places)

    monkeypatch.setattr(compacted.CompactedSegment, "unpack", unpack)
    blocks = sum(len(one.blocks) for one in opened(log))
    assert blocks > 50

    assert ids(log.stream.recent(1)) == ["000299"]
    assert len(unpacked) <= 4
    unpacked.clear()
    assert ids(log.stream.recent(2, subject="s7")) == ["000277", "000247"]
    assert len(unpacked) <= 8
    unpacked.clear()
    assert log.stream.get("000123").offset == 123
    assert len(unpacked) <= 2
    unpacked.clear()
    since, until = START + timedelta(seconds=100), START + timedelta(seconds=110)
    assert len(list(log.stream.read(since=since, until=until))) == 10
    assert len(unpacked) <= 8


def opened(log):
    reader = log.stream._state.reader("0")
    return [reader.open_compacted(one) for one in reader.list_segments()]


@pytest.mark.parametrize("put", [False, True])
def test_what_was_merged_and_removed_meanwhile_is_looked_for_again(put):
    log = filled(put=put)
    reader = log.open()
    log.stream.compact()
    expected = ids(log.stream.recent(5, subject="s3"))
    reader.stream("s").recent(5, subject="s3")  # its index is known now
    folder = "streams/s/0/"
    begun = threading.Event()

    def vanish(call):
        """Before the first block is read, a larger segment takes the place of those that were listed."""
        if call.method == "get" and call.key.endswith(".zst") and not begun.is_set():
            begun.set()
            other = log.open()
            listed = other.stream("s")._state.reader("0").list_segments()
            for _ in range(3):
                other.stream("s").append([Event(type="b", id=f"n{next(numbers)}", time=START, data="x" * 900)])
            again = other.stream("s")._state.reader("0")
            other.stream("s")._state.writer("0").close_newest()
            run = again.list_segments()
            compaction.merge(again, run, first=0, progress=lambda size: None)
            other.backend.delete([one.key for one in listed if one.key.endswith(".zst")])
        return

    for look in (
        lambda stream: ids(stream.recent(5, subject="s3")) == expected,
        lambda stream: stream.get("000123").offset == 123,
        lambda stream: len(ids(stream.read(subjects=["s3"]))) == 10,
    ):
        begun.clear()
        reader.backend.plan = vanish
        assert look(reader.stream("s"))
        assert begun.is_set()
    assert [key for key in (one.key for one in log.store.backend.list(folder)) if key.endswith(".zst")]


def test_older_days_of_an_object_store_are_looked_at_side_by_side():
    log = Log("day", put=True)
    for day in range(12):
        log.stream.append(Event(type="e", id=f"{day}", subject="rare" if day == 0 else "s", time=START + day * DAY))
    both = threading.Barrier(2)

    class Meeting(PutOnly):
        def get(self, key, start=0, end=None):
            # Looked at by one thread, these would wait for ever: two of the days behind the newest four.
            if any(f"/2026-02-{5 + day:02}/{0:020d}" in key for day in (6, 7)):
                both.wait(30)
            return super().get(key, start, end)

    with bucketlog.open(Meeting(open_memory(log.url, {}, create=True))) as reader:
        assert ids(reader.stream("s").recent(3, subject="rare")) == ["0"]
    assert not both.broken


@pytest.mark.parametrize("put", [False, True])
def test_days_behind_what_was_asked_for_are_not_looked_at(put):
    log = Log("day", put=put)
    for day in range(12):
        log.stream.append(Event(type="e", id=f"{day:02}", time=START + day * DAY))
    reader = log.open()
    looked_at = set()
    reader.backend.plan = lambda call: looked_at.add(call.key.split("/")[2]) if "/2026-" in call.key else None

    assert ids(reader.stream("s").recent(3)) == ["11", "10", "09"]
    assert looked_at == {"2026-02-16", "2026-02-15", "2026-02-14"}
