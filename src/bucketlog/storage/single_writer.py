"""Conditional puts on storage without them, for a single writer.

With `single_writer=True` a store opens on a backend that does not declare `exclusive_create` or `compare_and_set`. Its
conditions are then checked by a read before the put, which is enough while no other process writes.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from bucketlog.backend import ABSENT, ANY, UploadBackend, after_fork_in_child
from bucketlog.errors import ConflictError, NotFoundError
from bucketlog.storage.wrapper import BackendWrapper, class_around

if TYPE_CHECKING:
    from bucketlog.backend import Backend, Capabilities, Condition, Version


def emulate_conditions(backend: Backend) -> Backend:
    """Return the backend, wrapped if it does not declare both conditions."""
    declared = backend.capabilities
    if declared.exclusive_create and declared.compare_and_set:
        return backend
    return class_around(backend, _SingleWriter, [(UploadBackend, _UploadingSingleWriter)])(backend)


class _SingleWriter(BackendWrapper):
    """Reads before a conditional put. A lock excludes the other threads of this handle, but no other handle."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.reset_lock()
        after_fork_in_child(self.reset_lock)

    def reset_lock(self) -> None:
        """Create the lock: when the wrapper is made, and again in a forked child."""
        self._read_then_put = threading.Lock()

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, exclusive_create=True, compare_and_set=True)

    def put(self, key: str, data: bytes, *, if_version: Condition = ANY) -> Version:
        declared = self.inner.capabilities
        is_native = declared.exclusive_create if if_version is ABSENT else declared.compare_and_set
        if if_version is ANY or is_native:
            return self.inner.put(key, data, if_version=if_version)
        with self._read_then_put:
            self._check(key, if_version)
            return self.inner.put(key, data)

    def _check(self, key: str, condition: Condition) -> None:
        """Check a condition against what is stored now.

        Raises:
            ConflictError: It does not hold.
        """
        try:
            found: Version | None = self.inner.get(key).version
        except NotFoundError:
            found = None
        expected = None if condition is ABSENT else condition
        if found != expected:
            there = "nothing" if found is None else f"version {found}"
            msg = f"put to {self.url}, key {key!r}: expected {expected or 'nothing'}, found {there}; read, decide again"
            raise ConflictError(msg)


class _UploadingSingleWriter(_SingleWriter):
    inner: UploadBackend

    def upload(self, key: str, source: BinaryIO) -> None:
        self.inner.upload(key, source)
