"""Conversion of envelopes to events and back.

An envelope that is read back is defined by its JSON alone: `from_dict` of the result of `to_dict`. For the known
classes neither is called, which is about ten times as fast.
"""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, cast

import msgspec
import orjson

from bucketlog import Event
from bucketlog.signals import own_envelopes
from bucketlog.signals.envelopes import E, EmissionEnvelope, EntityRef, SignalEnvelope
from bucketlog.signals.own_envelopes import to_primitive
from bucketlog.signals.references import storable, tag_of
from bucketlog.signals.times import to_text, to_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NESTING_MAX = 150  # somewhat below the core's limit; values that nest deeper are stored as text
_STRICT = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_ENVELOPE_BYTES = 300  # estimate of an envelope without its payload, and of each reference
Encoded: TypeAlias = tuple[Event, int]  # the event and its approximate size in bytes

_AS_TEXT = "json"  # the single member of `data` for an envelope stored as JSON text


class Kind(Generic[E]):
    """One of the two kinds of records, and how it is stored and read.

    Attributes:
        envelope: The envelope class.
        stream: The stream's name.
        id_field: The envelope's field with the id.
        type_field: The envelope's field with the type.
        type_if_empty: The event's type if the envelope's is empty.
        encode_plain: The fast path, for envelopes of exactly that class with plain JSON, as almost all are; returns
            None for all others, which need `encode`.
    """

    def __init__(
        self,
        envelope: type[E],
        own: type,
        *,
        stream: str,
        id_field: str,
        type_field: str,
        encode_plain: Callable[[Any], Encoded | None],
    ) -> None:
        # Another version of the schemas may have other fields, which only its own methods know.
        is_known = [field.name for field in fields(envelope)] == [field.name for field in fields(own)]
        self.envelope = envelope
        self.stream = stream
        self.id_field = id_field
        self.type_field = type_field
        self.type_if_empty = stream.removesuffix("s")
        self.encode_plain = encode_plain if is_known else _encode_nothing

    def id_of(self, envelope: object) -> object:
        """Return an envelope's id, after checking id and version.

        Raises:
            ValueError: The id or the version is empty.
        """
        given: object = getattr(envelope, self.id_field)
        if not given:
            msg = f"{self.id_field} is required for stable IDs"
            raise ValueError(msg)
        if not envelope.schema_version:  # type: ignore[attr-defined]
            msg = "schema_version is required"
            raise ValueError(msg)
        return given

    def read(self, members: Mapping[str, Any]) -> E:
        """Make an envelope from JSON through the class's own `from_dict`.

        Raises:
            ValueError: A required member is missing, or a time cannot be read.
            TypeError: A member has the wrong type.
        """
        return cast("E", self.envelope.from_dict(members))

    def encode(self, envelope: Any) -> Encoded:  # noqa: ANN401  (anything with an id, a time and `to_dict`)
        """Return the event of an envelope, with a copy of its data.

        Raises:
            TypeError: JSON cannot represent a value in it.
            ValueError: Its JSON is not an envelope, or it contains itself.
        """
        document = to_primitive(envelope) if type(envelope) is self.envelope else envelope.to_dict()
        text = json.dumps(document, sort_keys=True)
        members = json.loads(text)
        read: Any = self.read(members)
        source, subject = getattr(read, "source", None), getattr(read, "caused_by", None)
        event = Event(
            type=storable(getattr(read, self.type_field) or "") or self.type_if_empty,
            id=event_id(str(self.id_of(read))),
            source=None if source is None else storable(source),
            subject=None if subject is None else storable(subject),
            time=to_utc(envelope.timestamp),
            tags=tuple([tag_of(ref) for ref in read.entity_refs or () if isinstance(ref, EntityRef)]),
            data=members if _is_plain(members, text) else {_AS_TEXT: text},
        )
        return event, len(text)

    def decode(self, event: Event) -> E:
        """Return the envelope of an event.

        Raises:
            ValueError: The event is not an envelope.
        """
        data = event.data
        try:
            return msgspec.convert(data, self.envelope)  # eight times as fast as `from_dict`
        except msgspec.ValidationError:
            pass  # `from_dict` may accept data that this module did not write
        if isinstance(data, dict) and len(data) == 1 and isinstance(data.get(_AS_TEXT), str):
            data = json.loads(data[_AS_TEXT])
        try:
            return self.read(data)
        except (ValueError, TypeError, AttributeError) as err:
            msg = (
                f"read stream {self.stream!r}, partition {event.partition!r}: the event at offset {event.offset} is "
                f"not a valid {self.envelope.__name__} ({err}); the program that wrote it should use another stream"
            )
            raise ValueError(msg) from err


def event_id(envelope_id: str) -> str:
    """Return the event id for an envelope's id: the id itself, or JSON text if it cannot be stored or looks like it."""
    if envelope_id[0] != '"' and (envelope_id.isascii() or storable(envelope_id) is envelope_id):
        return envelope_id
    return json.dumps(envelope_id)


# -- writing -----------------------------------------------------------------------------------------------------------


def _encode_nothing(_: object) -> None:
    return None


