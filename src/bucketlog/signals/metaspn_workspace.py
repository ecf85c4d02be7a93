"""Workspaces that metaspn-store wrote: their lines are taken in, and the files left as they are.

How far each file was taken in is kept as an object of the store. Ids make it harmless to take a line in again.
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

_log = logging.getLogger("bucketlog")


class BrokenWorkspaceError(BucketlogError, ValueError):
    """A line of a workspace is no record. Mend or remove the line named here, then open the workspace again."""

    def __init__(self, message: str, *, file: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.file, self.line = file, line


class Imported(NamedTuple):
    """How many records of a file were looked at; those whose id was stored already are among them."""

    file: str
    records: int


class Files(Protocol):
    """Where a workspace's files are."""

    def list(self, stream: str) -> list[str]:
        """Return the names of a stream's files, sorted."""
        ...

    def size(self, stream: str, name: str) -> int | None:
        """Return how many bytes a file has; None where that is not known before it is read."""
        ...

    def read(self, stream: str, name: str, start: int) -> Iterator[bytes]:
        """Yield a file's bytes from `start` on, in pieces; nothing when it is no longer than that."""
        ...


class LocalFiles:
    """Files in a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self, stream: str) -> list[str]:
        """Return the names of a stream's files, sorted."""
        return sorted(one.name for one in (self._root / stream).glob("*.jsonl"))

    def size(self, stream: str, name: str) -> int:
        """Return how many bytes a file has."""
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
    """Files that were copied to below a store's root, wherever that is."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def list(self, stream: str) -> list[str]:
        """Return the names of a stream's files, sorted."""
        start = f"{stream}/"
        names = (one.removeprefix(start) for one in self._store.objects.list(start))
        return [name for name in names if name.endswith(".jsonl") and "/" not in name]

    def size(self, stream: str, name: str) -> int | None:  # noqa: ARG002  (of the protocol)
        """Return None: an object's size is not known before it is read."""
        return None

    def read(self, stream: str, name: str, start: int) -> Iterator[bytes]:
        """Yield a file's bytes from `start` on, all at once."""
        data = self._store.objects.get(f"{stream}/{name}")[start:]
        if data:
            yield data


def are_there(files: Files) -> bool:
    """Tell whether a workspace has any records of metaspn-store."""
    return any(files.list(kind.stream) for kind in (SIGNALS, EMISSIONS))


def take_in(
    store: EventStore,
    files: Files,
    writes: Mapping[str, Callable[[Iterable[object], str], object]],
    *,
    place: str,
    elsewhere: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Imported]:
    """Take in what was not yet, in the order of files and lines; the first copy of an id wins.

    A last line without its end is left for the next time, and logged.

    Args:
        store: Where to.
        files: Where from.
        writes: What stores envelopes, by stream.
        place: The store of metaspn-store that the files belong to.
        elsewhere: Whether that is another place than where ours is.
        progress: Is told how many bytes were read, and of how many as far as is known.

    Raises:
        BrokenWorkspaceError: A line is no record; all before it is stored.
        ReadOnlyError: There is something to take in, and the store cannot be written.
    """
    names = {kind.stream: files.list(kind.stream) for kind in (SIGNALS, EMISSIONS)}
    done = _load_progress(store) if any(names.values()) else {}
    report = []
    kinds: tuple[Kind[Any], ...] = (SIGNALS, EMISSIONS)
    prefix = f"{place}/" if elsewhere else ""  # a workspace may be moved as a whole
    total = read = 0
    if progress is not None:
        for stream, found in names.items():
            sizes = ((files.size(stream, name) or 0, done.get(f"{prefix}{stream}/{name}", (0, 0))[0]) for name in found)
            total += sum(size - before if size >= before else size for size, before in sizes)

    def told(pieces: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal read
        for piece in pieces:
            yield piece  # what is asked for next was asked for when this one was written
            read += len(piece)
            if progress is not None:
                progress(read, max(read, total))

    for kind in kinds:
        for name in names[kind.stream]:
            file = f"{kind.stream}/{name}"
            known_as = f"{prefix}{file}"
            far = _Progress(*done.get(known_as, (0, 0)))
            size = files.size(kind.stream, name)
            if size is not None and size < far.bytes:
                far = _Progress(0, 0)  # another file under the name of one that was removed
            pieces = told(files.read(kind.stream, name, far.bytes))
            records = _records(pieces, kind, f"{place}/{file}", far)
            first = next(records, None)
            if first is None:
                continue
            if store.read_only:
                raise ReadOnlyError(not_taken_in(place.removesuffix("/store")))
            try:
                writes[kind.stream](chain([first], records), "ignore")
            except BrokenWorkspaceError:  # all before that line was stored
                _save_progress(store, done, known_as, far)
                raise
            _save_progress(store, done, known_as, far)
            report.append(Imported(file, far.records))
    return report


def not_taken_in(workspace: str) -> str:
    """Return what to tell whoever opens a workspace for reading before its records were taken in."""
    return (
        f"open {workspace} for reading: it holds records of metaspn-store that were not taken in yet; run "
        f"`bucketlog signals {workspace} import-workspace {workspace}`, or open it once for writing"
    )


class _Progress:
    """How much of a file was handed out, in bytes and lines; and how many records since it was read on."""

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
    """Yield the records of a file's lines, from where `progress` is."""
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
        _log.warning("%s: left out the last line, number %d, which has no end yet", place, progress.lines + 1)
        return
    progress.bytes += len(rest)
    progress.records += 1
    yield record


def _record(line: bytes, kind: Kind[E], place: str, number: int) -> E:
    try:
        record = kind.read(json.loads(line))
        kind.id_of(record)
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        msg = f"open a workspace of metaspn-store: {place}, line {number} is no record ({err}); mend or remove the line"
        raise BrokenWorkspaceError(msg, file=place, line=number) from err
    return record
