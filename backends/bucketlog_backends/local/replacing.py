"""Storing and deleting whole objects: a new file is written beside the old one, synced, and then renamed."""

# Paths are str here, as in the rest of the backend.
# ruff: noqa: PTH108, PTH112

from __future__ import annotations

import errno
import itertools
import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from blake3 import blake3

from bucketlog.backend import ABSENT, ANY
from bucketlog.errors import ConflictError, NotFoundError
from bucketlog_backends.local import files
from bucketlog_backends.local.keys import UNFINISHED, folder_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bucketlog.backend import Condition, Version
    from bucketlog_backends.local.reading import ObjectReader
    from bucketlog_backends.local.root import LocalRoot


class ObjectReplacer:
    """Stores and deletes the objects below a root, each as a whole."""

    def __init__(self, root: LocalRoot, reader: ObjectReader) -> None:
        self._root, self._keys, self._locks, self._names = root, root.keys, root.locks, root.names
        self._reader = reader

    def put(self, key: str, data: bytes, if_version: Condition) -> Version:
        """See `LocalBackend.put`."""
        with self._unfinished(key, "put to") as (fd, path):
            with self._keys.translating("put to", key):
                files.write_all(fd, data)
                files.fdatasync(fd)
            self._publish(path, key, if_version)
        return blake3(data).hexdigest()

    def upload(self, key: str, source: BinaryIO) -> None:
        """See `LocalBackend.upload`."""
        with self._unfinished(key, "upload to") as (fd, path):
            while chunk := source.read(files.COPY_BYTES):
                with self._keys.translating("upload to", key):  # but not the errors of the source itself
                    files.write_all(fd, chunk)
            with self._keys.translating("upload to", key):
                files.fdatasync(fd)
            self._publish(path, key, ANY)

    def delete(self, keys: Iterable[str]) -> None:
        """See `LocalBackend.delete`."""
        for _, group in itertools.groupby(keys, folder_of):
            present = [*group]
            first = present[0]
            with (
                suppress(NotFoundError),
                self._root.exclusively(first, "delete") as folder,
                self._keys.translating("delete", first),
            ):
                for key in present:
                    self._names.forget(key)
                    with suppress(FileNotFoundError, IsADirectoryError):
                        os.unlink(self._keys.path(key, "delete"))
                self._names.sync_folder(folder.name)

    @contextmanager
    def _unfinished(self, key: str, doing: str) -> Iterator[tuple[int, str]]:
        """Open a temporary file in the folder of a key, and remove it in the end unless it was published."""
        self._keys.path(key, doing)
        folder_name = folder_of(key)
        path = f"{self._keys.base}{folder_name}/{UNFINISHED}{os.getpid()}-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with self._keys.translating(doing, key):
            try:
                fd = self._locks.open_file(path, flags)
            except FileNotFoundError:
                self._names.make_folders(folder_name)
                fd = self._locks.open_file(path, flags)
        try:
            yield fd, path
        finally:
            os.close(fd)
            with suppress(OSError):
                os.unlink(path)

    def _publish(self, unfinished: str, key: str, if_version: Condition) -> None:
        """Rename a finished file to its key, if the condition holds."""
        path = self._keys.base + key
        with self._root.exclusively(key, "put to"):
            with self._keys.translating("put to", key):
                if if_version is ABSENT:
                    self._publish_absent(unfinished, key)
                else:
                    if if_version is not ANY:
                        self._check_version(key, if_version)
                    files.replace(unfinished, path)
            try:
                self._names.make_durable(key)
            except OSError as err:
                raise self._keys.unsynced(err, "put to", key) from err

    def _publish_absent(self, unfinished: str, key: str) -> None:
        path = self._keys.base + key
        try:
            files.link(unfinished, path)
        except FileExistsError:
            pass
        except OSError as err:
            if err.errno not in files.NO_LINKS:
                raise
            if not os.path.lexists(path):  # the lock keeps this true, as every rename in this folder takes it
                files.replace(unfinished, path)
                return
        else:
            os.unlink(unfinished)  # under the lock, or an append would see two links
            return
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        msg = f"put to {self._keys.url}, key {key!r}: something is stored there already; read it and decide again"
        raise ConflictError(msg)

    def _check_version(self, key: str, expected: Condition) -> None:
        found = "nothing"
        with suppress(NotFoundError):
            found = f"version {self._reader.head(key).version}"
        if found != f"version {expected}":
            msg = (
                f"put to {self._keys.url}, key {key!r}: expected version {expected}, found {found}; read it and "
                "decide again"
            )
            raise ConflictError(msg)
