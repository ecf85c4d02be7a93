"""`bucketlog append`: append one event."""

from __future__ import annotations

import sys
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer

from bucketlog import Event
from bucketlog.cli.arguments import (
    AsJson,
    PartitionBy,
    SingleWriter,
    StorageOptions,
    StreamName,
    Url,
    open_to_write,
    parse_time,
)
from bucketlog.cli.output import print_json, print_text

EXAMPLE = """\
bucketlog append ./events orders '{"total": 42}' --type order.placed
cat invoice.json | bucketlog append ./events invoices - --type invoice.sent"""


class OnDuplicate(StrEnum):
    """What to do if the id is already stored."""

    fail = "raise"
    skip = "skip"
    take = "return"


# Longer than 60 lines because Typer reads the options from the signature.
def append(
    url: Url,
    stream: StreamName,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="The event's data as JSON, or - to read it from standard input.", show_default="null"
        ),
    ] = "null",
    type_: Annotated[str, typer.Option("--type", metavar="TYPE", help="The event's type.")] = ...,  # type: ignore[assignment]  # marks a required option for Typer
    subject: Annotated[
        str | None, typer.Option(metavar="SUBJECT", help="The event's subject.", show_default=False)
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="The event's source.", show_default=False)
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="A tag; may be repeated.", show_default=False),
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option(
            "--meta", metavar="KEY=VALUE", help="An entry of the event's metadata; may be repeated.", show_default=False
        ),
    ] = None,
    time: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_time,
            metavar="TIME",
            help="The event's time (ISO 8601; UTC without an offset).",
            show_default="now",
        ),
    ] = None,
    id_: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="ID", help="The event's id, unique in its partition.", show_default="a new UUIDv7"
        ),
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Append to this partition, whatever the stream's partitioning.", show_default=False
        ),
    ] = None,
    partition_by: PartitionBy = None,
    expected_offset: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Append only if this is the partition's next offset.", show_default=False
        ),
    ] = None,
    on_duplicate: Annotated[
        OnDuplicate, typer.Option(metavar="raise|skip|return", help="What to do if the id is already stored.")
    ] = OnDuplicate.fail,
    single_writer: SingleWriter = False,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Append one event.

    The event is durable once the command exits with 0. A missing store or stream is created.
    """
    given: dict[str, Any] = {"type": type_, "subject": subject, "source": source, "tags": tuple(tag or ())}
    given |= {"data": _parse_data(data), "meta": _parse_meta(meta or [])}
    given |= {name: value for name, value in (("time", time), ("id", id_)) if value is not None}
    event = Event(**given)
    with open_to_write(url, option, single_writer=single_writer) as store:
        # One event goes to one partition, so there is one commit, returned alone or in a list.
        done = store.stream(stream, partition_by=partition_by).append(
            event, partition=partition, expected_offset=expected_offset, on_duplicate=on_duplicate.value
        )
    (commit,) = done if isinstance(done, list) else [done]
    duplicate = bool(commit.duplicates)
    if as_json:
        print_json({"id": event.id, "partition": commit.partition, "offset": commit.offsets[0], "duplicate": duplicate})
    else:
        note = " (already stored)" if duplicate else ""
        print_text(f"{event.id} at {commit.partition}/{commit.offsets[0]}{note}")


def _parse_data(text: str) -> object:
    try:
        return msgspec.json.decode(sys.stdin.buffer.read() if text == "-" else text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as err:
        msg = f"not JSON: {err}; a string needs double quotes inside the shell's quotes: '\"hello\"'"
        raise typer.BadParameter(msg, param_hint="'[DATA]'") from None


def _parse_meta(pairs: list[str]) -> dict[str, str]:
    meta = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            msg = f"{pair!r}: write --meta KEY=VALUE"
            raise typer.BadParameter(msg, param_hint="'--meta'")
        meta[key] = value
    return meta
