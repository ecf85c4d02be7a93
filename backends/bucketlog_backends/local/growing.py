"""Growing objects: append under the folder's lock, sync, cut back after a torn write, and seal."""

# Paths are str here: a Path would cost every append microseconds.
# ruff: noqa: PTH108, PTH116

from __future__ import annotations

import itertools
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from bucketlog.errors import BucketlogError, ConflictError
from bucketlog_backends.local import files
from bucketlog_backends.local.keys import folder_of
from bucketlog_backends.local.locks import Growing

if TYPE_CHECKING:
    from bucketlog_backends.local.locks import Folder
    from bucketlog_backends.local.root import LocalRoot

_APPENDED_MAX = 256
_WRITABLE = 0o222


class GrowingObjects:
    """The growing objects below a root. In each folder, the one that was appended to last stays open."""

    def __init__(self, root: LocalRoot) -> None:
        self._root, self._keys, self._locks, self._names = root, root.keys, root.locks, root.names
        self._appended: dict[str, Folder] = {}  # by key: the fastest way to a folder that is open

    def append(self, key: str, data: bytes, *, expected_size: int, sync: bool = True) -> None:
        """Append to a growing object, under its folder's lock.

        If the write or the sync fails, the object is cut back to `expected_size`.

        Args:
            key: The key of the object.
            data: The bytes to append.
            expected_size: The size that the object must have; 0 also creates an object that does not exist.
            sync: Whether to make the object durable before returning.

        Raises:
            ConflictError: The size is not `expected_size`, the object is sealed, or another object has taken the place
                of the one that this handle appended to.
            OutcomeUnknownError: The sync failed. Nothing past `expected_size` can be relied on.
            StorageFullError: There is no room, and the object is unchanged.
            RuntimeError: This thread holds the folder's shared lock.
        """
        folder = self._appended.get(key)
        if folder is None or not folder.enter_growing(key):
            folder = self._enter_to_append(key, expected_size)
        try:
            growing = folder.growing or self._open_growing(folder, key, expected_size)
            fd = growing.fd
            found = os.fstat(fd)
            # The file is as the writer expects, or nothing is written (I4). The mode is checked as well, because root
            # may write to a read-only file.
            if found.st_size != expected_size or found.st_nlink != 1 or not found.st_mode & _WRITABLE:
                folder.close_growing()
                raise self._keys.refused(key, _why_not_to_grow(found, expected_size))
            try:
                written = files.write(fd, data)
                if written != len(data):
                    files.write_all(fd, memoryview(data)[written:])
            except BaseException as err:
                # If an interruption came after the whole write, the bytes stay, because a reader may have seen them.
                if os.fstat(fd).st_size != expected_size + len(data):
                    self._take_back(folder, growing, expected_size, remove=growing.made)
                if isinstance(err, OSError):
                    raise self._keys.failed(err, "append to", key) from err
                raise
            # The bytes, then the name, whoever made it (I10).
            if sync:
                try:
                    files.fdatasync(fd)
                    if not growing.named:
                        self._names.make_durable(key)
                        growing.named = True
                except OSError as err:
                    self._take_back(folder, growing, expected_size, remove=False)
                    raise self._keys.unsynced(err, "append to", key) from err
        finally:
            folder.leave_exclusive()

    def sync(self, key: str) -> None:
        """Make the current content of an object durable, and its name.

        Raises:
            NotFoundError: Nothing is stored under the key.
            OutcomeUnknownError: The sync failed.
        """
        fd = self._root.open_object(key, "sync")
        try:
            files.fdatasync(fd)
            if not self._names.knows(key):
                self._names.make_durable(key)
        except OSError as err:
            raise self._keys.unsynced(err, "sync", key) from err
        finally:
            os.close(fd)

    def seal(self, key: str) -> None:
        """Make an object durable, then refuse all further appends to it, by removing its write permissions.

        Raises:
            NotFoundError: Nothing is stored under the key.
            OutcomeUnknownError: The sync failed.
            RuntimeError: This thread holds the folder's shared lock.
        """
        with self._root.exclusively(key, "seal") as folder:
            folder.close_growing()
            fd = self._root.open_object(key, "seal")
            try:
                mode = stat.S_IMODE(os.fstat(fd).st_mode)
                if not mode & _WRITABLE:
                    return
                # Synced before it is sealed (I11): a reader that sees the seal relies on durable content.
                files.fdatasync(fd)
                self._names.make_durable(key)
                with self._keys.translating("seal", key):
                    os.fchmod(fd, mode & ~_WRITABLE)
                files.fsync(fd)
            except BucketlogError:
                raise
            except OSError as err:
                raise self._keys.unsynced(err, "seal", key) from err
            finally:
                os.close(fd)

    def is_sealed(self, key: str) -> bool:
        """Return True if the object is sealed, and False if it is not or does not exist."""
        try:
            return not os.stat(self._keys.path(key, "look at")).st_mode & _WRITABLE
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as err:
            raise self._keys.failed(err, "look at", key) from err

    def cut(self, key: str, size: int, *, aside: str | None) -> None:
        """Truncate an object to `size` bytes, after a torn write.

        The removed bytes are first stored durably under the key `aside`; if that is taken, under `aside-1`, and so on.

        Raises:
            NotFoundError: Nothing is stored under the key.
            ConflictError: The object is sealed.
            OutcomeUnknownError: The sync failed.
            RuntimeError: This thread holds the folder's shared lock.
        """
        with self._root.exclusively(key, "cut") as folder:
            folder.close_growing()
            if self.is_sealed(key):
                msg = f"cut {self._keys.url}, key {key!r}: it is sealed, and sealed objects never change; read it again"
                raise ConflictError(msg)
            fd = self._root.open_object(key, "cut", os.O_RDWR)
            try:
                there = os.fstat(fd).st_size
                if there <= size:
                    return
                with self._keys.translating("cut", key):
                    if aside is not None:
                        self._copy_aside(fd, size, there, aside)
                    files.ftruncate(fd, size)
                try:
                    files.fdatasync(fd)
                except OSError as err:
                    raise self._keys.unsynced(err, "cut", key) from err
            finally:
                os.close(fd)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _enter_to_append(self, key: str, expected_size: int) -> Folder:
        self._keys.path(key, "append to")
        folder = self._locks.enter(folder_of(key), may_make=expected_size == 0)
        if folder is None:
            raise self._keys.refused(key, f"expected size {expected_size}, there is no such object")
        if folder.growing is not None and folder.growing.key != key:
            folder.close_growing()
        if len(self._appended) >= _APPENDED_MAX:
            self._appended.clear()
        self._appended[key] = folder
        return folder

    def _open_growing(self, folder: Folder, key: str, expected_size: int) -> Growing:
        path = self._keys.base + key
        flags = os.O_RDWR | os.O_APPEND
        made = False
        try:
            try:
                fd = self._locks.open_file(path, flags)
            except FileNotFoundError:
                if expected_size:
                    raise self._keys.refused(key, f"expected size {expected_size}, there is no such object") from None
                fd = self._locks.open_file(path, flags | os.O_CREAT | os.O_EXCL)
                made = True
                self._names.forget(key)
        except BucketlogError:
            raise
        except OSError as err:
            if err.errno in files.REFUSED and self.is_sealed(key):
                raise self._keys.refused(key, "it is sealed") from None
            raise self._keys.failed(err, "append to", key) from err
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise self._keys.refused(key, "it is not a file")
        folder.growing = Growing(key, fd, made=made, named=self._names.knows(key))
        return folder.growing

    def _take_back(self, folder: Folder, growing: Growing, size: int, *, remove: bool) -> None:
        """Undo a failed append: cut the object back, or remove it if this handle created it."""
        with suppress(OSError):  # then a torn end stays, and the next writer cuts it off
            files.ftruncate(growing.fd, size)
            if remove and size == 0:
                os.unlink(self._keys.base + growing.key)
        folder.close_growing()

    def _copy_aside(self, fd: int, start: int, end: int, aside: str) -> None:
        for name in itertools.chain((aside,), (f"{aside}-{count}" for count in itertools.count(1))):
            path = self._keys.path(name, "keep aside")
            with suppress(FileExistsError):
                copy = self._locks.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                break
        try:
            for at in range(start, end, files.COPY_BYTES):
                files.write_all(copy, files.pread(fd, at, min(files.COPY_BYTES, end - at)))
            files.fdatasync(copy)
            self._names.make_durable(name)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(copy)


def _why_not_to_grow(found: os.stat_result, expected_size: int) -> str:
    if found.st_nlink != 1:
        return "it was removed or replaced by another"
    if not found.st_mode & _WRITABLE:
        return "it is sealed"
    return f"expected size {expected_size}, it is {found.st_size}"
