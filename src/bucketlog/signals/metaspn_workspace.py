"""Workspaces written by metaspn-store: their lines are imported, and their files are not changed.

An object of the store records how far each file was imported. Importing a line twice is harmless because of its id.
"""

from __future__ import annotations

import json
import logging
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bucketlog.errors import BucketlogError, NotFoundError, ReadOnlyError
from bucketlog.signals.codec import EMISSIONS, SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from bucketlog import EventStore
    from bucketlog.signals.codec import Kind
    from bucketlog.signals.envelopes import E

_PROGRESS = "imported/metaspn-store.json"
_READ_BYTES = 1024 * 1024
_KINDS: tuple[Kind[Any], ...] = (SIGNALS, EMISSIONS)

_log = logging.getLogger("bucketlog")


class BrokenWorkspaceError(BucketlogError, ValueError):
    """A line of a workspace is not a record. Fix or remove line `line` of `file`, then open the workspace again."""

    def __init__(self, message: str, *, file: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.file, self.line = file, line


class Imported(NamedTuple):
    """The number of records read from a file, including those whose id was already stored."""

    file: str
    records: int


class Files(Protocol):
    """The files of a workspace."""

    def list(self, stream: str) -> list[str]:
        """Return the names of a stream's files, sorted."""
        ...

    def size(self, stream: str, name: str) -> int | None:
        """Return a file's size in bytes; None if it is not known before the file is read."""
        ...

    def read(self, stream: str, name: str, start: int) -> Iterator[bytes]:
        """Yield a file's bytes from `start` on, in pieces; nothing if the file ends there."""
        ...


class LocalFiles:
    """Files in a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self, stream: str) -> list[str]:
        """Return the names of a stream's files, sorted."""
        return sorted(path.name for path in (self._root / stream).glob("*.jsonl"))

    def size(self, stream: str, name: str) -> int:
        """Return a file's size in bytes."""
        return (self._root / stream / name).stat().st_size

    def read(self, stream: str, name: str, start: int) -> Iterator[bytes]:
        """Yield a file's bytes from `start` on."""
        path = self._root / stream / name
        if path.stat().st_size == start:
            return
        with path.open("rb") as file:
            file.seek(start)
            while data := file.read(_READ_BYTES):
                yield data


class StoredFiles:
    """Files that were copied below a store's root, on any backend."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def list(self, stream: str) -> list[str]:
        """Return the names of a stream's files, sorted."""
        start = f"{stream}/"
        names = (path.removeprefix(start) for path in self._store.objects.list(start))
        return [name for name in names if name.endswith(".jsonl") and "/" not in name]

    def size(self, stream: str, name: str) -> int | None:  # noqa: ARG002  (the protocol's arguments)
        """Return None: an object's size is not known before it is read."""
        return None

    def read(self, stream: str, name: str, start: int) -> Iterator[bytes]:
        """Yield a file's bytes from `start` on, all at once."""
        data = self._store.objects.get(f"{stream}/{name}")[start:]
        if data:
            yield data


def has_records(files: Files) -> bool:
    """Return True if a workspace holds records of metaspn-store."""
    return any(files.list(kind.stream) for kind in _KINDS)


def import_records(
    store: EventStore,
    files: Files,
    writes: Mapping[str, Callable[[Iterable[object], str], object]],
    *,
    place: str,
    elsewhere: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Imported]:
    """Import the records that were not imported yet, in the order of files and lines; the first copy of an id wins.

    A last line without a newline is left for the next import, and logged.

    Args:
        store: The store to import into.
        files: The files to read.
        writes: The function that stores envelopes, by stream.
        place: The path or URL of the metaspn-store that the files belong to.
        elsewhere: Whether that is another place than `store`'s own.
        progress: Called with the bytes read so far and the total known so far.

    Raises:
        BrokenWorkspaceError: A line is not a record; all records before it are stored.
        ReadOnlyError: There is something to import, and the store cannot be written.
    """
    return _Import(store, files, writes, place=place, elsewhere=elsewhere, progress=progress).run()


def not_imported(workspace: str) -> str:
    """Return the message for opening a workspace for reading before its records were imported."""
    return (
        f"open {workspace} for reading: it holds records of metaspn-store that were not imported yet; run "
        f"`bucketlog signals {workspace} import-workspace {workspace}`, or open it once for writing"
    )


class _Import:
    """One import; see `import_records`."""

    def __init__(
        self,
        store: EventStore,
        files: Files,
        writes: Mapping[str, Callable[[Iterable[object], str], object]],
        *,
        place: str,
        elsewhere: bool,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._store, self._files, self._writes, self._place = store, files, writes, place
        self._prefix = f"{place}/" if elsewhere else ""  # none of its own: a workspace may be moved as a whole
        self._progress = progress
        self._done: dict[str, list[int]] = {}
        self._read = self._total = 0

    def run(self) -> list[Imported]:
        names = {kind.stream: self._files.list(kind.stream) for kind in _KINDS}
        if any(names.values()):
            self._done = _load_progress(self._store)
        if self._progress is not None:
            self._total = sum(self._bytes_left(stream, name) for stream, found in names.items() for name in found)
        imported = (self._import_file(kind, name) for kind in _KINDS for name in names[kind.stream])
        return [file for file in imported if file is not None]

    def _bytes_left(self, stream: str, name: str) -> int:
        size = self._files.size(stream, name) or 0
        before = self._done.get(f"{self._prefix}{stream}/{name}", (0, 0))[0]
        return size - before if size >= before else size

    def _import_file(self, kind: Kind[Any], name: str) -> Imported | None:
        """Import the new records of a file; return None if there are none."""
        file = f"{kind.stream}/{name}"
        far = _Progress(*self._done.get(self._prefix + file, (0, 0)))
        size = self._files.size(kind.stream, name)
        if size is not None and size < far.bytes:
            far = _Progress(0, 0)  # the file was removed, and another one has its name
        pieces = self._counted(self._files.read(kind.stream, name, far.bytes))
        records = _records(pieces, kind, f"{self._place}/{file}", far)
        first = next(records, None)
        if first is None:
            return None
        if self._store.read_only:
            raise ReadOnlyError(not_imported(self._place.removesuffix("/store")))
        try:
            self._writes[kind.stream](chain([first], records), "ignore")
        except BrokenWorkspaceError:  # all records before that line were stored
            self._save(file, far)
            raise
        self._save(file, far)
        return Imported(file, far.records)

    def _save(self, file: str, far: _Progress) -> None:
        _save_progress(self._store, self._done, self._prefix + file, far)

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield pieces, and report each once the next one is asked for: by then it was written."""
        for piece in pieces:
            yield piece
            self._read += len(piece)
            if self._progress is not None:
                self._progress(self._read, max(self._read, self._total))


class _Progress:
    """How far a file was read: its bytes and lines from the start, and the records of this import."""

    def __init__(self, count: int, lines: int) -> None:
        self.bytes, self.lines = count, lines
        self.records = 0


def _load_progress(store: EventStore) -> dict[str, list[int]]:
    try:
        found: dict[str, list[int]] = json.loads(store.objects.get(_PROGRESS))
    except NotFoundError:
        return {}
    return found


def _save_progress(store: EventStore, done: dict[str, list[int]], file: str, progress: _Progress) -> None:
    done[file] = [progress.bytes, progress.lines]
    store.objects.put(_PROGRESS, json.dumps(done, sort_keys=True).encode())


def _records(pieces: Iterator[bytes], kind: Kind[E], place: str, progress: _Progress) -> Iterator[E]:
    """Yield the records of a file's lines, and move `progress` along."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            record = _record(line, kind, place, progress.lines + 1) if line.strip() else None
            progress.bytes += len(line) + 1
            progress.lines += 1
            if record is not None:
                progress.records += 1
                yield record
    if not rest.strip():
        return
    try:
        record = _record(rest, kind, place, progress.lines + 1)
    except BrokenWorkspaceError:
        _log.warning("%s: skipped the unfinished last line %d; the next import reads it", place, progress.lines + 1)
        return
    progress.bytes += len(rest)
    progress.records += 1
    yield record


def _record(line: bytes, kind: Kind[E], place: str, number: int) -> E:
    try:
        record = kind.read(json.loads(line))
        kind.id_of(record)
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        msg = f"import from metaspn-store: {place}, line {number} is not a record ({err}); fix or remove the line"
        raise BrokenWorkspaceError(msg, file=place, line=number) from err
    return record
