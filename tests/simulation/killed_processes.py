"""Processes that are killed at random; test_crashes.py runs this file.

    python killed_processes.py writers FOLDER TOLD KILLS COMPACTORS
                                                    several writers of one partition, a consumer of it, and compactors
    python killed_processes.py import FOLDER TOLD KILLS DAYS an import that begins anew each time
    python killed_processes.py follow FOLDER TOLD            a tail, until an event of type "end"
    python killed_processes.py fork FOLDER NAME              processes that go on with the store that their parent had opened

What a process was told, it writes into a file of the folder TOLD: what is written there outlives a SIGKILL.
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

import numpy as np  # noqa: F401  (compactions need them, and a process may not live for as long as loading them takes)
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
    """Fork a process that runs something, and ends."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        run()
        status = 0
    except BaseException:  # noqa: BLE001  (it is shown, and the process ends)
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def kill(pid: int) -> bool:
    """Kill a process; tell whether that ended it, or it had come to its end before."""
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit("a process failed by itself")
    return False


def open_told(told: Path, name: str) -> Callable[[object], None]:
    fd = os.open(told / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return lambda value: os.write(fd, json.dumps(value).encode() + b"\n") and None


# -- writers -----------------------------------------------------------------------------------------------------------


def write(folder: Path, told: Path, writer: int, life: int) -> None:
    """Append batches from several threads without end. An id tells its batch, its place there and the batch's size."""
    tell = open_told(told, f"writer-{writer}")
    stream = bucketlog.open(folder).stream("s")

    def run(thread: int) -> None:
        chance = random.Random(f"{SEED} {writer} {life} {thread}")
        for number in itertools.count():
            size = chance.randint(1, 5)
            ids = [f"{writer}-{thread}/{life}/{number}/{place}/{size}" for place in range(size)]
            done = stream.append([Event(type="e", id=one, data="x" * chance.randrange(400)) for one in ids])
            tell({"ids": ids, "offsets": done.offsets})

    threads = [threading.Thread(target=run, args=(thread,), daemon=True) for thread in range(THREADS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    raise RuntimeError("a writer has stopped")


def consume(folder: Path, told: Path, life: int) -> None:
    tell = open_told(told, "consumer")
    with bucketlog.open(folder).subscribe("s", "consumer") as events:
        for count, event in enumerate(events):
            tell([life, event.offset, event.id])
            if count % 20 == 19:
                events.ack()


def compact(folder: Path) -> None:
    stream = bucketlog.open(folder).stream("s")
    while True:
        stream.compact()
        time.sleep(0.002)


def writers(folder: Path, told: Path, kills: int, compactors: int) -> None:
    chance = random.Random(SEED)
    lives = itertools.count()

    def live(slot: int, life: int) -> None:
        if slot < WRITERS:
            write(folder, told, slot, life)
        elif slot == WRITERS:
            consume(folder, told, life)
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


def imports(folder: Path, told: Path, kills: int, days: int) -> None:
    chance = random.Random(SEED)
    tell = open_told(told, "import")
    killed = 0
    for _ in range(kills):
        pid = spawn(lambda: import_all(folder, days=days))
        time.sleep(chance.uniform(0.01, 0.15))
        killed += kill(pid)
    tell(killed)
    import_all(folder, days=days)


# -- the others --------------------------------------------------------------------------------------------------------


def follow(folder: Path, told: Path) -> None:
    tell = open_told(told, "tail")
    with bucketlog.open(folder).stream("s").tail() as events:
        for event in events:
            if event.type == "end":
                return
            tell([event.offset, event.id])


def fork(folder: Path, name: str) -> None:
    """Fork while a thread appends; parent and children go on with the same store object."""
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
    seg.SEGMENT_BYTES_MAX = 8000  # so that a writer may be killed while it closes a segment and begins the next
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
