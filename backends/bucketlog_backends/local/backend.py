"""Stores in a directory of this machine: files below a root, safe for any number of processes at once.

A key is a file; a folder has one lock, flock on its file `.lock`, which is made once and then neither replaced nor
removed. What changes a folder's files takes that lock; reading takes none. Files whose names begin with a dot (the
lock, unfinished files, what was cut off) are never listed. Symbolic links are followed as the system does: who links a
folder to another disk has it there, and who links out of the root leaves it.
"""

# Paths are str here: a Path costs microseconds, which every append would pay.
# ruff: noqa: PTH102, PTH108, PTH112, PTH116

from __future__ import annotations

import errno
import itertools
import os
import re
import secrets
import stat
import weakref
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote_from_bytes

from blake3 import blake3

from bucketlog.backend import ABSENT, ANY, Capabilities, Condition, Content, Entry, Stat, Version
from bucketlog.errors import (
    BucketlogError,
    ConflictError,
    InvalidNameError,
    NotFoundError,
    OutcomeUnknownError,
    StoreNotFoundError,
)
from bucketlog_backends.local import files
from bucketlog_backends.local.locks import LOCK_NAME, FolderLocks, Growing
from bucketlog_backends.local.watch import LocalWatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from bucketlog_backends.local.locks import Folder

_NAMES_MAX = 65_536  # remembered as durable; forgetting one costs a sync
_APPENDED_MAX = 256
_UNFINISHED = ".tmp-"
_WRITABLE = 0o222
_BAD_KEY = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|\0")  # a part that is empty, "." or ".."


