"""The envelope classes in use: those of `metaspn_schemas` if it is installed, so that records compare equal."""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from bucketlog.signals.own_envelopes import EmissionEnvelope, EntityRef, SignalEnvelope, TraceContext
else:
    try:
        from metaspn_schemas import EmissionEnvelope, EntityRef, SignalEnvelope, TraceContext
    except ImportError:
        from bucketlog.signals.own_envelopes import EmissionEnvelope, EntityRef, SignalEnvelope, TraceContext

__all__ = ["E", "EmissionEnvelope", "EntityRef", "SignalEnvelope", "TraceContext"]

E = TypeVar("E", bound=SignalEnvelope | EmissionEnvelope)
