"""Paths of records and documents, which programs can keep, compare and inspect."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog import EventStore

STORE_FOLDER = "store"


class StorePath(str):
    """The full URL of something in a store, without credentials and query; it compares, hashes and sorts as a string.

    Methods that read use the store that returned the path, while that is open. A path is not an `os.PathLike`, because
    `open()` would look for a local file of that name. An unpickled path has no store.
    """

    __slots__ = ("_root", "_store")
    _store: EventStore | None
    _root: str

    def __new__(cls, url: str, store: EventStore | None = None, root: str = "") -> StorePath:
        """Make a path.

        Args:
            url: The URL.
            store: The store to read from.
            root: The store's URL, without a trailing slash.
        """
        path = super().__new__(cls, url)
        path._store, path._root = store, root
        return path

    def __reduce__(self) -> tuple[Any, ...]:
        return StorePath, (str(self),)

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __truediv__(self, name: str) -> StorePath:
        return StorePath(f"{self.rstrip('/')}/{name}", self._store, self._root)

    @property
    def name(self) -> str:
        """The last component."""
        return self.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The last component's suffix, such as `.json`."""
        return Path(self.name).suffix

    @property
    def stem(self) -> str:
        """The last component without its suffix."""
        return Path(self.name).stem

    @property
    def parent(self) -> StorePath:
        """The folder that contains it; the first component of a URL is its own parent."""
        above = self.rstrip("/").rpartition("/")[0]
        return self if above.endswith("/") or "://" not in above else StorePath(above, self._store, self._root)

    def exists(self) -> bool:
        """Return True if it is a document, a day, or a folder that is not empty."""
        store, path = self._inside()
        match path.split("/"):
            case ["streams", stream, day]:
                return day in store.stream(stream).partitions()
            case ["snapshots" | "checkpoints", name]:
                return name in self.parent._below()  # noqa: SLF001  (of the same class)
        return next(self._below(), None) is not None

    def read_bytes(self) -> bytes:
        """Return a document's bytes.

        Raises:
            NotFoundError: The document does not exist; also a `FileNotFoundError`.
            IsADirectoryError: The path is a folder.
        """
        store, path = self._inside()
        if path.split("/")[0] == "streams" or "/" not in path:
            msg = f"read {self}: it is a folder, not a document"
            raise IsADirectoryError(msg)
        if "%2F" in path:  # never an object, but perhaps a snapshot, whose bytes are made from its state
            for saved in (info for name in store.snapshots.names() for info in store.snapshots.list(name)):
                if saved.key == path:
                    state = store.snapshots.load(saved.name, saved.at).state
                    return json.dumps(state, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        return store.objects.get(unquote(path))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return a document's text; see `read_bytes`."""
        return self.read_bytes().decode(encoding)

    def glob(self, pattern: str) -> Iterator[StorePath]:
        """Yield the paths directly below that match a pattern such as `digest__*.json`, sorted by name."""
        for name in sorted(set(self._below())):
            if fnmatchcase(name, pattern):
                yield self / name

    def _inside(self) -> tuple[EventStore, str]:
        if self._store is None:
            msg = f"read {self}: this path is not attached to a store, as after pickling; get it from the store again"
            raise ValueError(msg)
        if self != self._root and not self.startswith(f"{self._root}/"):
            return self._store, ""
        return self._store, self[len(self._root) + 1 :]

    def _below(self) -> Iterator[str]:
        """Yield the names of everything directly below, some of them more than once."""
        store, path = self._inside()
        match path.split("/"):
            case [""]:
                yield from ("streams", "snapshots", "checkpoints") if self == self._root else (STORE_FOLDER,)
            case ["streams"]:
                yield from store.streams()
            case ["streams", stream]:
                yield from store.stream(stream).partitions()
            case ["checkpoints"]:
                yield from (f"{encoded(store, name)}.json" for name in store.checkpoints.list())
            case ["snapshots"]:
                for path in store.objects.list("snapshots/"):
                    yield store.objects.url(path).rpartition("/")[2]
                for name in store.snapshots.names():
                    keys = (saved.key for saved in store.snapshots.list(name))
                    yield from (key.rpartition("/")[2] for key in keys if "%2F" in key)


AnyPath: TypeAlias = Path | StorePath  # a Path on the file backend


def encoded(store: EventStore, name: str) -> str:
    """Return a name as it is encoded in file names and keys.

    Raises:
        InvalidNameError: The name is not valid.
    """
    return store.stream("signals").url(name).rpartition("/")[2]
