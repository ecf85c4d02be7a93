"""`bucketlog append`: one event."""

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
    """What to do with an id that is stored already."""

    fail = "raise"
    skip = "skip"
    take = "return"


def append(
    url: Url,
    stream: StreamName,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="The event's data as JSON; - reads it from standard input.", show_default="null"
        ),
    ] = "null",
    type_: Annotated[str, typer.Option("--type", metavar="TYPE", help="What kind of thing happened.")] = ...,  # type: ignore[assignment]  # Typer's way to say that it is required
    subject: Annotated[
        str | None, typer.Option(metavar="SUBJECT", help="What it is about.", show_default=False)
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Where it came from.", show_default=False)
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="A word to filter by; may be repeated.", show_default=False),
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option("--meta", metavar="KEY=VALUE", help="Said about the event; may be repeated.", show_default=False),
    ] = None,
    time: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_time, metavar="TIME", help="When it happened (ISO 8601; UTC if bare).", show_default="now"
        ),
    ] = None,
    id_: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Unique in its partition.", show_default="a UUIDv7")
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where to, instead of the stream's own partitioning.", show_default=False),
    ] = None,
    partition_by: PartitionBy = None,
    expected_offset: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Only if this is the partition's next offset.", show_default=False),
    ] = None,
    on_duplicate: Annotated[
        OnDuplicate, typer.Option(metavar="raise|skip|return", help="For an id that is stored already.")
    ] = OnDuplicate.fail,
    single_writer: SingleWriter = False,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Append one event.

    It is durable when the command ends with 0. The store and the stream are made if there are none.
    """
    given: dict[str, Any] = {"type": type_, "subject": subject, "source": source, "tags": tuple(tag or ())}
    given |= {"data": _parse_data(data), "meta": _parse_meta(meta or [])}
    given |= {name: value for name, value in (("time", time), ("id", id_)) if value is not None}
    event = Event(**given)
    with open_to_write(url, option, single_writer=single_writer) as store:
        # One event touches one partition, so there is one commit, whichever way it is returned.
        done = store.stream(stream, partition_by=partition_by).append(
            event, partition=partition, expected_offset=expected_offset, on_duplicate=on_duplicate.value
        )
    (commit,) = done if isinstance(done, list) else [done]
    duplicate = bool(commit.duplicates)
    if as_json:
        print_json({"id": event.id, "partition": commit.partition, "offset": commit.offsets[0], "duplicate": duplicate})
    else:
        there = " (there already)" if duplicate else ""
        print_text(f"{event.id} at {commit.partition}/{commit.offsets[0]}{there}")


def _parse_data(text: str) -> object:
    try:
        return msgspec.json.decode(sys.stdin.buffer.read() if text == "-" else text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as err:
        msg = f"not JSON: {err}; a text needs quotes of its own, such as '\"hello\"'"
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
