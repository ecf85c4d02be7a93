"""The arguments and options that commands share, and how their texts are understood."""

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
    """Understand a date or time in ISO 8601; UTC where it does not say otherwise."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        msg = f"{text!r} is no time; write 2026-02-05, 2026-02-05T12:00 or 2026-02-05T12:00:00+01:00"
        raise typer.BadParameter(msg) from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


Url: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="URL", help="The store: a path, file:///path, s3://bucket/prefix or any fsspec URL."),
]
StreamName: TypeAlias = Annotated[str, typer.Argument(metavar="STREAM", help="The stream's name.")]
SomeStream: TypeAlias = Annotated[
    str | None,
    typer.Argument(metavar="STREAM", help="The stream's name; all streams without it.", show_default=False),
]
StorageOptions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--option",
        metavar="KEY=VALUE",
        help="Tell the storage, such as -o endpoint_url=http://127.0.0.1:9000; may be repeated. "
        "Give secrets through the environment (AWS_*): others can see a command's options.",
        show_default=False,
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for programs.")]
SingleWriter: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--single-writer",
        help="Promise that nobody else writes: the only way to use storage without conditional writes.",
    ),
]
PartitionBy: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="How a new stream is partitioned: single, day, subject, source or hash:N (of the subject).",
        show_default="as stored; a new stream: single",
    ),
]
After: TypeAlias = Annotated[
    Cursor | None,
    typer.Option(
        parser=_cursor,
        metavar="CURSOR",
        help="Go on at a cursor, such as '{\"0\": 128}': the next offset of each partition.",
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
    list[str] | None, typer.Option("--subject", metavar="SUBJECT", help="Only events about this; may be repeated.")
]
Sources: TypeAlias = Annotated[
    list[str] | None, typer.Option("--source", metavar="SOURCE", help="Only events from there; may be repeated.")
]
Tags: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="Only events with this tag; may be repeated: with any of them."),
]
Subject: TypeAlias = Annotated[str | None, typer.Option(metavar="SUBJECT", help="Only events about this.")]
Source: TypeAlias = Annotated[str | None, typer.Option(metavar="SOURCE", help="Only events from there.")]
Since: TypeAlias = Annotated[
    datetime | None,
    typer.Option(parser=parse_time, metavar="TIME", help="Only events of this time or later (ISO 8601; UTC if bare)."),
]
Until: TypeAlias = Annotated[
    datetime | None,
    typer.Option(parser=parse_time, metavar="TIME", help="Only events before this time (ISO 8601; UTC if bare)."),
]


def open_to_read(url: str, options: list[str] | None) -> EventStore:
    """Open a store that is there, and never write to it."""
    return bucketlog.open(url, create=False, read_only=True, storage_options=storage_options_of(options))


def open_to_write(url: str, options: list[str] | None, *, single_writer: bool) -> EventStore:
    """Open a store, making it if there is none."""
    return bucketlog.open(url, single_writer=single_writer, storage_options=storage_options_of(options))


def open_to_maintain(url: str, options: list[str] | None, *, single_writer: bool) -> EventStore:
    """Open a store that is there, to see to its upkeep."""
    return bucketlog.open(url, create=False, single_writer=single_writer, storage_options=storage_options_of(options))


def storage_options_of(pairs: list[str] | None) -> dict[str, object]:
    """Return the options of `-o KEY=VALUE` as `bucketlog.open` takes them."""
    options: dict[str, object] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not key or not equals:  # not shown: it may be a secret
            msg = "write -o KEY=VALUE"
            raise typer.BadParameter(msg, param_hint="'-o' / '--option'")
        options[key] = value
    return options
