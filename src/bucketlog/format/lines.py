"""Lines: how events are written and read, and what may be written.

A line is one JSON object. It does not contain `partition` and `offset`: its place in the log gives them.
"""

from __future__ import annotations

import copy
import re
import sys
from collections import deque
from datetime import UTC, datetime
from itertools import repeat
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

import msgspec

from bucketlog.errors import InvalidEventError
from bucketlog.event import Event
from bucketlog.format.json_values import Limits, check_json

if TYPE_CHECKING:
    from collections.abc import Sequence

EVENT_BYTES_MAX = 8 * 1024 * 1024
DATA_DEPTH_MAX = 200  # well inside what JSON parsers of other languages nest
_INTEGER_BITS_MAX = 14_000  # Python itself parses no more digits than that
_LIMITS = Limits(
    depth_max=DATA_DEPTH_MAX,
    integer_min=1 - 2**_INTEGER_BITS_MAX,
    integer_max=2**_INTEGER_BITS_MAX - 1,
    integer_rule="an integer of over 4,000 digits; store it as text",
    subclass_keys=True,
)


class StoredEvent(Event, frozen=True, kw_only=True, eq=False, gc=False):
    """An event as it is read: `data` stays JSON text until it is accessed.

    `raw_data` is that text, until then.
    """

    data: msgspec.Raw = msgspec.Raw(b"null")
    raw_data: ClassVar[msgspec.Raw]

    def __repr__(self) -> str:
        shown = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return f"Event({', '.join(f'{name}={value!r}' for name, value in shown if value not in (None, (), {}))})"

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self.__copy__().__reduce__()

    def __copy__(self) -> Event:
        return _rebuild(*(getattr(self, name) for name in self.__struct_fields__))

    def __deepcopy__(self, memo: dict[int, Any]) -> Event:
        return _rebuild(*(copy.deepcopy(getattr(self, name), memo) for name in self.__struct_fields__))


_KINDS = (Event, StoredEvent)


def _rebuild(*values: Any) -> Event:  # noqa: ANN401
    return Event(**dict(zip(Event.__struct_fields__, values, strict=True)))


# -- lines: what is written --------------------------------------------------------------------------------------------

