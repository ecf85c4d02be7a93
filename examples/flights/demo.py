"""The demo: a year of real departures in a log, and what you can do with it.

python examples/flights/demo.py                # all 336,776; a new store at demo/flights
python examples/flights/demo.py --limit 5000   # a quick look
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flights import FLIGHTS, read_flights
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import bucketlog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog import EventStore, Stream

STORE = Path(__file__).parents[2] / "demo" / "flights"
AIRCRAFT = "N725MQ"  # the one with the most departures
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
BATCH_EVENTS = 10_000
BAR_WIDTH = 40

console = Console(highlight=False)


@dataclass
class Steps:
    """The steps of the demo, and how long each took."""

    took: list[tuple[str, float, str]] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, title: str, code: str, text: str) -> Iterator[Result]:
        """Announce a step, and time it."""
        console.print()
        console.rule(f"[bold]{len(self.took) + 1}. {title}", align="left", style="cyan")
        console.print(text)
        console.print(f"    {code}\n", style="green", markup=False)
        result = Result()
        began = time.perf_counter()
        yield result
        seconds = result.seconds or time.perf_counter() - began
        rate = f"{result.events / seconds:,.0f} events/s" if result.events else ""
        self.took.append((title, seconds, rate))
        console.print(f"[dim]took {seconds:.2f} s{', ' if rate else ''}{rate}")


@dataclass
class Result:
    """How many events a step handled, and how long that took if it is not the time of the whole step."""

    events: int = 0
    seconds: float = 0.0


def main() -> None:
    arguments = argparse.ArgumentParser(description="A year of departures in a bucketlog store.")
    arguments.add_argument("--store", metavar="URL", help=f"where to (default: a new store at {shown(str(STORE))})")
    arguments.add_argument("--limit", type=int, default=FLIGHTS, metavar="N", help="only the first N departures")
    arguments.add_argument("--consume", nargs=2, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    url = options.store or str(STORE)
    if options.consume:
        consume_until_killed(url, options.consume[0], int(options.consume[1]))
    if options.store is None:
        shutil.rmtree(STORE, ignore_errors=True)  # of an earlier run
    with bucketlog.open(url) as store:
        run(store, url, limit=max(1, min(options.limit, FLIGHTS)))


def run(store: EventStore, url: str, *, limit: int) -> None:
    flights = store.stream("flights", partition_by="day")
    steps = Steps()
    consumer = f"delay-board-{os.getpid()}"  # a new one each time, even if the store is the same

    with steps.step(
        "Import",
        'store.stream("flights", partition_by="day").append(events)',
        f"{limit:,} departures from New York in 2013 become events in {shown(url)},\n"
        "a partition for each day. Every append is on the disk when it returns.",
    ) as result:
        result.events, added = import_flights(flights, limit)
        stats = flights.stats()
        console.print(
            f"[bold]{added:,}[/] events added, in {stats.segments:,} files of plain JSONL, {stats.bytes / 1e6:,.0f} MB"
        )

    with steps.step(
        "The last flights of one aircraft",
        f'flights.recent(8, subject="{AIRCRAFT}")',
        "The newest events that match, newest first, without reading the whole year.",
    ):
        print_recent(flights)

    with steps.step(
        "Replay the year",
        "for batch in flights.read_batches(): ...",
        "All events in order, their data decoded: how late did flights leave, by month?",
    ) as result:
        result.events = print_delays(flights)

    with steps.step(
        "A consumer dies, another takes over",
        f'store.subscribe("flights", "{consumer}")',
        "Another process reads, acknowledges now and then, and gets a SIGKILL halfway.\n"
        "The next subscriber of that name resumes after the last acknowledged event.",
    ) as result:
        result.events, result.seconds = resume(store, url, consumer, stats.events)

    with steps.step(
        "Import it all again",
        'flights.append(events, on_duplicate="skip")',
        "The same rows make the same ids, and an id is stored once. So you can always\n"
        "repeat an import, in another process or after a crash.",
    ) as result:
        with bucketlog.open(url) as another:
            result.events, added = import_flights(another.stream("flights"), limit)
        console.print(f"[bold]{added:,}[/] events added")

    print_end(steps, url)


def import_flights(flights: Stream, limit: int) -> tuple[int, int]:
    """Import `limit` departures; return how many were read, and how many of these were new."""
    read = added = 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(BAR_WIDTH),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("departures", total=limit)
        events = itertools.islice(read_flights(), limit)
        while batch := list(itertools.islice(events, BATCH_EVENTS)):
            commits = flights.append(batch, on_duplicate="skip")
            read += len(batch)
            for one in commits if isinstance(commits, list) else [commits]:
                added += one.next_offset - one.first_offset
            progress.update(task, completed=read)
    return read, added


def print_recent(flights: Stream) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("departed (UTC)", "flight", "from", "to"):
        table.add_column(title)
    table.add_column("late by", justify="right")
    for event in flights.recent(8, subject=AIRCRAFT):
        data = event.data
        late = f"{data['dep_delay']} min" if "dep_delay" in data else "cancelled"
        flight = f"{data['carrier']} {data['flight']}"
        table.add_row(f"{event.time:%Y-%m-%d %H:%M}", flight, data["origin"], data["dest"], late)
    console.print(table)


def print_delays(flights: Stream) -> int:
    """Draw the mean delay of each month; return the number of events read."""
    departed, late, cancelled = [0] * 12, [0] * 12, [0] * 12
    for batch in flights.read_batches():
        for event in batch.events:
            data = event.data
            month = int(data["date"][5:7]) - 1
            if event.type == "flight.cancelled":
                cancelled[month] += 1
            else:
                departed[month] += 1
                late[month] += data["dep_delay"]
    means = {month: late[month] / departed[month] for month in range(12) if departed[month]}
    longest = max(means.values())
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    table.add_column("late by, on average")
    table.add_column("cancelled", justify="right")
    for month, mean in means.items():
        share = cancelled[month] / (departed[month] + cancelled[month])
        text = f"[{'red' if mean == longest else 'cyan'}]{bar(mean / longest)}[/] {mean:.1f} min"
        table.add_row(MONTHS[month], text, f"{share:.1%}")
    console.print(table)
    return sum(departed) + sum(cancelled)


def bar(share: float) -> str:
    """Return a bar as long as a share of the chart's width, in eighths of a cell."""
    cells, eighths = divmod(max(round(share * BAR_WIDTH * 8), 0), 8)
    return "█" * cells + ("▏▎▍▌▋▊▉"[eighths - 1] if eighths else "")


