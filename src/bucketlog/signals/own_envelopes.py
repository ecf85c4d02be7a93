"""Our own classes for signals, emissions and references, used if `metaspn_schemas` is not installed.

Fields, their order and defaults, JSON and equality are those of `metaspn_schemas` 0.8.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bucketlog.signals.times import from_text, to_text, to_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

SCHEMA_VERSION = "0.8"


class _Serializable:
    """A dataclass with conversions to and from JSON."""

    def to_dict(self, *, privacy_mode: bool = False) -> dict[str, Any]:
        """Return all fields as JSON values by name; in privacy mode without the raw input."""
        return {
            member.name: to_primitive(getattr(self, member.name), privacy_mode=privacy_mode)
            for member in fields(self)  # type: ignore[arg-type]  # all subclasses are dataclasses
            if not (privacy_mode and member.metadata.get("omit_in_privacy_mode"))
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make an object from JSON, ignoring unknown members and using defaults for missing ones.

        Raises:
            ValueError: A required member is missing, or a time cannot be parsed.
            TypeError: A time is not a string, or a list is not a list.
        """
        found = {}
        for member in fields(cls):  # type: ignore[arg-type]
            if member.name in data:
                value = data[member.name]
                read = _READERS.get(f"{cls.__name__}.{member.name}") or _READERS[member.name]
                found[member.name] = None if value is None else read(value)
            elif member.default is MISSING and member.default_factory is MISSING:
                msg = f"Missing required field: {member.name}"
                raise ValueError(msg)
        return cls(**found)


@dataclass(frozen=True)
class EntityRef(_Serializable):
    """A reference to the person or thing that a record is about."""

    ref_type: str
    value: str
    platform: str | None = None
    label: str | None = None
    schema_version: str = SCHEMA_VERSION


@dataclass(frozen=True)
class TraceContext(_Serializable):
    """The origin of a record."""

    trace_id: str
    caused_by: tuple[str, ...] = ()
    provenance: str | None = None
    redactions: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    privacy_mode: bool = False
    schema_version: str = SCHEMA_VERSION


@dataclass(frozen=True)
class SignalEnvelope(_Serializable):
    """An observation."""

    signal_id: str
    timestamp: datetime
    source: str
    payload_type: str
    payload: Any
    schema_version: str = SCHEMA_VERSION
    entity_refs: tuple[EntityRef, ...] = ()
    trace: TraceContext | None = None
    raw: dict[str, Any] | None = field(default=None, metadata={"omit_in_privacy_mode": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "timestamp", to_utc(self.timestamp))


@dataclass(frozen=True)
class EmissionEnvelope(_Serializable):
    """A conclusion, caused by a signal."""

    emission_id: str
    timestamp: datetime
    emission_type: str
    payload: Any
    caused_by: str
    schema_version: str = SCHEMA_VERSION
    trace: TraceContext | None = None
    entity_refs: tuple[EntityRef, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "timestamp", to_utc(self.timestamp))


def to_primitive(value: object, *, privacy_mode: bool = False) -> Any:  # noqa: ANN401  (any JSON value)
    """Return a value with dataclasses, datetimes and tuples at any depth converted to JSON values.

    Raises:
        TypeError: A dict has keys that cannot be sorted.
    """
    if is_dataclass(value):
        return {
            member.name: to_primitive(getattr(value, member.name), privacy_mode=privacy_mode)
            for member in fields(value)
            if not (privacy_mode and member.metadata.get("omit_in_privacy_mode"))
        }
    if isinstance(value, datetime):
        return to_text(value)
    if isinstance(value, (tuple, list)):
        return [to_primitive(item, privacy_mode=privacy_mode) for item in value]
    if isinstance(value, dict):
        return {key: to_primitive(item, privacy_mode=privacy_mode) for key, item in sorted(value.items())}
    return value


def _read_time(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return from_text(value)
    msg = f"Cannot parse datetime from {type(value)!r}"
    raise TypeError(msg)


def _texts(value: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return tuple(None if item is None else str(item) for item in value)


def _references(value: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return tuple(EntityRef.from_dict(item) if isinstance(item, dict) else item for item in value)


def _same(value: Any) -> Any:  # noqa: ANN401
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("ref_type", "value", "platform", "label", "schema_version", "trace_id", "provenance"), str),
    **dict.fromkeys(("signal_id", "emission_id", "source", "payload_type", "emission_type"), str),
    "caused_by": str,
    "TraceContext.caused_by": _texts,
    "redactions": _texts,
    "metadata": lambda value: {str(key): None if item is None else str(item) for key, item in value.items()},
    "privacy_mode": bool,
    "timestamp": _read_time,
    "payload": _same,
    "entity_refs": _references,
    "trace": lambda value: TraceContext.from_dict(value) if isinstance(value, dict) else value,
    "raw": lambda value: {str(key): item for key, item in value.items()},
}
