"""An append-only event log that lives wherever bytes live: a directory, a bucket, memory, any fsspec filesystem.

`open()` gives an `EventStore`, its `stream()` a `Stream`: append events, read them in order, follow them live.
"""

from typing import TYPE_CHECKING, Any

from bucketlog import errors
from bucketlog._version import __version__
from bucketlog.backend import ABSENT
from bucketlog.blobs import Blob
from bucketlog.checkpoints import Checkpoint
from bucketlog.commit import Commit
from bucketlog.cursor import Cursor
from bucketlog.event import Event
from bucketlog.reader import Batch, Reader
from bucketlog.snapshots import Snapshot
from bucketlog.store import EventStore, open
from bucketlog.stream import Stream
from bucketlog.subscriptions import Subscription
from bucketlog.tail import Tail

if TYPE_CHECKING:
    from bucketlog.aio import AsyncStore, AsyncStream, aopen
    from bucketlog.diagnosis import Diagnosis, diagnose

__all__ = [
    "ABSENT",
    "AsyncStore",
    "AsyncStream",
    "Batch",
    "Blob",
    "Checkpoint",
    "Commit",
    "Cursor",
    "Diagnosis",
    "Event",
    "EventStore",
    "Reader",
    "Snapshot",
    "Stream",
    "Subscription",
    "Tail",
    "__version__",
    "aopen",
    "diagnose",
    "errors",
    "open",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    # asyncio costs more to import than all of the rest, and a diagnosis is rare.
    if name in ("AsyncStore", "AsyncStream", "aopen"):
        from bucketlog import aio

        return getattr(aio, name)
    if name in ("Diagnosis", "diagnose"):
        from bucketlog import diagnosis

        return getattr(diagnosis, name)
    msg = f"module 'bucketlog' has no attribute {name!r}"
    raise AttributeError(msg)
