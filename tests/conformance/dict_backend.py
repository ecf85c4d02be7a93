"""A backend on a dict, as simple as one that is right can be; the deliberately wrong ones derive from it."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import BinaryIO

from bucketlog.backend import ABSENT, ANY, Capabilities, Condition, Content, Entry, Stat, Version
from bucketlog.errors import ConflictError, NotFoundError


@dataclass
class Stored:
    data: bytes
    version: Version
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))
    made: int = 0
    sealed: bool = False


class Root:
    """What the handles share."""

    def __init__(self):
        self.changed = threading.Condition(threading.RLock())
        self.objects: dict[str, Stored] = {}
        self.changes = 0
        self.holders: dict[str, list[tuple[object, bool]]] = {}  # by folder: (handle and thread, shared)
        self.numbers = count(1)


class DictBackend:
    """A handle on a root. `changed` guards all of it, and wakes whoever waits for a change or a lock."""

    name = "dict"
    url = "dict://test"
    capabilities = Capabilities(append=True, watch=True)

    def __init__(self, root: Root) -> None:
        self.root = root
        self.believed: dict[str, int] = {}  # which object this handle appended to, by key

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        with self.root.changed:
            found = self._find(key)
            return Content(found.data[start:end], found.version)

    def head(self, key: str) -> Stat:
        with self.root.changed:
            found = self._find(key)
            return Stat(len(found.data), found.version, found.modified)

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        with self.root.changed:
            self._check(key, if_version)
            return self._store(key, data).version

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        with self.root.changed:
            objects = dict(self.root.objects)
        folder = ""
        for key in sorted(objects):
            if not key.startswith(prefix) or key <= start_after:
                continue
            below, slash, _ = key[len(prefix) :].partition("/")
            if not delimiter or not slash:
                yield Entry(key, len(objects[key].data), objects[key].modified)
            elif folder != below:
                folder = below
                yield Entry(f"{prefix}{below}/")

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self.root.changed:
                self.root.objects.pop(key, None)
                self._wake()

    def close(self) -> None:
        pass

    def upload(self, key: str, source: BinaryIO) -> None:
        self.put(key, source.read())

    @contextmanager
    def lock(self, folder: str, *, shared: bool = False) -> Iterator[None]:
        me = (self, threading.get_ident())
        with self.root.changed:
            holders = self.root.holders.setdefault(folder, [])
            self.root.changed.wait_for(lambda: all(who == me or (shared and theirs) for who, theirs in holders))
            holders.append((me, shared))
        try:
            yield
        finally:
            with self.root.changed:
                holders.remove((me, shared))
                self.root.changed.notify_all()

    def append(self, key: str, data: bytes, *, expected_size: int, sync: bool = True) -> None:
        with self.lock(self._folder(key)), self.root.changed:
            there = self.root.objects.get(key)
            self._check_growth(key, there, expected_size)
            before = there.data if there else b""
            made = there.made if there else 0
            self.believed[key] = self._store(key, before + data, made=made).made

    def sync(self, key: str) -> None:
        with self.root.changed:
            self._find(key)

    def seal(self, key: str) -> None:
        with self.lock(self._folder(key)), self.root.changed:
            self._find(key).sealed = True

    def is_sealed(self, key: str) -> bool:
        with self.root.changed:
            return key in self.root.objects and self.root.objects[key].sealed

    def cut(self, key: str, size: int, *, aside: str | None) -> None:
        with self.lock(self._folder(key)), self.root.changed:
            found = self._find(key)
            if aside:
                self._store(aside, found.data[size:])
            self._store(key, found.data[:size], made=found.made)

    def watch(self, prefix: str) -> "DictWatch":
        return DictWatch(self.root)

    def _find(self, key: str) -> Stored:
        if key not in self.root.objects:
            raise NotFoundError(f"read {key} in {self.url}: nothing is stored under this key")
        return self.root.objects[key]

    def _check(self, key: str, condition: Condition) -> None:
        there = self.root.objects.get(key)
        version = there.version if there else None
        if (condition is ABSENT and there) or (isinstance(condition, str) and condition != version):
            raise ConflictError(f"put {key} in {self.url}: expected {condition!r}, found {version}; read it again")

    def _check_growth(self, key: str, there: Stored | None, expected_size: int) -> None:
        size = len(there.data) if there else 0
        replaced = self.believed.pop(key, None) not in (None, there.made if there else None)
        if size != expected_size or replaced or (there and there.sealed):
            raise ConflictError(f"append to {key} in {self.url}: expected size {expected_size}, found {there}")

    def _store(self, key: str, data: bytes, *, made: int = 0) -> Stored:
        number = next(self.root.numbers)
        stored = self.root.objects[key] = Stored(data, f"v{number}", made=made or number)
        self._wake()
        return stored

    def _wake(self) -> None:
        self.root.changes += 1
        self.root.changed.notify_all()

    @staticmethod
    def _folder(key: str) -> str:
        return f"{key.rpartition('/')[0]}/"


class DictWatch:
    """Wakes on every change of the root."""

    def __init__(self, root: Root) -> None:
        self.root, self.seen, self.closed = root, root.changes, False

    def wait(self, timeout: float) -> bool:
        with self.root.changed:
            self.root.changed.wait_for(lambda: self.closed or self.root.changes != self.seen, timeout)
            woken, self.seen = self.root.changes != self.seen, self.root.changes
            return woken

    def close(self) -> None:
        with self.root.changed:
            self.closed = True
            self.root.changed.notify_all()
