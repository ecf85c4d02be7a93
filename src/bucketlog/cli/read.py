"""`bucketlog read`: events in order, from a cursor to where the stream ends now."""

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
            help="Go on where the last run with this file ended, and note there how far this one came.",
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
        int | None, typer.Option("-n", "--limit", min=0, metavar="N", help="At most so many.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Print a stream's events in order.

    Partition by partition in the order of their names, to where each ends now. Filters of one kind are or-ed, those of
    several kinds and-ed. With --json, what is printed is what `import` takes.

    The cursor file is written when everything was printed: after Ctrl-C or a closed pipe it is as it was, and the next
    run prints the same events again.
    """
    if cursor_file is not None:
        if after is not None:
            msg = "give --after or --cursor-file, not both"
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
    """Replace the file whole: half a cursor would stop the next run."""
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(f"{cursor.to_json()}\n")
    beside.replace(file)
