"""Opening a directory: what a URL or a plain path means, and making what is missing of it."""

# Paths are str here, as in the backend itself.
# ruff: noqa: PTH100, PTH102, PTH111, PTH116, PTH120

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from bucketlog.backend import check_options
from bucketlog.errors import CapabilityError, InvalidURLError, StoreNotFoundError
from bucketlog_backends.local import files
from bucketlog_backends.local.backend import LocalBackend

if TYPE_CHECKING:
    from collections.abc import Mapping


def open_local(url: str, options: Mapping[str, object], *, create: bool) -> LocalBackend:
    """Open a directory.

    Args:
        url: `file:///path`, percent-encoded, or a plain path, in which `~` is the home directory.
        options: None are known.
        create: Whether the directory and its parents may be made.

    Raises:
        CapabilityError: This is neither Linux nor macOS.
        InvalidURLError: The URL names another host or no path, or a file stands in the way.
        InvalidOptionError: Any option.
        StoreNotFoundError: There is no such directory, and `create` is False.
        AccessDeniedError: The directory may not be made or looked into.
        StorageFullError: No room to make it.
        BackendUnavailableError: The disk does not answer.
    """
    if not sys.platform.startswith(("linux", "darwin")):
        msg = (
            f"open {url}: a store in a directory needs flock and directory syncs, which {sys.platform} does not have; "
            "use an s3:// store, or Linux or macOS"
        )
        raise CapabilityError(msg)
    check_options(url, options, ())
    path = _path_of(url)
    try:
        if create:
            _make_root(path)
        found = os.stat(path)
    except FileNotFoundError as err:
        msg = f"open {url}: there is no such directory; mend the URL, or open with create=True"
        raise StoreNotFoundError(msg) from err
    except (NotADirectoryError, FileExistsError) as err:
        msg = f"open {url}: {err.filename or path} is a file, and a store needs a directory; mend the URL"
        raise InvalidURLError(msg) from err
    except OSError as err:
        raise files.translated(err, f"open {url}") from err
    if not stat.S_ISDIR(found.st_mode):
        msg = f"open {url}: {path} is a file, and a store needs a directory; mend the URL"
        raise InvalidURLError(msg)
    return LocalBackend(path)


def _path_of(url: str) -> str:
    """Return the absolute path that a URL or a plain path means.

    Raises:
        InvalidURLError: It means none.
    """
    try:
        encoded = os.fsencode(url)
    except UnicodeEncodeError as err:
        msg = f"open {url!r}: cannot be a path, as it holds lone surrogates; mend it"
        raise InvalidURLError(msg) from err
    if url[:5].lower() == "file:":
        place = encoded[5:]
        if place.startswith(b"//"):
            host, slash, below = place[2:].partition(b"/")
            if host not in (b"", b"localhost"):
                msg = f"open {url}: {os.fsdecode(host)!r} would be another machine; write file:///path, three slashes"
                raise InvalidURLError(msg)
            place = slash + below
        encoded = unquote_to_bytes(place)
        if not encoded.startswith(b"/"):
            msg = f"open {url}: names no absolute path; write file:///path, or the plain path"
            raise InvalidURLError(msg)
    else:
        encoded = os.path.expanduser(encoded)
    if not encoded or b"\0" in encoded:
        msg = f"open {url!r}: a path cannot be empty or hold NUL; mend it"
        raise InvalidURLError(msg)
    return os.path.abspath(os.fsdecode(encoded))


def _make_root(path: str) -> None:
    """Make a directory and its parents, each durable in the one above."""
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    for one in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(one)
        files.fsync_directory(os.path.dirname(one))
