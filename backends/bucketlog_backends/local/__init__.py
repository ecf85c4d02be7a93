"""A directory of files: locks, syncs, and a watch that wakes tails."""

from bucketlog_backends.local.backend import LocalBackend
from bucketlog_backends.local.opening import open_local

__all__ = ["LocalBackend", "open_local"]
