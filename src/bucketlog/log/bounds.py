"""The bounds of a partition: the start of its log, and the floor below which live segments do not count.

Bounds never go down; they are raised by compare-and-set. `bounds.json` also records since when earlier bounds were in
force, by the storage's clock: the segments that they put out of use may be removed a grace later, no matter how often
the bounds are raised in between.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from bucketlog.backend import ABSENT
from bucketlog.errors import BackendUnavailableError, ConflictError, CorruptCheckpointError, NotFoundError
from bucketlog.format.documents import encode_document
from bucketlog.storage.conditional_put import put_and_settle
from bucketlog.storage.retries import Retries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bucketlog.backend import Backend, Content, Version
    from bucketlog.storage.root import Root

_NAME = "bounds.json"
# Steps remembered per grace. Segments below a forgotten step go with the next one, at most 1/16 of a grace later.
_STEPS_A_GRACE = 16


class Bounds(NamedTuple):
    """The start of a partition's log, and the floor below which live segments do not count."""

    start: int = 0
    floor: int = 0

    def raised_to(self, start: int, floor: int) -> Bounds:
        """Return these bounds, raised to `start` and `floor` where they are lower; the floor is at least the start."""
        # Neither ever goes down (I22).
        start = max(self.start, start)
        return Bounds(start, max(self.floor, floor, start))

    def counts(self, first: int) -> bool:
        """Return True if a live segment that begins at offset `first` counts."""
        return first >= self.floor

    def reach(self, other: Bounds) -> bool:
        """Return True if these bounds are at least as high as `other`."""
        return self.start >= other.start and self.floor >= other.floor


class InForce(NamedTuple):
    """Bounds, and since when they or higher ones are in force, by the storage's clock."""

    bounds: Bounds
    since: datetime


class BoundsRecord(NamedTuple):
    """The content of `bounds.json`: the bounds and their history.

    `version` is None if the object does not exist. `steps` are in chronological order; the last one is `bounds` itself.
    """

    bounds: Bounds = Bounds()
    version: Version | None = None
    steps: tuple[InForce, ...] = ()


def bounds_key(folder: str) -> str:
    """Return the key of a partition's bounds; `folder` ends with `/`."""
    return folder + _NAME


def read_bounds(backend: Backend, folder: str, *, where: str) -> Bounds:
    """Read a partition's bounds; zeros if none were set yet.

    Args:
        backend: The storage.
        folder: The partition's key prefix.
        where: Store, stream and partition, for messages.

    Raises:
        CorruptCheckpointError: `bounds.json` is damaged.
    """
    key = bounds_key(folder)
    try:
        data = backend.get(key).data
    except NotFoundError:
        return Bounds()
    with _corrupt_on_error(key, where):
        return _parse_bounds(orjson.loads(data))


def read_record(root: Root, folder: str, *, where: str) -> BoundsRecord:
    """Read a partition's bounds and their history.

    Raises:
        CorruptCheckpointError: `bounds.json` is damaged.
        BackendUnavailableError: It was replaced during every attempt.
    """
    key = bounds_key(folder)
    for _ in Retries(root.clock):
        try:
            content = root.backend.get(key)
        except NotFoundError:
            return BoundsRecord()
        stat = root.backend.head(key)
        if stat.version == content.version:  # else it was replaced between the two requests
            with _corrupt_on_error(key, where):
                return _parse_record(orjson.loads(content.data), content.version, stat.modified)
    msg = f"read {where}: {key} was replaced during every attempt; try again later"
    raise BackendUnavailableError(msg)


