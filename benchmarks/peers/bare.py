"""The least that a durable append can cost: write a line's bytes to the end of a file, and fdatasync."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class BareFile:
    """A file that grows."""

    label = "write + fdatasync of as many bytes"

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)

    def append(self, data: bytes) -> None:
        """Write some bytes and wait until they are on the disk."""
        os.write(self._file, data)
        os.fdatasync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
