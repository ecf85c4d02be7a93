"""Printing: events as lines, records as tables or JSON; data to stdout, messages to stderr."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import typer

from bucketlog import Event

_encoder = msgspec.json.Encoder()


def say(text: str) -> None:
    """Print a one-line message to stderr."""
    with contextlib.suppress(BrokenPipeError):
        print(_one_line(text), file=sys.stderr, flush=True)  # noqa: T201  (printing is this module's task)


def print_text(text: str) -> None:
    """Print text and a newline to stdout."""
    print(text)  # noqa: T201


def print_json(record: Mapping[str, object]) -> None:
    """Print an object as one line of JSON to stdout."""
    _write(_encoder.encode(record) + b"\n")


def print_events(events: Sequence[Event], *, as_json: bool) -> None:
    """Print events to stdout, one per line: complete as JSON, or shortened for people."""
    if as_json:
        _write(_encoder.encode_lines(events))
    else:
        width = shutil.get_terminal_size().columns if _is_terminal() else None
        sys.stdout.write("".join(f"{event_line(event, width=width)}\n" for event in events))


def print_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns, numbers to the right. Nothing is cut or wrapped, so `awk` can read the output."""
    records = list(rows)
    pretty = _is_terminal()
    right = [all(isinstance(row[place], int) for row in records) for place in range(len(titles))]
    cells = [[_cell(value, pretty=pretty) for value in row] for row in records]
    widths = [max(len(row[place]) for row in [titles, *cells]) for place in range(len(titles))]
    for number, row in enumerate([titles, *cells]):
        aligned = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        line = "  ".join(aligned).rstrip()
        print_text(typer.style(line, bold=True) if pretty and not number else line)


def event_line(event: Event, *, width: int | None = None) -> str:
    """Return an event as one line for people.

    Args:
        event: An event that was read.
        width: The terminal's width: the line is cut to it and coloured. None for neither.
    """
    data = "" if event.data is None else _encoder.encode(event.data).decode()
    tags = " ".join(f"#{_one_line(tag)}" for tag in event.tags)
    parts: list[tuple[str, Mapping[str, object]]] = [
        (event.time.isoformat().replace("+00:00", "Z"), {"dim": True}),
        (f"{_one_line(event.partition or '')}/{event.offset}", {"dim": True}),
        (_one_line(event.type), {"fg": "cyan", "bold": True}),
        (_one_line(event.subject or ""), {"fg": "yellow"}),
        (tags, {"fg": "green"}),
        (_one_line(data), {}),
    ]
    shown = [part for part in parts if part[0]]
    if width is None:
        return " ".join(text for text, _ in shown)
    left = width
    pieces = []
    for text, style in shown:
        if left <= 0:
            break
        cut = text if len(text) <= left else text[: left - 1] + "…"
        pieces.append(typer.style(cut, **style))  # type: ignore[arg-type]  # its keywords differ in type
        left -= len(text) + 1
    return " ".join(pieces)


def _is_terminal() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _write(data: bytes) -> None:
    sys.stdout.flush()  # text printed before must come first
    sys.stdout.buffer.write(data)


def _cell(value: object, *, pretty: bool) -> str:
    if isinstance(value, int):
        return f"{value:,}" if pretty else str(value)
    return _one_line("" if value is None else str(value))


def _one_line(text: str) -> str:
    """Escape line breaks and control characters, which would break the line or control the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