def _encode_signal(signal: Any) -> Encoded | None:  # noqa: ANN401
    if type(signal) is not SignalEnvelope:
        return None
    signal_id, source, payload_type = signal.signal_id, signal.source, signal.payload_type
    schema_version, timestamp, raw, trace = signal.schema_version, signal.timestamp, signal.raw, signal.trace
    try:
        if signal_id[0] == '"' or not _are_texts(signal_id, source, payload_type, schema_version) or not schema_version:
            return None
        payload, size = _copied(signal.payload)
        refs, tags = _encode_references(signal.entity_refs)
        if raw is not None:
            raw, more = _copied(raw)
            size += more
        if trace is not None:
            trace, more = _copied(to_primitive(trace))
            size += more
        event = Event(
            type=payload_type or "signal",
            id=signal_id,
            source=source,
            time=timestamp if timestamp.tzinfo is UTC else to_utc(timestamp),
            tags=tags,
            data={
                "signal_id": signal_id,
                "timestamp": to_text(timestamp),
                "source": source,
                "payload_type": payload_type,
                "payload": payload,
                "schema_version": schema_version,
                "entity_refs": refs,
                "trace": trace,
                "raw": raw,
            },
        )
    except (TypeError, ValueError, IndexError, RecursionError):
        return None
    return event, size + _ENVELOPE_BYTES * (1 + len(refs))


def _encode_emission(emission: Any) -> Encoded | None:  # noqa: ANN401
    if type(emission) is not EmissionEnvelope:
        return None
    emission_id, emission_type, caused_by = emission.emission_id, emission.emission_type, emission.caused_by
    schema_version, timestamp, trace = emission.schema_version, emission.timestamp, emission.trace
    try:
        if (
            emission_id[0] == '"'
            or not _are_texts(emission_id, emission_type, caused_by, schema_version)
            or not schema_version
        ):
            return None
        payload, size = _copied(emission.payload)
        refs, tags = _encode_references(emission.entity_refs)
        if trace is not None:
            trace, more = _copied(to_primitive(trace))
            size += more
        event = Event(
            type=emission_type or "emission",
            id=emission_id,
            subject=caused_by,
            time=timestamp if timestamp.tzinfo is UTC else to_utc(timestamp),
            tags=tags,
            data={
                "emission_id": emission_id,
                "timestamp": to_text(timestamp),
                "emission_type": emission_type,
                "payload": payload,
                "caused_by": caused_by,
                "schema_version": schema_version,
                "trace": trace,
                "entity_refs": refs,
            },
        )
    except (TypeError, ValueError, IndexError, RecursionError):
        return None
    return event, size + _ENVELOPE_BYTES * (1 + len(refs))


def _encode_references(refs: object) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return references as `to_dict` would, and their tags.

    Raises:
        TypeError: The references are not plain; use `to_dict`.
    """
    if type(refs) is not tuple and type(refs) is not list:
        raise TypeError
    if not refs:
        return [], ()
    shown, tags = [], []
    for ref in refs:
        if type(ref) is not EntityRef:
            raise TypeError
        document, tag = _encode_reference(ref.ref_type, ref.value, ref.platform, ref.label, ref.schema_version)
        shown.append(document)
        tags.append(tag)
    return shown, tuple(tags)


@lru_cache(maxsize=4096)  # the same entities recur; callers do not modify the result
def _encode_reference(
    ref_type: str, value: str, platform: str | None, label: str | None, schema_version: str
) -> tuple[dict[str, Any], str]:
    if not _are_texts(ref_type, value, schema_version, platform or "", label or ""):
        raise TypeError
    document = {
        "ref_type": ref_type,
        "value": value,
        "platform": platform,
        "label": label,
        "schema_version": schema_version,
    }
    return document, tag_of(EntityRef(ref_type, value, platform, label, schema_version))


def _copied(value: object) -> tuple[Any, int]:
    """Return a copy of plain JSON and its size.

    Raises:
        TypeError: The value is not plain JSON (a tuple, for example); `to_dict` may still convert it.
        ValueError: As for TypeError.
    """
    text = orjson.dumps(value, option=_STRICT)
    copied = orjson.loads(text)
    if copied != value or (len(text) > _NESTING_MAX and text.count(b"[") + text.count(b"{") > _NESTING_MAX):
        raise TypeError
    return copied, len(text)


def _are_texts(*values: str) -> bool:
    """Check that all values are strings that UTF-8 can represent.

    Raises:
        TypeError: A value is not a string.
        UnicodeEncodeError: A string contains lone surrogates.
    """
    text = "".join(values)
    return text.isascii() or bool(text.encode())


def _is_plain(members: object, text: str) -> bool:
    """Return True if the core stores this JSON unchanged."""
    try:
        copied = orjson.loads(orjson.dumps(members))
    except (TypeError, ValueError, RecursionError):
        return False
    return bool(copied == members) and (text.count("[") + text.count("{") < _NESTING_MAX or _nests_little(members))


def _nests_little(value: object) -> bool:
    level = [value]
    for _ in range(_NESTING_MAX):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return True
    return False


SIGNALS = Kind(
    SignalEnvelope,
    own_envelopes.SignalEnvelope,
    stream="signals",
    id_field="signal_id",
    type_field="payload_type",
    encode_plain=_encode_signal,
)
EMISSIONS = Kind(
    EmissionEnvelope,
    own_envelopes.EmissionEnvelope,
    stream="emissions",
    id_field="emission_id",
    type_field="emission_type",
    encode_plain=_encode_emission,
)
