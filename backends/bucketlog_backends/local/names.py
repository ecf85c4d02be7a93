"""Durable names: a new file or folder survives a crash once the folder that contains it was synced."""

# Paths are str here, as in the rest of the backend.
# ruff: noqa: PTH102, PTH112

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bucketlog.errors import StoreNotFoundError
from bucketlog_backends.local import files
from bucketlog_backends.local.keys import folder_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bucketlog_backends.local.keys import Keys

_NAMES_MAX = 65_536  # forgetting a name costs one sync


class DurableNames:
    """The names that this handle knows to be durable, so that it syncs each of them once."""

    def __init__(self, keys: Keys, making_room: Callable[[Callable[[], None]], None]) -> None:
        """Start with no names.

        Args:
            keys: The keys of the root.
            making_room: Runs a call that opens a file, and retries it after closing others if too many are open.
        """
        self._keys, self._making_room = keys, making_room
        self._objects: set[str] = set()
        self._folders: set[str] = set()  # together with all folders above them

    def knows(self, key: str) -> bool:
        """Return True if the name of a key is known to be durable."""
        return key in self._objects

    def forget(self, key: str) -> None:
        """Forget the name of a key, because its file is removed or created again."""
        self._objects.discard(key)

    def make_durable(self, key: str) -> None:
        """Sync the folder of a key, and all folders above it whose names are not known to be durable."""
        folder_name = folder_of(key)
        self.sync_folder(folder_name)
        placed = []
        while folder_name and folder_name not in self._folders:
            placed.append(folder_name)
            folder_name = folder_of(folder_name)
            self.sync_folder(folder_name)
        for known, new in ((self._folders, placed), (self._objects, [key])):
            if len(known) > _NAMES_MAX:
                known.clear()
            known.update(new)

    def sync_folder(self, folder_name: str) -> None:
        """Make the names in one folder durable."""
        self._making_room(lambda: files.fsync_directory(self._keys.base + folder_name))

    def make_folders(self, folder_name: str) -> None:
        """Create a folder and its parents, but not the root.

        Raises:
            StoreNotFoundError: The root no longer exists.
        """
        made = ""
        for part in folder_name.split("/") if folder_name else ():
            made = f"{made}/{part}" if made else part
            try:
                os.mkdir(self._keys.base + made)
                self._folders.discard(made)
            except FileExistsError:
                continue
            except FileNotFoundError:
                break
        if not os.path.isdir(self._keys.root):
            msg = (
                f"write to {self._keys.url}: the directory has been removed since it was opened; open the store again "
                "to create it"
            )
            raise StoreNotFoundError(msg)
