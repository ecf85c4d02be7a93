"""What the pipeline found: by day, by carrier, its best bets, and its worst advice with how that came about."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airports import FIRST_DAY, read_carriers
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from datetime import datetime

    from bucketlog.signals import EmissionEnvelope, SignalStore

BEST = 3
BAR_WIDTH = 14

console = Console(highlight=False)


def show(store: SignalStore, days: int) -> None:
    """Print what a store contains for the first `days` days."""
    end = FIRST_DAY + timedelta(days=days, microseconds=-1)
    buckets: dict[str, list[Any]] = store.get_outcome_window_buckets(now=end, start=FIRST_DAY, end=end)
    best = store.get_top_recommendation_candidates(
        start=end - timedelta(days=1), end=end, limit=BEST, payload_types=["FlightScored"]
    )

    show_title("Day by day")
    console.print(by_day(store, days))
    show_title("By carrier")
    console.print(by_carrier(store, end, buckets))
    show_title(f"The best bets of {end:%d %B}, one a carrier")
    for one in best:
        console.print(f"score {one.payload['score']:.2f}: {flight(one.payload)}, due {one.payload['due'][11:16]} UTC")
    if buckets["failure"]:
        show_title("The worst advice, and how it came about")
        show_trace(max(buckets["failure"], key=lambda one: one.payload.get("delay_minutes", 0)))


def by_day(store: SignalStore, days: int) -> Table:
    table = new_table("", "announced", "recommended", "on time", "late")
    for number in range(days):
        day = FIRST_DAY + timedelta(days=number)
        document = store.read_daily_digest_snapshot(day)
        if document:
            counts = document["digest"]
            figures = [f"{counts[name]:,}" for name in ("announced", "recommended", "on_time", "late")]
            table.add_row(f"{day:%a %d %b}", *figures)
    return table


def by_carrier(store: SignalStore, end: datetime, buckets: dict[str, list[Any]]) -> Table:
    """Print how many flights of a carrier left on time: of all, and of those that were recommended."""
    document = store.read_calibration_snapshot(end)
    records = document["report"] if document else {}
    counts = {name: Counter(one.payload["carrier"] for one in found) for name, found in buckets.items()}
    recommended = counts["success"] + counts["failure"] + counts["pending"] + counts["expired"]
    table = new_table("carrier", "flights", "on time", "recommended")
    table.add_column("of these on time", no_wrap=True)
    for code, name in sorted(read_carriers().items(), key=lambda one: -recommended[one[0]]):
        record = records.get(f"carrier {code}")
        if record:
            well, badly = counts["success"][code], counts["failure"][code]
            on_time = f"{record['on_time'] / record['flights']:.0%}"
            of_these = bar(well / (well + badly)) if well + badly else ""
            table.add_row(name, f"{record['flights']:,}", on_time, f"{recommended[code]:,}", of_these)
    return table


def show_trace(outcome: EmissionEnvelope) -> None:
    """Print what an outcome leads back to."""
    late = outcome.payload.get("delay_minutes")
    how = "was cancelled" if late is None else f"left {late} minutes late"
    console.print(f"{flight(outcome.payload)} had a score of {outcome.payload['score']:.2f} and [bold]{how}[/].")
    if outcome.trace:
        for signal_id in outcome.trace.caused_by:
            console.print(f"    {signal_id}", markup=False)


def show_title(text: str) -> None:
    console.print(f"\n[bold cyan]{text}[/]")


def flight(payload: dict[str, Any]) -> str:
    return f"{payload['carrier']} {payload['flight']} {payload['origin']}-{payload['dest']}"


def bar(share: float) -> str:
    return f"[cyan]{'█' * round(share * BAR_WIDTH):{BAR_WIDTH}}[/] {share:.0%}"


def new_table(first: str, *others: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
