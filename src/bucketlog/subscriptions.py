"""Subscriptions: named durable consumers. A tail whose cursor is a fenced checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bucketlog.backend import ABSENT
from bucketlog.cursor import Cursor
from bucketlog.errors import CheckpointConflictError, CorruptCheckpointError, SubscriptionLostError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from bucketlog.checkpoints import Checkpoints
    from bucketlog.event import Event
    from bucketlog.root import Root
    from bucketlog.stream import Stream

_ATTEMPTS = 20


class Subscription:
    """Iterates a stream's events from where this consumer last acknowledged; every event at least once.

    `ack()` acknowledges all that the iterator has yielded. Whoever subscribes under the same name later takes over: the
    one before learns of it at its next `ack()`.

    Attributes:
        name: The consumer's.
        cursor: What was acknowledged.
    """

    def __init__(
        self, root: Root, checkpoints: Checkpoints, stream: Stream, name: str, *, start: Literal["earliest", "latest"]
    ) -> None:
        if start not in ("earliest", "latest"):
            msg = f"subscribe to {stream!r}: start={start!r} is not known; choose 'earliest' or 'latest'"
            raise ValueError(msg)
        self.name = name
        self._where = f"{root.url}, subscription {name!r} to stream {stream.name!r}"
        self._checkpoints = checkpoints
        # Lengths make it injective: no stream and consumer share a checkpoint with another pair.
        self._checkpoint = f"subscription {len(stream.name)} {stream.name} {name}"
        self._fence = root.clock.write_id()
        self.cursor, self._version = self._take(stream, start)
        self._tail = stream.tail(self.cursor)

    def _take(self, stream: Stream, start: str) -> tuple[Cursor, str]:
        """Put our fence where the last holder's was."""
        for _ in range(_ATTEMPTS):
            held = self._checkpoints.load(self._checkpoint)
            if held is None:
                cursor = stream.cursor() if start == "latest" else Cursor()
            else:
                try:
                    cursor = Cursor(held.value["cursor"])
                except (TypeError, KeyError, ValueError) as err:
                    msg = f"open {self._where}: its checkpoint {self._checkpoint!r} holds no cursor"
                    raise CorruptCheckpointError(msg, key=self._checkpoint) from err
            try:
                saved = self._checkpoints.save(
                    self._checkpoint, self._value(cursor), expected_version=ABSENT if held is None else held.version
                )
            except CheckpointConflictError:
                continue  # the holder acknowledged, or somebody else subscribes: take what they left
            return cursor, saved.version
        msg = f"open {self._where}: others kept taking it over; is it started in a loop somewhere?"
        raise SubscriptionLostError(msg, name=self.name)

    def _value(self, cursor: Cursor) -> dict[str, object]:
        return {"cursor": dict(cursor), "fence": self._fence}

    def ack(self, cursor: Cursor | None = None) -> Cursor:
        """Acknowledge all events that the iterator has yielded, or those before a cursor; return the cursor.

        Raises:
            SubscriptionLostError: Another consumer took over. What was not acknowledged is delivered to it.
        """
        cursor = self._tail.cursor if cursor is None else cursor
        try:
            saved = self._checkpoints.save(self._checkpoint, self._value(cursor), expected_version=self._version)
        except CheckpointConflictError as err:
            msg = f"acknowledge {self._where}: another consumer of this name took over; stop this one"
            raise SubscriptionLostError(msg, name=self.name) from err
        self._version = saved.version
        self.cursor = cursor
        return cursor

    def poll(self) -> list[Event]:
        """Return what has come, without waiting; `ack()` then acknowledges all of it."""
        return self._tail.poll()

    def wait(self) -> bool:
        """Wait until there may be more, or for a while; False when the subscription was closed."""
        return self._tail.wait()

    def __iter__(self) -> Iterator[Event]:
        return iter(self._tail)

    def __next__(self) -> Event:
        return next(self._tail)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration, from any thread; nothing is acknowledged by it."""
        self._tail.close()
