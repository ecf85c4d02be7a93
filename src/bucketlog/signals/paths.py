"""Where records and documents lie, as paths that programs may keep, compare and look into."""

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
    """The full URL of something in a store, without credentials and query; compared, hashed and ordered as that text.

    What looks inside goes through the store that it came from, while that is open. It is no `os.PathLike`, as `open()`
    would look for a local file of this name. One that was pickled is text alone.
    """

    __slots__ = ("_root", "_store")
    _store: EventStore | None
    _root: str

    def __new__(cls, url: str, store: EventStore | None = None, root: str = "") -> StorePath:
        """Make a path.

        Args:
            url: The text.
            store: Where to look for what it names.
            root: That store's URL, without a slash at its end.
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
        """The last part."""
        return self.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The last part's ending, such as `.json`."""
        return Path(self.name).suffix

    @property
    def stem(self) -> str:
        """The last part without its ending."""
        return Path(self.name).stem

    @property
    def parent(self) -> StorePath:
        """What it lies in; the first part of a URL lies in itself."""
        above = self.rstrip("/").rpartition("/")[0]
        return self if above.endswith("/") or "://" not in above else StorePath(above, self._store, self._root)

    def exists(self) -> bool:
        """Tell whether there is a document or a day of this name, or something lies in it."""
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
            NotFoundError: There is none; a `FileNotFoundError`.
            IsADirectoryError: It is a folder.
        """
        store, path = self._inside()
        if path.split("/")[0] == "streams" or "/" not in path:
            msg = f"read {self}: it is a folder, not a document"
            raise IsADirectoryError(msg)
        if "%2F" in path:  # no object's path is so; a snapshot's may be, whose bytes follow from its state
            for one in (info for name in store.snapshots.names() for info in store.snapshots.list(name)):
                if one.key == path:
                    state = store.snapshots.load(one.name, one.at).state
                    return json.dumps(state, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        return store.objects.get(unquote(path))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return a document's text; see `read_bytes`."""
        return self.read_bytes().decode(encoding)

    def glob(self, pattern: str) -> Iterator[StorePath]:
        """Yield what lies in here and has a name that fits a pattern such as `digest__*.json`, by name."""
        for name in sorted(set(self._below())):
            if fnmatchcase(name, pattern):
                yield self / name

    def _inside(self) -> tuple[EventStore, str]:
        if self._store is None:
            msg = f"look into {self}: this path was copied away from its store; ask the store for it"
            raise ValueError(msg)
        if self != self._root and not self.startswith(f"{self._root}/"):
            return self._store, ""
        return self._store, self[len(self._root) + 1 :]

    def _below(self) -> Iterator[str]:
        """Yield the names of what lies in here, some of them several times."""
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
                for one in store.objects.list("snapshots/"):
                    yield store.objects.url(one).rpartition("/")[2]
                for name in store.snapshots.names():
                    yield from (one.key.rpartition("/")[2] for one in store.snapshots.list(name) if "%2F" in one.key)


AnyPath: TypeAlias = Path | StorePath  # the first one on the file backend


def encoded(store: EventStore, name: str) -> str:
    """Return a name as it stands in files and keys.

    Raises:
        InvalidNameError: It cannot be one.
    """
    return store.stream("signals").url(name).rpartition("/")[2]
