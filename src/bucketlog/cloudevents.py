"""CloudEvents 1.0: lossless conversion of events to its JSON format and back.

The attributes are those of https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, the JSON format that of
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md.

Three extensions carry the parts of an event that a CloudEvent cannot represent: `tags` (a JSON array as text),
`bucketlogmeta` (a JSON object as text, with the entries of `meta` that cannot be attributes) and `bucketlogevent` (a
JSON object as text, with the fields whose values attributes cannot have).

The event's `meta` carries the parts of a CloudEvent that an event cannot represent: `datacontenttype`, `dataschema` and
extensions under their own names; `datacontentencoding` is `base64` if `data` is the text of binary data; `time` is the
original text if that says more than the instant to the microsecond, and empty if there was no time.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bucketlog.errors import InvalidEventError
from bucketlog.event import Event

if TYPE_CHECKING:
    from bucketlog.event import Scalar

SPEC_VERSION = "1.0"

_NO_SOURCE = "/unknown"  # a CloudEvent must have a source
_TAGS, _META, _EVENT = "tags", "bucketlogmeta", "bucketlogevent"
_OWN = frozenset({"specversion", "id", "source", "type", "subject", "time", "data", _META, _EVENT})
_KEPT = ("id", "type", "source", "subject", "time")  # the members that `bucketlogevent` may have
_ATTRIBUTE = re.compile(r"[a-z0-9]+")
_URI = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_ABSOLUTE_URI = re.compile(rf"[A-Za-z][A-Za-z0-9+.\-]*:{_URI.pattern}")
# Characters that the type String of CloudEvents excludes: controls and noncharacters (JSON refuses surrogates).
_NO_STRING = re.compile(
    "[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000))
    + "]"
)
_JSON_TYPE = re.compile(r"(?:application|text)/(?:[a-zA-Z0-9\-.]+\+)?json(?:;.*)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))")


def from_event(event: Event) -> dict[str, Any]:
    """Return an event in the JSON format of CloudEvents, as a dict without its partition and offset.

    Raises:
        InvalidEventError: The event has no type or id, its time is naive, or `meta` is not JSON.
    """
    if event.time.utcoffset() is None:
        raise _refused("make a CloudEvent", "time", "it is naive; add a time zone, such as datetime.UTC")
    kept: dict[str, object] = {}
    meta = dict(event.meta)
    cloudevent: dict[str, Any] = {
        "specversion": SPEC_VERSION,
        "type": _text_attribute("type", event.type, kept),
        "source": _source(event.source, kept),
        "id": _text_attribute("id", event.id, kept),
    }
    _add_time(cloudevent, event.time, meta, kept)
    if event.subject is not None:
        if event.subject and not _NO_STRING.search(event.subject):
            cloudevent["subject"] = event.subject
        else:
            kept["subject"] = event.subject
    if event.tags:
        cloudevent[_TAGS] = _json(list(event.tags), "tags")
    _add_data(cloudevent, event.data, meta)
    rest = {}
    for name, value in meta.items():
        if _can_be_attribute(name, value, event):
            cloudevent[name] = value
        else:
            rest[name] = value
    if rest:
        cloudevent[_META] = _json(rest, "meta")
    if kept:
        cloudevent[_EVENT] = _json(kept, "event")
    return cloudevent


def to_event(cloudevent: object) -> Event:
    """Make an event from a CloudEvent. If it has no time, the event gets the current time.

    Args:
        cloudevent: The JSON format as a mapping, or an object with `get_attributes()` and `get_data()`, like the events
            of the package `cloudevents`.

    Raises:
        InvalidEventError: A required attribute is missing, or an attribute has an invalid type.
    """
    attributes, data = _taken_apart(cloudevent)
    _check_spec_version(attributes.pop("specversion", None))
    meta = _json_extension(attributes, _META)
    kept = _json_extension(attributes, _EVENT)
    if unknown := kept.keys() - set(_KEPT):
        raise _bad_attribute(_EVENT, f"it holds {min(unknown)!r}, which a newer version of bucketlog wrote; upgrade")
    fields: dict[str, Any] = {name: _required(attributes, name) for name in ("type", "id", "source")}
    fields["subject"] = _optional(attributes, "subject")
    time = _optional(attributes, "time")
    if time is None or "time" in kept:  # some packages add a time if there was none
        meta["time"] = ""
    else:
        fields["time"], says_more = _parsed_time(time)
        if says_more:
            meta["time"] = time
    for name, value in kept.items():
        if not isinstance(value, str) and not (value is None and name == "source"):
            raise _bad_attribute(_EVENT, f"its {name!r} is a {type(value).__name__}, not a string")
        fields[name] = _parsed_time(str(value))[0] if name == "time" else value
    tags = attributes.get(_TAGS)
    if isinstance(tags, str) and (found := _tags_of(tags)):
        fields["tags"] = found
        del attributes[_TAGS]
    if isinstance(data, (bytes, bytearray, memoryview)):
        data = base64.b64encode(data).decode()
        meta["datacontentencoding"] = "base64"
    for name, value in attributes.items():
        meta[name] = _scalar(name, value)
    return Event(**fields, data=data, meta=meta)


# -- to a CloudEvent ---------------------------------------------------------------------------------------------------


def _text_attribute(name: str, value: object, kept: dict[str, object]) -> str:
    if not isinstance(value, str) or not value:
        raise _refused("make a CloudEvent", name, f"it is {value!r:.40}; it must be a non-empty string")
    if not _NO_STRING.search(value):
        return value
    kept[name] = value
    return _NO_STRING.sub(lambda found: quote(found[0]), value)


def _source(source: str | None, kept: dict[str, object]) -> str:
    if source and _URI.fullmatch(source):
        return source
    kept["source"] = source
    return quote(source, safe="-._~:/?#[]@!$&'()*+,;=") if source else _NO_SOURCE


def _add_time(cloudevent: dict[str, Any], time: datetime, meta: dict[str, Scalar], kept: dict[str, object]) -> None:
    canonical = _shown(time)
    written = meta.get("time")
    if written == "":  # the CloudEvent had no time
        del meta["time"]
        kept["time"] = canonical
        return
    if isinstance(written, str) and _TIME.fullmatch(written):
        instant, says_more = _parsed_time(written)
        if says_more and instant == time:
            del meta["time"]
            canonical = written
    cloudevent["time"] = canonical


def _add_data(cloudevent: dict[str, Any], data: object, meta: dict[str, Scalar]) -> None:
    if data is None:
        return
    if meta.get("datacontentencoding") == "base64" and isinstance(data, str) and _base64(data) == data:
        del meta["datacontentencoding"]
        cloudevent["data_base64"] = data
    else:
        cloudevent["data"] = data


def _can_be_attribute(name: object, value: Scalar, event: Event) -> bool:
    """Return True if an entry of `meta` can be an attribute and converts back to the same entry."""
    if not isinstance(name, str) or not _ATTRIBUTE.fullmatch(name) or name in _OWN:
        return False
    if name == _TAGS:
        return not event.tags and isinstance(value, str) and not _tags_of(value) and not _NO_STRING.search(value)
    if name == "datacontenttype":
        # Types other than JSON are only safe for strings: packages would convert other data to a string.
        return (
            isinstance(value, str)
            and bool(value)
            and not _NO_STRING.search(value)
            and (event.data is None or isinstance(event.data, str) or bool(_JSON_TYPE.fullmatch(value)))
        )
    if name == "dataschema":
        return isinstance(value, str) and bool(_ABSOLUTE_URI.fullmatch(value))
    if isinstance(value, str):
        return not _NO_STRING.search(value)
    return isinstance(value, bool) or (isinstance(value, int) and -(2**31) <= value < 2**31)


def _json(value: object, field: str) -> str:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as err:
        raise InvalidEventError(f"make a CloudEvent: {field!r} is not JSON: {err}", field=field) from err


def _shown(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


# -- from a CloudEvent -------------------------------------------------------------------------------------------------


def _taken_apart(cloudevent: object) -> tuple[dict[str, Any], object]:
    """Return the attributes that are not null, and the data; binary data as bytes."""
    get_attributes, get_data = getattr(cloudevent, "get_attributes", None), getattr(cloudevent, "get_data", None)
    if callable(get_attributes) and callable(get_data):
        attributes, data = get_attributes(), get_data()
    elif isinstance(cloudevent, Mapping):
        attributes = dict(cloudevent)
        data = attributes.pop("data", None)
        binary = attributes.pop("data_base64", None)
        if binary is not None:
            if data is not None:
                raise _bad_attribute("data_base64", "`data` is there too; a CloudEvent can have only one of them")
            if not isinstance(binary, str) or (canonical := _base64(binary)) is None:
                raise _bad_attribute("data_base64", "it is not base64")
            data = base64.b64decode(canonical)
    else:
        msg = (
            f"make an event from a {type(cloudevent).__name__}: pass the JSON format of CloudEvents as a mapping, or "
            "an object of the package cloudevents"
        )
        raise InvalidEventError(msg, field="event")
    for name in attributes:
        if not isinstance(name, str):
            raise _bad_attribute(str(name), "an attribute's name must be a string")
    return {name: value for name, value in attributes.items() if value is not None}, data


def _check_spec_version(version: object) -> None:
    if version != SPEC_VERSION:
        raise _bad_attribute("specversion", f"it is {version!r:.40}; only {SPEC_VERSION!r} is supported")


def _json_extension(attributes: dict[str, Any], name: str) -> dict[str, Any]:
    text = attributes.pop(name, "{}")
    try:
        value = json.loads(text)
    except (TypeError, ValueError) as err:
        msg = f"make an event from a CloudEvent: extension {name!r} is not JSON; pass it on as to_cloudevent() made it"
        raise InvalidEventError(msg, field=name) from err
    if not isinstance(value, dict):
        raise _bad_attribute(name, "it is not a JSON object")
    return value


def _required(attributes: dict[str, Any], name: str) -> str:
    value = _optional(attributes, name)
    if value is None:
        raise _bad_attribute(name, "it is missing or empty")
    return value


def _optional(attributes: dict[str, Any], name: str) -> str | None:
    value = attributes.pop(name, None)
    if isinstance(value, datetime) and name == "time":
        return value.isoformat()
    if value is not None and not isinstance(value, str):
        raise _bad_attribute(name, f"it is a {type(value).__name__}, not a string")
    return value or None


def _scalar(name: str, value: object) -> Scalar:
    """Return an extension's value as in JSON."""
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    raise _bad_attribute(name, f"it is a {type(value).__name__}; an attribute is a string, a number or a boolean")


def _parsed_time(text: str) -> tuple[datetime, bool]:
    """Return an RFC 3339 time in UTC, and whether the text says more than that."""
    found = _TIME.fullmatch(text)
    if found:
        fraction, sign, hours, minutes = found.groups("")
        try:
            time = datetime.fromisoformat(text.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        else:
            return time, bool(fraction[6:].strip("0")) or (bool(sign) and (hours, minutes) != ("00", "00"))
    raise _bad_attribute("time", f"{text!r:.60} is not an RFC 3339 time with an offset")


def _tags_of(text: str) -> tuple[str, ...] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not found or not all(isinstance(tag, str) for tag in found):
        return None
    return tuple(found)


def _base64(text: str) -> str | None:
    """Return base64 text in its canonical form, or None if it is not base64."""
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode()
    except (binascii.Error, ValueError):
        return None


def _bad_attribute(name: str, why: str) -> InvalidEventError:
    return _refused("make an event from a CloudEvent", name, why)


def _refused(doing: str, field: str, why: str) -> InvalidEventError:
    return InvalidEventError(f"{doing}: {field!r}: {why}", field=field)
