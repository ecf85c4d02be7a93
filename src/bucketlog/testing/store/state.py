"""Checkpoints, snapshots, blobs and objects."""

from __future__ import annotations

import io
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from bucketlog.backend import ABSENT
from bucketlog.errors import (
    CheckpointConflictError,
    ConflictError,
    InvalidNameError,
    NotFoundError,
)
from bucketlog.testing.store.harness import (
    START,
    OpenStore,
    StoreTests,
    loaded_value,
    make_event,
)

if TYPE_CHECKING:
    from bucketlog.store import EventStore


class StateTests(StoreTests):
    """Checkpoints, snapshots, blobs and objects."""

    # -- checkpoints, snapshots, blobs, objects ------------------------------------------------------------------------

    def test_checkpoint_is_the_value_saved_last(self, store: EventStore, other: EventStore) -> None:
        """Every handle loads the value saved last. A save without a condition replaces it."""
        saved = store.checkpoints.save("a/b", {"orders": [1, {"é": None}]})
        loaded = other.checkpoints.load("a/b")
        replaced = other.checkpoints.save("a/b", 2)

        assert loaded == saved
        assert saved.updated is not None
        assert saved.updated.utcoffset() == timedelta(0)
        assert replaced.version != saved.version
        assert loaded_value(store, "a/b") == 2
        assert store.checkpoints.load("nothing") is None
        assert store.checkpoints.list() == ["a/b"]

    def test_checkpoint_with_another_version_is_not_replaced(self, store: EventStore, other: EventStore) -> None:
        """With `expected_version`, the second of two savers that loaded the same version gets an error."""
        saved = store.checkpoints.save("position", 1, expected_version=ABSENT)
        other.checkpoints.save("position", 2, expected_version=saved.version)

        with pytest.raises(CheckpointConflictError) as caught:
            store.checkpoints.save("position", 3, expected_version=saved.version)
        with pytest.raises(CheckpointConflictError):
            store.checkpoints.save("position", 3, expected_version=ABSENT)

        assert caught.value.name == "position"
        assert loaded_value(store, "position") == 2

    def test_checkpoint_version_is_never_reused(self, store: EventStore) -> None:
        """Saving the same value again gives a new version, even after a delete."""
        first = store.checkpoints.save("position", 1)
        store.checkpoints.save("position", 2)
        second = store.checkpoints.save("position", 1)
        assert store.checkpoints.delete("position")
        assert store.checkpoints.list() == []
        third = store.checkpoints.save("position", 1, expected_version=ABSENT)

        assert len({first.version, second.version, third.version}) == 3

    def test_racing_checkpoints_lose_no_update(self, store: EventStore, open_handle: OpenStore) -> None:
        """Several handles that count by load and compare-and-set lose no step."""
        if self._refuses_several_writers(open_handle):
            return
        handles = [store, *(open_handle() for _ in range(3))]

        def count(handle: EventStore) -> None:
            for _ in range(self.appends_each):
                while True:
                    loaded = handle.checkpoints.load("count")
                    with suppress(CheckpointConflictError):
                        handle.checkpoints.save(
                            "count",
                            loaded.value + 1 if loaded else 1,
                            expected_version=loaded.version if loaded else ABSENT,
                        )
                        break

        self._together([partial(count, handle) for handle in handles])

        assert loaded_value(store, "count") == len(handles) * self.appends_each

    def test_snapshots_are_kept_by_name_and_time(self, store: EventStore, other: EventStore) -> None:
        """A snapshot is replaced only on request. `latest` finds the newest; `prune` removes old ones."""
        for day in (2, 0, 1):
            store.snapshots.save("state", {"day": day}, at=START + timedelta(days=day), cursor={"0": day})
        with pytest.raises(ConflictError):
            other.snapshots.save("state", {"day": "another"}, at=START)
        other.snapshots.save("state", {"day": "fixed"}, at=START, replace=True)

        latest = other.snapshots.latest("state")
        assert latest is not None
        assert latest.cursor == {"0": 2}
        assert (latest.at, latest.state) == (START + timedelta(days=2), {"day": 2})
        assert other.snapshots.load("state", START).state == {"day": "fixed"}
        assert [info.at for info in store.snapshots.list("state")] == [START + timedelta(days=n) for n in range(3)]
        assert [info.at for info in store.snapshots.prune("state", keep=1)] == [START, START + timedelta(days=1)]
        assert [info.at for info in other.snapshots.list("state")] == [START + timedelta(days=2)]
        assert other.snapshots.latest("nothing") is None

    def test_blobs_are_named_by_their_content(self, store: EventStore, other: EventStore) -> None:
        """The same bytes are one blob, whether they come as bytes or from a file."""
        data = bytes(range(256)) * 1000

        blob = store.blobs.put(data)
        again = other.blobs.put(io.BytesIO(data))

        assert again == blob
        assert blob.size == len(data)
        assert other.blobs.get(blob.digest) == data
        with other.blobs.open(blob.digest) as file:
            file.seek(1000)
            assert file.read(10) == data[1000:1010]
        assert list(store.blobs.list()) == [blob]
        assert other.blobs.stat(blob.digest) == blob
        store.blobs.delete(blob.digest)
        assert not other.blobs.exists(blob.digest)
        with pytest.raises(NotFoundError):
            other.blobs.get(blob.digest)

    def test_objects_are_the_applications_own(self, store: EventStore, other: EventStore) -> None:
        """Objects are stored under the paths given, separate from the store's own files."""
        store.stream("orders").append(make_event(0))
        store.objects.put("reports/2026/a.txt", b"one")
        store.objects.put("reports/2026/b c.txt", b"two", if_absent=True)

        with pytest.raises(ConflictError):
            other.objects.put("reports/2026/b c.txt", b"three", if_absent=True)
        with pytest.raises(InvalidNameError):
            other.objects.put("streams/orders/stream.json", b"{}")

        assert other.objects.list("reports/") == ["reports/2026/a.txt", "reports/2026/b c.txt"]
        assert other.objects.get("reports/2026/b c.txt") == b"two"
        assert other.objects.url("reports/2026/a.txt") == f"{store.url.rstrip('/')}/reports/2026/a.txt"
        other.objects.delete("reports/2026/a.txt")
        assert store.objects.list() == ["reports/2026/b c.txt"]
        with pytest.raises(NotFoundError):
            store.objects.get("reports/2026/a.txt")
