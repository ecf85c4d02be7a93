"""The errors of bucketlog: one class per next step of the caller.

All derive from `BucketlogError` and, where one fits, from the built-in exception that a Python programmer would catch.
Programs branch on the class and its fields; the text is for people, and never contains a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bucketlog.commit import Commit
    from bucketlog.event import Event


class BucketlogError(Exception):
    """Root of all errors of bucketlog.

    `commits` lists the commits that an append to several partitions had made durable before it failed.
    """

    commits: Sequence[Commit] = ()

    def __str__(self) -> str:
        """Return the plain message; a bare `KeyError` would quote it."""
        return str(self.args[0]) if self.args else ""


# -- read again, decide again ------------------------------------------------------------------------------------------


class ConflictError(BucketlogError):
    """Another writer got there first, and nothing was written. Read again and decide again."""


class OffsetConflictError(ConflictError):
    """The partition's next offset is not the expected one. Read the new events, decide again, and append again."""

    def __init__(self, message: str, *, partition: str = "", expected_offset: int = -1, next_offset: int = -1) -> None:
        super().__init__(message)  # the fields have defaults so that the error survives pickling
        self.partition, self.expected_offset, self.next_offset = partition, expected_offset, next_offset


class CheckpointConflictError(ConflictError):
    """Another process saved the checkpoint first. Load it, decide again, and save with the new version."""

    def __init__(
        self, message: str, *, name: str = "", expected_version: str | None = None, version: str | None = None
    ) -> None:
        super().__init__(message)
        self.name, self.expected_version, self.version = name, expected_version, version


class SubscriptionLostError(ConflictError):
    """Another consumer took over this subscription. Stop; it receives all events that were not acknowledged."""

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class DuplicateEventError(ConflictError, ValueError):
    """An event with this id is already stored, and nothing was written. Skip the event or give it another id."""

    def __init__(
        self, message: str, *, event_id: str = "", index: int = -1, partition: str = "", offset: int = -1
    ) -> None:
        super().__init__(message)
        self.event_id, self.index, self.partition, self.offset = event_id, index, partition, offset


# -- look before trying again ------------------------------------------------------------------------------------------


class OutcomeUnknownError(BucketlogError, TimeoutError):
    """The storage did not answer, and reading back did not settle whether the data was written or may still be.

    Look for the event ids (or load the checkpoint) before trying again. `write_id` identifies the commit in the log.
    """

    def __init__(self, message: str, *, write_id: str = "", key: str = "") -> None:
        super().__init__(message)
        self.write_id, self.key = write_id, key


# -- try later ---------------------------------------------------------------------------------------------------------


class BackendUnavailableError(BucketlogError, ConnectionError):
    """The storage could not be reached or was too busy, and nothing was written. Try again later."""


# -- fix the call ------------------------------------------------------------------------------------------------------


class InvalidEventError(BucketlogError, ValueError):
    """An event is invalid, and nothing of its batch was written. Fix the field named in `field`."""

    def __init__(self, message: str, *, index: int = -1, field: str = "") -> None:
        super().__init__(message)
        self.index, self.field = index, field


class InvalidNameError(BucketlogError, ValueError):
    """A name is empty, contains NUL or lone surrogates, or takes over 255 bytes when encoded. Choose another name."""

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class InvalidValueError(BucketlogError, ValueError, TypeError):
    """A value is invalid: not JSON, NaN, a naive time, not a cursor. Fix the value named in the message."""


class InvalidURLError(BucketlogError, ValueError):
    """The store's URL cannot be parsed. Correct it."""


class InvalidOptionError(InvalidURLError, TypeError):
    """An option is unknown or has an invalid value. Correct the option named in `option`."""

    def __init__(self, message: str, *, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class StreamSettingsError(BucketlogError, ValueError):
    """The call contradicts the settings that the stream was created with. Use the stream's own settings."""


class ReadOnlyError(BucketlogError, PermissionError):
    """The store was opened for reading only. Open it for writing."""


class OffsetOutOfRangeError(BucketlogError, IndexError):
    """An offset lies before the start of a partition's log or beyond its end. Use an offset between the two."""

    def __init__(
        self, message: str, *, partition: str = "", offset: int = -1, start: int = -1, next_offset: int = -1
    ) -> None:
        super().__init__(message)
        self.partition, self.offset, self.start, self.next_offset = partition, offset, start, next_offset


# -- look elsewhere ----------------------------------------------------------------------------------------------------


class NotFoundError(BucketlogError, KeyError, FileNotFoundError):
    """Nothing is stored under this name. Check the name, or store something first."""

    __str__ = BucketlogError.__str__  # both built-ins define their own


class StoreNotFoundError(BucketlogError, FileNotFoundError):
    """There is no store (or no bucket, or no directory) at this URL. Correct the URL, or create the store."""

    __str__ = BucketlogError.__str__


# -- fix the storage ---------------------------------------------------------------------------------------------------


class AccessDeniedError(BucketlogError, PermissionError):
    """The storage refused access, and nothing was written. Check the credentials and their permissions."""


class StorageFullError(BucketlogError, OSError):
    """The storage is full, and nothing was written. Free some space."""


# -- choose another backend or setting ---------------------------------------------------------------------------------


class CapabilityError(BucketlogError, NotImplementedError):
    """The storage or the installation lacks a capability that this needs. Do what the message suggests instead."""


class UnprovenStorageError(OutcomeUnknownError, CapabilityError):
    """The storage no longer behaves as the probe found (versioning was switched on); this write may be hidden.

    Restore the old setting (or choose another bucket), then look for the events before trying again.
    """


class UnsupportedFormatError(BucketlogError, ValueError):
    """The stored data has a newer format than this version reads. Upgrade bucketlog."""


# -- stop and repair ---------------------------------------------------------------------------------------------------


class CorruptSegmentError(BucketlogError):
    """A segment is damaged: object `key`, at `byte`, where `offset` should be. Stop, and restore it from a copy."""

    def __init__(self, message: str, *, key: str = "", byte: int = -1, offset: int = -1) -> None:
        super().__init__(message)
        self.key, self.byte, self.offset = key, byte, offset


class CorruptCheckpointError(BucketlogError, ValueError):
    """An object that should hold JSON (checkpoint, snapshot, settings) does not. Stop, and repair the object `key`."""

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class CorruptBlobError(BucketlogError, ValueError):
    """A blob's bytes do not match its digest. Stop, delete the blob, and put it again from a good copy."""

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class UnwrittenEventsError(BucketlogError):
    """A buffered writer stopped because a commit failed (see `__cause__`). Look for `events`, then append the rest.

    `events` lists the events that were not acknowledged, in their order.
    """

    def __init__(self, message: str, *, events: Sequence[Event] = ()) -> None:
        super().__init__(message)
        self.events = list(events)
