"""Opening a store, and the names that streams and partitions may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bucketlog.errors import (
    InvalidNameError,
    InvalidOptionError,
    ReadOnlyError,
    StoreNotFoundError,
)
from bucketlog.store import EventStore
from bucketlog.testing.store.harness import (
    IMPOSSIBLE_NAMES,
    OpenStore,
    StoreTests,
    ids_of,
    loaded_value,
    make_event,
    one_commit,
)

if TYPE_CHECKING:
    from collections.abc import Callable


STRANGE_NAMES = (
    "/",
    "\\",
    ".",
    "..",
    "../up",
    "%2F",
    "%",
    "con",
    "CON.txt",
    "?",
    "é",
    "日本",
    "a:b",
    "a/b",
    "a b",
    " ",
    "~",
    ".hidden",
    "trailing.",
    "stream.json",
    "bounds.json",
    "00000000000000000000.jsonl",
    "__",
    "a\nb",
    "x" * 255,
    "ü" * 42 + "abc",
)


class OpeningTests(StoreTests):
    """Opening and closing a store, read-only handles, sync modes, and names."""

    # -- opening -------------------------------------------------------------------------------------------------------

    def test_store_is_an_event_store(self, store: EventStore) -> None:
        """`bucketlog.open` returns an `EventStore`, writable by default."""
        assert isinstance(store, EventStore)
        assert not store.read_only

    def test_handles_on_one_store_agree_about_it(self, store: EventStore, other: EventStore) -> None:
        """The id is assigned when the store is created. Every handle has that id and the same URL."""
        assert store.id
        assert (other.id, other.url) == (store.id, store.url)

    def test_nothing_is_created_with_create_off(self, open_handle: OpenStore) -> None:
        """If there is no store, `create=False` and `read_only=True` raise `StoreNotFoundError` and create none."""
        with pytest.raises(StoreNotFoundError):
            open_handle(create=False)
        with pytest.raises(StoreNotFoundError):
            open_handle(read_only=True)
        with pytest.raises(FileNotFoundError):
            open_handle(create=False)

    def test_create_off_opens_an_existing_store(self, store: EventStore, open_handle: OpenStore) -> None:
        """`create=False` opens an existing store for writing."""
        found = open_handle(create=False)

        found.stream("orders").append(make_event(1))

        assert found.id == store.id
        assert [event.id for event in store.stream("orders").read()] == ["e1"]

    def test_store_is_a_context_manager_that_closes_it(self, open_handle: OpenStore) -> None:
        """Leaving the `with` block closes the handle. Closing it again does nothing."""
        with open_handle() as store:
            store.stream("orders").append(make_event(1))

        store.close()
        store.close()

    def test_closing_one_handle_leaves_the_others_open(self, store: EventStore, other: EventStore) -> None:
        """Handles are independent: closing one does not affect another."""
        store.stream("orders").append(make_event(1))
        store.close()

        other.stream("orders").append(make_event(2))

        assert ids_of(other.stream("orders").read()) == ["e1", "e2"]

    def test_reopening_sees_everything(self, open_handle: OpenStore) -> None:
        """Everything acknowledged is there when the store is opened again: events, settings and documents."""
        with open_handle() as first:
            first.stream("orders").append([make_event(1), make_event(2)])
            first.stream("days", partition_by="day").append(make_event(3))
            first.checkpoints.save("position", {"at": 2})
            first.snapshots.save("state", {"total": 3}, at="2026-02-05", cursor={"0": 2})
            blob = first.blobs.put(b"attachment")
            first.objects.put("notes/a.txt", b"note")

        with open_handle() as again:
            assert again.id == first.id
            assert again.streams() == ["days", "orders"]
            assert ids_of(again.stream("orders").read()) == ["e1", "e2"]
            assert again.stream("days").partitions() == ["2026-02-05"]
            assert one_commit(again.stream("orders").append(make_event(4))).offsets == (2,)
            assert loaded_value(again, "position") == {"at": 2}
            assert again.snapshots.load("state", "2026-02-05").cursor == {"0": 2}
            assert again.blobs.get(blob.digest) == b"attachment"
            assert again.objects.get("notes/a.txt") == b"note"

    def test_read_only_handle_reads_but_does_not_write(self, store: EventStore, open_handle: OpenStore) -> None:
        """A `read_only=True` handle can read everything. Every write raises `ReadOnlyError`."""
        store.stream("orders").append(make_event(1))
        store.checkpoints.save("position", 1)
        reader = open_handle(read_only=True)

        refused: list[Callable[[], object]] = [
            lambda: reader.stream("orders").append(make_event(2)),
            lambda: reader.stream("new").append(make_event(2)),
            lambda: reader.checkpoints.save("position", 2),
            lambda: reader.checkpoints.delete("position"),
            lambda: reader.snapshots.save("state", {}),
            lambda: reader.snapshots.prune("state", keep=0),
            lambda: reader.blobs.put(b"bytes"),
            lambda: reader.objects.put("a", b"bytes"),
            lambda: reader.objects.delete("a"),
            lambda: reader.subscribe("orders", "mailer"),
        ]
        for write in refused:
            with pytest.raises(ReadOnlyError):
                write()

        assert reader.read_only
        assert ids_of(reader.stream("orders").read()) == ["e1"]
        assert loaded_value(reader, "position") == 1
        assert store.streams() == ["orders"]
        assert store.checkpoints.list() == ["position"]

    def test_read_only_handle_sees_what_others_append(self, store: EventStore, open_handle: OpenStore) -> None:
        """A reader that was opened before an append sees the appended events."""
        reader = open_handle(read_only=True).stream("orders")
        assert ids_of(reader.read()) == []

        store.stream("orders").append(make_event(1))

        assert ids_of(reader.read()) == ["e1"]

    @pytest.mark.parametrize("sync", ["always", "interval", "never"])
    def test_sync_modes_write_the_same_log(self, open_handle: OpenStore, sync: str) -> None:
        """`sync` chooses when a local commit becomes durable. Every handle reads the same log in each mode."""
        with open_handle(sync=sync) as store:
            stream = store.stream("orders")
            for number in range(3):
                stream.append(make_event(number))
            assert ids_of(open_handle().stream("orders").read()) == ["e0", "e1", "e2"]

        again = open_handle().stream("orders")
        assert again.verify().ok
        assert ids_of(again.read()) == ["e0", "e1", "e2"]

    def test_unknown_sync_mode_is_refused(self, open_handle: OpenStore) -> None:
        """A `sync` mode other than the three raises `InvalidOptionError` naming the option."""
        with pytest.raises(InvalidOptionError, match="sync") as caught:
            open_handle(sync="sometimes")

        assert caught.value.option == "sync"

    # -- names ---------------------------------------------------------------------------------------------------------

    def test_any_text_names_a_stream(self, store: EventStore, other: EventStore) -> None:
        """Names that look like paths, escapes or devices name distinct streams, listed verbatim and sorted."""
        for name in STRANGE_NAMES:
            store.stream(name).append(make_event(1, data=name))

        assert other.streams() == sorted(STRANGE_NAMES)
        for name in STRANGE_NAMES:
            assert [event.data for event in other.stream(name).read()] == [name]

    def test_any_text_names_a_partition(self, store: EventStore, other: EventStore) -> None:
        """A partition may have any name that a stream may have. Its events carry that name verbatim."""
        stream = store.stream("orders")
        for name in STRANGE_NAMES:
            assert stream.append(make_event(1, data=name), partition=name).partition == name

        found = list(other.stream("orders").read())

        assert other.stream("orders").partitions() == sorted(STRANGE_NAMES)
        assert [(event.partition, event.data) for event in found] == [(name, name) for name in sorted(STRANGE_NAMES)]

    @pytest.mark.parametrize("name", IMPOSSIBLE_NAMES, ids=["empty", "nul", "surrogate", "256 bytes", "258 encoded"])
    def test_impossible_names_are_refused(self, store: EventStore, name: str) -> None:
        """Empty names, NUL, lone surrogates and names over 255 bytes raise `InvalidNameError`; nothing is written."""
        with pytest.raises(InvalidNameError):
            store.stream(name)
        with pytest.raises(InvalidNameError):
            store.stream("orders").append(make_event(1), partition=name)
        with pytest.raises(InvalidNameError):
            store.checkpoints.save(name, 1)

        assert store.streams() == []
