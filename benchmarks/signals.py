"""Signals beside metaspn-store: ours is on the disk when a write returns, the peer's is in the page cache.

The peer reads its whole history to find the newest signals, and before its first write. So it is measured on one
history that it can read in seconds, with each question asked once; the lines say how many signals that is.
"""

from __future__ import annotations

import gc
import itertools
import json
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import bucketlog
from bucketlog.signals import EntityRef, SignalEnvelope, SignalStore

from .data import BATCH, batches, departures, random_id, some_subjects
from .harness import Result, compare, compare_times
from .scaling import FLAT_RECENT
from .signal_probes import LIMIT, PLATFORM, run_fresh
from .upkeep import compact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from bucketlog import Event

    from .sizes import Size

WRITE_TARGET, REPLAY_TARGET = "ratio 3", "ratio 20"
ANSWER_TARGET = "at-most 50"
_SMALLER = 10  # times smaller than the logs of the scaling curves
_BESIDE_SMALLER = 30  # times smaller than the replayed logs: the history that the peer has to read
_BESIDE_MIN = 300
_CARRIERS = ("UA", "B6", "EV", "DL")
_SOURCES = ("boards.EWR", "boards.JFK", "boards.LGA")
_START, _END = datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 2, tzinfo=UTC)
_STATES = ("live", "compacted")
_STREAM = "signals"


@dataclass
class History:
    """The same signals in two workspaces of ours, live and compacted, and what was measured there."""

    count: int
    folder: Path
    found: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # seconds, by question and state

    def workspace(self, state: str) -> Path:
        """Where they are, `live` or `compacted`."""
        return self.folder / state


@dataclass(frozen=True)
class PeerStore:
    """The peer, with its own copy of a history."""

    label: str
    open: Callable[[Path], Any]
    workspace: Path


