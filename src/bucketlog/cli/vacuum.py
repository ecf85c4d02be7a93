"""`bucketlog vacuum`: reclaim the space of compacted and truncated segments."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from bucketlog import PartitionVacuum, VacuumReport
from bucketlog.cli.arguments import (
    AsJson,
    SingleWriter,
    SomeStream,
    StorageOptions,
    Url,
    open_to_maintain,
    open_to_read,
)
from bucketlog.cli.output import print_json, print_table, print_text, say
from bucketlog.cli.progress import ByteProgress
from bucketlog.cli.run import NO

EXAMPLE = """\
bucketlog vacuum ./events --dry-run
bucketlog vacuum s3://acme-events/prod orders
bucketlog vacuum ./events --grace 0 --exclusive"""

_COUNTS = ("segments_removed", "bytes_removed", "segments_waiting", "bytes_waiting")


def vacuum(
    url: Url,
    stream: SomeStream = None,
    grace: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="How long to keep unused segments, by the storage's clock.",
            show_default="the stream's grace, 24 hours",
        ),
    ] = None,
    exclusive: Annotated[
        bool,
        typer.Option(
            "--exclusive",
            help="Promise that no other process uses the stream now or has used it within its grace. Required for a "
            "shorter grace.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, without doing it.")] = False,
    single_writer: SingleWriter = False,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Remove segments that compaction and truncation left behind.

    Works in two steps, so that readers and writers can run at the same time: one run marks compacted segments as
    unused, and a run after the grace period removes them. Before a compacted segment becomes the only copy of its
    events, it is read and checked. You can interrupt the command at any time.

    Prints what was removed and what still waits for its grace to pass, one line per stream, or per partition if you
    name a stream; streams and partitions with neither are left out. With --json, prints one line for every partition.
    Exits with 1 if there is no such stream.
    """
    done: list[VacuumReport] = []
    opened = open_to_read(url, option) if dry_run else open_to_maintain(url, option, single_writer=single_writer)
    with opened as store:
        streams = store.streams()
        if stream is not None and stream not in streams:
            say(f"bucketlog: there is no stream {stream!r} in {store.url}; `bucketlog streams` lists them")
            raise typer.Exit(NO)
        try:
            with ByteProgress(f"vacuum {store.url}") as progress:
                for name in streams if stream is None else [stream]:
                    work = store.stream(name)
                    done.append(work.vacuum(grace, exclusive=exclusive, dry_run=dry_run, progress=progress.part()))
        finally:  # report the finished work even if the rest failed
            if as_json:
                for report in done:
                    for part in report.partitions:
                        print_json({"stream": report.stream, **asdict(part)})
            else:
                _print(done, by_partition=stream is not None)
    if not as_json and not any(_did_something(part) for report in done for part in report.partitions):
        print_text("nothing to remove")


def _did_something(part: PartitionVacuum) -> bool:
    return bool(part.segments_removed or part.segments_waiting)


def _row(name: str, counted: PartitionVacuum | VacuumReport) -> list[object]:
    return [name, *(getattr(counted, count) for count in _COUNTS), _shown(counted.waiting_until)]


def _print(done: list[VacuumReport], *, by_partition: bool) -> None:
    """Print a line for each stream or partition with something removed or waiting, and the total of several."""
    everything = tuple(part for report in done for part in report.partitions if _did_something(part))
    if by_partition:
        rows = [_row(part.partition, part) for part in everything]
    else:
        rows = [_row(report.stream, report) for report in done if any(map(_did_something, report.partitions))]
    if len(rows) > 1:
        rows.append(_row("total", VacuumReport("", everything)))
    if rows:
        titles = ["partition" if by_partition else "stream", *_COUNTS, "waiting_until"]
        print_table([title.replace("_", " ") for title in titles], rows)


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")
