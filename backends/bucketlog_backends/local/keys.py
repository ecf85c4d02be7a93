"""Keys as paths below a root, and the errors that name a key."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from bucketlog.errors import BucketlogError, ConflictError, InvalidNameError, NotFoundError, OutcomeUnknownError
from bucketlog_backends.local import files
from bucketlog_backends.local.locks import LOCK_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

UNFINISHED = ".tmp-"  # how the name of a file begins that has no key yet
_BAD_KEY = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|\0")  # a part that is empty, "." or ".."


class Keys:
    """The keys of one root: where each lies, and what an error about it says.

    Attributes:
        url: The root, for messages.
        root: The root's path.
        base: What the path of every key begins with; it ends with a slash.
    """

    def __init__(self, path: str) -> None:
        self.url = "file://" + quote_from_bytes(os.fsencode(path))
        self.root = path.rstrip("/") or "/"
        self.base = self.root.rstrip("/") + "/"

    def path(self, key: str, doing: str) -> str:
        """Return the path of a key.

        Raises:
            InvalidNameError: No file of the store may have this name.
        """
        last = key[key.rfind("/") + 1 :]
        if _BAD_KEY.search(key) or not key.isascii() or last == LOCK_NAME or last.startswith(UNFINISHED):
            msg = f"{doing} {self.url}: {key!r} cannot be a key; use parts of ASCII that are no path and not reserved"
            raise InvalidNameError(msg, name=key)
        return self.base + key

    def folder_path(self, folder_name: str) -> str:
        """Return the path of a folder, with a slash at its end."""
        return self.path(folder_name, "lock") + "/" if folder_name else self.base

    @contextmanager
    def translating(self, doing: str, key: str) -> Iterator[None]:
        """Raise `failed` for an OSError."""
        try:
            yield
        except BucketlogError:
            raise
        except OSError as err:
            raise self.failed(err, doing, key) from err

    def failed(self, err: OSError, doing: str, key: str) -> BucketlogError:
        """Make the error for what the system refused."""
        return files.translated(err, f"{doing} {self.url}, key {key!r}", name=key)

    def unsynced(self, err: OSError, doing: str, key: str) -> OutcomeUnknownError:
        """Make the error for a sync that failed."""
        msg = (
            f"{doing} {self.url}, key {key!r}: the disk did not confirm the write ({err.strerror or err}); "
            "look at the disk, then read back what is stored"
        )
        return OutcomeUnknownError(msg, key=key)

    def missing(self, key: str, doing: str) -> NotFoundError:
        """Make the error for a key under which nothing is stored."""
        return NotFoundError(f"{doing} {self.url}, key {key!r}: nothing is stored under this key")

    def refused(self, key: str, why: str) -> ConflictError:
        """Make the error for an append that was not written."""
        return ConflictError(f"append to {self.url}, key {key!r}: {why}; read what is new and decide again")


def folder_of(key: str) -> str:
    """Return the folder of a key or of a folder, without a slash at its end; empty for the root."""
    return key.rpartition("/")[0]
