"""`bucketlog import`: append the rows of a JSONL or CSV file to a stream."""

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

_BAD_LINES_SHOWN = 20


def _mapping(name: str, metavar: str | None, text: str) -> Any:  # noqa: ANN401  (the type that Typer's function returns)
    """Return an option that maps a part of a row to a part of an event."""
    return typer.Option(name, metavar=metavar, help=text, rich_help_panel="From row to event", show_default=False)


class Format(StrEnum):
    """The format of a file."""

    jsonl = "jsonl"
    csv = "csv"


# Longer than 60 lines because Typer reads the options from the signature.
def import_(
    url: Url,
    stream: StreamName,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The file to import; - is standard input.", show_default=True)
    ] = "-",
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            metavar="jsonl|csv",
            help="The file's format.",
            show_default="csv for names in .csv and .tsv, else jsonl",
        ),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(metavar="CHAR", help="CSV field delimiter.", show_default="a comma; a tab for names in .tsv"),
    ] = None,
    type_: Annotated[str | None, _mapping("--type", "TYPE", "The type of all events.")] = None,
    type_column: Annotated[str | None, _mapping("--type-column", "COLUMN", "Column with the type.")] = None,
    id_column: Annotated[
        str | None, _mapping("--id-column", "COLUMN", "Column with the id. Default: an id derived from the row.")
    ] = None,
    time_column: Annotated[
        str | None, _mapping("--time-column", "COLUMN", "Column with the time. Default: the time of the import.")
    ] = None,
    time_format: Annotated[
        str | None,
        _mapping("--time-format", "FORMAT", "unix, unix-ms or a pattern like '%d.%m.%Y %H:%M'. Default: ISO 8601."),
    ] = None,
    time_zone: Annotated[
        str | None, _mapping("--time-zone", "ZONE", "Zone for times without one, e.g. UTC or Europe/Berlin.")
    ] = None,
    subject_column: Annotated[str | None, _mapping("--subject-column", "COLUMN", "Column with the subject.")] = None,
    source: Annotated[str | None, _mapping("--source", "SOURCE", "The source of all events.")] = None,
    source_column: Annotated[str | None, _mapping("--source-column", "COLUMN", "Column with the source.")] = None,
    tag: Annotated[list[str] | None, _mapping("--tag", "TAG", "A tag for all events; may be repeated.")] = None,
    tag_column: Annotated[
        list[str] | None, _mapping("--tag-column", "COLUMN", "Column with a tag; may be repeated.")
    ] = None,
    data_column: Annotated[
        list[str] | None,
        _mapping(
            "--data-column", "COLUMN", "Column to keep in the data; may be repeated. Default: all unused columns."
        ),
    ] = None,
    numbers: Annotated[
        bool, _mapping("--numbers", None, "Convert CSV cells that are numbers, true or false, instead of keeping text.")
    ] = False,
    partition_by: PartitionBy = None,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Events per append.")] = 10_000,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Skip lines that cannot be imported, instead of stopping there.")
    ] = False,
    single_writer: SingleWriter = False,
    as_json: AsJson = False,
    option: StorageOptions = None,
) -> None:
    """Import JSONL or CSV into a stream. Running it again adds nothing.

    JSONL has one object per line; the first line of CSV names its columns. A column named like an event's field (type,
    id, time, subject, source, tags; in JSONL also data and meta) becomes that field, unless an option says otherwise.
    All other columns become members of the data. Lines printed by `bucketlog read --json`, and lines of a segment, are
    imported unchanged.

    An event without an id gets one derived from its row, so that importing the row again finds it stored; equal rows in
    one file are all kept. The import stops at the first line that cannot be imported; all lines before it are imported.
    If it was interrupted, run the same command again to resume.
    """
    name = "standard input" if file == "-" else file
    from_csv = format_ is Format.csv or (format_ is None and Path(file).suffix.lower() in (".csv", ".tsv"))
    for constant, column, what in ((type_, type_column, "type"), (source, source_column, "source")):
        if constant is not None and column is not None:
            msg = f"use --{what} or --{what}-column, not both"
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
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(stack.enter_context(_open(file)), f"import {name}"))
        rows = _rows(progress.lines(), mapping, _checked_delimiter(delimiter, file))
        store = stack.enter_context(open_to_write(url, option, single_writer=single_writer))

        def on_bad(bad: BadLine) -> None:
            if not skip_bad:
                raise BadLineError(bad)
            if importer.bad < _BAD_LINES_SHOWN:
                progress.say(f"{name}, line {bad.line}: {bad.why}")

        importer = Importer(
            store.stream(stream, partition_by=partition_by),
            mapping.mapper(),
            batch_events=batch,
            on_bad=on_bad,
            on_batch=lambda: progress.show(importer.read),
        )
        _run(importer, rows, progress, name)
    if as_json:
        counts = {"read": importer.read, "added": importer.added, "present": importer.present, "bad": importer.bad}
        print_json(counts)
    else:
        print_text(_summary(importer))


def _run(importer: Importer, rows: Iterable[Found], progress: Progress, name: str) -> None:
    """Run an import; if it stops early, say how much was imported and how to resume."""
    try:
        importer.run(rows)
    except BadLineError as err:
        progress.close()
        say(f"bucketlog: import {name}, line {err.bad.line}: {err.bad.why}")
        say(f"{_summary(importer)}; fix the line and run the same command again, or skip it with --skip-bad")
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        progress.close()
        say(f"interrupted after line {importer.line}: {_summary(importer)}; run the same command again to resume")
        raise typer.Exit(INTERRUPTED) from None
    except BucketlogError:
        progress.close()
        say(f"stopped after line {importer.line}: {_summary(importer)}; run the same command again to resume")
        raise


def _summary(importer: Importer) -> str:
    skipped = f", {importer.bad:,} bad lines skipped" if importer.bad else ""
    return f"{importer.read:,} events read, {importer.added:,} added, {importer.present:,} already stored{skipped}"


def _checked_delimiter(delimiter: str | None, file: str) -> str:
    if delimiter is None:
        return "\t" if Path(file).suffix.lower() == ".tsv" else ","
    if len(delimiter) != 1 or delimiter in '"\r\n':
        msg = f"{delimiter!r} cannot be a delimiter; use a single character other than a quote or a newline"
        raise typer.BadParameter(msg, param_hint="'--delimiter'")
    return delimiter


@contextlib.contextmanager
def _open(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        opened = Path(file).open("rb")  # noqa: SIM115  (only an error in opening is wrong usage)
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
    if name.upper() == "UTC":  # works without an installed time zone database
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        msg = f"unknown time zone {name!r}; write UTC or a name such as Europe/Berlin"
        raise typer.BadParameter(msg, param_hint="'--time-zone'") from None
