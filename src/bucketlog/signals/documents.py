"""Documents: snapshots of a state and reports of a day, as plain JSON files that are replaced atomically."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bucketlog.errors import NotFoundError
from bucketlog.signals.times import day_text, to_utc

if TYPE_CHECKING:
    from datetime import date, datetime

    from bucketlog import EventStore
    from bucketlog.signals.paths import AnyPath

FOLDER = "snapshots"
_VERSION = "0.1"


class Documents:
    """The documents of a store.

    Args:
        store: The store that holds them.
        folder: The path of its snapshots folder.
    """

    def __init__(self, store: EventStore, folder: AnyPath) -> None:
        self._store, self._folder = store, folder

    def write_state(self, name: str, state: object, at: datetime) -> AnyPath:
        """Write a state under a name and a time, rounded down to the second; return its path.

        Raises:
            TypeError: JSON cannot represent the state; the old document is kept.
            InvalidNameError: The name is not valid.
        """
        at = to_utc(at).replace(microsecond=0)
        return self._write(name, at, f"{at.year:04}-{at:%m-%dT%H%M%SZ}", state)

    def write_day(self, kind: str, day: date | datetime | str, member: str, content: object) -> AnyPath:
        """Write a day's document of some kind; return its path.

        Raises:
            TypeError: `day` is not a day, or JSON cannot represent the content; the old document is kept.
            InvalidNameError: The text given as a day cannot be part of a name.
        """
        text = day_text(day)
        return self._write(kind, text, text, {"day": text, member: content, "schema_version": _VERSION})

    def read_day(self, kind: str, day: date | datetime | str) -> dict[str, Any] | None:
        """Return a day's document of some kind, or None if there is none.

        Raises:
            ValueError: The stored document is not JSON.
        """
        text = day_text(day)
        try:
            if "/" in text:
                document: dict[str, Any] = self._store.snapshots.load(kind, text).state
            else:
                document = json.loads(self._store.objects.get(f"{FOLDER}/{kind}__{text}.json"))
        except NotFoundError:
            return None
        return document

    def _write(self, name: str, at: datetime | str, text: str, content: object) -> AnyPath:
        data = json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n"
        if "/" in name or "/" in text:  # in an object's path the slash would begin a folder
            self._store.snapshots.save(name, json.loads(data), at=at, replace=True)
            key = next(saved.key for saved in self._store.snapshots.list(name) if saved.at == at)
            return self._folder / key.rpartition("/")[2]
        path = f"{FOLDER}/{name}__{text}.json"
        self._store.objects.put(path, data.encode("ascii"))
        return self._folder / self._store.objects.url(path).rpartition("/")[2]
