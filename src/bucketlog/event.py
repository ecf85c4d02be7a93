"""The event: its envelope.

The envelope uses the names of CloudEvents 1.0 (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md)
where it has one.
"""

# No `from __future__ import annotations` here: `Event.__module__` is `bucketlog`, and there msgspec would look up the
# names in its annotations for a subclass.

from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec
import uuid_utils

Scalar: TypeAlias = str | int | float | bool | None


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562); the ids that a process makes ascend."""
    return str(uuid_utils.uuid7())


def _now() -> datetime:
    return datetime.now(UTC)


class Event(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False, repr_omit_defaults=True):
    """Something that happened. Immutable. Events are equal if all fields except `partition` and `offset` are.

    Attributes:
        type: The kind of event, such as `order.placed`; not empty.
        id: Unique in its partition; by default a UUIDv7.
        source: The producer, such as a service's name.
        subject: The entity that it is about, such as an order number.
        time: When it happened, timezone-aware (stored as UTC, in microseconds); by default now.
        tags: Words to filter by.
        data: Any JSON value; tuples come back as lists. Decoded on first access.
        meta: A flat mapping: trace context, actor, digest and the like.
        partition: The partition it was read from; None before.
        offset: Its number in that partition; None before.
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

    def __ne__(self, other: object) -> bool:  # msgspec's own compares by identity
        return not self == other

    def __hash__(self) -> int:
        return hash((self.type, self.id))

    def to_cloudevent(self) -> dict[str, Any]:
        """Return the event in the JSON format of CloudEvents 1.0, as a dict.

        `tags` become the extension `tags` (a JSON array as text). Entries of `meta` become attributes of their own
        where CloudEvents allows the name and value; the others go into `bucketlogmeta` as JSON text. `bucketlogevent`
        records which required attributes, such as a source, the event lacks.

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