def consume_until_killed(url: str, consumer: str, acknowledge_every: int) -> None:
    """Consume and acknowledge; die, as in a power cut, halfway through the next events."""
    with bucketlog.open(url) as store, store.subscribe("flights", consumer) as events:
        for number, _ in enumerate(events, start=1):
            if number % acknowledge_every == 0:
                events.ack()
            if number == acknowledge_every * 9 // 2:
                os.kill(os.getpid(), signal.SIGKILL)


def resume(store: EventStore, url: str, consumer: str, total: int) -> tuple[int, float]:
    """Kill a consumer process and take over from it; return the events that this process read, and the seconds."""
    every = max(total // 10, 1)
    command = [sys.executable, __file__, "--store", url, "--consume", consumer, str(every)]
    ended = subprocess.run(command, check=False).returncode
    if ended != -signal.SIGKILL:
        sys.exit(f"the consumer ended with {ended} before it could be killed")
    before = every * 9 // 2
    began = time.perf_counter()
    delivered = 0
    with store.subscribe("flights", consumer) as events:
        acknowledged = sum(events.cursor.values())
        while found := events.poll():
            delivered += len(found)
            events.ack()
        seconds = time.perf_counter() - began
    console.print(
        f"the first one: {before:,} handled, {acknowledged:,} acknowledged, then killed\n"
        f"the second one: [bold]{delivered:,}[/] handled, {before - acknowledged:,} of them a second time\n"
        f"together: {acknowledged:,} + {delivered:,} = [bold]{acknowledged + delivered:,}[/] of {total:,}"
    )
    return delivered, seconds


def print_end(steps: Steps, url: str) -> None:
    console.print()
    console.rule("[bold]How long it took", align="left", style="cyan")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right", style="dim")
    for title, seconds, rate in steps.took:
        table.add_row(title, f"{seconds:.2f} s", rate)
    table.add_row("[bold]together", f"[bold]{sum(seconds for _, seconds, _ in steps.took):.2f} s", "")
    console.print(table)
    place = shown(url)
    console.print("\n[bold]Look around yourself")
    for line in (
        f"bucketlog recent {place} flights -n 3 --tag JFK",
        f"bucketlog stats {place}",
        f"bucketlog verify {place}",
        f"head -n 1 {place}/streams/flights/2013-01-01/*.jsonl",
    ):
        console.print(f"    {line}", style="green", markup=False, soft_wrap=True)


def shown(url: str) -> str:
    """Return a URL or path in its shortest form."""
    return url.removeprefix(f"{Path.cwd()}/")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
