"""`bucketlog truncate`: a log that begins later."""

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
    datetime,  # or an offset; Typer takes no union
    typer.Option(
        parser=_parse_before,
        metavar="TIME|OFFSET",
        help="A time (ISO 8601; UTC if bare): a partition then begins with its first event that is not older. "
        "Or a number: the offset at which it then begins.",
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
            help="Only this partition; an offset needs it, where a stream has several.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be gone.")] = False,
    single_writer: SingleWriter = False,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Let a log begin later.

    Events before its start are gone at once, for good; `bucketlog vacuum` gives their room back, a grace later. Others
    may write and read meanwhile. Whoever asks for what is gone is told where the log begins.

    Shows the partitions that begin later now; with --json all. Exit code 1 when there is no stream of this name.
    """
    opened = open_to_read(url, option) if dry_run else open_to_maintain(url, option, single_writer=single_writer)
    with opened as store:
        if stream not in store.streams():
            say(f"bucketlog: there is no stream {stream!r} in {store.url}; `bucketlog streams` lists them")
            raise typer.Exit(NO)
        report = store.stream(stream).truncate(before=before, partition=partition, dry_run=dry_run)
    if as_json:
        for one in report.partitions:
            print_json({"stream": stream, **asdict(one), "events": one.events})
        return
    rows: list[list[object]] = [
        [one.partition, one.start_before, one.start, one.events] for one in report.partitions if one.events
    ]
    if len(rows) > 1:
        rows.append(["total", None, None, report.events])
    if rows:
        print_table(["partition", "start before", "start", "events"], rows)
    else:
        print_text("nothing to truncate")
