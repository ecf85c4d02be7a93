"""`bucketlog import`: JSONL or CSV, from a file or standard input, into a stream."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from zoneinfo import ZoneInfo

import typer

from bucketlog.cli.arguments import (
    AsJson,
    PartitionBy,
    SingleWriter,
    StorageOptions,
    StreamName,
    Url,
    open_to_write,
)
from bucketlog.cli.importing import BadLineError, Importer
from bucketlog.cli.mapping import EventMapping
from bucketlog.cli.output import print_json, print_text, say
from bucketlog.cli.progress import Progress
from bucketlog.cli.rows import BadLine, CsvRows, Found, HeaderError, read_jsonl
from bucketlog.cli.run import FAILED, INTERRUPTED
from bucketlog.errors import BucketlogError

EXAMPLE = """\
bucketlog import ./events orders old.csv --type order.placed --id-column no
bucketlog read ./events orders --json | bucketlog import ./copy orders"""

_BAD_LINES_TOLD = 20


def _mapping(name: str, metavar: str | None, text: str) -> Any:  # noqa: ANN401  (what Typer's own function returns)
    """Return an option that tells what of a row becomes what of an event."""
    return typer.Option(name, metavar=metavar, help=text, rich_help_panel="From row to event", show_default=False)


class Format(StrEnum):
    """What a file holds."""

    jsonl = "jsonl"
    csv = "csv"


def import_(
    url: Url,
    stream: StreamName,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="What to import; - is standard input.", show_default=True)
    ] = "-",
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            metavar="jsonl|csv",
            help="What it holds.",
            show_default="by the name: .csv and .tsv, else jsonl",
        ),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(metavar="CHAR", help="What parts the cells of CSV.", show_default="a comma; of .tsv, a tab"),
    ] = None,
    type_: Annotated[str | None, _mapping("--type", "TYPE", "The type of all events.")] = None,
    type_column: Annotated[str | None, _mapping("--type-column", "COLUMN", "Take the type from here.")] = None,
    id_column: Annotated[
        str | None, _mapping("--id-column", "COLUMN", "Take the id from here; without one it is made of the row.")
    ] = None,
    time_column: Annotated[
        str | None, _mapping("--time-column", "COLUMN", "Take the time from here; without one it is now.")
    ] = None,
    time_format: Annotated[
        str | None, _mapping("--time-format", "FORMAT", "unix, unix-ms, or such as '%d.%m.%Y %H:%M'; else ISO 8601.")
    ] = None,
    time_zone: Annotated[
        str | None, _mapping("--time-zone", "ZONE", "Of times that do not say it, such as UTC or Europe/Berlin.")
    ] = None,
    subject_column: Annotated[str | None, _mapping("--subject-column", "COLUMN", "Take the subject from here.")] = None,
    source: Annotated[str | None, _mapping("--source", "SOURCE", "The source of all events.")] = None,
    source_column: Annotated[str | None, _mapping("--source-column", "COLUMN", "Take the source from here.")] = None,
    tag: Annotated[list[str] | None, _mapping("--tag", "TAG", "A tag of all events; may be repeated.")] = None,
    tag_column: Annotated[
        list[str] | None, _mapping("--tag-column", "COLUMN", "Take a tag from here; may be repeated.")
    ] = None,
    data_column: Annotated[
        list[str] | None,
        _mapping("--data-column", "COLUMN", "Keep only this in the data; may be repeated. Else all that is left over."),
    ] = None,
    numbers: Annotated[
        bool, _mapping("--numbers", None, "Keep cells of CSV that are numbers, true or false as such, not as text.")
    ] = False,
    partition_by: PartitionBy = None,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="How many events to append at once.")] = 10_000,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Pass over lines that cannot be imported, instead of stopping there.")
    ] = False,
    single_writer: SingleWriter = False,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Import JSONL or CSV into a stream; again adds nothing.

    JSONL is one object a line; the first line of CSV names its columns. A column that has the name of an event's field
    (type, id, time, subject, source, tags; in JSONL also data and meta) becomes that field, unless an option says
    otherwise; the others become members of the data. Lines that `bucketlog read --json` printed, and those of a
    segment, come back unchanged.

    An event without an id gets one made of its row, so that the same row is known again; of equal rows in one file, all
    are kept. It stops at a line that cannot be imported, with all before it imported and none after it. After an
    interruption, the same command goes on.
    """
    name = "standard input" if file == "-" else file
    from_csv = format_ is Format.csv or (format_ is None and Path(file).suffix.lower() in (".csv", ".tsv"))
    for constant, column, what in ((type_, type_column, "type"), (source, source_column, "source")):
        if constant is not None and column is not None:
            msg = f"give --{what} or --{what}-column, not both"
            raise typer.BadParameter(msg)
    mapping = EventMapping(
        type=type_,
        type_column=type_column,
        id_column=id_column,
        time_column=time_column,
        time_format=time_format,
        time_zone=None if time_zone is None else _time_zone(time_zone),
        subject_column=subject_column,
        source=source,
        source_column=source_column,
        tags=tuple(tag or ()),
        tag_columns=tuple(tag_column or ()),
        data_columns=tuple(data_column or ()),
        from_csv=from_csv,
        numbers=numbers,
    )
    if delimiter is None:
        delimiter = "\t" if Path(file).suffix.lower() == ".tsv" else ","
    elif len(delimiter) != 1 or delimiter in '"\r\n':
        msg = f"{delimiter!r} is not one character that can part cells"
        raise typer.BadParameter(msg, param_hint="'--delimiter'")

    def refuse(bad: BadLine) -> None:
        if not skip_bad:
            raise BadLineError(bad)
        if importer.bad < _BAD_LINES_TOLD:
            progress.say(f"{name}, line {bad.line}: {bad.why}")

    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(stack.enter_context(_open(file)), f"import {name}"))
        rows = _rows(progress.lines(), mapping, delimiter)
        store = stack.enter_context(open_to_write(url, option, single_writer=single_writer))
        importer = Importer(
            store.stream(stream, partition_by=partition_by),
            mapping.mapper(),
            batch_events=batch,
            on_bad=refuse,
            on_batch=lambda: progress.show(importer.read),
        )
        try:
            importer.run(rows)
        except BadLineError as err:
            progress.close()
            say(f"bucketlog: import {name}, line {err.bad.line}: {err.bad.why}")
            say(f"{_summary(importer)}; mend the line and run the same command again, or pass over it with --skip-bad")
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            progress.close()
            say(f"interrupted after line {importer.line}: {_summary(importer)}; run the same command again to go on")
            raise typer.Exit(INTERRUPTED) from None
        except BucketlogError:
            progress.close()
            say(f"stopped after line {importer.line}: {_summary(importer)}; the same command goes on from there")
            raise
    if as_json:
        counts = {"read": importer.read, "added": importer.added, "present": importer.present, "bad": importer.bad}
        print_json(counts)
    else:
        print_text(_summary(importer))


