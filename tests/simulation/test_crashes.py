"""Crashes of real processes and real files: writers killed with SIGKILL, and writes torn at every byte."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest
from world import event

import bucketlog

SECONDS = 12.0
WRITERS = 3

# Appends batches of one to four events for ever, and says how many events were acknowledged.
WRITER = """
import sys
import bucketlog
from bucketlog import Event, segments

segments.SEGMENT_BYTES_MAX = 20_000  # so that they roll often
url, name = sys.argv[1:]
stream = bucketlog.open(url).stream("s")
count = 0
while True:
    size = count % 4 + 1
    batch = [
        Event(type="e", id=f"{name}-{number}", source=name, data={"number": number, "batch": count, "size": size})
        for number in range(count, count + size)
    ]
    stream.append(batch)
    count += size
    print(count, flush=True)
"""


class Writer:
    """One writing process, and how many of its events it has heard to be durable."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.acknowledged = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, url, name], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in self._process.stdout:
            if line.endswith("\n"):
                self.acknowledged = int(line)

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join()
        self._process.stdout.close()


def test_writers_killed_over_and_over_lose_double_and_tear_nothing(tmp_path):
    chance = random.Random(2013)
    url = str(tmp_path / "store")
    store = bucketlog.open(url)
    stream = store.stream("s")
    followed = []
    tail = stream.tail()
    follower = threading.Thread(target=lambda: followed.extend(one.id for one in tail))
    follower.start()
    running = [Writer(url, f"w{number}.0") for number in range(WRITERS)]
    killed = []
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        threading.Event().wait(chance.uniform(0.05, 0.25))
        victim = running.pop(chance.randrange(len(running)))
        victim.kill()
        killed.append(victim)
        running.append(Writer(url, f"{victim.name.partition('.')[0]}.{len(killed)}"))
    for writer in running:
        writer.kill()
    killed += running

    events = list(stream.read())
    report = stream.verify()
    stream.append(event("the log goes on"))
    until = time.monotonic() + 20
    while "the log goes on" not in followed and time.monotonic() < until:
        threading.Event().wait(0.05)
    tail.close()
    follower.join()
    store.close()

    assert report.ok, report.problems
    assert report.segments > 1
    assert [one.offset for one in events] == list(range(len(events)))
    assert followed == [*(one.id for one in events), "the log goes on"]
    assert sum(writer.acknowledged for writer in killed) > 0
    by_writer = {writer.name: [] for writer in killed}
    for one in events:
        by_writer[one.source].append(one)
    for writer in killed:
        _check_what_is_left_of(writer, by_writer[writer.name])


def _check_what_is_left_of(writer, events):
    assert [one.data["number"] for one in events] == list(range(len(events)))  # once, in its own order, without holes
    assert len(events) >= writer.acknowledged
    assert len(events) - writer.acknowledged <= 2 * 4  # the batch that nobody heard of, and one that was not read yet
    if events:
        last = events[-1].data
        assert last["number"] == last["batch"] + last["size"] - 1  # a batch is whole or absent
    for one, following in pairwise(events):
        if one.data["batch"] == following.data["batch"]:
            assert following.offset == one.offset + 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of three commits, and where the last one begins and ends in the only segment."""
    folder = tmp_path_factory.mktemp("whole") / "store"
    with bucketlog.open(folder) as store:
        stream = store.stream("s")
        stream.append(event("0"))
        stream.append([event("1"), event("2", data={"text": "x" * 40})])
        segment = folder / "streams" / "s" / "0" / f"{0:020d}.jsonl"
        start = segment.stat().st_size
        stream.append([event("3", data=[1, 2]), event("4", subject="é")])
    return folder, start, segment.stat().st_size


def test_write_torn_at_any_byte_is_ignored_then_moved_aside(whole, tmp_path):
    folder, start, end = whole
    content = (folder / "streams" / "s" / "0" / f"{0:020d}.jsonl").read_bytes()

    for size in range(start, end):
        torn = tmp_path / "torn"
        shutil.copytree(folder, torn)
        partition = torn / "streams" / "s" / "0"
        os.truncate(partition / f"{0:020d}.jsonl", size)
        with bucketlog.open(torn) as store:
            stream = store.stream("s")

            assert [one.id for one in stream.read()] == ["0", "1", "2"]
            commit = stream.append(event("after"))

            assert commit.offsets == (3,)
            assert [one.id for one in stream.read()] == ["0", "1", "2", "after"]
            assert stream.verify().ok
        aside = [one.read_bytes() for one in partition.glob(".torn-*")]
        assert aside == ([content[start:size]] if size > start else [])
        shutil.rmtree(torn)


@pytest.mark.parametrize("written", [0, 1, 60])
def test_pages_that_were_never_written_are_ignored_then_moved_aside(whole, tmp_path, written):
    folder, start, end = whole
    torn = tmp_path / "torn"
    shutil.copytree(folder, torn)
    segment = torn / "streams" / "s" / "0" / f"{0:020d}.jsonl"
    os.truncate(segment, start + written)
    os.truncate(segment, end)

    with bucketlog.open(torn) as store:
        stream = store.stream("s")
        before = [one.id for one in stream.read()]
        stream.append(event("after"))

        assert before == ["0", "1", "2"]
        assert [one.id for one in stream.read()] == ["0", "1", "2", "after"]
        assert stream.verify().ok
