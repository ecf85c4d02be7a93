"""Rows: the parsed lines of a JSONL or CSV file, and the lines that cannot be read."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import msgspec

_CELL_BYTES_MAX = 8 * 1024 * 1024  # the maximum size of an event


class Row(NamedTuple):
    """One row: the number of its last line (from 1), its columns, and its approximate size as JSON in bytes."""

    line: int
    columns: dict[str, Any]
    size: int


class BadLine(NamedTuple):
    """A line that cannot be imported, and why."""

    line: int
    why: str


Found: TypeAlias = Row | BadLine


class HeaderError(ValueError):
    """The first line of a CSV file does not name its columns."""


def read_jsonl(lines: Iterable[bytes]) -> Iterator[Found]:
    """Read one JSON object per line, skipping blank lines."""
    decode = msgspec.json.Decoder().decode
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not text.strip():
            continue
        try:
            value = decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as err:
            yield BadLine(number, f"not JSON: {err}")
            continue
        if isinstance(value, dict):
            yield Row(number, value, len(text))
        else:
            yield BadLine(number, f"expected a JSON object, found {_KINDS.get(type(value), 'something else')}")


_KINDS = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "a boolean", type(None): "null"}


class CsvRows:
    """The rows of a CSV file (RFC 4180, UTF-8) whose first line names the columns. An empty cell is None.

    Attributes:
        header: The columns, in order; empty if the file is empty.
    """

    def __init__(self, lines: Iterable[bytes], *, delimiter: str) -> None:
        """Read the header.

        Raises:
            HeaderError: The header cannot be read, a column has no name, or two columns have the same name.
        """
        self._lines = _Decoded(lines)
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
        csv.field_size_limit(_CELL_BYTES_MAX)
        try:
            self.header = next(self._reader, [])
        except (csv.Error, UnicodeDecodeError) as err:
            msg = f"the header cannot be read: {err}"
            raise HeaderError(msg) from None
        if "" in self.header:
            msg = f"column {self.header.index('') + 1} has no name in the header"
            raise HeaderError(msg)
        twice = sorted({name for name in self.header if self.header.count(name) > 1})
        if twice:
            msg = f"the header names {', '.join(twice)} twice"
            raise HeaderError(msg)

    def __iter__(self) -> Iterator[Found]:
        header, reader, lines = self.header, self._reader, self._lines
        names_size = sum(map(len, header)) + 6 * len(header)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (csv.Error, UnicodeDecodeError) as err:
                yield BadLine(lines.count, str(err))
                continue
            if not cells:
                continue
            if len(cells) != len(header):
                yield BadLine(lines.count, f"it has {len(cells)} cells, but the header names {len(header)} columns")
                continue
            size = names_size + sum(map(len, cells))
            yield Row(lines.count, {name: cell or None for name, cell in zip(header, cells, strict=True)}, size)


class _Decoded(Iterator[str]):
    """Decoded and counted lines. Not a generator, so that it continues after a line that is not UTF-8."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._decode = codecs.utf_8_decode
        self.count = 0

    def __next__(self) -> str:
        line = next(self._lines)
        self.count += 1
        if self.count == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        return self._decode(line, "strict", True)[0]
