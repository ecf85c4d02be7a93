"""A backend in a shelf file of the standard library: `shelf:///path/to/file`, or `shelf://name` in memory only.

A minimal backend: it declares neither `append` nor `watch`, so each commit is one PUT of the next segment name.
"""

from __future__ import annotations

import shelve
import threading
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from bucketlog.backend import ABSENT, ANY, Capabilities, Condition, Content, Entry, Stat, check_options
from bucketlog.errors import ConflictError, NotFoundError, StoreNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_lock = threading.RLock()  # for threads; several processes cannot share a shelf
_shelves: dict[str, shelve.Shelf[tuple[bytes, float]]] = {}


def open_shelf(url: str, options: Mapping[str, object], *, create: bool) -> ShelfBackend:
    """Open a shelf file; the entry point."""
    check_options(url, options, ())
    path = url.removeprefix("shelf://")
    with _lock:
        if path not in _shelves:
            try:
                _shelves[path] = shelve.open(path, "c" if create else "w")  # noqa: SIM115  (all handles of this process share it)
            except Exception as err:
                msg = f"open {url}: there is no shelf file"
                raise StoreNotFoundError(msg) from err
    return ShelfBackend(url, _shelves[path])


class ShelfBackend:
    """A handle on a shelf file."""

    name = "shelf"
    capabilities = Capabilities()

    def __init__(self, url: str, shelf: shelve.Shelf[tuple[bytes, float]]) -> None:
        self.url = url
        self._shelf = shelf

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        """Return bytes."""
        data, _ = self._find(key)
        return Content(data[start:end], _version(data))

    def head(self, key: str) -> Stat:
        """Return size, version and time."""
        data, modified = self._find(key)
        return Stat(len(data), _version(data), datetime.fromtimestamp(modified, UTC))

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> str:
        """Store bytes. The lock makes check and write one step."""
        with _lock:
            there = self._shelf.get(key)
            if if_version is ABSENT and there is not None:
                msg = f"put {key} to {self.url}: it already exists"
                raise ConflictError(msg)
            if isinstance(if_version, str) and (there is None or _version(there[0]) != if_version):
                msg = f"put {key} to {self.url}: it changed"
                raise ConflictError(msg)
            self._shelf[key] = (bytes(data), datetime.now(UTC).timestamp())
            self._shelf.sync()
        return _version(data)

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        """Yield entries, ascending by key."""
        with _lock:
            found = sorted((key, *self._shelf[key]) for key in self._shelf if key.startswith(prefix))
        folder = ""
        for key, data, modified in found:
            below, slash, _ = key[len(prefix) :].partition("/")
            shown = prefix + below + slash if delimiter and slash else key
            if shown <= start_after or (shown == folder and shown != key):
                continue
            folder = shown
            yield Entry(shown) if shown != key else Entry(key, len(data), datetime.fromtimestamp(modified, UTC))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove keys."""
        with _lock:
            for key in keys:
                self._shelf.pop(key, None)

    def close(self) -> None:
        """Leave the shelf open for the other handles of this process."""

    def _find(self, key: str) -> tuple[bytes, float]:
        with _lock:
            try:
                return self._shelf[key]
            except KeyError:
                msg = f"get {key} of {self.url}: there is none"
                raise NotFoundError(msg) from None


def _version(data: bytes) -> str:
    return sha256(data).hexdigest()
