"""The arguments and options that commands share, and their parsing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

import typer

import bucketlog
from bucketlog import Cursor, EventStore
from bucketlog.errors import InvalidValueError


def _cursor(text: str) -> Cursor:
    try:
        return Cursor.from_json(text)
    except InvalidValueError as err:
        raise typer.BadParameter(str(err)) from None


def parse_time(text: str) -> datetime:
    """Parse a date or time in ISO 8601, in UTC unless it has an offset."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        msg = f"{text!r} is not a valid time; write 2026-02-05, 2026-02-05T12:00 or 2026-02-05T12:00:00+01:00"
        raise typer.BadParameter(msg) from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


Url: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="URL", help="The store: a path, file:///path, s3://bucket/prefix or any fsspec URL."),
]
StreamName: TypeAlias = Annotated[str, typer.Argument(metavar="STREAM", help="The stream's name.")]
SomeStream: TypeAlias = Annotated[
    str | None,
    typer.Argument(metavar="STREAM", help="The stream's name. Default: all streams.", show_default=False),
]
StorageOptions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--option",
        metavar="KEY=VALUE",
        help="Storage option, e.g. -o endpoint_url=http://127.0.0.1:9000; may be repeated. Pass secrets in the "
        "environment (AWS_*): other users can see a command's options.",
        show_default=False,
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
SingleWriter: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--single-writer",
        help="Promise that no other process writes. Required on storage without conditional writes.",
    ),
]
PartitionBy: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="Partitioning of a new stream: single, day, subject, source or hash:N (hash of the subject).",
        show_default="the stream's own, or single for a new stream",
    ),
]
After: TypeAlias = Annotated[
    Cursor | None,
    typer.Option(
        parser=_cursor,
        metavar="CURSOR",
        help="Resume at a cursor: the next offset of each partition, e.g. '{\"0\": 128}'.",
        show_default=False,
    ),
]
Partitions: TypeAlias = Annotated[
    list[str] | None, typer.Option("--partition", metavar="NAME", help="Only this partition; may be repeated.")
]
Types: TypeAlias = Annotated[
    list[str] | None, typer.Option("--type", metavar="TYPE", help="Only events of this type; may be repeated.")
]
Subjects: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--subject", metavar="SUBJECT", help="Only events with this subject; may be repeated."),
]
Sources: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--source", metavar="SOURCE", help="Only events from this source; may be repeated."),
]
Tags: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="Only events with this tag; repeat it for events with any of several."),
]
Subject: TypeAlias = Annotated[str | None, typer.Option(metavar="SUBJECT", help="Only events with this subject.")]
Source: TypeAlias = Annotated[str | None, typer.Option(metavar="SOURCE", help="Only events from this source.")]
Since: TypeAlias = Annotated[
    datetime | None,
    typer.Option(
        parser=parse_time, metavar="TIME", help="Only events at or after this time (ISO 8601; UTC without an offset)."
    ),
]
Until: TypeAlias = Annotated[
    datetime | None,
    typer.Option(
        parser=parse_time, metavar="TIME", help="Only events before this time (ISO 8601; UTC without an offset)."
    ),
]


def open_to_read(url: str, options: list[str] | None) -> EventStore:
    """Open an existing store for reading only."""
    return bucketlog.open(url, create=False, read_only=True, storage_options=storage_options_of(options))


def open_to_write(url: str, options: list[str] | None, *, single_writer: bool) -> EventStore:
    """Open a store, creating it if there is none."""
    return bucketlog.open(url, single_writer=single_writer, storage_options=storage_options_of(options))


def open_to_maintain(url: str, options: list[str] | None, *, single_writer: bool) -> EventStore:
    """Open an existing store for maintenance."""
    return bucketlog.open(url, create=False, single_writer=single_writer, storage_options=storage_options_of(options))


def storage_options_of(pairs: list[str] | None) -> dict[str, object]:
    """Parse `-o KEY=VALUE` options into a mapping for `bucketlog.open`."""
    options: dict[str, object] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not key or not equals:  # not shown: it may be a secret
            msg = "write -o KEY=VALUE"
            raise typer.BadParameter(msg, param_hint="'-o' / '--option'")
        options[key] = value
    return options