def _summary(importer: Importer) -> str:
    passed = f", {importer.bad:,} bad lines passed over" if importer.bad else ""
    return f"{importer.read:,} events read, {importer.added:,} added, {importer.present:,} there already{passed}"


@contextlib.contextmanager
def _open(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        opened = Path(file).open("rb")  # noqa: SIM115  (only what goes wrong here is wrong usage)
    except OSError as err:
        raise typer.BadParameter(str(err), param_hint="'[FILE]'") from None
    with opened:
        yield opened


def _rows(lines: Iterable[bytes], mapping: EventMapping, delimiter: str) -> Iterable[Found]:
    if not mapping.from_csv:
        return read_jsonl(lines)
    try:
        rows = CsvRows(lines, delimiter=delimiter)
    except HeaderError as err:
        raise typer.BadParameter(str(err), param_hint="'[FILE]'") from None
    missing = [column for column in mapping.columns() if column not in rows.header]
    if missing and rows.header:
        msg = f"there is no column {missing[0]!r}; the header names {', '.join(rows.header)}"
        raise typer.BadParameter(msg)
    return rows


def _time_zone(name: str) -> tzinfo:
    if name.upper() == "UTC":  # known also where no time zones are installed
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        msg = f"no time zone {name!r} is known here"
        raise typer.BadParameter(msg, param_hint="'--time-zone'") from None
