"""SQLite: a table of events as you would write it, in WAL mode with synchronous=FULL; payloads by `json`."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bucketlog import Event

_COLUMNS = "id, type, source, subject, time, tags, data"
_INSERT = f"insert into events({_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?)"


class EventTable:
    """Events with a unique id, in the order of their insertion."""

    label = f"SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL"

    def __init__(self, path: Path, *, indexed: bool = False) -> None:
        """Open or create a database; with `indexed`, also by subject and time."""
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=full")
        self._db.execute(
            "create table if not exists events(position integer primary key, id text unique not null, "
            "type text not null, source text, subject text, time text not null, tags text, data text)"
        )
        if indexed:
            self._db.execute("create index if not exists by_subject on events(subject, time)")

    def append(self, events: Sequence[Event]) -> None:
        """Insert events in one transaction."""
        if len(events) == 1:
            self._db.execute(_INSERT, _row(events[0]))
            return
        self._db.execute("begin")
        self._db.executemany(_INSERT, map(_row, events))
        self._db.execute("commit")

    def replay(self) -> int:
        """Read all, decoding `data` and `tags`."""
        count = 0
        rows = self._db.execute(f"select position, {_COLUMNS} from events order by position")
        for _position, _id, _type, _source, _subject, _time, tags, data in rows:
            json.loads(data)
            json.loads(tags)
            count += 1
        return count

    def recent(self, count: int, subject: str) -> list[tuple[object, ...]]:
        """Return the newest events of a subject, newest first, their data decoded."""
        rows = self._db.execute(
            f"select position, {_COLUMNS} from events where subject = ? order by time desc, id desc limit ?",
            (subject, count),
        )
        return [(*row[:-1], json.loads(row[-1])) for row in rows]

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def open_peer(folder: Path) -> EventTable:
    """Make a database in a folder."""
    return EventTable(folder / "events.db")


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
