"""Processes that are killed at random; test_crashes.py runs this file.

    python killed_processes.py writers FOLDER NOTES KILLS COMPACTORS
        several writers of one partition, a consumer of it, and compactors
    python killed_processes.py import FOLDER NOTES KILLS DAYS
        an import that is killed and started again
    python killed_processes.py follow FOLDER NOTES
        a tail, until an event of type "end"
    python killed_processes.py fork FOLDER NAME
        processes that keep using the store their parent opened

Each process notes what it was acknowledged in a file in the folder NOTES. The notes survive a SIGKILL.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np  # noqa: F401  (for compactions; a process may be killed before it has loaded them)
import zstandard  # noqa: F401

import bucketlog
from bucketlog import Event
from bucketlog.format import compacting
from bucketlog.format import segments as seg
from bucketlog.log import ids
from bucketlog.maintenance import compaction

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 20260205
IMPORTED = 3000
WRITERS, THREADS = 3, 2
FORKS, FORK_APPENDS = 6, 30


def spawn(run: Callable[[], None]) -> int:
    """Fork a process that calls `run` and exits. Returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        run()
        status = 0
    except BaseException:  # noqa: BLE001  (shown before the process exits)
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def kill(pid: int) -> bool:
    """Kill a process. Returns False if it had already exited."""
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit("a process failed before it was killed")
    return False


def open_notes(notes: Path, name: str) -> Callable[[object], None]:
    fd = os.open(notes / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return lambda value: os.write(fd, json.dumps(value).encode() + b"\n") and None


# -- writers -----------------------------------------------------------------------------------------------------------


def write(folder: Path, notes: Path, writer: int, life: int) -> None:
    """Append batches from several threads, endlessly. An id names its batch, its index there and the batch size."""
    note = open_notes(notes, f"writer-{writer}")
    stream = bucketlog.open(folder).stream("s")

    def run(thread: int) -> None:
        chance = random.Random(f"{SEED} {writer} {life} {thread}")
        for number in itertools.count():
            size = chance.randint(1, 5)
            ids = [f"{writer}-{thread}/{life}/{number}/{index}/{size}" for index in range(size)]
            done = stream.append([Event(type="e", id=event_id, data="x" * chance.randrange(400)) for event_id in ids])
            note({"ids": ids, "offsets": done.offsets})

    threads = [threading.Thread(target=run, args=(thread,), daemon=True) for thread in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    raise RuntimeError("a writer stopped")


def consume(folder: Path, notes: Path, life: int) -> None:
    note = open_notes(notes, "consumer")
    with bucketlog.open(folder).subscribe("s", "consumer") as events:
        for count, event in enumerate(events):
            note([life, event.offset, event.id])
            if count % 20 == 19:
                events.ack()


def compact(folder: Path) -> None:
    stream = bucketlog.open(folder).stream("s")
    while True:
        stream.compact()
        time.sleep(0.002)


def writers(folder: Path, notes: Path, kills: int, compactors: int) -> None:
    chance = random.Random(SEED)
    lives = itertools.count()

    def live(slot: int, life: int) -> None:
        if slot < WRITERS:
            write(folder, notes, slot, life)
        elif slot == WRITERS:
            consume(folder, notes, life)
        else:
            compact(folder)

    def begin(slot: int) -> int:
        life = next(lives)
        return spawn(lambda: live(slot, life))

    running = [begin(slot) for slot in range(WRITERS + 1 + compactors)]
    for _ in range(kills):
        time.sleep(chance.uniform(0.005, 0.06))
        slot = chance.randrange(len(running))
        kill(running[slot])
        running[slot] = begin(slot)
    for pid in running:
        kill(pid)


# -- imports -----------------------------------------------------------------------------------------------------------


def import_all(folder: Path, *, days: int) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    stream = bucketlog.open(folder).stream("s", partition_by="day" if days > 1 else "single")
    with stream.writer(max_events=50, linger=0.005, on_duplicate="skip") as writer:
        for number in range(IMPORTED):
            day = begin + timedelta(days=number * days // IMPORTED)
            writer.append(Event(type="e", id=str(number), time=day, data={"number": number}))


def imports(folder: Path, notes: Path, kills: int, days: int) -> None:
    chance = random.Random(SEED)
    note = open_notes(notes, "import")
    killed = 0
    for _ in range(kills):
        pid = spawn(lambda: import_all(folder, days=days))
        time.sleep(chance.uniform(0.01, 0.15))
        killed += kill(pid)
    note(killed)
    import_all(folder, days=days)


# -- tails and forks ---------------------------------------------------------------------------------------------------


def follow(folder: Path, notes: Path) -> None:
    note = open_notes(notes, "tail")
    with bucketlog.open(folder).stream("s").tail() as events:
        for event in events:
            if event.type == "end":
                return
            note([event.offset, event.id])


def fork(folder: Path, name: str) -> None:
    """Fork while a thread appends. Parent and children keep using the same store object."""
    stream = bucketlog.open(folder).stream("s")

    def append(who: str, count: int) -> None:
        for number in range(count):
            stream.append(Event(type="e", id=f"{name}, {who}/{number}"))

    append("before", 3)
    thread = threading.Thread(target=append, args=("thread", FORKS * FORK_APPENDS))
    thread.start()
    children = [spawn(lambda who=f"child {child}": append(who, FORK_APPENDS)) for child in range(FORKS)]
    append("parent", FORK_APPENDS)
    thread.join()
    for child in children:
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            sys.exit("a child failed")


if __name__ == "__main__":
    seg.SEGMENT_BYTES_MAX = 8000  # small, so that a writer may be killed while it starts a new segment
    compacting.BLOCK_BYTES = 2000
    ids.RUN_EVENTS = 64
    (compaction.plan.__kwdefaults__ or {})["fan_in"] = 4
    what, where, *rest = sys.argv[1:]
    match what:
        case "writers":
            writers(Path(where), Path(rest[0]), int(rest[1]), int(rest[2]))
        case "import":
            imports(Path(where), Path(rest[0]), int(rest[1]), int(rest[2]))
        case "follow":
            follow(Path(where), Path(rest[0]))
        case "fork":
            fork(Path(where), rest[0])
