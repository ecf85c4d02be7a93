"""Processes killed with SIGKILL at random: every acknowledged event is stored, and the log stays usable."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import groupby, pairwise
from pathlib import Path

import killed_processes
import pytest

import bucketlog
from bucketlog import Event


def start(*args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, killed_processes.__file__, *map(str, args)], stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    try:
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, said


def read_notes(path: Path) -> list:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes"
    path.mkdir()
    return path


@pytest.mark.parametrize("compactors", [0, 2], ids=["alone", "beside compactors"])
def test_writers_killed_at_random_lose_and_duplicate_nothing(tmp_path: Path, notes: Path, compactors: int):
    folder = tmp_path / "store"
    bucketlog.open(folder).close()
    tail = start("follow", folder, notes)
    finish(start("writers", folder, notes, 200, compactors))

    with bucketlog.open(folder) as store:
        stream = store.stream("s")
        end = stream.append(Event(type="end", id="end"))
        events = list(stream.read())
        report, segments = stream.verify(), stream.stats().segments
        (done,) = stream.compact()
        again = stream.append([Event(type="again", id=event.id) for event in events], on_duplicate="return")
        assert list(stream.read()) == events
        assert stream.verify().problems == ()
    finish(tail)
    ids = [event.id for event in events]

    assert report.problems == ()
    assert segments > (3 if compactors else 5)
    assert done.events <= len(events)
    assert again.offsets == tuple(event.offset for event in events)
    assert sum(path.name.endswith(".zst") for path in folder.rglob("*")) > (10 if compactors else 0)
    assert [event.offset for event in events] == [*range(end.next_offset)]
    assert ids.pop() == "end"
    assert max(Counter(ids).values()) == 1
    acknowledged = [commit for path in notes.glob("writer-*") for commit in read_notes(path)]
    assert len(acknowledged) > 200
    for commit in acknowledged:
        assert [ids[offset] for offset in commit["offsets"]] == commit["ids"]
    check_batches(ids)
    assert read_notes(notes / "tail") == [[offset, event_id] for offset, event_id in enumerate(ids)]
    check_consumer(read_notes(notes / "consumer"), ids)


def check_batches(ids: list[str]) -> None:
    """Batches are complete, contiguous, and in the order in which their writer appended them."""
    written = defaultdict(list)
    for (writer, life, number, size), batch in groupby(map(parts, ids), key=lambda part: (*part[:3], part[4])):
        assert [index for _, _, _, index, _ in batch] == [*range(size)]
        written[writer].append((life, number))
    for batches in written.values():
        assert batches == sorted(set(batches))
        for (life, number), (next_life, next_number) in pairwise(batches):
            assert next_number == (number + 1 if life == next_life else 0)


def parts(event_id: str) -> tuple[str, int, int, int, int]:
    writer, *numbers = event_id.split("/")
    return (writer, *map(int, numbers))


def check_consumer(given: list[tuple[int, int, str]], ids: list[str]) -> None:
    """Each life resumes after the last ack of the one before: no event is skipped, and few are delivered twice."""
    assert len(given) > 20
    for _, offset, event_id in given:
        assert ids[offset] == event_id
    for (life, offset, _), (next_life, next_offset, _) in pairwise(given):
        if life == next_life:
            assert next_offset == offset + 1
        else:
            assert offset - 20 <= next_offset <= offset + 1
    assert given[0][1] == 0


@pytest.mark.parametrize("days", [1, 5])
def test_import_killed_and_restarted_writes_each_event_once_in_order(tmp_path: Path, notes: Path, days: int):
    folder = tmp_path / "store"
    finish(start("import", folder, notes, 40, days))

    with bucketlog.open(folder) as store:
        stream = store.stream("s")

        assert [event.data["number"] for event in stream.read()] == [*range(killed_processes.IMPORTED)]
        assert len(stream.partitions()) == days
        assert stream.verify().problems == ()
    assert read_notes(notes / "import")[0] > 5


def test_forked_processes_keep_using_the_store_of_their_parent(tmp_path: Path):
    folder = tmp_path / "store"
    for process in [start("fork", folder, "one"), start("fork", folder, "other")]:
        finish(process)

    with bucketlog.open(folder) as store:
        events = list(store.stream("s").read())
        assert store.stream("s").verify().problems == ()
    numbers = defaultdict(list)
    for event in events:
        who, _, number = event.id.partition("/")
        numbers[who].append(int(number))
    assert len(numbers) == 2 * (3 + killed_processes.FORKS)
    for found in numbers.values():
        assert found == [*range(len(found))]
    appends = 3 + killed_processes.FORKS * killed_processes.FORK_APPENDS * 2 + killed_processes.FORK_APPENDS
    assert len(events) == 2 * appends
