"""Opening a directory: turning a URL or a plain path into a root, and creating the root if it is missing."""

# Paths are str here, as in the rest of the backend.
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
        options: Must be empty: there are none.
        create: Whether to create the directory and its parents if they are missing.

    Raises:
        CapabilityError: The system is neither Linux nor macOS.
        InvalidURLError: The URL names another host or no path, or the path is a file.
        InvalidOptionError: An option was given.
        StoreNotFoundError: The directory does not exist, and `create` is False.
        AccessDeniedError: The directory may not be created or opened.
        StorageFullError: There is no room to create it.
        BackendUnavailableError: The disk does not respond.
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
        msg = f"open {url}: there is no such directory; fix the URL, or open with create=True"
        raise StoreNotFoundError(msg) from err
    except (NotADirectoryError, FileExistsError) as err:
        msg = f"open {url}: {err.filename or path} is a file, and a store needs a directory; fix the URL"
        raise InvalidURLError(msg) from err
    except OSError as err:
        raise files.translated(err, f"open {url}") from err
    if not stat.S_ISDIR(found.st_mode):
        msg = f"open {url}: {path} is a file, and a store needs a directory; fix the URL"
        raise InvalidURLError(msg)
    return LocalBackend(path)


def _path_of(url: str) -> str:
    """Return the absolute path for a URL or a plain path.

    Raises:
        InvalidURLError: It cannot be a path on this machine.
    """
    try:
        encoded = os.fsencode(url)
    except UnicodeEncodeError as err:
        msg = f"open {url!r}: not a valid path, because it contains lone surrogates; fix it"
        raise InvalidURLError(msg) from err
    if url[:5].lower() == "file:":
        place = encoded[5:]
        if place.startswith(b"//"):
            host, slash, below = place[2:].partition(b"/")
            if host not in (b"", b"localhost"):
                msg = f"open {url}: {os.fsdecode(host)!r} is another machine; write file:///path, with three slashes"
                raise InvalidURLError(msg)
            place = slash + below
        encoded = unquote_to_bytes(place)
        if not encoded.startswith(b"/"):
            msg = f"open {url}: not an absolute path; write file:///path, or the plain path"
            raise InvalidURLError(msg)
    else:
        encoded = os.path.expanduser(encoded)
    if not encoded or b"\0" in encoded:
        msg = f"open {url!r}: a path cannot be empty or contain NUL; fix it"
        raise InvalidURLError(msg)
    return os.path.abspath(os.fsdecode(encoded))


def _make_root(path: str) -> None:
    """Create a directory and its parents, and make each name durable."""
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(folder)
        files.fsync_directory(os.path.dirname(folder))
