"""Subscriptions: named durable consumers. A tail whose cursor is a fenced checkpoint."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

from bucketlog.backend import ABSENT
from bucketlog.cursor import Cursor
from bucketlog.errors import CheckpointConflictError, CorruptCheckpointError, InvalidNameError, SubscriptionLostError
from bucketlog.format.names import encode_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from bucketlog.event import Event
    from bucketlog.state.checkpoints import Checkpoints
    from bucketlog.storage.root import Root
    from bucketlog.stream import Stream

_ATTEMPTS = 20


class Subscription:
    """Iterates a stream's events from where this consumer last acknowledged; every event at least once.

    `ack()` acknowledges all that the iterator has yielded. Whoever subscribes under the same name later takes over: the
    one before learns of it at its next `ack()`.

    Attributes:
        name: The consumer's.
        cursor: What was acknowledged.
        tail: What it iterates; `tail.cursor` is what `ack()` would acknowledge.
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
        self._checkpoint = _checkpoint_name(stream.name, name)
        self._fence = root.clock.write_id()
        self.cursor, self._version = self._take(stream, start)
        self.tail = stream.tail(self.cursor)

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

    def _is_ours(self, value: object) -> bool:
        return isinstance(value, dict) and value.get("fence") == self._fence

    def ack(self, cursor: Mapping[str, int] | None = None) -> Cursor:
        """Acknowledge all events that the iterator has yielded, or those before a cursor; return the cursor.

        Raises:
            SubscriptionLostError: Another consumer took over. What was not acknowledged is delivered to it.
        """
        cursor = self.tail.cursor if cursor is None else Cursor(cursor)
        value = self._value(cursor)
        try:
            try:
                saved = self._checkpoints.save(self._checkpoint, value, expected_version=self._version)
            except CheckpointConflictError:
                # Perhaps by ourselves: an acknowledgement whose outcome was unclear may have been applied.
                held = self._checkpoints.load(self._checkpoint)
                if held is None or not self._is_ours(held.value):
                    raise
                saved = self._checkpoints.save(self._checkpoint, value, expected_version=held.version)
        except CheckpointConflictError as err:
            msg = f"acknowledge {self._where}: another consumer of this name took over; stop this one"
            raise SubscriptionLostError(msg, name=self.name) from err
        self._version = saved.version
        self.cursor = cursor
        return cursor

    def poll(self) -> list[Event]:
        """Return what has come, without waiting; `ack()` then acknowledges all of it."""
        return self.tail.poll()

    def wait(self) -> bool:
        """Wait until there may be more, or for a while; False when the subscription was closed."""
        return self.tail.wait()

    def __iter__(self) -> Iterator[Event]:
        return iter(self.tail)

    def __next__(self) -> Event:
        return next(self.tail)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration, from any thread; nothing is acknowledged by it."""
        self.tail.close()


def _checkpoint_name(stream: str, name: str) -> str:
    """Return the name of a consumer's checkpoint: no two pairs of stream and consumer share one.

    Raises:
        InvalidNameError: The consumer's name cannot be one.
    """
    encode_name(name, what="subscription")
    pair = f"subscription {len(stream)} {stream} {name}"
    try:
        encode_name(pair, suffix=".json")
    except InvalidNameError:  # each name may be as long as both together
        return f"subscription {hashlib.sha256(pair.encode()).hexdigest()}"
    return pair
