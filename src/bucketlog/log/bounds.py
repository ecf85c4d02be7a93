"""The bounds of a partition: where its log begins, and the floor below which no live segment's name counts.

They are only ever raised, by compare-and-set, and `bounds.json` remembers since when earlier ones were in force, by the
storage's own clock: what they left behind may go a grace later, however often they are raised meanwhile.
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
# So many steps of a grace are remembered: what lies below a step that is not goes with the next, so much later.
_STEPS_A_GRACE = 16


class Bounds(NamedTuple):
    """Where a partition begins, and the floor below which no live segment's name counts."""

    start: int = 0
    floor: int = 0

    def raised_to(self, start: int, floor: int) -> Bounds:
        """Return the bounds that are at least these, and at least as high as asked; no name before the start counts."""
        start = max(self.start, start)
        return Bounds(start, max(self.floor, floor, start))

    def counts(self, first: int) -> bool:
        """Tell whether a live segment that begins at an offset counts."""
        return first >= self.floor

    def reach(self, other: Bounds) -> bool:
        """Tell whether these are at least as high as others."""
        return self.start >= other.start and self.floor >= other.floor


class InForce(NamedTuple):
    """Bounds, and since when they, or higher ones, are in force: a time of the storage's clock."""

    bounds: Bounds
    since: datetime


class BoundsRecord(NamedTuple):
    """What `bounds.json` holds, and holds of the past.

    `version` is None where there is no such object. `steps` are in the order of time; the last one is `bounds` itself.
    """

    bounds: Bounds = Bounds()
    version: Version | None = None
    steps: tuple[InForce, ...] = ()


def bounds_key(folder: str) -> str:
    """Return the key of a partition's bounds; `folder` ends with `/`."""
    return folder + _NAME


def read_bounds(backend: Backend, folder: str, *, where: str) -> Bounds:
    """Read a partition's bounds; all zero where none were set yet.

    Args:
        backend: Where to read.
        folder: The partition's key prefix.
        where: Store, stream and partition, for messages.

    Raises:
        CorruptCheckpointError: They are damaged.
    """
    key = bounds_key(folder)
    try:
        data = backend.get(key).data
    except NotFoundError:
        return Bounds()
    with _telling_damage(key, where):
        return _parse_bounds(orjson.loads(data))


def read_record(root: Root, folder: str, *, where: str) -> BoundsRecord:
    """Read a partition's bounds, and since when they and earlier ones are in force.

    Raises:
        CorruptCheckpointError: They are damaged.
        BackendUnavailableError: They were replaced again and again meanwhile.
    """
    key = bounds_key(folder)
    for _ in Retries(root.clock):
        try:
            content = root.backend.get(key)
        except NotFoundError:
            return BoundsRecord()
        stat = root.backend.head(key)
        if stat.version == content.version:  # else it was replaced between the two
            with _telling_damage(key, where):
                return _parse_record(orjson.loads(content.data), content.version, stat.modified)
    msg = f"read {where}: {key} was another one at every look; try again later"
    raise BackendUnavailableError(msg)


def raise_bounds(root: Root, folder: str, *, start: int, floor: int, grace_seconds: float, doing: str) -> Bounds:
    """Raise a partition's bounds by compare-and-set, never lowering either; return what holds then, which may be more.

    Args:
        root: The store.
        folder: The partition's key prefix.
        start: Where the log is to begin, if it does not begin later.
        floor: What it is to be, at least.
        grace_seconds: The stream's: for so long it is remembered since when earlier bounds were in force.
        doing: What is being done and where, for messages.

    Raises:
        CorruptCheckpointError: They are damaged.
        OutcomeUnknownError: They may have been raised, or may be later; either is safe.
        ConflictError: Others kept raising them meanwhile.
        BackendUnavailableError: Nothing was written.
    """
    key = bounds_key(folder)
    for _ in Retries(root.clock):
        record = read_record(root, folder, where=doing)
        wanted = record.bounds.raised_to(start, floor)
        if wanted == record.bounds:
            return wanted

        reached = [wanted]

        def is_reached(found: Content | None, *, unclear: bool, reached: list[Bounds] = reached) -> bool | None:  # noqa: ARG001
            if found is None:
                return None  # it is never removed
            with _telling_damage(key, doing):
                there = _parse_bounds(orjson.loads(found.data))
            if not there.reach(reached[0]):
                return False
            reached.append(there)  # ours, or another's who raised them at least as far: then ours have become needless
            return True

        data = _encode(wanted, _steps_to_keep(record.steps, grace_seconds))
        condition = ABSENT if record.version is None else record.version
        if put_and_settle(root, key, data, if_version=condition, resolve=is_reached, doing=doing):
            return reached[-1]
    msg = f"{doing}: others kept replacing {key}; try again later"
    raise ConflictError(msg)


def _steps_to_keep(steps: tuple[InForce, ...], grace_seconds: float) -> list[InForce]:
    """Return the steps of a record that is about to be replaced which are still of use, never more than a few."""
    kept: list[InForce] = []
    for step in steps:
        if not kept or step.since - kept[-1].since >= timedelta(seconds=grace_seconds / _STEPS_A_GRACE):
            kept.append(step)
    old = [step for step in kept if kept[-1].since - step.since >= timedelta(seconds=grace_seconds)]
    return kept[max(len(old) - 1, 0) :]  # of those that are old enough already the newest says all


def _encode(bounds: Bounds, steps: list[InForce]) -> bytes:
    raised = [(*step.bounds, f"{step.since.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}") for step in steps]
    return encode_document({"start": bounds.start, "floor": bounds.floor, **({"raised": raised} if raised else {})})


@contextmanager
def _telling_damage(key: str, where: str) -> Iterator[None]:
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
        msg = "a time without its zone"
        raise ValueError(msg)
    if not all(later.bounds.reach(earlier.bounds) for earlier, later in pairwise(steps)):
        msg = "bounds that were lowered"
        raise ValueError(msg)
    return BoundsRecord(bounds, version, tuple(steps))


def _parse_bounds(value: dict[str, object]) -> Bounds:
    return _bounds(value["start"], value["floor"])


def _bounds(start: object, floor: object) -> Bounds:
    if type(start) is int and type(floor) is int and min(start, floor) >= 0:
        return Bounds(start, floor)
    msg = f"bounds ({start!r}, {floor!r})"
    raise ValueError(msg)