class LocalBackend:
    """One handle on a directory."""

    name = "local"
    capabilities = Capabilities(append=True, watch=True)

    def __init__(self, path: str) -> None:
        self.url = "file://" + quote_from_bytes(os.fsencode(path))
        self._root = path.rstrip("/") or "/"
        self._base = self._root.rstrip("/") + "/"
        self._locks = FolderLocks(self._folder_path, self._make_folders)
        self._appended: dict[str, Folder] = {}  # by key: the shortest way to a folder that is open
        self._named: set[str] = set()  # keys whose names this handle has seen to be durable
        self._placed: set[str] = set()  # folders whose names, up to the root, are durable too
        _handles.add(self)

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, key: str, start: int = 0, end: int | None = None) -> Content:
        """Return the bytes `[start, end)` under a key; the version only with the whole object, being its digest.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        fd = self._open_object(key, "read")
        try:
            size = os.fstat(fd).st_size
            data = files.pread(fd, start, (size if end is None else min(end, size)) - start)
        except OSError as err:
            raise self._failed(err, "read", key) from err
        finally:
            os.close(fd)
        return Content(data, blake3(data).hexdigest() if start == 0 and end is None else "")

    def head(self, key: str) -> Stat:
        """Return size, version and time of what is stored under a key; reads all of it, as the version is its digest.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        fd = self._open_object(key, "look at")
        try:
            size, digest = files.digest_of(fd)
            modified = os.fstat(fd).st_mtime
        except OSError as err:
            raise self._failed(err, "look at", key) from err
        finally:
            os.close(fd)
        return Stat(size, digest, datetime.fromtimestamp(modified, UTC))

    def list(self, prefix: str, *, start_after: str = "", delimiter: bool = False) -> Iterator[Entry]:
        """Yield what lies under keys that begin with `prefix`, ascending by key, lazily.

        Files whose names begin with a dot are not listed, nor folders in which there is nothing else. What vanishes
        while it is listed is left out.
        """
        if prefix:
            self._check(prefix.removesuffix("/"), "list")
        return self._walk(prefix, start_after, delimiter=delimiter)

    # -- storing whole objects -----------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        """Store bytes under a key, all of them or none, durably, and return the new version.

        Raises:
            ConflictError: The condition did not hold; nothing was written.
            InvalidNameError: The key is a folder, lies below another key, or is too long.
            OutcomeUnknownError: The new name could not be made durable.
            RuntimeError: This thread holds the folder's shared lock.
        """
        with self._unfinished(key, "put to") as (fd, path):
            with self._telling("put to", key):
                files.write_all(fd, data)
                files.fdatasync(fd)
            self._publish(path, key, if_version)
        return blake3(data).hexdigest()

    def upload(self, key: str, source: BinaryIO) -> None:
        """Store all that `source` holds from where it stands; readers see all of it or nothing.

        Raises:
            InvalidNameError: The key is a folder, lies below another key, or is too long.
            OutcomeUnknownError: The new name could not be made durable.
            RuntimeError: This thread holds the folder's shared lock.
        """
        with self._unfinished(key, "upload to") as (fd, path):
            while chunk := source.read(files.COPY_BYTES):
                with self._telling("upload to", key):  # and not what reading the source raises
                    files.write_all(fd, chunk)
            with self._telling("upload to", key):
                files.fdatasync(fd)
            self._publish(path, key, ANY)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove keys; one that is missing is no error.

        Raises:
            RuntimeError: This thread holds the folder's shared lock.
        """
        for _, group in itertools.groupby(keys, _folder_of):
            present = [*group]
            first = present[0]
            with suppress(NotFoundError), self._exclusively(first, "delete") as folder, self._telling("delete", first):
                for key in present:
                    self._named.discard(key)
                    with suppress(FileNotFoundError, IsADirectoryError):
                        os.unlink(self._check(key, "delete"))
                self._sync_folder(folder.name)

    def close(self) -> None:
        """Close every file, having waited for what other threads are doing."""
        self._locks.close()

    # -- growing objects -----------------------------------------------------------------------------------------------

    def lock(self, folder: str, *, shared: bool = False) -> AbstractContextManager[object]:
        """Hold a folder's lock against every other handle and process; reentrant in a thread.

        A shared lock is held without a lock file where there is none and none can be made: whoever writes makes one
        first, so nobody has written there yet.

        Raises:
            RuntimeError: On entering: this thread holds the shared lock and asks for the exclusive one.
            CapabilityError: On entering: the filesystem has no locks.
        """
        return self._locks.hold(folder.removesuffix("/"), shared=shared)

    def append(self, key: str, data: bytes, *, expected_size: int, sync: bool = True) -> None:
        """Append to a growing object under its folder's lock, and make it durable unless told otherwise.

        With `expected_size=0` the object is made if there is none. A write that fails is taken back, and so is what
        could not be synced.

        Raises:
            ConflictError: The object's size is not `expected_size`, it is sealed, or it is not the one opened before.
            OutcomeUnknownError: The sync failed; nothing past `expected_size` may be believed.
            StorageFullError: No room; the object is as it was.
            RuntimeError: This thread holds the folder's shared lock.
        """
        folder = self._appended.get(key)
        if folder is None or not folder.enter_growing(key):
            folder = self._enter_to_append(key, expected_size)
        try:
            growing = folder.growing or self._open_growing(folder, key, expected_size)
            fd = growing.fd
            found = os.fstat(fd)
            # The file is as the writer expects, or nothing is written (I4).
            # The mode is asked here too, as root may write whatever it says.
            if found.st_size != expected_size or found.st_nlink != 1 or not found.st_mode & _WRITABLE:
                folder.close_growing()
                raise self._refused(key, _why_not_to_grow(found, expected_size))
            try:
                written = files.write(fd, data)
                if written != len(data):
                    files.write_all(fd, memoryview(data)[written:])
            except BaseException as err:
                # What an interruption left whole stays: a reader may have been given it. It was not acknowledged.
                if os.fstat(fd).st_size != expected_size + len(data):
                    self._take_back(folder, growing, expected_size, remove=growing.made)
                if isinstance(err, OSError):
                    raise self._failed(err, "append to", key) from err
                raise
            # The bytes, then the name, whoever made it (I10).
            if sync:
                try:
                    files.fdatasync(fd)
                    if not growing.named:
                        self._make_name_durable(key)
                        growing.named = True
                except OSError as err:
                    self._take_back(folder, growing, expected_size, remove=False)
                    raise self._unsynced(err, "append to", key) from err
        finally:
            folder.leave_exclusive()

    def sync(self, key: str) -> None:
        """Make durable what an object holds now, and its name.

        Raises:
            NotFoundError: Nothing is stored under the key.
            OutcomeUnknownError: The sync failed.
        """
        fd = self._open_object(key, "sync")
        try:
            files.fdatasync(fd)
            if key not in self._named:
                self._make_name_durable(key)
        except OSError as err:
            raise self._unsynced(err, "sync", key) from err
        finally:
            os.close(fd)

    def seal(self, key: str) -> None:
        """Sync an object, then let it never grow again: nobody may write to it any more.

        Raises:
            NotFoundError: Nothing is stored under the key.
            OutcomeUnknownError: The sync failed.
            RuntimeError: This thread holds the folder's shared lock.
        """
        with self._exclusively(key, "seal") as folder:
            folder.close_growing()
            fd = self._open_object(key, "seal")
            try:
                mode = stat.S_IMODE(os.fstat(fd).st_mode)
                if not mode & _WRITABLE:
                    return
                # Synced before it is sealed (I11).
                files.fdatasync(fd)  # first: whoever sees the seal takes the content for durable
                self._make_name_durable(key)
                with self._telling("seal", key):
                    os.fchmod(fd, mode & ~_WRITABLE)
                files.fsync(fd)
            except BucketlogError:
                raise
            except OSError as err:
                raise self._unsynced(err, "seal", key) from err
            finally:
                os.close(fd)

    def is_sealed(self, key: str) -> bool:
        """Tell whether an object was sealed; False for one that is missing."""
        try:
            return not os.stat(self._check(key, "look at")).st_mode & _WRITABLE
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as err:
            raise self._failed(err, "look at", key) from err

    def cut(self, key: str, size: int, *, aside: str | None) -> None:
        """Cut an object back to `size` bytes, having first kept what lies past it, durably, under the key `aside`.

        Where `aside` is taken, `aside-1` is used, and so on.

        Raises:
            NotFoundError: Nothing is stored under the key.
            ConflictError: It is sealed.
            OutcomeUnknownError: The sync failed.
            RuntimeError: This thread holds the folder's shared lock.
        """
        with self._exclusively(key, "cut") as folder:
            folder.close_growing()
            if self.is_sealed(key):
                msg = f"cut {self.url}, key {key!r}: it is sealed, and a sealed object never changes; read again"
                raise ConflictError(msg)
            fd = self._open_object(key, "cut", os.O_RDWR)
            try:
                there = os.fstat(fd).st_size
                if there <= size:
                    return
                with self._telling("cut", key):
                    if aside is not None:
                        self._copy_aside(fd, size, there, aside)
                    files.ftruncate(fd, size)
                try:
                    files.fdatasync(fd)
                except OSError as err:
                    raise self._unsynced(err, "cut", key) from err
            finally:
                os.close(fd)

    # -- watching ------------------------------------------------------------------------------------------------------

    def watch(self, prefix: str) -> LocalWatch:
        """Begin to watch the keys below a prefix, which need not exist yet."""
        folder = prefix.removesuffix("/")
        return LocalWatch(self._check(folder, "watch") if folder else self._root)

    # -- forks ---------------------------------------------------------------------------------------------------------

    def begin_in_child(self) -> None:
        """Close what a forked child inherited, and unlock nothing: the locks are still its parent's."""
        self._appended = {}
        self._locks.begin_in_child()

    # -- steps of writing ----------------------------------------------------------------------------------------------

    @contextmanager
    def _exclusively(self, key: str, doing: str) -> Iterator[Folder]:
        """Hold the lock of the folder in which a key lies."""
        self._check(key, doing)
        folder = self._locks.enter(_folder_of(key), may_make=False)
        if folder is None:
            raise self._missing(key, doing)
        try:
            yield folder
        finally:
            self._locks.leave(folder)

    def _enter_to_append(self, key: str, expected_size: int) -> Folder:
        self._check(key, "append to")
        folder = self._locks.enter(_folder_of(key), may_make=expected_size == 0)
        if folder is None:
            raise self._refused(key, f"expected size {expected_size}, there is no such object")
        if folder.growing is not None and folder.growing.key != key:
            folder.close_growing()
        if len(self._appended) >= _APPENDED_MAX:
            self._appended.clear()
        self._appended[key] = folder
        return folder

    def _open_growing(self, folder: Folder, key: str, expected_size: int) -> Growing:
        path = self._base + key
        flags = os.O_RDWR | os.O_APPEND
        made = False
        try:
            try:
                fd = self._locks.open_file(path, flags)
            except FileNotFoundError:
                if expected_size:
                    raise self._refused(key, f"expected size {expected_size}, there is no such object") from None
                fd = self._locks.open_file(path, flags | os.O_CREAT | os.O_EXCL)
                made = True
                self._named.discard(key)
        except BucketlogError:
            raise
        except OSError as err:
            if err.errno in files.REFUSED and self.is_sealed(key):
                raise self._refused(key, "it is sealed") from None
            raise self._failed(err, "append to", key) from err
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise self._refused(key, "it is not a file")
        folder.growing = Growing(key, fd, made=made, named=key in self._named)
        return folder.growing

    def _take_back(self, folder: Folder, growing: Growing, size: int, *, remove: bool) -> None:
        """Cut a growing object back after a failure, or remove the one that this made."""
        with suppress(OSError):  # then a torn end stays, which the next writer moves aside
            files.ftruncate(growing.fd, size)
            if remove and size == 0:
                os.unlink(self._base + growing.key)
        folder.close_growing()

    @contextmanager
    def _unfinished(self, key: str, doing: str) -> Iterator[tuple[int, str]]:
        """Open a new file beside the key's, which goes away again unless it was published."""
        self._check(key, doing)
        folder_name = _folder_of(key)
        path = f"{self._base}{folder_name}/{_UNFINISHED}{os.getpid()}-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with self._telling(doing, key):
            try:
                fd = self._locks.open_file(path, flags)
            except FileNotFoundError:
                self._make_folders(folder_name)
                fd = self._locks.open_file(path, flags)
        try:
            yield fd, path
        finally:
            os.close(fd)
            with suppress(OSError):
                os.unlink(path)

    def _publish(self, unfinished: str, key: str, if_version: Condition) -> None:
        """Give a finished file its name, if the condition holds."""
        path = self._base + key
        with self._exclusively(key, "put to"):
            with self._telling("put to", key):
                if if_version is ABSENT:
                    self._publish_absent(unfinished, key)
                else:
                    if if_version is not ANY:
                        self._check_version(key, if_version)
                    files.replace(unfinished, path)
            try:
                self._make_name_durable(key)
            except OSError as err:
                raise self._unsynced(err, "put to", key) from err

    def _publish_absent(self, unfinished: str, key: str) -> None:
        path = self._base + key
        try:
            files.link(unfinished, path)
        except FileExistsError:
            pass
        except OSError as err:
            if err.errno not in files.NO_LINKS:
                raise
            if not os.path.lexists(path):  # the lock keeps this true: nobody else gives names in this folder
                files.replace(unfinished, path)
                return
        else:
            os.unlink(unfinished)  # under the lock, or an append could see two links
            return
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        msg = f"put to {self.url}, key {key!r}: something is stored there already; read it and decide again"
        raise ConflictError(msg)

    def _check_version(self, key: str, expected: Condition) -> None:
        found = "nothing"
        with suppress(NotFoundError):
            found = f"version {self.head(key).version}"
        if found != f"version {expected}":
            msg = f"put to {self.url}, key {key!r}: expected version {expected}, found {found}; read and decide again"
            raise ConflictError(msg)

    def _copy_aside(self, fd: int, start: int, end: int, aside: str) -> None:
        for name in itertools.chain((aside,), (f"{aside}-{count}" for count in itertools.count(1))):
            path = self._check(name, "keep aside")
            with suppress(FileExistsError):
                copy = self._locks.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                break
        try:
            for at in range(start, end, files.COPY_BYTES):
                files.write_all(copy, files.pread(fd, at, min(files.COPY_BYTES, end - at)))
            files.fdatasync(copy)
            self._make_name_durable(name)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(copy)

    def _make_name_durable(self, key: str) -> None:
        """Sync the folder of a key, and those above it that this handle has not yet seen to be durable."""
        folder_name = _folder_of(key)
        self._sync_folder(folder_name)
        placed = []
        while folder_name and folder_name not in self._placed:
            placed.append(folder_name)
            folder_name = _folder_of(folder_name)
            self._sync_folder(folder_name)
        for known, new in ((self._placed, placed), (self._named, [key])):
            if len(known) > _NAMES_MAX:
                known.clear()
            known.update(new)

    def _sync_folder(self, folder_name: str) -> None:
        self._locks.making_room(lambda: files.fsync_directory(self._base + folder_name))

    def _make_folders(self, name: str) -> None:
        made = ""
        for part in name.split("/") if name else ():
            made = f"{made}/{part}" if made else part
            try:
                os.mkdir(self._base + made)
                self._placed.discard(made)
            except FileExistsError:
                continue
            except FileNotFoundError:
                break
        if not os.path.isdir(self._root):
            msg = f"write to {self.url}: the directory is gone since it was opened; open the store again to make it"
            raise StoreNotFoundError(msg)

    # -- steps of reading ----------------------------------------------------------------------------------------------

    def _open_object(self, key: str, doing: str, flags: int = os.O_RDONLY) -> int:
        path = self._check(key, doing)
        try:
            fd = self._locks.open_file(path, flags)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise self._missing(key, doing) from None
        except OSError as err:
            raise self._failed(err, doing, key) from err
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise self._missing(key, doing)
        return fd

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
                    raise self._failed(err, "list", key) from err
                if stat.S_ISREG(found.st_mode):
                    yield Entry(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def _holds_one(self, prefix: str, start_after: str) -> bool:
        """Tell whether there is a key below a folder; mostly the first file that comes along is one."""
        if start_after < prefix:
            try:
                with self._locks.making_room(lambda: os.scandir(self._base + prefix)) as entries:
                    if any(not entry.name.startswith(".") and entry.is_file() for entry in entries):
                        return True
            except (FileNotFoundError, NotADirectoryError):
                return False
            except OSError as err:
                raise self._failed(err, "list", prefix) from err
        return next(self._walk(prefix, start_after, delimiter=False), None) is not None

    def _children(self, prefix: str, start_after: str) -> Sequence[tuple[str, os.DirEntry[str]]]:
        """Return what lies in a folder, in the order of whole keys: a folder sorts with the slash behind its name."""
        found = []
        try:
            with self._locks.making_room(lambda: os.scandir(self._base + prefix)) as entries:
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
            raise self._failed(err, "list", prefix) from err
        found.sort(key=_first)
        return found

    # -- keys and errors -----------------------------------------------------------------------------------------------

    def _check(self, key: str, doing: str) -> str:
        """Return the path of a key."""
        last = key[key.rfind("/") + 1 :]
        if _BAD_KEY.search(key) or not key.isascii() or last == LOCK_NAME or last.startswith(_UNFINISHED):
            msg = f"{doing} {self.url}: {key!r} cannot be a key; use parts of ASCII that are no path and not reserved"
            raise InvalidNameError(msg, name=key)
        return self._base + key

    def _folder_path(self, folder_name: str) -> str:
        return self._check(folder_name, "lock") + "/" if folder_name else self._base

    @contextmanager
    def _telling(self, doing: str, key: str) -> Iterator[None]:
        """Translate what the system refuses."""
        try:
            yield
        except BucketlogError:
            raise
        except OSError as err:
            raise self._failed(err, doing, key) from err

    def _failed(self, err: OSError, doing: str, key: str) -> BucketlogError:
        return files.translated(err, f"{doing} {self.url}, key {key!r}", name=key)

    def _unsynced(self, err: OSError, doing: str, key: str) -> OutcomeUnknownError:
        msg = (
            f"{doing} {self.url}, key {key!r}: the disk did not confirm the write ({err.strerror or err}); "
            "look at the disk, then read back what is stored"
        )
        return OutcomeUnknownError(msg, key=key)

    def _missing(self, key: str, doing: str) -> NotFoundError:
        return NotFoundError(f"{doing} {self.url}, key {key!r}: nothing is stored under this key")

    def _refused(self, key: str, why: str) -> ConflictError:
        return ConflictError(f"append to {self.url}, key {key!r}: {why}; read what is new and decide again")


def _why_not_to_grow(found: os.stat_result, expected_size: int) -> str:
    if found.st_nlink != 1:
        return "it was removed or replaced by another"
    if not found.st_mode & _WRITABLE:
        return "it is sealed"
    return f"expected size {expected_size}, it is {found.st_size}"


def _folder_of(key: str) -> str:
    return key.rpartition("/")[0]


def _first(pair: tuple[str, os.DirEntry[str]]) -> str:
    return pair[0]


_handles: weakref.WeakSet[LocalBackend] = weakref.WeakSet()


def _begin_in_child() -> None:
    for backend in list(_handles):
        backend.begin_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