def raise_bounds(root: Root, folder: str, *, start: int, floor: int, grace_seconds: float, doing: str) -> Bounds:
    """Raise a partition's bounds by compare-and-set; return the bounds now in force, which may be higher.

    Args:
        root: The store.
        folder: The partition's key prefix.
        start: The lowest start of the log that is wanted.
        floor: The lowest floor that is wanted.
        grace_seconds: The stream's grace: how long the history of earlier bounds is kept.
        doing: The operation and its place, for messages.

    Raises:
        CorruptCheckpointError: `bounds.json` is damaged.
        OutcomeUnknownError: The bounds may have been raised, or may still be; either is safe.
        ConflictError: Other processes kept raising them.
        BackendUnavailableError: Nothing was written.
    """
    key = bounds_key(folder)
    for _ in Retries(root.clock):
        record = read_record(root, folder, where=doing)
        wanted = record.bounds.raised_to(start, floor)
        if wanted == record.bounds:
            return wanted
        data = _encode(wanted, _steps_to_keep(record.steps, grace_seconds))
        condition = ABSENT if record.version is None else record.version
        reached = _Reached(wanted, key, doing)
        if put_and_settle(root, key, data, if_version=condition, resolve=reached, doing=doing):
            return reached.bounds
    msg = f"{doing}: other processes replaced {key} during every attempt; try again later"
    raise ConflictError(msg)


class _Reached:
    """Resolves one attempt to raise the bounds: it succeeded if the stored bounds are at least as high.

    Attributes:
        bounds: The bounds in force after a success; another process may have raised them further.
    """

    def __init__(self, wanted: Bounds, key: str, doing: str) -> None:
        self.bounds = wanted
        self._wanted, self._key, self._doing = wanted, key, doing

    def __call__(self, content: Content | None, /, *, unclear: bool) -> bool | None:  # noqa: ARG002  (the stored bounds say enough)
        if content is None:
            return None  # bounds.json is never removed
        with _corrupt_on_error(self._key, self._doing):
            stored = _parse_bounds(orjson.loads(content.data))
        if not stored.reach(self._wanted):
            return False
        self.bounds = stored
        return True


def _steps_to_keep(steps: tuple[InForce, ...], grace_seconds: float) -> list[InForce]:
    """Return the steps to copy into the next record: those still needed, and never more than a few."""
    kept: list[InForce] = []
    for step in steps:
        if not kept or step.since - kept[-1].since >= timedelta(seconds=grace_seconds / _STEPS_A_GRACE):
            kept.append(step)
    old = [step for step in kept if kept[-1].since - step.since >= timedelta(seconds=grace_seconds)]
    return kept[max(len(old) - 1, 0) :]  # the newest step that is older than a grace covers all before it


def _encode(bounds: Bounds, steps: list[InForce]) -> bytes:
    raised = [(*step.bounds, f"{step.since.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}") for step in steps]
    return encode_document({"start": bounds.start, "floor": bounds.floor, **({"raised": raised} if raised else {})})


@contextmanager
def _corrupt_on_error(key: str, where: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError) as err:
        msg = f"read {where}: {key} is damaged; repair it from a copy"
        raise CorruptCheckpointError(msg, key=key) from err


def _parse_record(value: dict[str, object], version: Version, modified: datetime) -> BoundsRecord:
    bounds = _parse_bounds(value)
    raised: Any = value.get("raised", [])
    steps = [InForce(_bounds(start, floor), datetime.fromisoformat(since)) for start, floor, since in raised]
    steps.append(InForce(bounds, modified))
    if any(step.since.tzinfo is None for step in steps):
        msg = "a time has no time zone"
        raise ValueError(msg)
    if not all(later.bounds.reach(earlier.bounds) for earlier, later in pairwise(steps)):
        msg = "the bounds were lowered"
        raise ValueError(msg)
    return BoundsRecord(bounds, version, tuple(steps))


def _parse_bounds(value: dict[str, object]) -> Bounds:
    return _bounds(value["start"], value["floor"])


def _bounds(start: object, floor: object) -> Bounds:
    if type(start) is int and type(floor) is int and min(start, floor) >= 0:
        return Bounds(start, floor)
    msg = f"invalid bounds ({start!r}, {floor!r})"
    raise ValueError(msg)
