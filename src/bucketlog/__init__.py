"""An append-only event log that lives wherever bytes live: a directory, a bucket, memory, any fsspec filesystem.

`open()` gives an `EventStore`, its `stream()` a `Stream`: append events, read them in order, follow them live.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bucketlog import errors
from bucketlog._version import __version__
from bucketlog.backend import ABSENT
from bucketlog.commit import Commit
from bucketlog.cursor import Cursor
from bucketlog.event import Event
from bucketlog.maintenance.compaction import Compaction
from bucketlog.maintenance.truncation import PartitionTruncation, TruncateReport
from bucketlog.maintenance.vacuum import PartitionVacuum, VacuumReport
from bucketlog.reading.pieces import Batch
from bucketlog.reading.reader import Reader
from bucketlog.reading.tail import Tail
from bucketlog.state.blobs import Blob
from bucketlog.state.checkpoints import Checkpoint
from bucketlog.state.snapshots import Snapshot
from bucketlog.store import EventStore, open
from bucketlog.stream import Stream
from bucketlog.subscriptions import Subscription

if TYPE_CHECKING:
    from bucketlog.aio import AsyncStore, AsyncStream, aopen
    from bucketlog.reading.arrow import ArrowReader, arrow_schema
    from bucketlog.reading.splits import OffsetRange, Split
    from bucketlog.storage.diagnosis import Diagnosis, diagnose

__all__ = [
    "ABSENT",
    "ArrowReader",
    "AsyncStore",
    "AsyncStream",
    "Batch",
    "Blob",
    "Checkpoint",
    "Commit",
    "Compaction",
    "Cursor",
    "Diagnosis",
    "Event",
    "EventStore",
    "OffsetRange",
    "PartitionTruncation",
    "PartitionVacuum",
    "Reader",
    "Snapshot",
    "Split",
    "Stream",
    "Subscription",
    "Tail",
    "TruncateReport",
    "VacuumReport",
    "__version__",
    "aopen",
    "arrow_schema",
    "diagnose",
    "errors",
    "open",
]


# asyncio costs more to import than all of the rest, and the others are rare.
_ON_DEMAND = {
    "ArrowReader": "reading.arrow",
    "AsyncStore": "aio",
    "AsyncStream": "aio",
    "Diagnosis": "storage.diagnosis",
    "OffsetRange": "reading.splits",
    "Split": "reading.splits",
    "aopen": "aio",
    "arrow_schema": "reading.arrow",
    "diagnose": "storage.diagnosis",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    module = _ON_DEMAND.get(name)
    if module is None:
        msg = f"module 'bucketlog' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"bucketlog.{module}"), name)
    _give_public_path(value)
    return value


def _give_public_path(value: object) -> None:
    """Make a public class or function name this package as its module.

    Tracebacks, `help()` and pickles then name the path that users import, wherever the code lives.
    """
    if getattr(value, "__module__", "").startswith("bucketlog."):
        value.__module__ = __name__


for _name in __all__:
    if _name not in _ON_DEMAND:
        _give_public_path(globals()[_name])
