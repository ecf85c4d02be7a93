"""What it costs after a compaction: requests, bytes and what is loaded, counted on a simulated object store."""

import random
import subprocess
import sys
from datetime import timedelta
from uuid import UUID

import pytest

import bucketlog
from bucketlog import Event
from bucketlog_backends.memory import open_memory

from .stores import START, PutOnly, ids

EVENTS, SUBJECTS = 40_000, 2000


def uuid7(number, chance):
    return str(UUID(int=(0x019C_0000_0000 + number) << 80 | 0x7 << 76 | chance.getrandbits(62) | 0b10 << 62))


class Counting(PutOnly):
    """An object store that writes down every request, and how many bytes it answered."""

    def __init__(self, inner):
        super().__init__(inner)
        self.requests = []

    def get(self, key, start=0, end=None):
        self.requests.append(("get", key, 0))
        found = super().get(key, start, end)
        self.requests[-1] = ("get", key, len(found.data))
        return found

    def head(self, key):
        self.requests.append(("head", key, 0))
        return super().head(key)

    def put(self, key, data, **how):
        self.requests.append(("put", key, len(data)))
        return super().put(key, data, **how)

    def list(self, prefix, **how):
        self.requests.append(("list", prefix, 0))
        return super().list(prefix, **how)

    def of_segments(self):
        """Return the bytes of each read of a compacted segment."""
        return [size for method, key, size in self.requests if method == "get" and key.endswith(".zst")]


@pytest.fixture(scope="module", params=["ids in order", "ids at random"])
def compacted_url(request):
    """A stream of 40 thousand events of 2000 subjects, some ten megabytes, compacted."""
    chance = random.Random(1)
    url = f"memory://costs-{request.param}"
    with bucketlog.open(PutOnly(open_memory(url, {}, create=True))) as store:
        stream = store.stream("s")
        for begin in range(0, EVENTS, 2000):
            stream.append(
                [
                    Event(
                        type=f"type {number % 11}",
                        id=uuid7(number, chance) if request.param == "ids in order" else chance.randbytes(16).hex(),
                        subject=f"subject {chance.randrange(SUBJECTS)}",
                        time=START + timedelta(seconds=number),
                        data={"number": number, "text": chance.randbytes(60).hex()},
                    )
                    for number in range(begin, begin + 2000)
                ]
            )
        stream.compact()
    return url


def cold(url):
    backend = Counting(open_memory(url, {}, create=True))
    store = bucketlog.open(backend)
    backend.requests.clear()
    return store, backend


@pytest.mark.slow
def test_the_newest_of_a_subject_take_a_handful_of_ranged_reads(compacted_url):
    store, backend = cold(compacted_url)
    stream = store.stream("s")
    expected = ids(stream.read(subjects=["subject 7"]))[::-1][:20]
    assert len(expected) > 10
    for place, subject in enumerate(["subject 7", "subject 8", "subject 9"]):
        backend.requests.clear()
        store.close()
        store, backend = cold(compacted_url)
        found = store.stream("s").recent(20, subject=subject)
        if not place:
            assert ids(found) == expected
        assert len(backend.requests) <= 10
        assert len(backend.of_segments()) <= 6

        # Whoever has the index already reads no more than the blocks.
        backend.requests.clear()
        store.stream("s").recent(20, subject=subject)
        assert len(backend.of_segments()) <= 3


@pytest.mark.slow
def test_one_event_takes_a_handful_of_ranged_reads(compacted_url):
    store, _ = cold(compacted_url)
    event = next(iter(store.stream("s").read({"0": EVENTS // 3})))
    store, backend = cold(compacted_url)

    assert store.stream("s").get(event.id) == event

    assert len(backend.requests) <= 10
    assert sum(backend.of_segments()) < 300_000


def test_a_span_of_time_reads_only_the_blocks_that_can_match(compacted_url):
    store, backend = cold(compacted_url)
    stream = store.stream("s")
    list(stream.read_batches())
    whole = sum(backend.of_segments())
    since, until = START + timedelta(seconds=EVENTS // 2), START + timedelta(seconds=EVENTS // 2 + 300)
    store, backend = cold(compacted_url)

    assert len(list(store.stream("s").read(since=since, until=until))) == 300

    index = 96 * 1024 + 60_000  # the end of the segment, and what is known of each block
    assert sum(backend.of_segments()) < index + 4 * 64 * 1024
    assert sum(backend.of_segments()) < whole / 10
    backend.requests.clear()
    assert list(store.stream("s").read(since=START + timedelta(days=99))) == []
    assert sum(backend.of_segments()) == 0


@pytest.mark.parametrize("events", [1, 100])
def test_the_first_append_of_a_cold_writer_takes_few_requests_and_few_bytes(compacted_url, events):
    chance = random.Random(f"{compacted_url} {events}")
    store, backend = cold(compacted_url)

    store.stream("s").append([Event(type="a", id=uuid7(2 * EVENTS + events + more, chance)) for more in range(events)])

    assert [method for method, *_ in backend.requests].count("put") == 1
    assert len(backend.requests) <= 8
    assert sum(backend.of_segments()) <= 200_000


COLD = """
import sys
import bucketlog
from bucketlog import Event

stream = bucketlog.open(sys.argv[1]).stream("s")
if sys.argv[2] == "one":
    stream.append(Event(type="a"))
else:
    stream.append([Event(type="a") for _ in range(100)])
print(*sorted(name for name in ("numpy", "zstandard", "duckdb", "polars", "pyarrow") if name in sys.modules))
print(stream.cursor()["0"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", ["one", "many"])
def test_the_first_append_of_a_cold_writer_loads_neither_numpy_nor_zstandard(tmp_path, count):
    url = (tmp_path / "store").as_uri()
    with bucketlog.open(url) as store:
        stream = store.stream("s")
        for _ in range(3):
            stream.append([Event(type="a", data="x" * 200) for _ in range(500)])
            stream.compact()
    ran = subprocess.run([sys.executable, "-c", COLD, url, count], check=True, capture_output=True, text=True)

    loaded, end = ran.stdout.split("\n")[:2]
    assert loaded == ""
    assert int(end) == 1500 + (1 if count == "one" else 100)
