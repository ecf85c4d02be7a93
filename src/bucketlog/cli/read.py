"""`bucketlog read`: print the events from a cursor to the current end of the stream."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bucketlog import Cursor
from bucketlog.cli.arguments import (
    After,
    AsJson,
    Partitions,
    Since,
    Sources,
    StorageOptions,
    StreamName,
    Subjects,
    Tags,
    Types,
    Until,
    Url,
    open_to_read,
)
from bucketlog.cli.output import print_events
from bucketlog.errors import InvalidValueError

EXAMPLE = """\
bucketlog read ./events orders --since 2026-02-05 --tag eu
bucketlog read ./events orders --json --cursor-file billing.cursor | ./bill"""


def read(
    url: Url,
    stream: StreamName,
    after: After = None,
    cursor_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Resume where the last run with this file ended, and save the new cursor in it.",
            show_default=False,
        ),
    ] = None,
    partition: Partitions = None,
    type_: Types = None,
    subject: Subjects = None,
    source: Sources = None,
    tag: Tags = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[
        int | None,
        typer.Option("-n", "--limit", min=0, metavar="N", help="Print at most N events.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Print a stream's events in order.

    Reads partition by partition, in the order of their names, up to the current end of each. An event is printed if it
    matches every kind of filter given; repeated filters of one kind match any of their values. `import` reads the
    output of --json.

    The cursor file is written after everything was printed. After Ctrl-C or a closed pipe it is unchanged, and the next
    run prints the same events again.
    """
    if cursor_file is not None:
        if after is not None:
            msg = "use --after or --cursor-file, not both"
            raise typer.BadParameter(msg)
        after = _load_cursor(cursor_file)
    with (
        open_to_read(url, option) as store,
        store.stream(stream).read_batches(
            after,
            partitions=partition or None,
            types=type_ or None,
            subjects=subject or None,
            sources=source or None,
            tags=tag or None,
            since=since,
            until=until,
            limit=limit,
        ) as batches,
    ):
        for batch in batches:
            print_events(batch.events, as_json=as_json)
        sys.stdout.flush()
    if cursor_file is not None:
        _save_cursor(cursor_file, batches.cursor)


def _load_cursor(file: Path) -> Cursor | None:
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return Cursor.from_json(text)
    except InvalidValueError as err:
        msg = f"{file}: {err}"
        raise typer.BadParameter(msg, param_hint="'--cursor-file'") from None


def _save_cursor(file: Path, cursor: Cursor) -> None:
    """Replace the file atomically: half a cursor would stop the next run."""
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(f"{cursor.to_json()}\n")
    beside.replace(file)
