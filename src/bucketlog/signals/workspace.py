"""A workspace: its location, its store, and the paths of its parts."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import bucketlog
from bucketlog.errors import ReadOnlyError, StoreNotFoundError
from bucketlog.signals.metaspn_workspace import LocalFiles, StoredFiles, has_records, not_imported
from bucketlog.signals.paths import STORE_FOLDER, AnyPath, StorePath

if TYPE_CHECKING:
    from bucketlog import EventStore
    from bucketlog.signals.metaspn_workspace import Files

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(//|:)")


class Workspace:
    """An opened workspace.

    Args:
        place: A path, or a URL; `/store` is appended to it.
        options: Options of `bucketlog.open`.

    Attributes:
        store: The opened store.
        path: The workspace as given, without credentials and query.
        root: The path of the store.
        files: The files that metaspn-store may have written.

    Raises:
        NotADirectoryError: The workspace is a file.
    """

    def __init__(self, place: Any, options: dict[str, Any]) -> None:  # noqa: ANN401  (a UPath has no class of its own)
        if isinstance(place, str) and _URL.match(place):
            url, mark, query = place.partition("?")
            self.store: EventStore = bucketlog.open(f"{url.rstrip('/')}/{STORE_FOLDER}{mark}{query}", **options)
        elif isinstance(place, (str, os.PathLike)):
            self.store = _open_directory(Path(place), options)
        else:
            self.store = bucketlog.open(place / STORE_FOLDER, **options)
        self.path: AnyPath
        self.root: AnyPath
        self.files: Files
        if self.store.url.startswith("file:"):
            is_path = isinstance(place, os.PathLike) or (isinstance(place, str) and not _URL.match(place))
            self.path = Path(place) if is_path else Path(unquote(self.store.url.removeprefix("file://"))).parent
            self.root = self.path / STORE_FOLDER
            self.files = LocalFiles(self.root)
        else:
            url = self.store.url.rstrip("/")
            self.root = StorePath(url, self.store, url)
            self.path = self.root.parent
            self.files = StoredFiles(self.store)


def _open_directory(workspace: Path, options: dict[str, Any]) -> EventStore:
    root = workspace / STORE_FOLDER
    if options.get("create", True) and not options.get("read_only"):
        root.mkdir(parents=True, exist_ok=True)
    try:
        return bucketlog.open(root, **options)
    except StoreNotFoundError as err:
        if not has_records(LocalFiles(root)):
            raise
        raise ReadOnlyError(not_imported(str(workspace))) from err
