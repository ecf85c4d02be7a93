"""Signals and emissions of a pipeline of workers, on any backend; a drop-in replacement for `metaspn_store`.

Workers write records idempotently, replay them by time, save checkpoints, and query recent records, rankings and
outcomes. Programs written for metaspn-store run unchanged: `sys.modules["metaspn_store"] = bucketlog.signals`.
"""

from bucketlog.errors import DuplicateEventError
from bucketlog.signals.checkpoints import ReplayCheckpoint
from bucketlog.signals.envelopes import EmissionEnvelope, EntityRef, SignalEnvelope, TraceContext
from bucketlog.signals.metaspn_workspace import BrokenWorkspaceError
from bucketlog.signals.paths import StorePath
from bucketlog.signals.reading import EnvelopeReader
from bucketlog.signals.signal_store import FileSystemStore, SignalStore
from bucketlog.signals.vocabulary import (
    DEFAULT_FAILURE_EMISSION_TYPES,
    DEFAULT_PENDING_OUTCOME_PAYLOAD_TYPES,
    DEFAULT_SUCCESS_EMISSION_TYPES,
    RESOLVED_ENTITY_PAYLOAD_TYPES,
    DuplicatePolicy,
)

__all__ = [
    "DEFAULT_FAILURE_EMISSION_TYPES",
    "DEFAULT_PENDING_OUTCOME_PAYLOAD_TYPES",
    "DEFAULT_SUCCESS_EMISSION_TYPES",
    "RESOLVED_ENTITY_PAYLOAD_TYPES",
    "BrokenWorkspaceError",
    "DuplicateEventError",
    "DuplicatePolicy",
    "EmissionEnvelope",
    "EntityRef",
    "EnvelopeReader",
    "FileSystemStore",
    "ReplayCheckpoint",
    "SignalEnvelope",
    "SignalStore",
    "StorePath",
    "TraceContext",
]