# JSON, unrolled: msgspec has no recursive types, and what nests deeper is checked in Python.
# Bounds that every number keeps refuse NaN and infinities, which would be written as null.
_Finite: TypeAlias = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
_Scalar: TypeAlias = str | int | _Finite | bool | None
_Json1: TypeAlias = _Scalar | list[_Scalar] | dict[str, _Scalar]
_Json2: TypeAlias = _Scalar | list[_Json1] | dict[str, _Json1]
_Json3: TypeAlias = _Scalar | list[_Json2] | dict[str, _Json2]
_Json4: TypeAlias = _Scalar | list[_Json3] | dict[str, _Json3]

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class Line(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """What one line holds, in its order of members."""

    type: _Text
    id: _Text
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    source: str | None = None
    subject: str | None = None
    tags: tuple[str, ...] = ()
    data: _Json4 = None
    meta: dict[str, _Scalar] = {}


def _plain(value: object) -> object:
    """Serve subclasses of what JSON has, such as numpy.float64; anything else was refused before."""
    return next(kind(value) for kind in (str, int, float) if isinstance(value, kind))


_encoder = msgspec.json.Encoder(enc_hook=_plain)


def check_events(events: Sequence[Event], *, where: str) -> list[Line]:
    """Check events and return what their lines will hold, detached from the caller's objects.

    Args:
        events: A batch.
        where: Store and stream, for messages.

    Raises:
        InvalidEventError: One of them cannot be written; names its index, the field and why.
    """
    try:
        if len(events) == 1:  # the way of a single append: looking up how to convert a list costs more than converting
            lines = [msgspec.convert(events[0], Line, from_attributes=True)]
        else:
            lines = msgspec.convert(events, list[Line], from_attributes=True)
    except (msgspec.ValidationError, RecursionError, AttributeError):  # numpy's numbers lack what msgspec looks for
        return [_check_one(event, index, where) for index, event in enumerate(events)]
    for index, (line, event) in enumerate(zip(lines, events, strict=True)):
        if type(event) not in _KINDS or line.time is not event.time:  # something like an event, or with a text for time
            lines[index] = line = _check_one(event, index, where)
        if line.time.tzinfo is not UTC:
            line.time = _to_utc(line.time, index, where)
        if (line.data is not event.data and line.data != event.data) or (event.meta and line.meta != event.meta):
            lines[index] = _check_one(event, index, where)  # a tuple became a list, which is fine, or a set did
    return lines


def encode_lines(lines: Sequence[Line], *, indexes: Sequence[int], where: str) -> bytes:
    """Encode lines, each ending with a newline.

    Args:
        lines: What `check_events` returned, or a part of it.
        indexes: Where each of them stood in the caller's batch, for messages.
        where: Store and stream, for messages.

    Raises:
        InvalidEventError: Lone surrogates, or over 8 MiB; names index, field and why.
    """
    try:
        body = _encoder.encode_lines(lines)
    except (ValueError, RecursionError):
        for index, line in zip(indexes, lines, strict=True):
            _check_values(line, index, where)
        raise
    if len(body) > EVENT_BYTES_MAX:
        for index, line in zip(indexes, lines, strict=True):
            if (size := len(_encoder.encode(line))) > EVENT_BYTES_MAX:
                raise _refused(
                    index, "data", f"takes {size} bytes as JSON, at most {EVENT_BYTES_MAX} are allowed", where
                )
    return body


def _refused(index: int, field: str, why: str, where: str) -> InvalidEventError:
    return InvalidEventError(f"append to {where}: event {index}, field {field!r}: {why}", index=index, field=field)


_FIELD = re.compile(r"`\$\.(\w+)")


def _check_one(event: Event, index: int, where: str) -> Line:
    """Check one event thoroughly: either say what is wrong with it or return its line."""
    if not isinstance(event, Event):
        raise _refused(index, "event", f"expected an Event, got {type(event).__name__}", where)
    if not isinstance(event.time, datetime):
        raise _refused(index, "time", f"expected a datetime, got {type(event.time).__name__}", where)
    envelope = {name: getattr(event, name) for name in Line.__struct_fields__ if name != "data"}
    try:
        line = msgspec.convert(envelope, Line)
    except msgspec.ValidationError as err:
        meta: object = event.meta
        for key, value in meta.items() if isinstance(meta, dict) else ():
            if isinstance(value, float):  # told in our words: theirs would name a bound
                _check_json(value, f"meta.{key}", index, where)
        found = _FIELD.search(str(err))
        raise _refused(index, found[1] if found else "event", str(err).partition(" - at ")[0], where) from err
    line.time = _to_utc(line.time, index, where)
    _check_json(event.meta, "meta", index, where)  # a Decimal was rounded above
    _check_json(event.data, "data", index, where)
    line.data = event.data
    _check_values(line, index, where)
    # Detached here too, and tuples become the lists that they will be read as.
    line.data = msgspec.json.decode(_encoder.encode(event.data))
    return line


def _to_utc(time: datetime, index: int, where: str) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise _refused(index, "time", f"{time.isoformat()} does not exist as UTC", where) from None


def _check_values(line: Line, index: int, where: str) -> None:
    for name in ("type", "id", "source", "subject"):
        _check_json(getattr(line, name), name, index, where)
    _check_json(list(line.tags), "tags", index, where)
    _check_json(line.meta, "meta", index, where)
    _check_json(line.data, "data", index, where)


def _check_json(value: object, name: str, index: int, where: str) -> None:
    try:
        check_json(value, _LIMITS, name=name)
    except (TypeError, ValueError) as err:
        raise _refused(index, name.partition(".")[0], str(err), where) from None


# -- lines: what is read -----------------------------------------------------------------------------------------------


class _Identity(msgspec.Struct, gc=False):
    id: str


_raw_data = Event.__dict__["data"]  # the slots that the properties and readers below go around
_set_partition = Event.__dict__["partition"].__set__
_set_offset = Event.__dict__["offset"].__set__
_decode_json = msgspec.json.Decoder().decode


def _decode_data(self: StoredEvent) -> object:
    value = _raw_data.__get__(self)
    if type(value) is msgspec.Raw:
        value = _decode_json(value)
        _raw_data.__set__(self, value)
    return value


StoredEvent.raw_data = _raw_data
StoredEvent.data = property(_decode_data)  # type: ignore[assignment]  # over the slot, after msgspec read it


def is_touched(event: Event) -> bool:
    """Return True if the `data` of an event has been decoded."""
    return type(_raw_data.__get__(event)) is not msgspec.Raw


_lazy = msgspec.json.Decoder(StoredEvent)
_eager = msgspec.json.Decoder(Event)
_identities = msgspec.json.Decoder(_Identity)


def decode_events(
    lines: bytes | memoryview, partition: str, offsets: Sequence[int] | range, *, eager: bool
) -> list[Event]:
    """Decode whole lines and tell each event where it was read.

    Args:
        lines: One or more lines; the last one may lack its newline.
        partition: Where they stand.
        offsets: One for each line.
        eager: Decode `data` too, which is cheaper than later when it will be touched.

    Raises:
        msgspec.DecodeError: A line is not an event.
    """
    events: list[Event] = _eager.decode_lines(lines) if eager else _lazy.decode_lines(lines)  # type: ignore[assignment]
    deque(map(_set_offset, events, offsets), 0)  # loops in C: 40 ns an event, where a for loop takes 150
    deque(map(_set_partition, events, repeat(partition)), 0)
    return events


def decode_ids(lines: bytes | memoryview, *, count: int) -> list[str]:
    """Return the ids of whole lines, leaving the rest undecoded.

    Raises:
        msgspec.DecodeError: A line is not an event.
        ValueError: They are not `count` lines.
    """
    ids = [identity.id for identity in _identities.decode_lines(lines)]
    if len(ids) != count:
        msg = f"{len(ids)} lines where {count} should be"
        raise ValueError(msg)
    return ids
