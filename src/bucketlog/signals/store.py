"""The names of `metaspn_store.store`.

Nothing is defined here, because Python loads this file twice if the package replaces `metaspn_store`.
"""

from bucketlog.errors import DuplicateEventError
from bucketlog.signals.checkpoints import ReplayCheckpoint
from bucketlog.signals.signal_store import FileSystemStore
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
    "DuplicateEventError",
    "DuplicatePolicy",
    "FileSystemStore",
    "ReplayCheckpoint",
]
