"""The mapping from a row's columns to an event."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import msgspec
from blake3 import blake3

from bucketlog import Event

UNIX_FORMATS = {"unix": timedelta(seconds=1), "unix-ms": timedelta(milliseconds=1)}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVENT_FIELDS = frozenset(Event.__struct_fields__)
_TRAILER = re.compile(r"[0-9a-f]{8}-[0-9a-f]{2}-[0-9a-f]{16}-[0-9a-f]{8}")  # see docs/format.md
_IN_EVERY_EVENT = frozenset(("type", "id", "time"))
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventMapping:
    """How a row becomes an event; None and empty values mean the defaults.

    A field is read from the column named here, or else from the column with the field's name. All unused columns become
    members of `data`. So do tag columns, because a tag does not say which column it came from.
    """

    type: str | None = None
    type_column: str | None = None
    id_column: str | None = None
    time_column: str | None = None
    time_format: str | None = None
    time_zone: tzinfo | None = None
    subject_column: str | None = None
    source: str | None = None
    source_column: str | None = None
    tags: tuple[str, ...] = ()
    tag_columns: tuple[str, ...] = ()
    data_columns: tuple[str, ...] = ()
    from_csv: bool = False
    numbers: bool = False

    def columns(self) -> list[str]:
        """Return all columns that the mapping names."""
        named = (self.type_column, self.id_column, self.time_column, self.subject_column, self.source_column)
        return [*(column for column in named if column is not None), *self.tag_columns, *self.data_columns]

    def mapper(self) -> Callable[[Mapping[str, Any]], Event]:
        """Return a function that makes an event from a row's columns.

        The function raises ValueError for an invalid row. Pass it all rows of an input in order: the id of an event
        without one is derived from its row and the number of equal rows before.
        """
        return _Mapper(self).to_event


class _Mapper:
    def __init__(self, mapping: EventMapping) -> None:
        self._mapping = mapping
        self._reads_cells = mapping.from_csv and mapping.numbers
        self._rows_seen: Counter[str] = Counter()
        # Field, column, and whether an option named the column.
        self._sources: list[tuple[str, str, bool]] = []
        for field in ("type", "id", "time", "subject", "source"):
            column: str | None = getattr(mapping, f"{field}_column")
            if column is not None:
                self._sources.append((field, column, True))
            elif getattr(mapping, field, None) is None:
                self._sources.append((field, field, False))
        # A CSV cell cannot represent `meta`.
        self._lists = [name for name in ("tags", "meta") if name == "tags" or not mapping.from_csv]
        self._sources = [source for source in self._sources if source[2] or source[1] not in mapping.data_columns]
        self._lists = [name for name in self._lists if name not in mapping.data_columns]
        self._taken = {column for _, column, _ in self._sources}.union(self._lists)

    def to_event(self, columns: Mapping[str, Any]) -> Event:
        mapping = self._mapping
        fields: dict[str, Any] = {}
        for field, column, named in self._sources:
            value = columns.get(column)
            if value is not None:
                fields[field] = self._time(value) if field == "time" else _text(field, value)
            elif named and field in _IN_EVERY_EVENT:
                msg = f"column {column!r}, which should hold the {field}, is missing or empty"
                raise ValueError(msg)
        if mapping.type is not None:
            fields["type"] = mapping.type
        elif "type" not in fields:
            msg = "it has no type; use --type, or name a column with --type-column"
            raise ValueError(msg)
        if mapping.source is not None:
            fields["source"] = mapping.source
        if "id" not in fields:
            fields["id"] = self._derived_id(columns)
        own = columns.get("tags") if "tags" in self._lists else None
        values = [own, *(columns.get(column) for column in mapping.tag_columns)]
        fields["tags"] = tuple(dict.fromkeys([*mapping.tags, *_tags(values)]))
        if "meta" in self._lists and (meta := columns.get("meta")) is not None:
            if not isinstance(meta, dict):
                msg = "'meta' is not an object; to keep it in the data, use --data-column meta"
                raise ValueError(msg)
            fields["meta"] = meta
        fields["data"] = self._data(columns)
        return Event(**fields)

    def _data(self, columns: Mapping[str, Any]) -> object:
        mapping = self._mapping
        if mapping.data_columns:
            return self._read({name: columns[name] for name in mapping.data_columns if name in columns})
        if not mapping.from_csv and _is_event(columns):
            return columns.get("data")  # without its old partition and offset
        left = {name: value for name, value in columns.items() if name not in self._taken}
        if "data" in left and not mapping.from_csv:
            if len(left) > 1:
                others = ", ".join(sorted(left.keys() - {"data"}))
                msg = f"it has both 'data' and other columns ({others}); name the columns to keep with --data-column"
                raise ValueError(msg)
            return left["data"]
        return self._read(left) if left else None

    def _read(self, cells: dict[str, Any]) -> dict[str, Any]:
        return {name: _read_cell(cell) for name, cell in cells.items()} if self._reads_cells else cells

    def _time(self, value: object) -> datetime:
        time = _parse_time(value, self._mapping.time_format)
        if time.tzinfo is None:
            if self._mapping.time_zone is None:
                msg = f"the time {value!r} has no time zone; set one with --time-zone, such as UTC"
                raise ValueError(msg)
            time = time.replace(tzinfo=self._mapping.time_zone)
        return time

    def _derived_id(self, columns: Mapping[str, Any]) -> str:
        digest = blake3(msgspec.json.encode(columns, order="sorted")).hexdigest(length=16)
        self._rows_seen[digest] += 1
        number = self._rows_seen[digest]
        return digest if number == 1 else f"{digest}-{number}"


def _is_event(columns: Mapping[str, Any]) -> bool:
    """Return True if this is an event as `read --json` prints it, or a line of a segment."""
    if not columns.keys() >= _IN_EVERY_EVENT:
        return False
    others = columns.keys() - _EVENT_FIELDS
    return not others or (others == {"commit"} and _TRAILER.fullmatch(str(columns["commit"])) is not None)


@functools.lru_cache(maxsize=65_536)  # most cells repeat others
def _read_cell(cell: str | None) -> object:
    if cell is None or cell in ("true", "false"):
        return None if cell is None else cell == "true"
    found = _NUMBER.fullmatch(cell)
    return cell if found is None else float(cell) if found[1] else int(cell)


def _text(field: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    msg = f"its {field} is neither a string nor an integer"
    raise ValueError(msg)


def _tags(values: Iterable[object]) -> list[str]:
    tags: list[str] = []
    for value in values:
        if isinstance(value, list):
            tags += [_text("tag", tag) for tag in value]
        elif value is not None:
            tags.append(_text("tag", value))
    return tags


def _parse_time(value: object, time_format: str | None) -> datetime:
    if time_format in UNIX_FORMATS:
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            try:
                number = int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else float(value)
                return _EPOCH + number * UNIX_FORMATS[time_format]
            except (ValueError, OverflowError):
                pass
        msg = f"{value!r} is not a valid {time_format} time"
        raise ValueError(msg)
    if not isinstance(value, str):
        msg = f"the time {value!r} is not a string; for numbers use --time-format unix or unix-ms"
        raise ValueError(msg)  # noqa: TRY004  (the row is wrong, not the program)
    try:
        if time_format is None:
            return datetime.fromisoformat(value)
        return datetime.strptime(value, time_format)  # noqa: DTZ007  (the caller gives it its zone)
    except ValueError:
        wanted = "ISO 8601; set the format with --time-format" if time_format is None else repr(time_format)
        msg = f"the time {value!r} does not match {wanted}"
        raise ValueError(msg) from None
