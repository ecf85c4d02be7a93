"""Which flights will leave on time? A pipeline of workers on `bucketlog.signals`.

python examples/signals/pipeline.py                        # a week of flights, in demo/signals
python examples/signals/pipeline.py s3://bucket/pipeline   # or anywhere else

Day by day, five workers pass signals to each other:

    ingest      what the boards of the airports said: a flight is announced, departs, or is cancelled
    resolve     whom that is about: a carrier, a route, an aircraft
    score       how likely an announced flight is to leave on time, by what was learned up to the day before
    recommend   the flights with a good score; each of them is an outcome to wait for
    learn       how it turned out, as emissions; and the basis of the next day's scores, as a document

Kill it at any moment and start it again: it resumes where it was, and ends with the same result as an undisturbed
run. Three habits make that work:

1.  A worker moves its checkpoint only when everything that it made from a batch is stored. So a batch may be handled
    twice, but is never left out.
2.  A worker makes the id of what it writes from the id of what it read. So a record that is written twice is stored
    once.
3.  Times and contents come from the signals too, never from the clock. So the second result equals the first.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import report
from airports import DAYS, FIRST_DAY, read_boards

from bucketlog.signals import EmissionEnvelope, EntityRef, ReplayCheckpoint, SignalEnvelope, SignalStore, TraceContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

STORE = Path(__file__).parents[2] / "demo" / "signals"
BATCH_SIGNALS = 500
ON_TIME_MINUTES = 15
GOOD_SCORE = 0.88
OUTCOMES_TAKE = timedelta(days=2)  # no flight left later than that
ENDS = ("FlightDeparted", "FlightCancelled")


class Day(NamedTuple):
    """A UTC day, from its first moment to its last."""

    start: datetime
    end: datetime


# -- the workers -------------------------------------------------------------------------------------------------------


def ingest(store: SignalStore, day: Day, boards: Sequence[SignalEnvelope]) -> Iterator[int]:
    """Store what came in from outside. If you cannot ask for it again, store it before you confirm it."""

    def read_on(*, checkpoint: ReplayCheckpoint | None) -> Iterator[SignalEnvelope]:
        start = day.start if checkpoint is None else max(day.start, checkpoint.last_timestamp)
        return (one for one in boards if start <= one.timestamp <= day.end)

    for batch in batches(store, "ingest", read_on):
        store.write_signals(batch)
        yield len(batch)


def resolve(store: SignalStore, day: Day) -> Iterator[int]:
    """Find out whom each signal is about; here the payload says so."""
    replay = partial(store.iter_signals_from_checkpoint, end=day.end, sources=["boards"])
    for batch in batches(store, "resolve", replay):
        store.write_signals(made_of(one, "resolve", one.payload_type, one.payload, entities(one)) for one in batch)
        yield len(batch)


def score(store: SignalStore, day: Day) -> Iterator[int]:
    """Rate announced flights by how the carrier, and all flights at that hour, have done up to the day before."""
    known = records(store, day.start - timedelta(days=1))
    replay = partial(
        store.iter_recommendation_signals,
        start=FIRST_DAY,
        end=day.end,
        sources=["resolve"],
        payload_types=["FlightAnnounced"],
    )
    for batch in batches(store, "score", replay):
        scored = []
        for one in batch:
            shares = [share_on_time(known.get(name, {})) for name in record_names(one)]
            payload = {**one.payload, "score": round(sum(shares) / len(shares), 3)}
            scored.append(made_of(one, "score", "FlightScored", payload, one.entity_refs))
        store.write_signals(scored)
        yield len(batch)


def recommend(store: SignalStore, day: Day) -> Iterator[int]:
    """Recommend flights with a good score. `RecommendationAttempted` makes each an outcome to wait for."""
    replay = partial(store.iter_recommendation_signals, start=FIRST_DAY, end=day.end, sources=["score"])
    for batch in batches(store, "recommend", replay):
        good = [one for one in batch if one.payload["score"] >= GOOD_SCORE]
        expires = [f"{one.timestamp + OUTCOMES_TAKE:%Y-%m-%dT%H:%M:%SZ}" for one in good]
        store.write_signals(
            made_of(one, "recommend", "RecommendationAttempted", {**one.payload, "expires_at": until}, one.entity_refs)
            for one, until in zip(good, expires, strict=True)
        )
        yield len(batch)


def learn(store: SignalStore, day: Day) -> Iterator[int]:
    """Say of each recommendation how it turned out, then add the day's flights to the carriers' and hours' records."""
    waiting = store.get_unresolved_outcome_signals(start=day.start - OUTCOMES_TAKE, end=day.end)
    recommended = {one.payload["id"]: one for one in waiting}
    replay = partial(store.iter_learning_signals, end=day.end, sources=["resolve"], payload_types=ENDS)
    for batch in batches(store, "learn", partial(replay, start=FIRST_DAY)):
        ended = [(recommended[one.payload["id"]], one) for one in batch if one.payload["id"] in recommended]
        store.write_emissions(outcome(recommendation, end) for recommendation, end in ended)
        yield len(batch)

    known = records(store, day.start - timedelta(days=1))
    # Of the whole day, not only of what was left of it: the document has to be the same, however often it is written.
    for one in replay(start=day.start):
        for name in record_names(one):
            record = known.setdefault(name, {"flights": 0, "on_time": 0})
            record["flights"] += 1
            record["on_time"] += left_on_time(one)
    store.write_calibration_snapshot(day=day.start, report=known)


# -- what they share ---------------------------------------------------------------------------------------------------


