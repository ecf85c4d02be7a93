"""A directory of files: locks, syncs, and a watch that wakes tails."""

from bucketlog_backends.local.backend import LocalBackend, open_local

__all__ = ["LocalBackend", "open_local"]
