"""`bucketlog vacuum`: room, where segments were compacted or truncated."""

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
            help="How long what is out of use is kept, by the storage's clock.",
            show_default="the stream's own, 24 hours",
        ),
    ] = None,
    exclusive: Annotated[
        bool,
        typer.Option(
            "--exclusive",
            help="Promise that nobody else has been at work within the stream's own grace, and nobody is. "
            "A shorter grace needs it.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed now.")] = False,
    single_writer: SingleWriter = False,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Remove what compaction and truncation left behind.

    In two steps, so that nobody is disturbed who writes or reads meanwhile: the first run puts out of use what is
    compacted, one that comes a grace later removes it. Compacted segments that then hold events alone are read and
    checked before. It does no harm to interrupt it.

    Shows what was removed, and what waits for its grace to pass: a line for each stream, or for each partition of one,
    where there is something; with --json always a line for each partition. Exit code 1 when there is no stream of this
    name.
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
        finally:  # what was done counts, whatever became of the rest
            if as_json:
                for report in done:
                    for one in report.partitions:
                        print_json({"stream": report.stream, **asdict(one)})
            else:
                _print(done, by_partition=stream is not None)
    if not as_json and not any(_did_something(one) for report in done for one in report.partitions):
        print_text("nothing to remove")


def _did_something(one: PartitionVacuum) -> bool:
    return bool(one.segments_removed or one.segments_waiting)


def _row(name: str, one: PartitionVacuum | VacuumReport) -> list[object]:
    return [name, *(getattr(one, count) for count in _COUNTS), _shown(one.waiting_until)]


def _print(done: list[VacuumReport], *, by_partition: bool) -> None:
    """Print a line for each stream or partition in which there was something, and the total of several."""
    everything = tuple(one for report in done for one in report.partitions if _did_something(one))
    if by_partition:
        rows = [_row(one.partition, one) for one in everything]
    else:
        rows = [_row(one.stream, one) for one in done if any(map(_did_something, one.partitions))]
    if len(rows) > 1:
        rows.append(_row("total", VacuumReport("", everything)))
    if rows:
        titles = ["partition" if by_partition else "stream", *_COUNTS, "waiting_until"]
        print_table([title.replace("_", " ") for title in titles], rows)


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")
