"""The cost as the log grows: logs of several sizes, with time-ordered and with random ids, in turn.

Every figure is the median of rounds; in each round all logs are measured one after the other, each in a fresh process.
The files are in the page cache all the time: cold means a cold process.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import bucketlog

from .data import IDS, batches, departures, some_subjects
from .fresh import run_fresh
from .harness import Result, compare_times
from .peers.sqlite import EventTable
from .probes import STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from .sizes import Size

MB = 1024 * 1024
FLAT = "ratio 0.8"  # what counts as flat for appends
FLAT_RECENT = "ratio 0.5"  # and for queries of a few milliseconds
_BYTES_PER_EVENT = 420  # on the disk, live and compacted together
_COPIED_EVENTS_MAX = 100_000  # appending to a log must not change what size it has
_KNOWN_IDS = 1000
_WRITTEN = 100
_QUERY_SECONDS_MAX = 3.0  # a round, where every query reads the whole log
_LARGE_EVENTS, _LARGE_ROUNDS = 1_000_000, 3  # where a live log takes long to open
_SINGLE, _BATCHES = 200, 5


@dataclass
class Log:
    """A log of one size, and what was measured on it: all rounds, by a name that ends with the unit."""

    events: int
    ids: str
    folder: Path
    known: list[str] = field(default_factory=list)
    found: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    missing: str = ""  # why it is not compacted

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self.folder)

    def median(self, name: str) -> float | None:
        """Return the median of the rounds; None where none was measured."""
        return statistics.median(self.found[name]) if self.found.get(name) else None

    def as_object(self) -> dict[str, object]:
        """Return its medians for JSON and the figure."""
        return {
            "events": self.events,
            "ids": self.ids,
            "compacted": not self.missing,
            **{name: self.median(name) for name in sorted(self.found)},
        }


def scaling(folder: Path, size: Size, *, curves: list[dict[str, object]]) -> Iterator[Result]:
    """Measure all logs; add their figures to `curves`, and yield the lines of the table that they give."""
    needed = sum(size.curve) * len(IDS) * _BYTES_PER_EVENT
    if (free := shutil.disk_usage(folder).free) < needed:
        note = f"the logs take {needed / 1e9:.0f} GB, {folder} has {free / 1e9:.0f} GB; see BUCKETLOG_BENCH_DIR"
        yield Result("scaling", "", "", None, target="at-most 0", note=note)
        return
    logs = [Log(events, ids, folder / f"{ids}-{events}") for events in size.curve for ids in IDS]
    _build(logs)
    _measure_live(logs, size)
    _compact(logs)
    _measure(logs, size)
    curves += [log.as_object() for log in logs]
    yield from _lines(logs)
    beside = next(log for log in logs if log.events == size.beside_sqlite)
    yield from _beside_sqlite(beside, folder / "sqlite", size)


# -- measuring ---------------------------------------------------------------------------------------------------------


def _build(logs: Iterable[Log]) -> None:
    for log in logs:
        _tell(f"building a log of {log.events:,}, {log.ids} ids")
        answer = run_fresh("build", url=log.url, count=log.events, ids=log.ids, known=_KNOWN_IDS)
        log.known = answer["ids"]


def _measure_live(logs: Sequence[Log], size: Size) -> None:
    for number in range(size.long_rounds):
        _tell(f"live, round {number + 1} of {size.long_rounds}")
        for log in logs:
            if log.events > _LARGE_EVENTS and number >= _LARGE_ROUNDS:
                continue
            _measure_opening(log, "live")
            _measure_replay(log, "live")


def _compact(logs: Iterable[Log]) -> None:
    for log in logs:
        _tell(f"compacting the log of {log.events:,}, {log.ids} ids")
        answer = run_fresh("compact", url=log.url)
        if "missing" in answer:
            log.missing = str(answer["missing"])
            continue
        log.found["compact_events_per_second"].append(log.events / answer["seconds"])
        log.found["compact_peak_bytes"].append(answer["peak_bytes"])
        log.found["live_bytes"].append(answer["bytes_before"])
        log.found["compacted_bytes"].append(answer["bytes_after"])


def _measure(logs: Sequence[Log], size: Size) -> None:
    subjects = some_subjects(size.queries * size.long_rounds, among=logs[0].events)
    for number in range(size.long_rounds):
        _tell(f"{'live' if logs[0].missing else 'compacted'}, round {number + 1} of {size.long_rounds}")
        turn = slice(number * size.queries, (number + 1) * size.queries)
        for log in logs:
            if not log.missing:
                run_fresh("compact", url=log.url)  # what the last round has appended
                _measure_opening(log, "compacted")
                _measure_replay(log, "compacted")
            _measure_query(log, "recent", subjects=subjects[turn])
            _measure_query(log, "get", ids=log.known[turn] or log.known)
            _measure_append(log)
            answer = run_fresh("write", url=log.url, ids=log.ids, count=_WRITTEN)
            log.found["writer_peak_bytes"].append(answer["peak_bytes"])
            log.found["writer_anonymous_bytes"].append(answer["anonymous_bytes"])


def _measure_opening(log: Log, state: str) -> None:
    log.found[f"open_{state}_seconds"].append(run_fresh("first_append", url=log.url)["seconds"])


def _measure_replay(log: Log, state: str) -> None:
    if log.ids != "uuid7":
        return  # ids are not looked at
    answer = run_fresh("replay", url=log.url)
    log.found[f"replay_{state}_per_second"].append(answer["count"] / answer["seconds"])
    log.found[f"replay_{state}_peak_bytes"].append(answer["peak_bytes"])
    log.found[f"replay_{state}_anonymous_bytes"].append(answer["anonymous_bytes"])


def _measure_append(log: Log) -> None:
    target = log.folder
    if log.events <= _COPIED_EVENTS_MAX:
        target = log.folder.with_name(f"{log.folder.name}-copy")
        shutil.copytree(log.folder, target)
        os.sync()  # or the copy would be written in the time that is measured
    answer = run_fresh("append", url=str(target), single=_SINGLE, batches=_BATCHES, ids=log.ids)
    if target != log.folder:
        shutil.rmtree(target)
    for name in ("p50_seconds", "p99_seconds", "single_per_second", "batched_per_second"):
        log.found[f"append_{name}"].append(answer[name])


def _measure_query(log: Log, probe: str, **arguments: list[str]) -> None:
    answer = run_fresh(probe, url=log.url, seconds_max=_QUERY_SECONDS_MAX, **arguments)
    for name in ("first_seconds", "p50_seconds", "p99_seconds"):
        log.found[f"{probe}_{name}"].append(answer[name])


def _tell(what: str) -> None:
    print(f"… scaling: {what}", file=sys.stderr, flush=True)


# -- lines of the table ------------------------------------------------------------------------------------------------


def _lines(logs: Sequence[Log]) -> Iterator[Result]:
    small, large = (
        {log.ids: log for log in logs if log.events == events} for events in (logs[0].events, logs[-1].events)
    )
    n = f"{logs[-1].events:,} events"
    timed, other = large["uuid7"], large["random"]
    state = "live; " + timed.missing if timed.missing else "compacted"

    for name, target in (("p50", "at-most 5"), ("p99", "at-most 25")):
        ours = _times(timed.median(f"recent_{name}_seconds"), 1000)
        yield Result(
            f"recent(20, subject=…), {n}, {name}", "one process, all subjects", "ms", ours, target=target, note=state
        )
    for name in ("p50", "p99"):
        for log in (timed, other):
            ours = _times(log.median(f"get_{name}_seconds"), 1000)
            yield Result(f"get(id), {n}, {log.ids} ids, {name}", "one process", "ms", ours, note=state)
    for log in (timed, other):
        for kind in ("live", "compacted"):
            yield Result(
                f"cold open and first append, {n}, {log.ids} ids, {kind}",
                "fresh processes, after the import",
                "ms",
                _times(log.median(f"open_{kind}_seconds"), 1000),
                target="at-most 50" if log is timed else "",
                note=log.missing if kind == "compacted" else "",
            )
    for kind in ("live", "compacted"):
        heap = _times(timed.median(f"replay_{kind}_anonymous_bytes"), 1 / MB)
        yield Result(
            f"memory of a replay of {n}, {kind}",
            "peak RSS of the process, mapped pages too",
            "MB",
            _times(timed.median(f"replay_{kind}_peak_bytes"), 1 / MB),
            target="at-most 200",
            note=f"{heap:.0f} MB of it anonymous" if heap else timed.missing,
        )
    for ids in IDS:
        of_many, of_few = large[ids].median("writer_peak_bytes"), small[ids].median("writer_peak_bytes")
        yield Result(
            f"memory for {n.replace(' events', '')} {ids} ids",
            f"peak RSS of a writer, less that at {logs[0].events:,}",
            "MB",
            None if of_many is None or of_few is None else (of_many - of_few) / MB,
            target="at-most 64",
            note=f"{of_many / MB:.0f} MB in all" if of_many else "",
        )
    yield _ratio(
        f"append in batches of 1,000 with random ids, {n}",
        other,
        timed,
        "append_batched_per_second",
        peer="bucketlog with UUIDv7 ids",
        target="ratio 0.5",
    )
    grown = f"{n} / {logs[0].events:,}"
    for name, what in (
        ("append_single_per_second", "single append"),
        ("append_batched_per_second", "append in batches of 1,000"),
    ):
        for ids in IDS:
            title = f"{what} as the log grows, {ids} ids"
            yield _ratio(title, large[ids], small[ids], name, peer=grown, target=FLAT)
    of_many, of_few = (log["uuid7"].median("recent_p50_seconds") for log in (large, small))
    yield Result(
        "recent(20, subject=…) as the log grows, p50",
        grown,
        "ms",
        _times(of_many, 1000),
        _times(of_few, 1000),
        of_few / of_many if of_few and of_many else None,
        FLAT_RECENT,
        state,
    )
    told = [_times(timed.median(name), 1 / MB) or 0 for name in ("live_bytes", "compacted_bytes", "compact_peak_bytes")]
    yield Result(
        f"compact(), {n}",
        "one process",
        "events/s",
        timed.median("compact_events_per_second"),
        note=timed.missing or "{:,.0f} MB become {:,.0f} MB; peak RSS {:,.0f} MB".format(*told),
    )


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _ratio(title: str, ours: Log, theirs: Log, name: str, *, peer: str, target: str) -> Result:
    ratio = statistics.median(a / b for a, b in zip(ours.found[name], theirs.found[name], strict=True))
    return Result(title, peer, "events/s", ours.median(name), theirs.median(name), ratio, target)


def _beside_sqlite(log: Log, path: Path, size: Size) -> Iterator[Result]:
    """Compare lookups by index with SQLite's."""
    _tell(f"building a table of {log.events:,} in SQLite")
    n, peer = f"{log.events:,} events", "SQLite, index on subject and time"
    subjects = some_subjects(size.queries, among=size.curve[0])
    with closing(EventTable(path, indexed=True)) as table, bucketlog.open(log.folder, read_only=True) as store:
        for batch in batches(departures(log.events)):
            table.append(batch)
        stream = store.stream(STREAM)

        def asked(query: Callable[[str], object]) -> Callable[[], float]:
            turn = iter(subjects)

            def call() -> float:
                subject = next(turn)
                started = perf_counter()
                query(subject)
                return (perf_counter() - started) * 1000

            return call

        rounds = min(3, size.queries) if log.missing else size.queries
        yield compare_times(
            f"recent(20, subject=…), {n}, p50",
            ours=asked(lambda subject: stream.recent(20, subject=subject)),
            theirs=asked(lambda subject: table.recent(20, subject)),
            peer=peer,
            rounds=rounds,
            note=log.missing,
        )
    yield compare_times(
        f"cold open and first append, {n}",
        ours=lambda: run_fresh("first_append", url=log.url)["seconds"] * 1000,
        theirs=lambda: run_fresh("first_append_sqlite", path=str(path))["seconds"] * 1000,
        peer=peer,
        rounds=size.long_rounds,
    )
