"""Every error of bucketlog: one class for each next step of the caller.

All derive from `BucketlogError` and, where there is one, from the built-in exception that a Python programmer would
catch. Programs branch on the class and its fields; the text is for people, and never holds a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bucketlog.commit import Commit
    from bucketlog.event import Event


class BucketlogError(Exception):
    """Root of all errors of bucketlog.

    `commits` holds what an append over several partitions had already made durable when it failed.
    """

    commits: Sequence[Commit] = ()

    def __str__(self) -> str:
        """Return the plain message; a bare `KeyError` would quote it."""
        return str(self.args[0]) if self.args else ""


# -- read again, decide again ------------------------------------------------------------------------------------------


class ConflictError(BucketlogError):
    """Another writer got there first. Read again, decide again; nothing of this call was written."""


class OffsetConflictError(ConflictError):
    """The partition's next offset is not the expected one. Read the new events, decide again, append again."""

    def __init__(self, message: str, *, partition: str = "", expected_offset: int = -1, next_offset: int = -1) -> None:
        super().__init__(message)  # the fields have defaults so that the error survives pickling
        self.partition, self.expected_offset, self.next_offset = partition, expected_offset, next_offset


class CheckpointConflictError(ConflictError):
    """The checkpoint was saved by somebody else since. Load it, decide again, save with the new version."""

    def __init__(
        self, message: str, *, name: str = "", expected_version: str | None = None, version: str | None = None
    ) -> None:
        super().__init__(message)
        self.name, self.expected_version, self.version = name, expected_version, version


class SubscriptionLostError(ConflictError):
    """Another consumer took this subscription over. Stop; what was not acknowledged is delivered to the other one."""

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class DuplicateEventError(ConflictError, ValueError):
    """An event with this id is stored already. Nothing was written; skip it or give it another id."""

    def __init__(
        self, message: str, *, event_id: str = "", index: int = -1, partition: str = "", offset: int = -1
    ) -> None:
        super().__init__(message)
        self.event_id, self.index, self.partition, self.offset = event_id, index, partition, offset


# -- look before trying again ------------------------------------------------------------------------------------------


class OutcomeUnknownError(BucketlogError, TimeoutError):
    """The storage did not answer and reading back did not settle it: it may have been written, or may land later.

    Look for the event ids (or load the checkpoint) before trying again. `write_id` marks the commit in the log.
    """

    def __init__(self, message: str, *, write_id: str = "", key: str = "") -> None:
        super().__init__(message)
        self.write_id, self.key = write_id, key


# -- try later ---------------------------------------------------------------------------------------------------------


class BackendUnavailableError(BucketlogError, ConnectionError):
    """The storage could not be reached or was too busy, and nothing was written. Try again later."""


# -- mend the call -----------------------------------------------------------------------------------------------------


class InvalidEventError(BucketlogError, ValueError):
    """An event cannot be written. Nothing of the batch was; mend the field named here."""

    def __init__(self, message: str, *, index: int = -1, field: str = "") -> None:
        super().__init__(message)
        self.index, self.field = index, field


class InvalidNameError(BucketlogError, ValueError):
    """A text cannot be a name: empty, NUL, lone surrogates, or over 255 bytes when encoded. Choose another."""

    def __init__(self, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class InvalidValueError(BucketlogError, ValueError, TypeError):
    """A value cannot be stored or understood: not JSON, NaN, a naive time, no cursor. Mend what is named here."""


class InvalidURLError(BucketlogError, ValueError):
    """The store's URL cannot be understood. Mend it."""


class InvalidOptionError(InvalidURLError, TypeError):
    """An option is not known or has an impossible value. Mend the name or the value given here."""

    def __init__(self, message: str, *, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class StreamSettingsError(BucketlogError, ValueError):
    """The call does not fit the settings that the stream was made with. Use the stream's own settings."""


class ReadOnlyError(BucketlogError, PermissionError):
    """The store was opened for reading only. Open it for writing."""


class OffsetOutOfRangeError(BucketlogError, IndexError):
    """A cursor points before the start of a partition or beyond its head. Begin at an offset between the two."""

    def __init__(
        self, message: str, *, partition: str = "", offset: int = -1, start: int = -1, next_offset: int = -1
    ) -> None:
        super().__init__(message)
        self.partition, self.offset, self.start, self.next_offset = partition, offset, start, next_offset


# -- look elsewhere ----------------------------------------------------------------------------------------------------


class NotFoundError(BucketlogError, KeyError, FileNotFoundError):
    """Nothing is stored under this name."""

    __str__ = BucketlogError.__str__  # both built-ins bring one of their own


class StoreNotFoundError(BucketlogError, FileNotFoundError):
    """There is no store (or no bucket, or no directory) at this URL. Mend the URL, or create it."""

    __str__ = BucketlogError.__str__


# -- see to the storage ------------------------------------------------------------------------------------------------


class AccessDeniedError(BucketlogError, PermissionError):
    """The storage refused: wrong credentials, or a missing permission. See to them; nothing was written."""


class StorageFullError(BucketlogError, OSError):
    """The storage has no room. Nothing was written; free some."""


# -- choose another backend or setting ---------------------------------------------------------------------------------


class CapabilityError(BucketlogError, NotImplementedError):
    """The storage cannot do what this needs. The message says what is missing and which way is left."""


class UnprovenStorageError(OutcomeUnknownError, CapabilityError):
    """The storage no longer behaves as was proven (versioning was switched on): what it accepted may be hidden.

    Put it back as it was (or choose another bucket), then look for the events before trying again.
    """


class UnsupportedFormatError(BucketlogError, ValueError):
    """What is stored was written by a newer format than this version reads. Upgrade bucketlog."""


# -- stop and repair ---------------------------------------------------------------------------------------------------


class CorruptSegmentError(BucketlogError):
    """A segment's bytes are damaged: `key` from `byte` on, which should hold `offset`. Stop and repair from a copy."""

    def __init__(self, message: str, *, key: str = "", byte: int = -1, offset: int = -1) -> None:
        super().__init__(message)
        self.key, self.byte, self.offset = key, byte, offset


class CorruptCheckpointError(BucketlogError, ValueError):
    """An object that should hold JSON (checkpoint, snapshot, settings) does not. Stop and repair the object named."""

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class CorruptBlobError(BucketlogError, ValueError):
    """A blob's bytes are not those of its digest. Stop and repair; another copy can be put again after a delete."""

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class UnwrittenEventsError(BucketlogError):
    """A buffered writer stopped: a commit failed (see `__cause__`). `events` were not acknowledged, in their order."""

    def __init__(self, message: str, *, events: Sequence[Event] = ()) -> None:
        super().__init__(message)
        self.events = list(events)
