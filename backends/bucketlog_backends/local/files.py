"""The system calls that the local backend uses, and the errors that their failures become.

Calls that a full or failing disk refuses have names in this module, so that tests can make them fail.
"""

from __future__ import annotations

import errno
import os
import sys

from blake3 import blake3

from bucketlog.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    BucketlogError,
    InvalidNameError,
    StorageFullError,
)

if sys.platform == "darwin":
    import fcntl

COPY_BYTES = 1024 * 1024

REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_IN_THE_WAY = frozenset({errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY})
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOTTY, errno.ENOTSUP, errno.EOPNOTSUPP})

write = os.write
ftruncate = os.ftruncate
replace = os.replace
link = os.link

if sys.platform == "darwin":

    def fsync(fd: int) -> None:
        """Sync to the medium. On macOS, fsync itself only reaches the drive's cache."""
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as err:
            if err.errno not in _NO_SYNC:
                raise
            os.fsync(fd)

    fdatasync = fsync
else:
    fsync = os.fsync
    fdatasync = getattr(os, "fdatasync", os.fsync)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of the data. A disk that fills up accepts a part of it and refuses the rest."""
    rest = memoryview(data)
    while rest:
        rest = rest[write(fd, rest) :]


def pread(fd: int, start: int, size: int) -> bytes:
    """Read a range, or what there is of it before the end of the file."""
    if size <= 0:
        return b""
    data = os.pread(fd, size, start)
    if len(data) == size or not data:
        return data
    parts = [data]  # one call reads at most 2 GiB
    while data and (size := size - len(data)):
        start += len(data)
        data = os.pread(fd, size, start)
        parts.append(data)
    return b"".join(parts)


def digest_of(fd: int) -> tuple[int, str]:
    """Return the size and digest of a file. It is read, not mapped: cutting a mapped file would kill the process."""
    digest, size = blake3(), 0
    while chunk := os.pread(fd, COPY_BYTES, size):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def fsync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(fd)
    except OSError as err:
        if err.errno not in _NO_SYNC:  # some network filesystems sync names on their own
            raise
    finally:
        os.close(fd)


def is_file_at(fd: int, path: str) -> bool:
    """Return True if a path still refers to this open file."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))  # noqa: PTH116  (a Path would double the cost)
    except FileNotFoundError:
        return False


def translated(err: OSError, doing: str, *, name: str = "") -> BucketlogError:
    """Return the error that a failed system call means for the caller."""
    said = err.strerror or str(err)
    if err.errno in REFUSED:
        return AccessDeniedError(
            f"{doing}: refused ({said}); check the permissions of the directory, or open it read-only"
        )
    if err.errno in _FULL:
        return StorageFullError(f"{doing}: no room ({said}), and nothing was written; free some space")
    if err.errno == errno.ENAMETOOLONG:
        return InvalidNameError(f"{doing}: too long for this filesystem ({said}); choose a shorter name", name=name)
    if err.errno in _IN_THE_WAY:
        return InvalidNameError(
            f"{doing}: a file or folder is in the way ({said}), as no key can be the folder of another; choose another",
            name=name,
        )
    return BackendUnavailableError(f"{doing}: {said}, and nothing was written; check the disk and try again")
