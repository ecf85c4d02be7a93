"""One root directory: its keys, locks and durable names, which all parts of the backend share."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bucketlog_backends.local.keys import Keys, folder_of
from bucketlog_backends.local.locks import FolderLocks
from bucketlog_backends.local.names import DurableNames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog_backends.local.locks import Folder


class LocalRoot:
    """The state that the parts of one handle share.

    Attributes:
        keys: The paths of keys, and the errors about them.
        locks: The locks of folders, and the files that stay open.
        names: The names that are known to be durable.
    """

    def __init__(self, path: str) -> None:
        self.keys = keys = Keys(path)
        # Each needs the other: a lock may have to create its folder, and a sync may have to close idle locks.
        self.names = names = DurableNames(keys, lambda call: locks.making_room(call))
        self.locks = locks = FolderLocks(keys.folder_path, names.make_folders)

    def open_object(self, key: str, doing: str, flags: int = os.O_RDONLY) -> int:
        """Open the file of a key.

        Raises:
            NotFoundError: Nothing is stored under the key.
        """
        path = self.keys.path(key, doing)
        try:
            fd = self.locks.open_file(path, flags)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise self.keys.missing(key, doing) from None
        except OSError as err:
            raise self.keys.failed(err, doing, key) from err
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise self.keys.missing(key, doing)
        return fd

    @contextmanager
    def exclusively(self, key: str, doing: str) -> Iterator[Folder]:
        """Hold the exclusive lock of the folder that contains a key.

        Raises:
            NotFoundError: There is no such folder.
        """
        self.keys.path(key, doing)
        folder = self.locks.enter(folder_of(key), may_make=False)
        if folder is None:
            raise self.keys.missing(key, doing)
        try:
            yield folder
        finally:
            self.locks.leave(folder)
