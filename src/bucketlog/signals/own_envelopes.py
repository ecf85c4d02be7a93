"""Signals, emissions and what they refer to, as classes of our own, for where `metaspn_schemas` is not installed.

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
    """What becomes JSON and is made from it."""

    def to_dict(self, *, privacy_mode: bool = False) -> dict[str, Any]:
        """Return every field by name as JSON has it; in privacy mode without what came in raw."""
        return {
            one.name: to_primitive(getattr(self, one.name), privacy_mode=privacy_mode)
            for one in fields(self)  # type: ignore[arg-type]  # all that inherit are dataclasses
            if not (privacy_mode and one.metadata.get("omit_in_privacy_mode"))
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make one from JSON: unknown members are ignored, missing ones have their defaults.

        Raises:
            ValueError: A required member is missing, or a time cannot be read.
            TypeError: A time is no text, or a list no list.
        """
        found = {}
        for one in fields(cls):  # type: ignore[arg-type]
            if one.name in data:
                value = data[one.name]
                read = _READERS.get(f"{cls.__name__}.{one.name}") or _READERS[one.name]
                found[one.name] = None if value is None else read(value)
            elif one.default is MISSING and one.default_factory is MISSING:
                msg = f"Missing required field: {one.name}"
                raise ValueError(msg)
        return cls(**found)


@dataclass(frozen=True)
class EntityRef(_Serializable):
    """Who or what a record is about."""

    ref_type: str
    value: str
    platform: str | None = None
    label: str | None = None
    schema_version: str = SCHEMA_VERSION


@dataclass(frozen=True)
class TraceContext(_Serializable):
    """How a record came about."""

    trace_id: str
    caused_by: tuple[str, ...] = ()
    provenance: str | None = None
    redactions: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    privacy_mode: bool = False
    schema_version: str = SCHEMA_VERSION


@dataclass(frozen=True)
class SignalEnvelope(_Serializable):
    """Something that was observed."""

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
    """Something that was concluded, caused by a signal."""

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
    """Return a value with its dataclasses, datetimes and tuples, at any depth, as JSON has them.

    Raises:
        TypeError: A dict has keys that cannot be sorted.
    """
    if is_dataclass(value):
        return {
            one.name: to_primitive(getattr(value, one.name), privacy_mode=privacy_mode)
            for one in fields(value)
            if not (privacy_mode and one.metadata.get("omit_in_privacy_mode"))
        }
    if isinstance(value, datetime):
        return to_text(value)
    if isinstance(value, (tuple, list)):
        return [to_primitive(one, privacy_mode=privacy_mode) for one in value]
    if isinstance(value, dict):
        return {key: to_primitive(one, privacy_mode=privacy_mode) for key, one in sorted(value.items())}
    return value


def _read_time(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return from_text(value)
    msg = f"Cannot parse datetime from {type(value)!r}"
    raise TypeError(msg)


def _texts(value: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return tuple(None if one is None else str(one) for one in value)


def _references(value: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return tuple(EntityRef.from_dict(one) if isinstance(one, dict) else one for one in value)


def _same(value: Any) -> Any:  # noqa: ANN401
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("ref_type", "value", "platform", "label", "schema_version", "trace_id", "provenance"), str),
    **dict.fromkeys(("signal_id", "emission_id", "source", "payload_type", "emission_type"), str),
    "caused_by": str,
    "TraceContext.caused_by": _texts,
    "redactions": _texts,
    "metadata": lambda value: {str(key): None if one is None else str(one) for key, one in value.items()},
    "privacy_mode": bool,
    "timestamp": _read_time,
    "payload": _same,
    "entity_refs": _references,
    "trace": lambda value: TraceContext.from_dict(value) if isinstance(value, dict) else value,
    "raw": lambda value: {str(key): one for key, one in value.items()},
}
