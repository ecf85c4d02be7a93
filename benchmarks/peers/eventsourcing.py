"""The `eventsourcing` package's SQLite recorder: an aggregate is an event's subject, its state the event as JSON."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bucketlog import Event

_PAGE = 1000  # notifications at a time


@cache
def _aggregate(subject: str | None) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, str(subject))


class Recorder:
    """Its own settings: WAL, and SQLite's default for that, synchronous=FULL."""

    label = f"eventsourcing {version('eventsourcing')}, SQLite recorder"

    def __init__(self, path: Path) -> None:
        self._datastore = SQLiteDatastore(str(path))
        self._recorder = SQLiteApplicationRecorder(self._datastore)
        self._recorder.create_table()
        self._versions: Counter[uuid.UUID] = Counter()

    def append(self, events: Sequence[Event]) -> None:
        """Insert events in one transaction."""
        self._recorder.insert_events([self._stored(event) for event in events])

    def replay(self) -> int:
        """Read all notifications in order, decoding their state."""
        count, start = 0, 1
        while page := self._recorder.select_notifications(start, _PAGE):
            for one in page:
                json.loads(one.state)
            count += len(page)
            start = page[-1].id + 1
        return count

    def close(self) -> None:
        """Close the database."""
        self._datastore.close()

    def _stored(self, event: Event) -> StoredEvent:
        aggregate = _aggregate(event.subject)
        self._versions[aggregate] += 1
        state = {
            "id": event.id,
            "source": event.source,
            "time": event.time.isoformat(),
            "tags": event.tags,
            "data": event.data,
        }
        return StoredEvent(aggregate, self._versions[aggregate], event.type, json.dumps(state).encode())


def open_peer(folder: Path) -> Recorder:
    """Make a database in a folder."""
    return Recorder(folder / "events.db")
