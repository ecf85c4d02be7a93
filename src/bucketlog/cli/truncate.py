"""`bucketlog truncate`: drop the oldest events of a log."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from bucketlog.cli.arguments import (
    AsJson,
    SingleWriter,
    StorageOptions,
    StreamName,
    Url,
    open_to_maintain,
    open_to_read,
    parse_time,
)
from bucketlog.cli.output import print_json, print_table, print_text, say
from bucketlog.cli.run import NO

EXAMPLE = """\
bucketlog truncate ./events orders --before 2026-01-01 --dry-run
bucketlog truncate s3://acme-events/prod orders --before 2026-01-01
bucketlog truncate ./events orders --partition 0 --before 1"""


def _parse_before(text: str) -> datetime | int:
    return int(text) if text.isascii() and text.isdigit() else parse_time(text)


Before = Annotated[
    datetime,  # or an offset; Typer does not support a union
    typer.Option(
        parser=_parse_before,
        metavar="TIME|OFFSET",
        help="The new start: a time (ISO 8601; UTC without an offset), which keeps events from the first one that is "
        "not older, or a number, which is the first offset to keep.",
        show_default=False,
    ),
]


def truncate(
    url: Url,
    stream: StreamName,
    before: Before,
    partition: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only this partition. Required with an offset if the stream has several.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be dropped, without doing it.")] = False,
    single_writer: SingleWriter = False,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Drop old events by moving the start of a log forward.

    Events before the new start disappear immediately and cannot be restored; `bucketlog vacuum` reclaims their space
    after the grace period. Readers and writers can run at the same time. Reads from a truncated offset fail and report
    the new start.

    Prints the partitions whose start moved; with --json, all partitions. Exits with 1 if there is no such stream.
    """
    opened = open_to_read(url, option) if dry_run else open_to_maintain(url, option, single_writer=single_writer)
    with opened as store:
        if stream not in store.streams():
            say(f"bucketlog: there is no stream {stream!r} in {store.url}; `bucketlog streams` lists them")
            raise typer.Exit(NO)
        report = store.stream(stream).truncate(before=before, partition=partition, dry_run=dry_run)
    if as_json:
        for part in report.partitions:
            print_json({"stream": stream, **asdict(part), "events": part.events})
        return
    rows: list[list[object]] = [
        [part.partition, part.start_before, part.start, part.events] for part in report.partitions if part.events
    ]
    if len(rows) > 1:
        rows.append(["total", None, None, report.events])
    if rows:
        print_table(["partition", "start before", "start", "events"], rows)
    else:
        print_text("nothing to truncate")
