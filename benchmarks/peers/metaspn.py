"""metaspn-store: a file of JSON lines for each day, ids in memory, nothing synced; `bucketlog.signals` has its API."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from metaspn_store import FileSystemStore  # type: ignore[import-untyped]  # it comes without types

if TYPE_CHECKING:
    from pathlib import Path

LABEL = f"metaspn-store {version('metaspn-store')}, not durable"


def open_store(workspace: Path) -> FileSystemStore:
    """Open a workspace, or create one."""
    return FileSystemStore(workspace)
