"""Reading objects and listing folders, without any lock."""

# Paths are str here, as in the rest of the backend.

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from blake3 import blake3

from bucketlog.backend import Content, Entry, Stat
from bucketlog_backends.local import files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bucketlog_backends.local.root import LocalRoot


class ObjectReader:
    """Reads and lists the objects below a root."""

    def __init__(self, root: LocalRoot) -> None:
        self._root, self._keys, self._locks = root, root.keys, root.locks

    def get(self, key: str, start: int, end: int | None) -> Content:
        """See `LocalBackend.get`."""
        fd = self._root.open_object(key, "read")
        try:
            size = os.fstat(fd).st_size
            data = files.pread(fd, start, (size if end is None else min(end, size)) - start)
        except OSError as err:
            raise self._keys.failed(err, "read", key) from err
        finally:
            os.close(fd)
        return Content(data, blake3(data).hexdigest() if start == 0 and end is None else "")

    def head(self, key: str) -> Stat:
        """See `LocalBackend.head`."""
        fd = self._root.open_object(key, "look at")
        try:
            size, digest = files.digest_of(fd)
            modified = os.fstat(fd).st_mtime
        except OSError as err:
            raise self._keys.failed(err, "look at", key) from err
        finally:
            os.close(fd)
        return Stat(size, digest, datetime.fromtimestamp(modified, UTC))

    def list(self, prefix: str, start_after: str, *, delimiter: bool) -> Iterator[Entry]:
        """See `LocalBackend.list`."""
        if prefix:
            self._keys.path(prefix.removesuffix("/"), "list")
        return self._walk(prefix, start_after, delimiter=delimiter)

    def _walk(self, prefix: str, start_after: str, *, delimiter: bool) -> Iterator[Entry]:
        for part, entry in self._children(prefix, start_after):
            key = prefix + part
            if part.endswith("/"):
                if not delimiter:
                    yield from self._walk(key, start_after, delimiter=False)
                elif self._holds_one(key, start_after):
                    yield Entry(key)
            else:
                try:
                    found = entry.stat()
                except FileNotFoundError:
                    continue
                except OSError as err:
                    raise self._keys.failed(err, "list", key) from err
                if stat.S_ISREG(found.st_mode):
                    yield Entry(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def _holds_one(self, prefix: str, start_after: str) -> bool:
        """Return True if there is a key below a folder. Usually the first file in it is one."""
        if start_after < prefix:
            try:
                with self._locks.making_room(lambda: os.scandir(self._keys.base + prefix)) as entries:
                    if any(not entry.name.startswith(".") and entry.is_file() for entry in entries):
                        return True
            except (FileNotFoundError, NotADirectoryError):
                return False
            except OSError as err:
                raise self._keys.failed(err, "list", prefix) from err
        return next(self._walk(prefix, start_after, delimiter=False), None) is not None

    def _children(self, prefix: str, start_after: str) -> Sequence[tuple[str, os.DirEntry[str]]]:
        """Return the content of a folder in the order of whole keys: a folder sorts as its name with a slash."""
        found = []
        try:
            with self._locks.making_room(lambda: os.scandir(self._keys.base + prefix)) as entries:
                for entry in entries:
                    if entry.is_dir():
                        part = entry.name + "/"
                        skipped = prefix + part < start_after and not start_after.startswith(prefix + part)
                    else:
                        part = entry.name
                        skipped = part.startswith(".") or prefix + part <= start_after
                    if not skipped:
                        found.append((part, entry))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as err:
            raise self._keys.failed(err, "list", prefix) from err
        found.sort(key=_first)
        return found


def _first(pair: tuple[str, os.DirEntry[str]]) -> str:
    return pair[0]