def signals(folder: Path, size: Size) -> Iterator[Result]:
    """Measure writing and replaying beside the peer, and what an answer costs as a history grows."""
    beside = History(max(size.replayed // _BESIDE_SMALLER, _BESIDE_MIN), folder / "beside")
    peer, missing = _peer(folder / "peer")
    yield from _writes(folder, size, peer, missing)
    _build(beside)
    if peer is not None:
        peer.open(peer.workspace).write_signals(_departed(beside.count))
    yield from _replays(beside, size, peer, missing)
    histories = [History(events // _SMALLER, folder / f"history-{events}") for events in size.curve]
    for history in histories:
        _build(history)
    yield from _answers(histories, beside, size, peer, missing)


# -- the signals -------------------------------------------------------------------------------------------------------


def _departed(count: int) -> Iterator[SignalEnvelope]:
    """Yield `count` departures as signals with new ids, which are not time-ordered UUIDs, as programs make them."""
    return map(_signal_of, departures(count, ids="random"))


def _signal_of(event: Event) -> SignalEnvelope:
    named = {"carrier": event.data["carrier"], "aircraft": event.subject}
    return SignalEnvelope(
        f"departure/{event.id}",
        event.time,
        f"boards.{event.data['origin']}",
        "FlightDeparted",
        event.data,
        entity_refs=tuple(EntityRef(kind, name, platform=PLATFORM) for kind, name in named.items() if name),
    )


def _renamed(given: Iterable[SignalEnvelope], *, today: bool) -> list[SignalEnvelope]:
    """Return signals with new ids: each can be written once. Those of today are a moment old, one after the other."""
    named = [replace(one, signal_id=f"departure/{random_id()}") for one in given]
    if not today:
        return named
    began = datetime.now(UTC) - timedelta(seconds=len(named) / 1000)
    return [replace(one, timestamp=began + timedelta(milliseconds=at)) for at, one in enumerate(named)]


def _build(history: History) -> None:
    """Write a history, which compacts finished days; copy it day by day for one that is not compacted."""
    _tell(f"building a history of {history.count:,}")
    with SignalStore(history.workspace("compacted")) as store:
        for batch in batches(_departed(history.count), 10 * BATCH):
            store.write_signals(batch)
        root = store.store_root
    with (
        bucketlog.open(root) as compacted,
        SignalStore(history.workspace("live")) as empty,
        bucketlog.open(empty.store_root) as live,
    ):
        compact(compacted.stream(_STREAM))
        target = live.stream(_STREAM, partition_by="day")
        for copied in compacted.stream(_STREAM).read_batches():
            target.append(list(copied.events))


def _peer(workspace: Path) -> tuple[PeerStore | None, str]:
    """Return the peer, or None and why it cannot be measured."""
    try:
        from .peers import metaspn
    except ImportError as err:
        return None, f"metaspn-store is not installed ({err}); `make bench` installs it"
    return PeerStore(metaspn.LABEL, metaspn.open_store, workspace), ""


# -- writing and replaying ---------------------------------------------------------------------------------------------


def _writes(folder: Path, size: Size, peer: PeerStore | None, missing: str) -> Iterator[Result]:
    """A batch of today's signals, as workers write them; and a history, day after day, as an import does."""
    given = list(_departed(BATCH * size.batches))
    line_bytes = len(json.dumps(given[0].to_dict(), separators=(",", ":")))
    for name, today in (("of today", True), ("of the past, day after day", False)):
        ours = _Writing(SignalStore, folder / f"written-{today}", given, today=today)
        title, note = f"write_signals, {len(given):,} {name}", f"{line_bytes} bytes a signal; ours is durable"
        if peer is None:
            yield Result(title, "metaspn-store", "signals/s", None, target=WRITE_TARGET, note=missing)
            continue
        theirs = _Writing(peer.open, folder / f"written-{today}-peer", given, today=today)
        times = compare_times(
            title, ours=ours, theirs=theirs, peer=peer.label, target=WRITE_TARGET, rounds=size.long_rounds, note=note
        )
        yield _as_rates(times, "signals/s")


class _Writing:
    """Writes signals to a new workspace; a call returns the seconds for each signal."""

    def __init__(
        self, open_store: Callable[[Path], Any], folder: Path, given: list[SignalEnvelope], *, today: bool
    ) -> None:
        self._open, self._given, self._today = open_store, given, today
        self._workspaces = (folder / str(number) for number in itertools.count())
        self()  # to warm up

    def __call__(self) -> float:
        signals = _renamed(self._given, today=self._today)
        store = self._open(next(self._workspaces))
        store.write_signal(replace(signals[0], signal_id=f"opened/{random_id()}"))
        gc.collect()
        gc.freeze()  # or each collection would walk over signals that a real program would not hold yet
        started = perf_counter()
        store.write_signals(signals)
        seconds = perf_counter() - started
        if isinstance(store, SignalStore):
            store.close()  # which ends what it does in the background, or the peer would be slowed down by it
        return seconds / len(signals)


def _as_rates(times: Result, unit: str) -> Result:
    """Convert seconds for each signal to signals a second."""
    return replace(
        times,
        unit=unit,
        ours=None if times.ours is None else 1 / times.ours,
        theirs=None if times.theirs is None else 1 / times.theirs,
    )


def _replays(history: History, size: Size, peer: PeerStore | None, missing: str) -> Iterator[Result]:
    for state in _STATES:
        title = f"iter_signals, {history.count:,} signals, {state}"
        with SignalStore(history.workspace(state), read_only=True) as store:
            yield compare(
                title,
                ours=partial(_replayed, store),
                theirs=None if peer is None else partial(_replayed, peer.open(peer.workspace)),
                peer="metaspn-store" if peer is None else peer.label,
                unit="signals/s",
                target=REPLAY_TARGET,
                rounds=size.long_rounds,
                note=missing,
            )


def _replayed(store: Any) -> int:
    return sum(1 for _ in store.iter_signals(_START, _END))


# -- answers -----------------------------------------------------------------------------------------------------------


def _answers(
    histories: list[History], beside: History, size: Size, peer: PeerStore | None, missing: str
) -> Iterator[Result]:
    theirs: dict[str, list[float]] = defaultdict(list)
    rounds = (size.long_rounds + 1) // 2  # in each of them one process asks many questions
    aircraft = some_subjects(size.queries * rounds, among=histories[0].count)
    for number in range(rounds):
        _tell(f"newest signals and first writes, round {number + 1} of {rounds}")
        turn = aircraft[number * size.queries :][: size.queries]
        for history, state in itertools.product(histories, _STATES):
            _ask(history.found, state, str(history.workspace(state)), turn)
        if peer is not None:
            _ask(theirs, "", str(peer.workspace), turn[:1] if number == 0 else [], peer=True)
    about = "metaspn-store" if peer is None else f"{peer.label}, {beside.count:,} signals"
    for question, title in _QUESTIONS.items():
        for state in _STATES:
            for history in histories:
                yield _line(question, title, state, history, theirs.get(f"{question} "), about, missing)
            if question != "aircraft":  # a small history has fewer of them than are asked for
                yield _growth(question, title, state, histories)


def _ask(found: dict[str, list[float]], state: str, workspace: str, aircraft: list[str], *, peer: bool = False) -> None:
    questions = {
        "carrier": [_CARRIERS[at % len(_CARRIERS)] for at in range(len(aircraft))],
        "aircraft": aircraft,
        "source": [_SOURCES[at % len(_SOURCES)] for at in range(len(aircraft))],
    }
    if aircraft:
        answer = run_fresh("recents", workspace=workspace, questions=questions, peer=peer)
        for question, seconds in answer.items():
            found[f"{question} {state}"] += seconds
    found[f"first write {state}"].append(run_fresh("first_write", workspace=workspace, peer=peer)["seconds"])


_QUESTIONS = {
    "carrier": f"newest {LIMIT} of an entity",
    "aircraft": f"newest {LIMIT} of an entity with one or two a day",
    "source": f"newest {LIMIT} of a source",
    "first write": "first write after opening",
}


def _line(
    question: str,
    title: str,
    state: str,
    history: History,
    theirs: list[float] | None,
    about: str,
    missing: str,
) -> Result:
    ours = [seconds * 1000 for seconds in history.found[f"{question} {state}"]]
    peers = statistics.median(theirs) * 1000 if theirs else None
    middle = statistics.median(ours)
    slowest = f"slowest of {len(ours)}: {max(ours):.0f} ms"
    return Result(
        f"{title}, {history.count:,} signals, {state}",
        about,
        "ms",
        middle,
        peers,
        peers / middle if peers else None,
        ANSWER_TARGET,
        "; ".join(filter(None, (slowest, missing))),
    )


def _growth(question: str, title: str, state: str, histories: list[History]) -> Result:
    """Compare the cost of an answer in the largest history with that in the smallest."""
    small, large = histories[0], histories[-1]
    few, many = (statistics.median(one.found[f"{question} {state}"]) * 1000 for one in (small, large))
    grown = f"{large.count:,} / {small.count:,} signals"
    return Result(f"{title} as the history grows, {state}", grown, "ms", many, few, few / many, FLAT_RECENT)


def _tell(what: str) -> None:
    print(f"… signals: {what}", file=sys.stderr, flush=True)
