"""Measure bucketlog against its peers: `python benchmarks/run.py [--quick] [--json] [NAME …]`.

Each line is one comparison, both sides in the same run, on the same disk and the same events.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import msgspec
from data import departures
from harness import Result, compare, show
from sqlite_peer import EventTable

import bucketlog
from bucketlog.event import check_events, encode_lines, new_id

FOLDER = Path(os.environ.get("BUCKETLOG_BENCH_DIR", Path.cwd()))  # on a real disk: /tmp may be memory


def fresh(events: list[bucketlog.Event]) -> list[bucketlog.Event]:
    """Return the events with new ids: each can be appended once."""
    return [msgspec.structs.replace(one, id=new_id()) for one in events]


def append_single(folder: Path, *, quick: bool) -> list[Result]:
    count = 200 if quick else 1000
    events = departures(count)
    supply = (fresh(events) for _ in itertools.count())
    store = bucketlog.open(folder / "single")
    stream = store.stream("departures")
    table = EventTable(folder / "single.db")
    line = encode_lines(check_events(events[:1], where=""), indexes=(0,), where="") + b"x" * 51
    file = os.open(folder / "bare", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    batches: dict[str, list[bucketlog.Event]] = {}

    def ours() -> int:
        for event in batches["ours"]:
            stream.append(event)
        return count

    def bare() -> int:
        for _ in range(count):
            os.write(file, line)
            os.fdatasync(file)
        return count

    def sqlite() -> int:
        for event in batches["theirs"]:
            table.append_one(event)
        return count

    def supplied(call, side):
        call.prepare = lambda: batches.__setitem__(side, next(supply))
        return call

    results = [
        compare(
            "durable single append, local",
            ours=supplied(ours, "ours"),
            theirs=bare,
            peer="write + fdatasync of as many bytes",
            target="ratio 0.9",
        ),
        compare(
            "durable single append, local",
            ours=supplied(ours, "ours"),
            theirs=supplied(sqlite, "theirs"),
            peer="SQLite, WAL, synchronous=FULL",
            target="ratio 1.0",
        ),
    ]
    os.close(file)
    table.close()
    store.close()
    return results


def append_batch(folder: Path, *, quick: bool) -> list[Result]:
    batches_a_round = 10 if quick else 40
    events = departures(1000 * batches_a_round)
    store = bucketlog.open(folder / "batch")
    stream = store.stream("departures")
    table = EventTable(folder / "batch.db")
    ready: dict[str, list[bucketlog.Event]] = {}

    def in_batches(append) -> int:
        given = ready["events"]
        for start in range(0, len(given), 1000):
            append(given[start : start + 1000])
        return len(given)

    def ours() -> int:
        return in_batches(stream.append)

    def theirs() -> int:
        return in_batches(table.append)

    for call in (ours, theirs):
        call.prepare = lambda: ready.__setitem__("events", fresh(events))  # type: ignore[attr-defined]
    result = compare(
        "durable append in batches of 1,000, local",
        ours=ours,
        theirs=theirs,
        peer="SQLite, one transaction a batch",
        target="ratio 1.5",
    )
    table.close()
    store.close()
    return [result]


def replay(folder: Path, *, quick: bool) -> list[Result]:
    count = 100_000 if quick else 600_000
    store = bucketlog.open(folder / "replay")
    stream = store.stream("departures")
    table = EventTable(folder / "replay.db")
    for _ in range(0, count, 50_000):
        events = departures(50_000)
        for at in range(0, 50_000, 1000):
            stream.append(events[at : at + 1000])
            table.append(events[at : at + 1000])
        del events

    def batches() -> int:
        return sum(len(batch.events) for batch in stream.read_batches())

    def decoded() -> int:
        done = 0
        for batch in stream.read_batches():
            for event in batch.events:
                event.data  # noqa: B018  (decodes it)
            done += len(batch.events)
        return done

    def single() -> int:
        return sum(1 for _ in stream.read())

    size = stream.stats().bytes / count
    rounds = 3 if quick else 5
    results = [
        compare(
            f"replay, read_batches ({size:.0f} bytes an event)",
            ours=batches,
            theirs=table.replay,
            peer="SQLite + json.loads",
            target="at-least 1000000",
            rounds=rounds,
        ),
        compare(
            "replay, read_batches, data decoded",
            ours=decoded,
            theirs=table.replay,
            peer="SQLite + json.loads",
            target="ratio 4",
            rounds=rounds,
        ),
        compare("replay, read", ours=single, theirs=table.replay, peer="SQLite + json.loads", rounds=rounds),
    ]
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    threading.Event().wait(0.01)
    results.append(
        compare(
            "replay, read_batches, on one core",
            ours=batches,
            theirs=table.replay,
            peer="SQLite + json.loads",
            target="at-least 750000",
            rounds=rounds,
        )
    )
    os.sched_setaffinity(0, before)
    table.close()
    store.close()
    results.append(_replay_memory(folder / "replay", count))
    return results


def _replay_memory(url: Path, count: int) -> Result:
    program = (
        "import bucketlog, resource, sys\n"
        "with bucketlog.open(sys.argv[1], create=False, read_only=True) as store:\n"
        "    assert sum(len(one.events) for one in store.stream('departures').read_batches()) == int(sys.argv[2])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(url), str(count)], check=True, capture_output=True, text=True
    )
    peak = int(done.stdout) / 1024
    nan = float("nan")
    return Result(f"memory of a replay of {count:,}", "the whole process", "MB", peak, nan, nan, "at-most 200")


def import_time(folder: Path, *, quick: bool) -> list[Result]:  # noqa: ARG001
    program = "import time; t=time.perf_counter(); import bucketlog; print((time.perf_counter()-t)*1000)"
    took = sorted(
        float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
        for _ in range(5 if quick else 11)
    )
    nan = float("nan")
    return [
        Result("import bucketlog", "median of fresh processes", "ms", took[len(took) // 2], nan, nan, "at-most 150")
    ]


BENCHMARKS = {one.__name__: one for one in (append_single, append_batch, replay, import_time)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which; all unless named")
    parser.add_argument("--quick", action="store_true", help="fewer events and rounds")
    parser.add_argument("--json", action="store_true", help="one object a line")
    options = parser.parse_args()
    for name in options.names or BENCHMARKS:
        with tempfile.TemporaryDirectory(dir=FOLDER, prefix=".bench-") as folder:
            print(f"… {name}", file=sys.stderr)
            show(BENCHMARKS[name](Path(folder), quick=options.quick), as_json=options.json)


if __name__ == "__main__":
    main()
