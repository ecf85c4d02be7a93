"""Keys as paths below a root, and the errors about a key."""

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

UNFINISHED = ".tmp-"  # the prefix of files that do not have their final names yet
_BAD_KEY = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|\0")  # an empty part, "." or ".."


class Keys:
    """The keys below one root: their paths, and the errors about them.

    Attributes:
        url: The root, for messages.
        root: The root's path.
        base: The root's path with a slash at its end; the path of a key is this and the key.
    """

    def __init__(self, path: str) -> None:
        self.url = "file://" + quote_from_bytes(os.fsencode(path))
        self.root = path.rstrip("/") or "/"
        self.base = self.root.rstrip("/") + "/"

    def path(self, key: str, doing: str) -> str:
        """Return the path of a key.

        Raises:
            InvalidNameError: The key is not valid, or its name is reserved.
        """
        last = key[key.rfind("/") + 1 :]
        if _BAD_KEY.search(key) or not key.isascii() or last == LOCK_NAME or last.startswith(UNFINISHED):
            msg = (
                f"{doing} {self.url}: {key!r} is not a valid key; use ASCII parts that are not empty, not dots and not "
                "reserved"
            )
            raise InvalidNameError(msg, name=key)
        return self.base + key

    def folder_path(self, folder_name: str) -> str:
        """Return the path of a folder, with a slash at its end."""
        return self.path(folder_name, "lock") + "/" if folder_name else self.base

    @contextmanager
    def translating(self, doing: str, key: str) -> Iterator[None]:
        """Turn an OSError into the error that `failed` makes of it."""
        try:
            yield
        except BucketlogError:
            raise
        except OSError as err:
            raise self.failed(err, doing, key) from err

    def failed(self, err: OSError, doing: str, key: str) -> BucketlogError:
        """Return the error for a call that the system refused."""
        return files.translated(err, f"{doing} {self.url}, key {key!r}", name=key)

    def unsynced(self, err: OSError, doing: str, key: str) -> OutcomeUnknownError:
        """Return the error for a failed sync."""
        msg = (
            f"{doing} {self.url}, key {key!r}: the disk did not confirm the write ({err.strerror or err}); "
            "check the disk, then read back what is stored"
        )
        return OutcomeUnknownError(msg, key=key)

    def missing(self, key: str, doing: str) -> NotFoundError:
        """Return the error for a missing object."""
        return NotFoundError(f"{doing} {self.url}, key {key!r}: nothing is stored under this key")

    def refused(self, key: str, why: str) -> ConflictError:
        """Return the error for a refused append."""
        return ConflictError(f"append to {self.url}, key {key!r}: {why}; read the new data and decide again")


def folder_of(key: str) -> str:
    """Return the name of the folder that contains a key or a folder, without a slash; empty for the root."""
    return key.rpartition("/")[0]
