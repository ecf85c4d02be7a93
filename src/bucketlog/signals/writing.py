"""Writing envelopes: each id once, in the given order, in as few commits as possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

from bucketlog.errors import DuplicateEventError, InvalidEventError
from bucketlog.signals.codec import event_id
from bucketlog.signals.envelopes import E
from bucketlog.signals.vocabulary import DUPLICATE_POLICIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bucketlog import Event, Stream
    from bucketlog.signals.codec import Kind
    from bucketlog.signals.paths import AnyPath

COMMIT_EVENTS = 1000  # with more, garbage collection costs more than the saved commits
COMMIT_BYTES = 8 * 1024 * 1024  # well below the core's limit, because sizes are estimates


class Writer(Generic[E]):
    """Writes the envelopes of one kind. Thread-safe.

    Args:
        kind: The kind of envelopes.
        stream: Their stream, partitioned by day.
        folder: The stream's path.
    """

    def __init__(self, kind: Kind[E], stream: Stream, folder: AnyPath) -> None:
        self._kind, self._stream, self._folder = kind, stream, folder
        self._paths: dict[str, AnyPath] = {}

    def write(self, envelopes: Iterable[Any], on_duplicate: str) -> list[AnyPath]:
        """Write envelopes as if one by one, and return the path of each.

        If an envelope or the iterable fails, all envelopes before are stored, and none after.

        Raises:
            DuplicateEventError: An id is already stored, and `on_duplicate` is `"raise"`.
            ValueError: `on_duplicate` is not valid, an id or a version is empty, or an envelope is too large.
            TypeError: JSON cannot represent a value in an envelope.
        """
        if on_duplicate not in DUPLICATE_POLICIES:
            msg = f"Unsupported duplicate policy: {on_duplicate!r}"
            raise ValueError(msg)
        paths: list[AnyPath] = []
        waiting: list[tuple[object, Event]] = []
        size = 0
        encode_plain = self._kind.encode_plain
        try:
            for envelope in envelopes:
                encoded = encode_plain(envelope)
                given: object = None  # the caller's id, if it differs from the event's
                if encoded is None:
                    given = self._kind.id_of(envelope)
                    try:
                        encoded = self._kind.encode(envelope)
                    except Exception:  # a foreign `to_dict` may raise anything
                        before, waiting, size = waiting, [], 0
                        paths += self._commit(before, on_duplicate)
                        existing = self._existing(given, on_duplicate)  # a repeated id counts, even without valid JSON
                        if existing is None:
                            raise
                        paths.append(existing)
                        continue
                waiting.append((given, encoded[0]))
                size += encoded[1]
                if len(waiting) >= COMMIT_EVENTS or size >= COMMIT_BYTES:
                    before, waiting, size = waiting, [], 0
                    paths += self._commit(before, on_duplicate)
        except BaseException:
            self._commit(waiting, on_duplicate)
            raise
        return paths + self._commit(waiting, on_duplicate)

    def path_of(self, partition: str) -> AnyPath:
        """Return the path of a day."""
        path = self._paths.get(partition)
        if path is None:
            path = self._paths[partition] = self._folder / partition
        return path

    def _commit(self, items: Sequence[tuple[object, Event]], on_duplicate: str) -> list[AnyPath]:
        if not items:
            return []
        try:
            done = self._stream.append(
                [event for _, event in items], on_duplicate="raise" if on_duplicate == "raise" else "skip"
            )
        except DuplicateEventError as err:
            # Nothing was written, unless another writer stored the id while we wrote events of other days.
            written = {index for commit in err.commits for index in commit.indexes}
            self._commit([item for index, item in enumerate(items[: err.index]) if index not in written], on_duplicate)
            raise self._duplicate(_given_id(items[err.index]), err.partition, err.offset) from None
        except InvalidEventError as err:
            if err.index < 0:
                half = len(items) // 2
                return self._commit(items[:half], on_duplicate) + self._commit(items[half:], on_duplicate)
            paths = self._commit(items[: err.index], on_duplicate)
            existing = self._existing(_given_id(items[err.index]), on_duplicate)
            if existing is None:
                raise
            return [*paths, existing, *self._commit(items[err.index + 1 :], on_duplicate)]
        commits = done if isinstance(done, list) else [done]
        if len(commits) == 1:
            return [self.path_of(commits[0].partition)] * len(items)
        partitions = {index: commit.partition for commit in commits for index in commit.indexes}
        return [self.path_of(partitions[index]) for index in range(len(items))]

    def _existing(self, given: object, on_duplicate: str) -> AnyPath | None:
        """Return the path of the envelope stored under an id; None if there is none."""
        found = self._stream.get(event_id(str(given)))
        if found is None or found.partition is None:
            return None
        if on_duplicate == "raise":
            raise self._duplicate(given, found.partition, found.offset or 0)
        return self.path_of(found.partition)

    def _duplicate(self, given: object, partition: str, offset: int) -> DuplicateEventError:
        msg = f"Duplicate {self._kind.id_field}={given!r} already exists in {self.path_of(partition)}"
        return DuplicateEventError(msg, event_id=str(given), partition=partition, offset=offset)


def _given_id(item: tuple[object, Event]) -> object:
    given, event = item
    return event.id if given is None else given
