"""Subscriptions: named durable consumers. A tail whose cursor is kept in a fenced checkpoint."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal, Self

from bucketlog.backend import ABSENT
from bucketlog.cursor import Cursor
from bucketlog.errors import CheckpointConflictError, CorruptCheckpointError, InvalidNameError, SubscriptionLostError
from bucketlog.format.names import encode_name
from bucketlog.storage.retries import Retries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from bucketlog.event import Event
    from bucketlog.state.checkpoints import Checkpoint, Checkpoints
    from bucketlog.storage.root import Root
    from bucketlog.stream import Stream


class Subscription:
    """Iterates a stream's events from where this consumer last acknowledged; delivers every event at least once.

    `ack()` acknowledges all events that the iterator has yielded. A later subscriber of the same name takes over; the
    earlier one finds out at its next `ack()`.

    Attributes:
        name: The consumer's name.
        cursor: Where the acknowledged events end.
        tail: The tail that it iterates; `tail.cursor` is what `ack()` would acknowledge.
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
        self.cursor, self._version = self._take_over(root, stream, start)
        self.tail = stream.tail(self.cursor)

    def ack(self, cursor: Mapping[str, int] | None = None) -> Cursor:
        """Acknowledge all events that the iterator has yielded, or those before a cursor; return the cursor.

        Raises:
            SubscriptionLostError: Another consumer took over. It gets the events that were not acknowledged.
        """
        cursor = self.tail.cursor if cursor is None else Cursor(cursor)
        value = self._value(cursor)
        try:
            try:
                saved = self._checkpoints.save(self._checkpoint, value, expected_version=self._version)
            except CheckpointConflictError:
                # An earlier acknowledgement of ours, whose outcome stayed unknown, may have been applied since.
                stored = self._checkpoints.load(self._checkpoint)
                if stored is None or not self._is_ours(stored.value):
                    raise
                saved = self._checkpoints.save(self._checkpoint, value, expected_version=stored.version)
        except CheckpointConflictError as err:
            msg = f"acknowledge {self._where}: another consumer of this name took over; stop this one"
            raise SubscriptionLostError(msg, name=self.name) from err
        self._version = saved.version
        self.cursor = cursor
        return cursor

    def poll(self) -> list[Event]:
        """Return the events that have come, without waiting; `ack()` then acknowledges all of them."""
        return self.tail.poll()

    def wait(self) -> bool:
        """Wait until there may be more events, or for a while; return False if the subscription was closed."""
        return self.tail.wait()

    def __iter__(self) -> Iterator[Event]:
        return iter(self.tail)

    def __next__(self) -> Event:
        return next(self.tail)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration, from any thread. This acknowledges nothing."""
        self.tail.close()

    # -- the checkpoint ------------------------------------------------------------------------------------------------

    def _take_over(self, root: Root, stream: Stream, start: str) -> tuple[Cursor, str]:
        """Replace the previous consumer's fencing token with ours; return its cursor, and the new version."""
        for _ in Retries(root.clock):
            stored = self._checkpoints.load(self._checkpoint)
            if stored is not None:
                cursor = self._cursor_in(stored)
            else:
                cursor = stream.cursor() if start == "latest" else Cursor()
            try:
                saved = self._checkpoints.save(
                    self._checkpoint, self._value(cursor), expected_version=ABSENT if stored is None else stored.version
                )
            except CheckpointConflictError:
                continue  # the holder acknowledged, or another consumer took over: start from what it left
            return cursor, saved.version
        msg = f"open {self._where}: others kept taking it over; is it started in a loop somewhere?"
        raise SubscriptionLostError(msg, name=self.name)

    def _cursor_in(self, stored: Checkpoint) -> Cursor:
        try:
            return Cursor(stored.value["cursor"])
        except (TypeError, KeyError, ValueError) as err:
            msg = f"open {self._where}: its checkpoint {self._checkpoint!r} holds no cursor"
            raise CorruptCheckpointError(msg, key=self._checkpoint) from err

    def _value(self, cursor: Cursor) -> dict[str, object]:
        return {"cursor": dict(cursor), "fence": self._fence}

    def _is_ours(self, value: object) -> bool:
        return isinstance(value, dict) and value.get("fence") == self._fence


def _checkpoint_name(stream: str, name: str) -> str:
    """Return the name of a consumer's checkpoint. No two pairs of stream and consumer share one.

    Raises:
        InvalidNameError: The consumer's name is not a valid name.
    """
    encode_name(name, what="subscription")
    pair = f"subscription {len(stream)} {stream} {name}"
    try:
        encode_name(pair, suffix=".json")
    except InvalidNameError:  # each of the two names may take all the bytes that a name has
        return f"subscription {hashlib.sha256(pair.encode()).hexdigest()}"
    return pair