def batches(
    store: SignalStore, worker: str, replay: Callable[..., Iterator[SignalEnvelope]]
) -> Iterator[list[SignalEnvelope]]:
    """Yield what a worker has not handled yet; when it asks for the next batch, it is done with this one."""
    checkpoint = store.read_checkpoint(worker)
    signals = replay(checkpoint=checkpoint)
    while batch := list(islice(signals, BATCH_SIGNALS)):
        yield batch
        checkpoint = store.build_signal_checkpoint(batch, after=checkpoint)
        if checkpoint:
            store.write_checkpoint(worker, checkpoint)


def made_of(
    cause: SignalEnvelope, worker: str, payload_type: str, payload: dict[str, Any], refs: tuple[EntityRef, ...]
) -> SignalEnvelope:
    """Return the signal that a worker makes of another one, with an id, a time and a trace that come from it."""
    return SignalEnvelope(
        signal_id=f"{worker}/{cause.signal_id}",
        timestamp=cause.timestamp,
        source=worker,
        payload_type=payload_type,
        payload=payload,
        entity_refs=refs,
        trace=traced(cause),
    )


def traced(*causes: SignalEnvelope) -> TraceContext:
    """Return a trace that leads back over these signals and what caused them, to what came in first."""
    before = [signal_id for one in causes if one.trace for signal_id in (*one.trace.caused_by, one.signal_id)]
    return TraceContext(trace_id=causes[0].payload["id"], caused_by=tuple(before))


def entities(board: SignalEnvelope) -> tuple[EntityRef, ...]:
    """Return whom a signal is about, the carrier first: rankings take the first one."""
    payload = board.payload
    refs = [
        EntityRef("carrier", payload["carrier"], platform="iata"),
        EntityRef("route", f"{payload['origin']}-{payload['dest']}", platform="iata"),
    ]
    if payload["aircraft"] is not None:
        refs.append(EntityRef("aircraft", payload["aircraft"]))
    return tuple(refs)


def left_on_time(end: SignalEnvelope) -> bool:
    return end.payload_type == "FlightDeparted" and bool(end.payload["delay_minutes"] <= ON_TIME_MINUTES)


def outcome(recommendation: SignalEnvelope, end: SignalEnvelope) -> EmissionEnvelope:
    """Return what became of a recommendation. Its trace leads to the boards, by both signals."""
    return EmissionEnvelope(
        emission_id=f"learn/{recommendation.signal_id}",
        timestamp=end.timestamp,
        emission_type="OutcomeSuccess" if left_on_time(end) else "OutcomeFailure",
        payload=end.payload | {"score": recommendation.payload["score"]},
        caused_by=recommendation.signal_id,
        trace=traced(recommendation, end),
        entity_refs=recommendation.entity_refs,
    )


def records(store: SignalStore, day: datetime) -> dict[str, dict[str, int]]:
    """Return how many flights left on time up to the end of a day, by carrier and by hour."""
    document = store.read_calibration_snapshot(day)
    return document["report"] if document else {}


def record_names(signal: SignalEnvelope) -> tuple[str, str]:
    """Return which records a flight belongs to: its carrier's, and that of the hour (UTC) at which it is due."""
    return f"carrier {signal.payload['carrier']}", f"hour {signal.payload['due'][11:13]}"


def share_on_time(record: dict[str, int]) -> float:
    """Return a share that is 80 % while nothing is known, and gets closer to the truth with every flight."""
    return (record.get("on_time", 0) + 16) / (record.get("flights", 0) + 20)


# -- running them ------------------------------------------------------------------------------------------------------


def run(store: SignalStore, days: int, *, tell: Callable[[str], None] = lambda _: None) -> int:
    """Work through days, one worker after the other; resume where an earlier run ended or was killed.

    Returns:
        How many signals the workers have handled, in all.
    """
    boards = read_boards(days)
    handled = 0
    for number in range(days):
        start = FIRST_DAY + timedelta(days=number)
        day = Day(start, start + timedelta(days=1, microseconds=-1))
        if store.read_daily_digest_snapshot(start) is None:  # it is written last: if it is there, the day is done
            workers = {
                "ingest": ingest(store, day, boards),
                "resolve": resolve(store, day),
                "score": score(store, day),
                "recommend": recommend(store, day),
                "learn": learn(store, day),
            }
            for name, work in workers.items():
                for done in work:
                    handled += done
                    tell(f"{start:%d %b} {name}: {done} signals")
            store.write_daily_digest_snapshot(day=start, digest=counted(store, day))
    return handled


def counted(store: SignalStore, day: Day) -> dict[str, int]:
    """Return the day in figures."""
    made = Counter(one.source for one in store.iter_signals(day.start, day.end, sources=["score", "recommend"]))
    outcomes = Counter(one.emission_type for one in store.iter_emissions(day.start, day.end))
    return {
        "announced": made["score"],
        "recommended": made["recommend"],
        "on_time": outcomes["OutcomeSuccess"],
        "late": outcomes["OutcomeFailure"],
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description="Which flights will leave on time? Five workers find out.")
    arguments.add_argument("url", nargs="?", default=str(STORE), metavar="URL", help="the workspace, a path or any URL")
    arguments.add_argument("--days", type=int, default=7, metavar="N", help="how many days of January (default: 7)")
    arguments.add_argument("--verbose", action="store_true", help="print every batch")
    options = arguments.parse_args()
    if not 1 <= options.days <= DAYS:
        arguments.error(f"January has days 1 to {DAYS}, not {options.days}")

    def tell(text: str) -> None:
        if options.verbose:
            print(text, file=sys.stderr, flush=True)

    with SignalStore(options.url) as store:
        began = time.perf_counter()
        handled = run(store, options.days, tell=tell)
        seconds = time.perf_counter() - began
        report.show(store, options.days)
        print(f"\n{handled:,} signals dealt with in {seconds:.1f} s; all of it is in {store.workspace}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
