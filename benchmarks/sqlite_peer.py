"""The peer: a table of events in SQLite, as one would write it, in WAL mode with synchronous=FULL."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bucketlog import Event

_INSERT = "insert into events(id, type, source, subject, time, tags, data) values (?, ?, ?, ?, ?, ?, ?)"


class EventTable:
    """Events with a unique id, in the order of their insertion."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=full")
        self._db.execute(
            "create table if not exists events(position integer primary key, id text unique not null, "
            "type text not null, source text, subject text, time text not null, tags text, data text)"
        )

    def append(self, events: Iterable[Event]) -> None:
        """Insert a batch in one transaction."""
        self._db.execute("begin")
        self._db.executemany(_INSERT, map(_row, events))
        self._db.execute("commit")

    def append_one(self, event: Event) -> None:
        """Insert one event in a transaction of its own."""
        self._db.execute(_INSERT, _row(event))

    def replay(self) -> int:
        """Read all, decoding `data` and `tags`; return how many."""
        count = 0
        for _position, _id, _type, _source, _subject, _time, tags, data in self._db.execute(
            "select position, id, type, source, subject, time, tags, data from events order by position"
        ):
            json.loads(data)
            json.loads(tags)
            count += 1
        return count

    def close(self) -> None:
        self._db.close()


def _row(event: Event) -> tuple[object, ...]:
    return (
        event.id,
        event.type,
        event.source,
        event.subject,
        event.time.isoformat(),
        json.dumps(event.tags),
        json.dumps(event.data),
    )
