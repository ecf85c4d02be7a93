"""The event: its envelope.

The envelope has the names of CloudEvents 1.0 (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md)
where it has one.
"""

# No `from __future__ import annotations` here: `Event.__module__` is `bucketlog`, and there msgspec would look up the
# names in its annotations when somebody subclasses it.

from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec
import uuid_utils

Scalar: TypeAlias = str | int | float | bool | None


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562): ids made by one process ascend."""
    return str(uuid_utils.uuid7())


def _now() -> datetime:
    return datetime.now(UTC)


class Event(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False, repr_omit_defaults=True):
    """Something that happened. Immutable; equal when all fields but `partition` and `offset` are.

    Attributes:
        type: What kind of thing happened, such as `order.placed`; not empty.
        id: Unique in its partition; a UUIDv7 unless given.
        source: Where it came from.
        subject: What it is about, such as an order's or an aircraft's number.
        time: When it happened, aware (stored as UTC, to the microsecond); now unless given.
        tags: Words to filter by.
        data: Any JSON value; tuples come back as lists. Decoded when first touched.
        meta: Flat: trace context, actor, digest and the like.
        partition: Where the log holds it; None until read.
        offset: Its number in the partition; None until read.
    """

    type: str
    id: str = msgspec.field(default_factory=new_id)
    source: str | None = None
    subject: str | None = None
    time: datetime = msgspec.field(default_factory=_now)
    tags: tuple[str, ...] = ()
    data: Any = None
    meta: dict[str, Scalar] = {}
    partition: str | None = None
    offset: int | None = None

    def _values(self) -> tuple[object, ...]:
        return (self.type, self.id, self.source, self.subject, self.time, self.tags, self.data, self.meta)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return self._values() == other._values()

    def __ne__(self, other: object) -> bool:  # the one inherited from msgspec compares by identity
        return not self == other

    def __hash__(self) -> int:
        return hash((self.type, self.id))

    def to_cloudevent(self) -> dict[str, Any]:
        """Return the event in the JSON format of CloudEvents 1.0, as a dict.

        `tags` become the extension `tags` (a JSON array as text). Entries of `meta` become attributes of their own
        where CloudEvents allows such a name and value; all others travel as JSON text in `bucketlogmeta`. Where it
        lacks what a CloudEvent needs, such as a source, `bucketlogevent` says so.

        Raises:
            InvalidEventError: It has no type or id, a naive time, or in `meta` something that is not JSON.
        """
        from bucketlog import cloudevents  # few programs need it

        return cloudevents.from_event(self)

    @classmethod
    def from_cloudevent(cls, cloudevent: object) -> "Event":
        """Make an event from a CloudEvent: its JSON format as a mapping, or an object of the `cloudevents` package.

        Raises:
            InvalidEventError: A required attribute is missing or has the wrong type.
        """
        from bucketlog import cloudevents

        return cloudevents.to_event(cloudevent)
