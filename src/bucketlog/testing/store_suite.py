"""The conformance suite of the event store: what a user of `bucketlog.EventStore` may rely on, as tests to inherit.

Subclass `StoreSuite`, supply the fixture `open_store`, and run pytest. The docstrings of the tests are the
specification. `BackendSuite` tests what moves the bytes; this one what is built on it.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import threading
import time
import warnings
from concurrent.futures import Future, wait
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import pytest

from bucketlog.backend import ABSENT
from bucketlog.commit import Commit
from bucketlog.cursor import Cursor
from bucketlog.errors import (
    CapabilityError,
    CheckpointConflictError,
    ConflictError,
    DuplicateEventError,
    InvalidEventError,
    InvalidNameError,
    InvalidOptionError,
    NotFoundError,
    OffsetConflictError,
    OffsetOutOfRangeError,
    ReadOnlyError,
    StoreNotFoundError,
    StreamSettingsError,
    SubscriptionLostError,
)
from bucketlog.event import Event
from bucketlog.store import EventStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from bucketlog.buffered_writer import BufferedWriter
    from bucketlog.stream import Stream

T = TypeVar("T")

START = datetime(2026, 2, 5, 12, 30, 0, 123456, tzinfo=UTC)

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
IMPOSSIBLE_NAMES = ("", "nul\0byte", "lone \ud800 surrogate", "x" * 256, "é" * 43)


class OpenStore(Protocol):
    """Opens one more handle on one store, which is new for each test, as `bucketlog.open` does."""

    def __call__(self, **options: Any) -> EventStore:  # noqa: ANN401  (what bucketlog.open takes)
        """Pass the keywords on to `bucketlog.open`."""
        ...


class StoreSuite:
    """Inherit this in a class that pytest collects, and define `open_store`.

    Attributes:
        writers: How many writers append to one partition at once.
        appends_each: How often each of them does. Raise it for a quick store.
        several_writers: Whether handles may write at once; False for storage that is opened with `single_writer=True`,
            where a race is over when its writers are refused.
        forks: Whether a forked child can use the store; it cannot where the parent's memory or connections hold it.
        timeout_seconds: How long one test waits for threads that do not end.
    """

    writers: ClassVar[int] = 8
    appends_each: ClassVar[int] = 5
    several_writers: ClassVar[bool] = True
    forks: ClassVar[bool] = False
    timeout_seconds: ClassVar[float] = 60.0

    # -- fixtures ------------------------------------------------------------------------------------------------------

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """Return what opens one more handle on a store that is new for each test, passing keywords on. Define this."""
        pytest.fail(f"{type(self).__name__} must define the fixture open_store")

    @pytest.fixture
    def open_handle(self, open_store: OpenStore) -> Iterator[OpenStore]:
        """Return `open_store`, but close behind the test what it opened."""
        opened: list[EventStore] = []

        def open_one(**options: Any) -> EventStore:  # noqa: ANN401  (what bucketlog.open takes)
            handle = open_store(**options)
            opened.append(handle)
            return handle

        yield open_one
        for handle in opened:
            handle.close()

    @pytest.fixture
    def store(self, open_handle: OpenStore) -> EventStore:
        """Return a handle."""
        return open_handle()

    @pytest.fixture
    def other(self, store: EventStore, open_handle: OpenStore) -> EventStore:
        """Return another handle on the same store."""
        del store  # asked for so that it is there first
        return open_handle()

    @pytest.fixture
    def stream(self, store: EventStore) -> Stream:
        """Return a stream that is not written yet, of the handle `store`."""
        return store.stream("orders")

    # -- opening -------------------------------------------------------------------------------------------------------

    def test_store_is_an_event_store(self, store: EventStore) -> None:
        """What `bucketlog.open` returns has all of `EventStore`."""
        assert isinstance(store, EventStore)
        assert not store.read_only

    def test_handles_on_one_store_agree_about_it(self, store: EventStore, other: EventStore) -> None:
        """The id was made with the store; every handle tells the same one, and the same URL."""
        assert store.id
        assert (other.id, other.url) == (store.id, store.url)

    def test_nothing_is_made_with_create_off(self, open_handle: OpenStore) -> None:
        """Where there is no store, `create=False` and `read_only=True` raise `StoreNotFoundError` and make none."""
        with pytest.raises(StoreNotFoundError):
            open_handle(create=False)
        with pytest.raises(StoreNotFoundError):
            open_handle(read_only=True)
        with pytest.raises(FileNotFoundError):
            open_handle(create=False)

    def test_create_off_opens_a_store_that_is_there(self, store: EventStore, open_handle: OpenStore) -> None:
        """`create=False` asks for a store, and opens it for writing."""
        found = open_handle(create=False)

        found.stream("orders").append(_event(1))

        assert found.id == store.id
        assert [event.id for event in store.stream("orders").read()] == ["e1"]

    def test_store_is_a_context_manager_that_closes_it(self, open_handle: OpenStore) -> None:
        """Leaving the block closes the handle; closing again does nothing."""
        with open_handle() as store:
            store.stream("orders").append(_event(1))

        store.close()
        store.close()

    def test_closing_one_handle_leaves_the_others_open(self, store: EventStore, other: EventStore) -> None:
        """Handles are independent."""
        store.stream("orders").append(_event(1))
        store.close()

        other.stream("orders").append(_event(2))

        assert _ids(other.stream("orders").read()) == ["e1", "e2"]

    def test_reopening_sees_everything(self, open_handle: OpenStore) -> None:
        """What was acknowledged is there for whoever opens the store later: events, settings and documents."""
        with open_handle() as first:
            first.stream("orders").append([_event(1), _event(2)])
            first.stream("days", partition_by="day").append(_event(3))
            first.checkpoints.save("position", {"at": 2})
            first.snapshots.save("state", {"total": 3}, at="2026-02-05", cursor={"0": 2})
            blob = first.blobs.put(b"attachment")
            first.objects.put("notes/a.txt", b"note")

        with open_handle() as again:
            assert again.id == first.id
            assert again.streams() == ["days", "orders"]
            assert _ids(again.stream("orders").read()) == ["e1", "e2"]
            assert again.stream("days").partitions() == ["2026-02-05"]
            assert _commit(again.stream("orders").append(_event(4))).offsets == (2,)
            assert _loaded(again, "position") == {"at": 2}
            assert again.snapshots.load("state", "2026-02-05").cursor == {"0": 2}
            assert again.blobs.get(blob.digest) == b"attachment"
            assert again.objects.get("notes/a.txt") == b"note"

    def test_read_only_handle_reads_and_writes_nothing(self, store: EventStore, open_handle: OpenStore) -> None:
        """With `read_only=True` everything can be read, and whatever would write raises `ReadOnlyError`."""
        store.stream("orders").append(_event(1))
        store.checkpoints.save("position", 1)
        reader = open_handle(read_only=True)

        refused: list[Callable[[], object]] = [
            lambda: reader.stream("orders").append(_event(2)),
            lambda: reader.stream("new").append(_event(2)),
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
        assert _ids(reader.stream("orders").read()) == ["e1"]
        assert _loaded(reader, "position") == 1
        assert store.streams() == ["orders"]
        assert store.checkpoints.list() == ["position"]

    def test_read_only_handle_sees_what_others_append(self, store: EventStore, open_handle: OpenStore) -> None:
        """A reader opened before an append reads it afterwards."""
        reader = open_handle(read_only=True).stream("orders")
        assert _ids(reader.read()) == []

        store.stream("orders").append(_event(1))

        assert _ids(reader.read()) == ["e1"]

    @pytest.mark.parametrize("sync", ["always", "interval", "never"])
    def test_sync_modes_write_the_same_log(self, open_handle: OpenStore, sync: str) -> None:
        """`sync` says when a local commit is made durable; what is read is the same, also by another handle."""
        with open_handle(sync=sync) as store:
            stream = store.stream("orders")
            for number in range(3):
                stream.append(_event(number))
            assert _ids(open_handle().stream("orders").read()) == ["e0", "e1", "e2"]

        again = open_handle().stream("orders")
        assert again.verify().ok
        assert _ids(again.read()) == ["e0", "e1", "e2"]

    def test_unknown_sync_mode_is_refused(self, open_handle: OpenStore) -> None:
        """`sync` is one of three."""
        with pytest.raises(InvalidOptionError, match="sync") as caught:
            open_handle(sync="sometimes")

        assert caught.value.option == "sync"

    # -- names ---------------------------------------------------------------------------------------------------------

    def test_any_text_names_a_stream(self, store: EventStore, other: EventStore) -> None:
        """Names that try paths, escapes or devices are names: each its own stream, listed as given, sorted."""
        for name in STRANGE_NAMES:
            store.stream(name).append(_event(1, data=name))

        assert other.streams() == sorted(STRANGE_NAMES)
        for name in STRANGE_NAMES:
            assert [event.data for event in other.stream(name).read()] == [name]

    def test_any_text_names_a_partition(self, store: EventStore, other: EventStore) -> None:
        """Partitions are named as freely as streams, and their events come back with the name as given."""
        stream = store.stream("orders")
        for name in STRANGE_NAMES:
            assert stream.append(_event(1, data=name), partition=name).partition == name

        found = list(other.stream("orders").read())

        assert other.stream("orders").partitions() == sorted(STRANGE_NAMES)
        assert [(event.partition, event.data) for event in found] == [(name, name) for name in sorted(STRANGE_NAMES)]

    @pytest.mark.parametrize("name", IMPOSSIBLE_NAMES, ids=["empty", "nul", "surrogate", "256 bytes", "258 encoded"])
    def test_impossible_names_are_refused(self, store: EventStore, name: str) -> None:
        """No name is empty, holds NUL or lone surrogates, or takes over 255 bytes; nothing is written."""
        with pytest.raises(InvalidNameError):
            store.stream(name)
        with pytest.raises(InvalidNameError):
            store.stream("orders").append(_event(1), partition=name)
        with pytest.raises(InvalidNameError):
            store.checkpoints.save(name, 1)

        assert store.streams() == []

    # -- append --------------------------------------------------------------------------------------------------------

    def test_append_returns_where_the_event_stands(self, stream: Stream) -> None:
        """One event becomes the partition's next offset; a stream's first is 0, in the partition "0"."""
        first = stream.append(_event(1))
        second = stream.append(_event(2))

        assert first == Commit("0", 0, 1, offsets=(0,), duplicates=(), indexes=(0,))
        assert second == Commit("0", 1, 2, offsets=(1,), duplicates=(), indexes=(0,))

    def test_batch_gets_one_offset_an_event(self, stream: Stream) -> None:
        """A batch, any iterable of events, is one commit with contiguous offsets, in the batch's order."""
        stream.append(_event(0))

        commit = _commit(stream.append(_event(number) for number in range(1, 5)))

        assert (commit.first_offset, commit.next_offset, commit.offsets) == (1, 5, (1, 2, 3, 4))
        assert [(event.id, event.offset) for event in stream.read()] == [(f"e{n}", n) for n in range(5)]
        assert stream.verify().commits == 2

    def test_empty_batch_writes_nothing(self, store: EventStore, stream: Stream) -> None:
        """A batch without events is a commit without offsets; it begins no stream, and no partition."""
        before = _commit(stream.append([]))
        streams = store.streams()
        stream.append(_event(1))
        after = _commit(stream.append([]))

        assert (before.first_offset, before.next_offset, before.offsets) == (0, 0, ())
        assert streams == []
        assert (after.first_offset, after.next_offset, after.offsets) == (1, 1, ())
        assert store.stream("days", partition_by="day").append([]) == []

    @pytest.mark.parametrize(
        "event",
        [
            Event(type="a"),
            Event(type="order.placed", id='é/日本 \\ " \n \u2028 \U0001f600', source="s", subject="", time=START),
            Event(type="x", tags=("UA", "", "é"), meta={"a": 1, "b": None, "c": True, "d": 1.5, "é": "ü"}),
            Event(type="x", data={"a": [1, -2, 0.1, 1e300, 2**53 + 1, {"b": [None, True, False, "", {}, []]}]}),
            Event(type="x", data=0),
            Event(type="x", data=False),
            Event(type="x", data='text\n,"commit":"00000001-01-0123456789abcdef-00000000"}\n'),
            Event(type="x", data={"commit": "00000001-01-0123456789abcdef-00000000"}),
            Event(type="x", time=datetime(1, 1, 1, tzinfo=UTC)),
            Event(type="x", time=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ],
        ids=["bare", "texts", "tags and meta", "nested", "zero", "false", "trailer", "commit", "first", "last"],
    )
    def test_event_comes_back_as_it_was_given(self, stream: Stream, event: Event) -> None:
        """Every field is read as it was written; `partition` and `offset` are added, and no part of equality."""
        stream.append([_event(0), event, _event(1)])

        found = list(stream.read())[1]

        assert found == event
        assert (found.type, found.id, found.source, found.subject) == (
            event.type,
            event.id,
            event.source,
            event.subject,
        )
        assert (found.time, found.tags, found.meta) == (event.time, event.tags, event.meta)
        assert json.dumps(found.data) == json.dumps(event.data)
        assert (found.partition, found.offset) == ("0", 1)
        assert (event.partition, event.offset) == (None, None)

    def test_time_is_kept_as_the_same_instant_in_utc(self, stream: Stream) -> None:
        """A time of any zone comes back as UTC, to the microsecond."""
        there = START.astimezone(timezone(timedelta(hours=-5, minutes=-30)))

        stream.append(_event(1, time=there))

        found = next(iter(stream.read())).time
        assert found == START
        assert found.utcoffset() == timedelta(0)

    def test_large_event_comes_back_whole(self, stream: Stream) -> None:
        """An event of megabytes is one line like any other."""
        text = "0123456789abcdef" * 200_000

        stream.append([_event(0), _event(1, data=text), _event(2)])

        assert [event.data == text for event in stream.read()] == [False, True, False]

    def test_batch_with_an_impossible_event_writes_nothing(self, store: EventStore, stream: Stream) -> None:
        """An event that cannot be written is named by its index and field, and takes the whole batch with it."""
        with pytest.raises(InvalidEventError) as caught:
            stream.append([_event(0), _event(1, data={"mean": float("nan")}), _event(2)])

        assert (caught.value.index, caught.value.field) == (1, "data")
        assert store.streams() == []
        assert _ids(stream.read()) == []

    def test_expected_offset_is_the_next_one_or_nothing_is_written(self, stream: Stream) -> None:
        """`expected_offset=n` appends only if the partition's next offset is n; the error tells which is."""
        stream.append(_event(0), expected_offset=0)
        stream.append([_event(1), _event(2)], expected_offset=1)

        for wrong in (0, 2, 4):
            with pytest.raises(OffsetConflictError) as caught:
                stream.append(_event(3), expected_offset=wrong)
            error = caught.value
            assert (error.partition, error.expected_offset, error.next_offset) == ("0", wrong, 3)

        assert _ids(stream.read()) == ["e0", "e1", "e2"]

    def test_expected_offset_sees_what_another_handle_appended(self, store: EventStore, other: EventStore) -> None:
        """A handle that has not looked since is told all the same, and can decide again from there."""
        mine, theirs = store.stream("orders"), other.stream("orders")
        mine.append(_event(0))
        theirs.append(_event(1))

        with pytest.raises(OffsetConflictError) as caught:
            mine.append(_event(2), expected_offset=1)
        mine.append(_event(2), expected_offset=caught.value.next_offset)

        assert _ids(theirs.read()) == ["e0", "e1", "e2"]

    def test_wrong_expected_offset_begins_no_stream(self, store: EventStore, stream: Stream) -> None:
        """A refused append leaves nothing behind, also as the first of its stream."""
        with pytest.raises(OffsetConflictError):
            stream.append(_event(0), expected_offset=1)

        assert store.streams() == []

    def test_expected_offset_goes_with_one_partition(self, store: EventStore) -> None:
        """Events of several partitions have no common next offset: `StreamSettingsError`, and nothing is written."""
        days = store.stream("days", partition_by="day")

        with pytest.raises(StreamSettingsError):
            days.append([_event(0), _event(1, days=1)], expected_offset=0)
        commits = days.append([_event(0), _event(1)], expected_offset=0)

        assert commits == [Commit("2026-02-05", 0, 2, (0, 1), (), (0, 1))]
        assert days.partitions() == ["2026-02-05"]

    # -- duplicates ----------------------------------------------------------------------------------------------------

    def test_stored_id_raises_unless_told_otherwise(self, stream: Stream) -> None:
        """By default a batch with an id that is stored raises `DuplicateEventError`, and none of it is written."""
        stream.append([_event(0), _event(1)])

        with pytest.raises(DuplicateEventError) as caught:
            stream.append([_event(2), _event(1), _event(3)])

        error = caught.value
        assert (error.event_id, error.index, error.partition, error.offset) == ("e1", 1, "0", 1)
        assert isinstance(error, ValueError)
        assert _ids(stream.read()) == ["e0", "e1"]

    @pytest.mark.parametrize("on_duplicate", ["skip", "return"])
    def test_stored_ids_are_skipped_and_their_offsets_told(self, stream: Stream, on_duplicate: Any) -> None:  # noqa: ANN401
        """With "skip" and "return" only what is new is written; duplicates get the stored event's offset."""
        stream.append([_event(0), _event(1)])

        commit = stream.append([_event(2), _event(1), _event(3), _event(0)], on_duplicate=on_duplicate)

        assert commit == Commit("0", 2, 4, offsets=(2, 1, 3, 0), duplicates=(1, 3), indexes=(0, 1, 2, 3))
        assert _ids(stream.read()) == ["e0", "e1", "e2", "e3"]

    @pytest.mark.parametrize("on_duplicate", ["skip", "return"])
    def test_nothing_new_writes_nothing(self, stream: Stream, on_duplicate: Any) -> None:  # noqa: ANN401
        """A batch of duplicates alone is acknowledged without a commit."""
        stream.append([_event(0), _event(1)])

        commit = _commit(stream.append([_event(1), _event(0)], on_duplicate=on_duplicate))

        assert commit.first_offset == commit.next_offset
        assert (commit.offsets, commit.duplicates) == ((1, 0), (0, 1))
        assert stream.verify().commits == 1

    def test_repeat_inside_a_batch_is_a_duplicate_of_the_first(self, stream: Stream) -> None:
        """An id that a batch holds twice is stored once, at the offset of the first."""
        batch = [_event(0), _event(1), _event(0, data="again"), _event(2), _event(1)]

        with pytest.raises(DuplicateEventError) as caught:
            stream.append(batch)
        commit = _commit(stream.append(batch, on_duplicate="skip"))

        assert (caught.value.event_id, caught.value.index) == ("e0", 2)
        assert (commit.offsets, commit.duplicates, commit.next_offset) == ((0, 1, 0, 2, 1), (2, 4), 3)
        assert [(event.id, event.data) for event in stream.read()] == [("e0", 0), ("e1", 1), ("e2", 2)]

    def test_repeated_id_begins_no_stream(self, store: EventStore, stream: Stream) -> None:
        """A refused batch leaves nothing behind, also as the first of its stream."""
        with pytest.raises(DuplicateEventError):
            stream.append([_event(0), _event(0)])

        assert store.streams() == []

    def test_id_stored_by_another_handle_is_a_duplicate(self, store: EventStore, other: EventStore) -> None:
        """An id is unique in its partition whoever stored it, and however long ago this handle looked."""
        mine, theirs = store.stream("orders"), other.stream("orders")
        mine.append(_event(0))
        theirs.append([_event(1), _event(2)])

        with pytest.raises(DuplicateEventError) as caught:
            mine.append([_event(3), _event(2)])
        commit = _commit(mine.append([_event(3), _event(2)], on_duplicate="return"))

        assert caught.value.offset == 2
        assert (commit.offsets, commit.duplicates) == ((3, 2), (1,))
        assert _ids(theirs.read()) == ["e0", "e1", "e2", "e3"]

    def test_id_is_unique_in_its_partition_only(self, stream: Stream) -> None:
        """Two partitions may hold the same id."""
        stream.append(_event(0), partition="a")
        stream.append(_event(0), partition="b")

        assert [(event.partition, event.id) for event in stream.read()] == [("a", "e0"), ("b", "e0")]

    def test_unknown_way_with_duplicates_is_refused(self, stream: Stream) -> None:
        """`on_duplicate` is one of three."""
        stream.append(_event(0))

        with pytest.raises(ValueError, match="on_duplicate"):
            stream.append(_event(1), on_duplicate="replace")  # type: ignore[call-overload]  # the mistake tested here

    # -- partitions ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("partition_by", "expected"),
        [
            (None, ["0", "0", "0", "0"]),
            ("single", ["0", "0", "0", "0"]),
            ("day", ["2026-02-05", "2026-02-06", "2026-02-05", "2026-02-04"]),
            ("subject", ["b", "a", "b", "c"]),
            ("source", ["nyc", "ewr", "ewr", "nyc"]),
            (lambda event: f"kind {event.type}", ["kind x", "kind x", "kind y", "kind y"]),
        ],
        ids=["none", "single", "day", "subject", "source", "callable"],
    )
    def test_events_go_where_the_partitioning_says(
        self,
        store: EventStore,
        other: EventStore,
        partition_by: str | Callable[[Event], str] | None,
        expected: list[str],
    ) -> None:
        """A batch is one commit in each partition it touches, in the order of their first event."""
        stream = store.stream("orders", partition_by=partition_by)
        evening = (START + timedelta(hours=10)).astimezone(timezone(timedelta(hours=-5)))  # the same day there and here
        batch = [
            _event(0, subject="b", source="nyc", type="x"),
            _event(1, subject="a", source="ewr", type="x", days=1),
            _event(2, subject="b", source="ewr", type="y", time=evening),
            _event(3, subject="c", source="nyc", type="y", days=-1),
        ]

        result = stream.append(batch)

        commits = result if isinstance(result, list) else [result]
        assert isinstance(result, Commit) == (partition_by in (None, "single"))
        assert [commit.partition for commit in commits] == list(dict.fromkeys(expected))
        for commit in commits:
            assert commit.indexes == tuple(index for index, name in enumerate(expected) if name == commit.partition)
            assert commit.offsets == tuple(range(len(commit.indexes)))
        assert other.stream("orders").partitions() == sorted(set(expected))
        assert {event.id: event.partition for event in other.stream("orders").read()} == {
            f"e{index}": name for index, name in enumerate(expected)
        }

    def test_hash_partitioning_keeps_a_subject_together(self, store: EventStore, other: EventStore) -> None:
        """`hash:4` spreads subjects over at most four partitions, and always puts one into the same."""
        stream = store.stream("orders", partition_by="hash:4")
        stream.append([_event(number, subject=f"s{number % 20}") for number in range(40)])
        other.stream("orders").append([_event(100 + number, subject=f"s{number}") for number in range(20)])

        places: dict[str | None, set[str | None]] = {}
        for event in stream.read():
            places.setdefault(event.subject, set()).add(event.partition)

        assert {len(partitions) for partitions in places.values()} == {1}
        assert set(stream.partitions()) <= {"0", "1", "2", "3"}
        assert len(stream.partitions()) > 1

    def test_single_event_of_a_partitioned_stream_returns_a_list(self, store: EventStore) -> None:
        """What `append` returns depends on the stream, not on the number of events."""
        days = store.stream("days", partition_by="day")

        assert days.append(_event(0)) == [Commit("2026-02-05", 0, 1, (0,), (), (0,))]
        assert days.append(_event(1), partition="2026-02-05") == Commit("2026-02-05", 1, 2, (1,), (), (0,))

    def test_partition_may_be_named(self, stream: Stream) -> None:
        """`partition=` overrules the partitioning; offsets and ids are those of that partition."""
        stream.append([_event(0), _event(1)])

        commit = stream.append([_event(0), _event(2)], partition="side")

        assert commit == Commit("side", 0, 2, (0, 1), (), (0, 1))
        assert stream.partitions() == ["0", "side"]

    def test_stream_by_day_keeps_a_day_together(self, store: EventStore) -> None:
        """An event cannot be put under another day than its own: readers by time would not find it."""
        days = store.stream("days", partition_by="day")

        with pytest.raises(StreamSettingsError):
            days.append(_event(0), partition="2026-02-06")

        assert store.streams() == []

    @pytest.mark.parametrize("partition_by", ["subject", "source"])
    def test_event_without_what_partitions_it_is_refused(self, store: EventStore, partition_by: str) -> None:
        """A stream by subject, or source, takes only events that have one; nothing is written."""
        stream = store.stream("orders", partition_by=partition_by)

        with pytest.raises(InvalidEventError) as caught:
            stream.append([_event(0, subject="a", source="b"), _event(1)])

        assert (caught.value.index, caught.value.field) == (1, partition_by)
        assert store.streams() == []

    def test_first_append_settles_the_partitioning(self, store: EventStore, other: EventStore) -> None:
        """The choice is stored; without one a stream is as stored, and another choice is `StreamSettingsError`."""
        store.stream("days", partition_by="day").append(_event(0))

        for wrong in ("single", "subject", "hash:4", lambda _: "0"):
            with pytest.raises(StreamSettingsError):
                other.stream("days", partition_by=wrong).append(_event(1))
        other.stream("days").append(_event(2, days=1))

        assert store.stream("days").partitions() == ["2026-02-05", "2026-02-06"]
        assert _ids(store.stream("days").read()) == ["e0", "e2"]

    def test_choice_of_a_reader_settles_nothing(self, store: EventStore) -> None:
        """`store.stream` does no I/O: only an append stores the partitioning."""
        assert list(store.stream("orders", partition_by="day").read()) == []

        store.stream("orders").append(_event(0))

        assert store.stream("orders").partitions() == ["0"]

    def test_custom_partitioning_is_brought_again(self, store: EventStore, other: EventStore) -> None:
        """A callable cannot be stored: whoever appends brings it again, or names the partition."""
        store.stream("orders", partition_by=lambda event: event.type).append(_event(0))
        without = other.stream("orders")

        with pytest.raises(StreamSettingsError):
            without.append(_event(1))
        without.append(_event(1), partition="named")
        other.stream("orders", partition_by=lambda event: event.type).append(_event(2))

        assert {event.id: event.partition for event in without.read()} == {
            "e0": "test.event",
            "e1": "named",
            "e2": "test.event",
        }

    @pytest.mark.parametrize("wrong", ["days", "", "hash", "hash:0", "hash:-1", "hash:x", "hash:04", 7])
    def test_unknown_partitioning_is_refused(self, store: EventStore, wrong: Any) -> None:  # noqa: ANN401
        """`partition_by` is one of those that the store knows, or a callable."""
        with pytest.raises(StreamSettingsError):
            store.stream("orders", partition_by=wrong)

    def test_id_is_known_across_days(self, store: EventStore, other: EventStore) -> None:
        """In a stream by day a repeat may carry another time: it is a duplicate of the first, on the first's day."""
        days = store.stream("days", partition_by="day")
        days.append([_event(0), _event(1)])
        repeat = _event(1, days=3)

        for stream in (days, other.stream("days")):
            with pytest.raises(DuplicateEventError) as caught:
                stream.append(repeat)
            assert (caught.value.partition, caught.value.offset) == ("2026-02-05", 1)
            assert stream.append(repeat, on_duplicate="skip") == [Commit("2026-02-05", 2, 2, (1,), (0,), (0,))]

        assert days.partitions() == ["2026-02-05"]

    def test_id_is_known_across_days_with_a_partition_named(self, store: EventStore, other: EventStore) -> None:
        """Naming the day does not store an id a second time."""
        store.stream("days", partition_by="day").append([_event(0), _event(1)])
        repeat = _event(1, days=3)

        for handle in (store, other):
            with pytest.raises(DuplicateEventError) as caught:
                handle.stream("days").append([_event(2, days=3), repeat], partition="2026-02-08")
            assert (caught.value.event_id, caught.value.index, caught.value.partition) == ("e1", 1, "2026-02-05")

        assert store.stream("days").partitions() == ["2026-02-05"]

    def test_repeat_inside_a_batch_is_found_across_days(self, store: EventStore) -> None:
        """Also inside a batch of several days an id is stored once, on the day of its first event."""
        days = store.stream("days", partition_by="day")
        batch = [_event(0), _event(1, days=1), _event(0, days=1)]

        with pytest.raises(DuplicateEventError):
            days.append(batch)
        commits = days.append(batch, on_duplicate="skip")

        assert commits == [
            Commit("2026-02-05", 0, 1, (0, 0), (2,), (0, 2)),
            Commit("2026-02-06", 0, 1, (0,), (), (1,)),
        ]

    def test_checks_of_all_partitions_come_before_the_first_write(self, store: EventStore) -> None:
        """A duplicate in one partition leaves the others unwritten too."""
        stream = store.stream("orders", partition_by="subject")
        stream.append(_event(0, subject="b"))

        with pytest.raises(DuplicateEventError) as caught:
            stream.append([_event(1, subject="a"), _event(0, subject="b")])

        assert caught.value.index == 1
        assert caught.value.commits == ()
        assert stream.partitions() == ["b"]

    # -- read ----------------------------------------------------------------------------------------------------------

    def test_stream_that_was_never_written_reads_as_empty(self, store: EventStore) -> None:
        """Looking at a stream that is not there is no error, and does not make it."""
        stream = store.stream("nothing")

        assert list(stream.read()) == []
        assert list(stream.read(partitions=["0"])) == []
        assert list(stream.read_batches()) == []
        assert stream.recent(5) == []
        assert stream.get("e0") is None
        assert stream.partitions() == []
        assert stream.cursor() == {}
        assert stream.stats().events == 0
        assert stream.verify().ok
        assert store.streams() == []

    def test_events_come_partition_by_partition_in_order(self, store: EventStore) -> None:
        """Partitions in the order of their names, in each of them by offset."""
        stream = store.stream("orders")
        for number, partition in enumerate(["b", "a", "c", "a", "b"]):
            stream.append([_event(2 * number), _event(2 * number + 1)], partition=partition)

        found = [(event.partition, event.offset) for event in stream.read()]

        assert found == [("a", n) for n in range(4)] + [("b", n) for n in range(4)] + [("c", n) for n in range(2)]
        assert [event.partition for event in stream.read(partitions=["c", "a"])] == ["a"] * 4 + ["c"] * 2
        assert list(stream.read(partitions=["nowhere"])) == []

    @pytest.mark.parametrize(
        "filters",
        [
            {"types": ["order.placed"]},
            {"types": ["order.placed", "order.paid"]},
            {"types": ["nothing"]},
            {"types": []},
            {"subjects": ["s1"]},
            {"subjects": ["s0", "s2"]},
            {"sources": ["é/日本"]},
            {"tags": ["UA"]},
            {"tags": ["UA", "B6"]},
            {"since": START + timedelta(hours=5)},
            {"until": START + timedelta(hours=5)},
            {"since": START + timedelta(hours=3), "until": START + timedelta(hours=30)},
            {"since": (START + timedelta(hours=3)).astimezone(timezone(timedelta(hours=9)))},
            {"types": ["order.placed", "order.paid"], "subjects": ["s1"], "tags": ["UA"]},
            {"types": ["order.placed"], "since": START + timedelta(hours=4), "sources": ["nyc"]},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("partition_by", ["single", "day"])
    def test_filters_are_or_ed_inside_and_and_ed_between(
        self, store: EventStore, partition_by: str, filters: dict[str, Any]
    ) -> None:
        """An event passes when each list given holds one of its values, and `since <= time < until`."""
        stream = store.stream("orders", partition_by=partition_by)
        events = _mixed_events(40)
        stream.append(events[:25])
        stream.append(events[25:])
        in_order = sorted(events, key=lambda event: event.time.date()) if partition_by == "day" else events
        expected = [event.id for event in in_order if _passes(event, filters)]

        reader = stream.read(**filters)

        assert _ids(reader) == expected
        assert _ids(itertools.chain.from_iterable(batch.events for batch in stream.read_batches(**filters))) == expected
        assert _ids(stream.read(**filters, limit=3)) == expected[:3]

    def test_filter_is_not_misled_by_what_other_fields_hold(self, stream: Stream) -> None:
        """A value that stands elsewhere in the event, or is part of another, does not match."""
        stream.append(
            [
                _event(0, type="wanted"),
                _event(1, data={"type": "wanted", "tags": ["wanted"], "subject": "wanted"}),
                _event(2, type="unwanted", meta={"subject": "wanted"}),
                _event(3, subject="wanted", data='"type":"wanted"'),
                _event(4, tags=("wanted",)),
            ]
        )

        assert _ids(stream.read(types=["wanted"])) == ["e0"]
        assert _ids(stream.read(subjects=["wanted"])) == ["e3"]
        assert _ids(stream.read(tags=["wanted"])) == ["e4"]

    def test_naive_times_are_refused(self, stream: Stream) -> None:
        """A time without a zone may mean several instants."""
        naive = START.replace(tzinfo=None)

        for call in (partial(stream.read, since=naive), partial(stream.recent, 1, until=naive)):
            with pytest.raises(ValueError, match="naive"):
                call()

    def test_text_in_place_of_a_list_is_refused(self, stream: Stream) -> None:
        """`types="order.placed"` would mean its letters; it is a mistake."""
        stream.append(_event(0))

        for name in ("types", "subjects", "sources", "tags", "partitions"):
            with pytest.raises(TypeError, match=name):
                list(stream.read(**{name: "text"}))  # type: ignore[arg-type]  # the mistake tested here

    def test_limit_is_at_most_so_many(self, stream: Stream) -> None:
        """`limit` counts events that pass; 0 reads nothing, and below that there is no number of events."""
        stream.append([_event(number) for number in range(5)])

        assert _ids(stream.read(limit=3)) == ["e0", "e1", "e2"]
        assert _ids(stream.read(limit=10)) == [f"e{number}" for number in range(5)]
        assert _ids(stream.read(limit=0)) == []
        assert sum(len(batch.events) for batch in stream.read_batches(limit=3)) == 3
        with pytest.raises(ValueError, match="limit"):
            stream.read(limit=-1)

    def test_batches_hold_what_read_yields(self, store: EventStore) -> None:
        """`read_batches` is `read` in pieces: of one partition each, contiguous, with the offsets told."""
        stream = store.stream("orders")
        for number in range(6):
            stream.append([_event(10 * number + n) for n in range(3)], partition=f"p{number % 2}")

        batches = list(stream.read_batches())

        assert [event for batch in batches for event in batch.events] == list(stream.read())
        for batch in batches:
            assert batch.events
            assert {event.partition for event in batch.events} == {batch.partition}
            places = [event.offset for event in batch.events]
            assert places == list(range(batch.first_offset, batch.first_offset + len(places)))

    def test_long_stream_is_read_whole(self, store: EventStore, other: EventStore) -> None:
        """Thousands of events come in order, none twice, however they are cut into pieces."""
        stream = store.stream("orders")
        for first in range(0, 6000, 2000):
            stream.append([_event(first + n, data={"text": "x" * (n % 500)}) for n in range(2000)])

        found = list(other.stream("orders").read())

        assert [event.id for event in found] == [f"e{number}" for number in range(6000)]
        assert [event.offset for event in found] == list(range(6000))
        assert [len(event.data["text"]) for event in found[1990:2010]] == [n % 500 for n in range(1990, 2000)] + [
            *range(10)
        ]
        assert _ids(other.stream("orders").read({"0": 5990})) == [f"e{number}" for number in range(5990, 6000)]

    # -- cursors -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("filters", [{}, {"subjects": ["s1"]}], ids=["all", "filtered"])
    def test_resuming_anywhere_loses_and_repeats_nothing(self, store: EventStore, filters: dict[str, Any]) -> None:
        """Stopped after any event, by a limit or by breaking off, the cursor goes on with the very next one."""
        stream = store.stream("orders", partition_by="source")
        for part in (_mixed_events(8), _mixed_events(14)[8:]):
            stream.append(part)
        everything = _ids(stream.read(**filters))

        for count in range(len(everything) + 1):
            limited = stream.read(**filters, limit=count)
            assert _ids(limited) == everything[:count]
            assert _ids(stream.read(limited.cursor, **filters)) == everything[count:]

            broken_off = stream.read(**filters)
            assert _ids(itertools.islice(broken_off, count)) == everything[:count]
            stored = json.loads(json.dumps(dict(broken_off.cursor)))
            assert _ids(stream.read(stored, **filters)) == everything[count:]

    def test_every_offset_is_a_place_to_go_on(self, stream: Stream) -> None:
        """A cursor may name any offset, inside a commit too, up to the end."""
        stream.append([_event(0), _event(1), _event(2)])
        stream.append([_event(3), _event(4)])

        for offset in range(6):
            assert _ids(stream.read({"0": offset})) == [f"e{number}" for number in range(offset, 5)]
            batches = list(stream.read_batches({"0": offset}))
            assert [batch.first_offset for batch in batches[:1]] == [offset] * (offset < 5)

    def test_cursor_of_batches_is_behind_the_last_one(self, stream: Stream) -> None:
        """A batch that was handed out is behind the cursor, whole; with a limit, as much of it as was handed out."""
        stream.append([_event(0), _event(1), _event(2)])
        reader = stream.read_batches(limit=2)

        [batch] = list(reader)

        assert _ids(batch.events) == ["e0", "e1"]
        assert reader.cursor == {"0": 2}
        assert _ids(stream.read(reader.cursor)) == ["e2"]

    def test_cursor_of_a_filtered_read_skips_what_it_examined(self, store: EventStore) -> None:
        """Read to its end, a filtered read stands where the stream ends, though nothing may have passed."""
        stream = store.stream("orders")
        stream.append([_event(0), _event(1)], partition="a")
        stream.append([_event(2), _event(3)], partition="b")
        reader = stream.read(types=["none of these"])

        assert _ids(reader) == []

        assert reader.cursor == stream.cursor() == {"a": 2, "b": 2}

    def test_cursor_of_the_stream_is_where_it_ends(self, store: EventStore, other: EventStore) -> None:
        """`stream.cursor()` has every partition's next offset: reading after it yields what came since."""
        stream = store.stream("orders")
        stream.append([_event(0), _event(1)], partition="a")
        end = other.stream("orders").cursor()
        stream.append(_event(2), partition="a")
        stream.append(_event(3), partition="b")

        assert isinstance(end, Cursor)
        assert end == {"a": 2}
        assert _ids(other.stream("orders").read(end)) == ["e2", "e3"]

    def test_late_event_is_never_missed_by_a_cursor(self, store: EventStore) -> None:
        """An event with an old time that is written now comes behind every cursor taken before."""
        days = store.stream("days", partition_by="day")
        days.append([_event(0), _event(1, days=1)])
        reader = days.read()
        assert _ids(reader) == ["e0", "e1"]

        days.append([_event(2), _event(3, days=-7)])

        assert _ids(days.read(reader.cursor)) == ["e3", "e2"]

    @pytest.mark.parametrize(
        ("cursor", "end"), [({"0": 4}, 3), ({"0": 2**40}, 3), ({"0": 1, "gone": 1}, 0)], ids=["one", "far", "partition"]
    )
    def test_cursor_beyond_the_end_is_told(self, stream: Stream, cursor: dict[str, int], end: int) -> None:
        """A cursor that the log does not reach is `OffsetOutOfRangeError`, never a silent jump: a restored copy?"""
        stream.append([_event(0), _event(1), _event(2)])
        wrong = max(cursor, key=lambda name: name == "gone")

        for read in (partial(stream.read, cursor), partial(stream.read_batches, cursor)):
            with pytest.raises(OffsetOutOfRangeError) as caught:
                list(read())
            error = caught.value
            assert (error.partition, error.offset, error.start, error.next_offset) == (wrong, cursor[wrong], 0, end)
        with pytest.raises(OffsetOutOfRangeError), stream.tail(cursor) as tail:
            list(tail)

    @pytest.mark.parametrize("wrong", [{"0": -1}, {"0": 1.5}, {"0": "1"}, {"": 1}, ["0"], "0", 3])
    def test_what_is_no_cursor_is_refused(self, stream: Stream, wrong: Any) -> None:  # noqa: ANN401
        """A cursor maps partitions to offsets; anything else is a mistake that is told at the call."""
        for call in (stream.read, stream.read_batches, stream.tail):
            with pytest.raises(ValueError, match="cursor"):
                call(wrong)

    # -- recent and get ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "filters",
        [
            {},
            {"types": ["order.placed", "order.paid"]},
            {"subject": "s1"},
            {"source": "nyc"},
            {"tags": ["UA"]},
            {"since": START + timedelta(hours=3), "until": START + timedelta(hours=30)},
            {"subject": "s2", "types": ["order.paid"], "until": START + timedelta(hours=40)},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("partition_by", ["single", "day"])
    def test_recent_is_the_newest_by_time_and_id(
        self, store: EventStore, partition_by: str, filters: dict[str, Any]
    ) -> None:
        """`recent(n)` is ordered by `(time, id)`, newest first, whenever and wherever the events were written."""
        stream = store.stream("orders", partition_by=partition_by)
        events = _mixed_events(40)
        stream.append(events[:30])
        stream.append(events[30:])
        model = sorted(events, key=lambda event: (event.time, event.id), reverse=True)
        lists = {f"{name}s" if name in ("subject", "source") else name: value for name, value in filters.items()}
        lists = {name: [value] if isinstance(value, str) else value for name, value in lists.items()}
        expected = [event.id for event in model if _passes(event, lists)]

        for count in (1, 4, 100):
            assert [event.id for event in stream.recent(count, **filters)] == expected[:count]
        assert stream.recent(0, **filters) == []

    def test_recent_sees_late_events_where_their_time_says(self, store: EventStore) -> None:
        """An event of today that is written last does not hide behind older ones, nor an old one before newer."""
        days = store.stream("days", partition_by="day")
        days.append([_event(0), _event(1, days=2)])
        days.append(_event(2, days=1))

        assert [event.id for event in days.recent(3)] == ["e1", "e2", "e0"]

    def test_get_finds_an_event_by_its_id(self, store: EventStore, other: EventStore) -> None:
        """`get` returns the event with its place, from whichever partition, or None."""
        stream = store.stream("orders")
        stream.append([_event(0), _event(1)], partition="a")
        stream.append([_event(2, id='é "quoted"')], partition="b")

        found = other.stream("orders").get("e1")
        strange = other.stream("orders").get('é "quoted"')

        assert found is not None
        assert (found.id, found.partition, found.offset, found.data) == ("e1", "a", 1, 1)
        assert strange is not None
        assert strange.partition == "b"
        assert stream.get("e") is None

    # -- tail ----------------------------------------------------------------------------------------------------------

    def test_tail_reads_what_is_there_and_then_what_comes(self, store: EventStore, other: EventStore) -> None:
        """A tail goes on from its cursor to the end, and waits there for what any handle appends."""
        writer = other.stream("orders")
        writer.append([_event(0), _event(1)])

        with store.stream("orders").tail(poll=0.02) as tail:
            assert self._next_ids(tail, 2) == ["e0", "e1"]
            for number in range(2, 6):
                writer.append(_event(number))
                assert self._next_ids(tail, 1) == [f"e{number}"]
            assert tail.cursor == {"0": 6}

        with store.stream("orders").tail({"0": 4}, poll=0.02) as tail:
            assert self._next_ids(tail, 2) == ["e4", "e5"]

    def test_tail_that_waits_is_woken(self, store: EventStore, other: EventStore) -> None:
        """What is appended while the tail waits reaches it without another call."""
        writer = other.stream("orders")
        writer.append(_event(0))

        with store.stream("orders").tail(poll=0.02) as tail:
            assert self._next_ids(tail, 1) == ["e0"]
            waiting = _start(lambda: next(tail).id)
            assert not wait([waiting], timeout=0.1).done
            writer.append(_event(1))

            assert self._join([waiting]) == ["e1"]

    def test_tail_waits_for_its_stream_to_begin(self, store: EventStore, other: EventStore) -> None:
        """A stream need not exist to be followed."""
        with store.stream("orders").tail(poll=0.02) as tail:
            waiting = _start(lambda: next(tail).id)
            assert not wait([waiting], timeout=0.1).done
            other.stream("orders").append(_event(0))

            assert self._join([waiting]) == ["e0"]

    def test_tail_finds_new_partitions(self, store: EventStore, other: EventStore) -> None:
        """A partition that begins later is followed like the others; with `partitions` only those named are."""
        days = other.stream("days", partition_by="day")
        days.append(_event(0))

        with (
            store.stream("days").tail(poll=0.02) as tail,
            store.stream("days").tail(poll=0.02, partitions=["2026-02-07"]) as narrow,
        ):
            assert self._next_ids(tail, 1) == ["e0"]
            days.append(_event(1, days=1))
            assert self._next_ids(tail, 1) == ["e1"]
            days.append(_event(2, days=2))
            assert self._next_ids(tail, 1) == ["e2"]
            assert tail.cursor == {"2026-02-05": 1, "2026-02-06": 1, "2026-02-07": 1}
            assert self._next_ids(narrow, 1) == ["e2"]

    def test_tail_filters_and_its_cursor_moves_over_what_it_passed(self, store: EventStore, other: EventStore) -> None:
        """A filtered tail yields what passes; its cursor is behind the event that was handed out last."""
        writer = other.stream("orders")
        writer.append([_event(0), _event(1, type="wanted"), _event(2)])

        with store.stream("orders").tail(poll=0.02, types=["wanted"]) as tail:
            assert self._next_ids(tail, 1) == ["e1"]
            assert tail.cursor == {"0": 2}
            writer.append([_event(3), _event(4, type="wanted")])
            assert self._next_ids(tail, 1) == ["e4"]
            assert tail.cursor == {"0": 5}

    def test_breaking_off_a_tail_leaves_no_thread(self, store: EventStore) -> None:
        """A consumer that breaks off is rid of the tail at once."""
        stream = store.stream("orders")
        stream.append(_event(0))
        before = set(threading.enumerate())

        for event in stream.tail(poll=0.02):
            assert event.id == "e0"
            break

        assert set(threading.enumerate()) <= before

    def test_closing_a_tail_ends_its_waiting_at_once(self, store: EventStore) -> None:
        """`close`, from any thread, ends the iteration, however long the tail would have waited."""
        stream = store.stream("orders")
        stream.append(_event(0))
        before = set(threading.enumerate())
        tail = stream.tail(poll=self.timeout_seconds)
        assert self._next_ids(tail, 1) == ["e0"]
        waiting = _start(lambda: list(tail))
        assert not wait([waiting], timeout=0.2).done

        began = time.monotonic()
        tail.close()
        tail.close()

        assert self._join([waiting]) == [[]]
        assert time.monotonic() - began < 2
        assert tail.cursor == {"0": 1}
        self._settled(before)

    # -- buffered writer -----------------------------------------------------------------------------------------------

    def test_writer_gathers_appends_into_few_commits(self, store: EventStore, other: EventStore) -> None:
        """Many small appends become few commits, in their order; the end of the block means that all is durable."""
        stream = store.stream("orders")

        with stream.writer(max_events=100, linger=10) as writer:
            for number in range(250):
                writer.append(_event(number))

        assert _ids(other.stream("orders").read()) == [f"e{number}" for number in range(250)]
        assert stream.verify().commits <= 5
        assert (writer.written, writer.duplicates) == (250, 0)

    def test_flush_returns_when_all_before_is_durable(self, store: EventStore, other: EventStore) -> None:
        """`flush` does not wait for `linger`; another handle reads what was appended before it."""
        with store.stream("orders").writer(linger=self.timeout_seconds) as writer:
            writer.append([_event(0), _event(1)])
            writer.flush()
            assert _ids(other.stream("orders").read()) == ["e0", "e1"]
            assert writer.written == 2
            writer.flush()

    def test_writer_commits_what_has_waited_long_enough(self, store: EventStore, other: EventStore) -> None:
        """After `linger` an append is committed without any further call."""
        with store.stream("orders").writer(linger=0.01) as writer:
            writer.append(_event(0))
            with other.stream("orders").tail(poll=0.02) as tail:
                assert self._next_ids(tail, 1) == ["e0"]

    def test_writer_refuses_at_once_what_cannot_be_written(self, stream: Stream) -> None:
        """An impossible event is refused by the append that brings it, and the writer goes on without it."""
        with stream.writer() as writer:
            writer.append(_event(0))
            with pytest.raises(InvalidEventError):
                writer.append([_event(1), _event(2, data={1, 2})])
            writer.append(_event(3))

        assert _ids(stream.read()) == ["e0", "e3"]

    def test_writer_counts_duplicates_that_it_skips(self, stream: Stream) -> None:
        """With `on_duplicate="skip"` what was stored before is acknowledged, not written."""
        stream.append([_event(0), _event(1)])

        with stream.writer(on_duplicate="skip") as writer:
            writer.append([_event(1), _event(2)])

        assert (writer.written, writer.duplicates) == (2, 1)
        assert _ids(stream.read()) == ["e0", "e1", "e2"]

    def test_writer_writes_what_it_has_when_its_block_fails(self, stream: Stream) -> None:
        """An error of the caller's own ends the block; what was appended before it is durable all the same."""

        def fail(writer: BufferedWriter) -> None:
            with writer:
                writer.append(_event(0))
                msg = "the caller's own"
                raise RuntimeError(msg)

        with pytest.raises(RuntimeError, match="the caller's own"):
            fail(stream.writer(linger=self.timeout_seconds))

        assert _ids(stream.read()) == ["e0"]

    def test_closed_writer_takes_nothing(self, stream: Stream) -> None:
        """An append to a writer that was closed is an error, not an event that is lost; its thread has ended."""
        before = set(threading.enumerate())
        writer = stream.writer()
        writer.append(_event(0))
        writer.close()
        writer.close()

        with pytest.raises(ValueError, match="closed"):
            writer.append(_event(1))

        assert _ids(stream.read()) == ["e0"]
        assert set(threading.enumerate()) <= before

    # -- several writers -----------------------------------------------------------------------------------------------

    def test_handles_that_append_at_once_lose_and_repeat_nothing(
        self, store: EventStore, open_handle: OpenStore
    ) -> None:
        """Of writers racing for one partition each gets its own offsets: contiguous, and in each one's own order."""
        if self._refuses_several_writers(open_handle):
            return
        handles = [store, *(open_handle() for _ in range(self.writers - 1))]

        commits = self._append_at_once([handle.stream("orders") for handle in handles])

        self._check_log(store.stream("orders"), commits)

    def test_threads_of_one_handle_append_safely(self, store: EventStore) -> None:
        """One handle, and one stream, may be used by any number of threads; each gets its own result."""
        stream = store.stream("orders")

        commits = self._append_at_once([stream] * self.writers)

        self._check_log(stream, commits)

    def test_appends_that_wait_go_out_together(self, store: EventStore) -> None:
        """Appends of several threads that come while a commit is under way are one commit, and each atomic."""
        stream = store.stream("orders")
        stream.append(_event(0, id="first"))
        appended, rounds = 1, 0

        while rounds < 40 and stream.verify().commits == appended:
            rounds += 1
            batches = [
                [_event(number, id=f"{rounds}-{thread}-{number}") for number in range(300)] for thread in range(8)
            ]
            barrier = threading.Barrier(len(batches))

            def append(batch: list[Event], barrier: threading.Barrier = barrier) -> Commit:
                barrier.wait(self.timeout_seconds)
                return _commit(stream.append(batch))

            commits = self._together([partial(append, batch) for batch in batches])
            appended += len(batches)
            for batch, commit in zip(batches, commits, strict=True):
                assert commit.offsets == tuple(range(commit.first_offset, commit.first_offset + len(batch)))

        report = stream.verify()
        assert report.ok
        assert report.events == 1 + rounds * 8 * 300
        assert report.commits < appended, f"{appended} appends made {report.commits} commits"

    def test_ids_that_race_are_stored_once(self, store: EventStore, open_handle: OpenStore) -> None:
        """Of writers racing with the same id one stores it; the others are told where."""
        if self._refuses_several_writers(open_handle):
            return
        handles = [store, *(open_handle() for _ in range(self.writers - 1))]
        barrier = threading.Barrier(len(handles))

        def append(handle: EventStore) -> list[Commit]:
            stream = handle.stream("orders")
            made = []
            for number in range(self.appends_each):
                barrier.wait(self.timeout_seconds)
                made.append(_commit(stream.append(_event(number), on_duplicate="return")))
            return made

        results = self._together([partial(append, handle) for handle in handles])

        places = {event.id: event.offset for event in store.stream("orders").read()}
        assert places == {f"e{number}": number for number in range(self.appends_each)}
        for number in range(self.appends_each):
            assert {made[number].offsets for made in results} == {(number,)}
            assert sum(not made[number].duplicates for made in results) == 1

    def test_expected_offsets_that_race_have_one_winner(self, store: EventStore, open_handle: OpenStore) -> None:
        """Of writers racing with the same `expected_offset` exactly one appends; the others decide again."""
        if self._refuses_several_writers(open_handle):
            return
        handles = [store, *(open_handle() for _ in range(self.writers - 1))]
        barrier = threading.Barrier(len(handles))

        def append(handle: EventStore, writer: int) -> int:
            stream = handle.stream("orders")
            won = 0
            for number in range(self.appends_each):
                barrier.wait(self.timeout_seconds)
                with suppress(OffsetConflictError):
                    stream.append(_event(number, id=f"{writer}-{number}"), expected_offset=number)
                    won += 1
            return won

        won = self._together([partial(append, handle, writer) for writer, handle in enumerate(handles)])

        assert sum(won) == self.appends_each
        assert len(list(store.stream("orders").read())) == self.appends_each

    def test_partitions_of_one_stream_are_appended_at_once(self, store: EventStore, open_handle: OpenStore) -> None:
        """Writers of different partitions do not hinder each other, also as the first of a new stream."""
        if self._refuses_several_writers(open_handle):
            return
        handles = [store, *(open_handle() for _ in range(self.writers - 1))]
        barrier = threading.Barrier(len(handles))

        def append(handle: EventStore, writer: int) -> None:
            barrier.wait(self.timeout_seconds)
            for number in range(self.appends_each):
                handle.stream("orders").append(_event(number), partition=f"p{writer}")

        self._together([partial(append, handle, writer) for writer, handle in enumerate(handles)])

        assert store.stream("orders").cursor() == {f"p{writer}": self.appends_each for writer in range(self.writers)}
        assert store.stream("orders").verify().ok

    def test_reader_beside_writers_sees_a_growing_prefix(self, store: EventStore, open_handle: OpenStore) -> None:
        """Whoever reads while others append sees the log from its beginning without a hole, longer each time."""
        if self._refuses_several_writers(open_handle):
            return
        handles = [open_handle() for _ in range(3)]
        reader = store.stream("orders")
        done = threading.Event()

        def read() -> int:
            longest, last = 0, False
            while not last:
                last = done.is_set()
                found = list(reader.read())
                assert [event.offset for event in found] == list(range(len(found)))
                assert len(found) >= longest
                longest = len(found)
            return longest

        def append(handle: EventStore, writer: int) -> None:
            for number in range(self.appends_each):
                handle.stream("orders").append([_event(n, id=f"{writer}-{number}-{n}") for n in range(3)])

        reading = _start(read)
        try:
            self._together([partial(append, handle, writer) for writer, handle in enumerate(handles)])
        finally:
            done.set()

        assert self._join([reading]) == [3 * self.appends_each * 3]

    def test_forked_child_appends_beside_its_parent(self, store: EventStore) -> None:
        """A child that inherits a handle in use may go on with it: nothing is lost, doubled or mixed."""
        if not self.forks or not hasattr(os, "fork"):
            pytest.skip("this store does not declare forks")
        stream = store.stream("orders")
        stream.append(_event(0, id="before"))
        rounds = 20

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests may still be ending
            child = os.fork()
        name = "child" if child == 0 else "parent"
        try:
            for number in range(rounds):
                stream.append(_event(number, id=f"{name}-{number}"))
        except BaseException:
            if child == 0:
                os._exit(1)
            raise
        if child == 0:
            os._exit(0)
        _, status = os.waitpid(child, 0)

        assert os.waitstatus_to_exitcode(status) == 0
        found = _ids(stream.read())
        assert len(found) == len(set(found)) == 1 + 2 * rounds
        for writer in ("child", "parent"):
            own = [event_id for event_id in found if event_id.startswith(writer)]
            assert own == [f"{writer}-{number}" for number in range(rounds)]
        assert stream.verify().ok

    # -- subscriptions -------------------------------------------------------------------------------------------------

    def test_subscription_goes_on_behind_what_was_acknowledged(self, store: EventStore, other: EventStore) -> None:
        """What was acknowledged does not come again; what was not, does: every event at least once."""
        store.stream("orders").append([_event(number) for number in range(5)])
        with store.subscribe("orders", "mailer") as first:
            assert self._next_ids(first, 2) == ["e0", "e1"]
            assert first.ack() == {"0": 2}
            assert self._next_ids(first, 2) == ["e2", "e3"]

        with other.subscribe("orders", "mailer") as second:
            assert second.cursor == {"0": 2}
            assert self._next_ids(second, 3) == ["e2", "e3", "e4"]
            second.ack()
            assert second.cursor == {"0": 5}

    def test_replaced_subscriber_is_told_at_its_next_ack(self, store: EventStore, other: EventStore) -> None:
        """Whoever subscribes later under the name takes over at once; the one before can acknowledge no more."""
        store.stream("orders").append([_event(0), _event(1)])
        with store.subscribe("orders", "mailer") as first:
            assert self._next_ids(first, 1) == ["e0"]
            with other.subscribe("orders", "mailer") as second:
                with pytest.raises(SubscriptionLostError) as caught:
                    first.ack()
                assert self._next_ids(second, 2) == ["e0", "e1"]
                second.ack()

                assert caught.value.name == "mailer"
                assert second.cursor == {"0": 2}

    def test_subscriptions_of_other_names_are_independent(self, store: EventStore) -> None:
        """Each name has its own place in each stream, whatever the names hold."""
        store.stream("a b").append([_event(0), _event(1)])
        store.stream("a").append([_event(10), _event(11)])

        with (
            store.subscribe("a b", "c") as one,
            store.subscribe("a", "b c") as two,
            store.subscribe(store.stream("a"), "c") as three,
        ):
            assert self._next_ids(one, 2) == ["e0", "e1"]
            one.ack()
            assert self._next_ids(two, 1) == ["e10"]
            two.ack()
            assert self._next_ids(three, 2) == ["e10", "e11"]
            three.ack()
            one.ack()

            assert [dict(held.cursor) for held in (one, two, three)] == [{"0": 2}, {"0": 1}, {"0": 2}]

    def test_subscription_takes_any_two_names(self, store: EventStore) -> None:
        """Stream and consumer may have the longest and the strangest names; an impossible one is refused."""
        stream = store.stream("x" * 255)
        stream.append([_event(0), _event(1)])

        for name in ("y" * 255, "z" * 255, "/", "é"):
            with store.subscribe(stream, name) as subscription:
                assert self._next_ids(subscription, 1) == ["e0"]
                assert subscription.ack() == {"0": 1}
        for name in IMPOSSIBLE_NAMES:
            with pytest.raises(InvalidNameError):
                store.subscribe(stream, name)

    def test_new_subscription_may_start_at_the_end(self, store: EventStore) -> None:
        """`start="latest"` begins a new consumer where the stream ends; one that is known goes on where it was."""
        stream = store.stream("orders")
        stream.append([_event(0), _event(1)])
        with store.subscribe("orders", "new", start="latest") as new:
            stream.append(_event(2))
            assert self._next_ids(new, 1) == ["e2"]
        stream.append(_event(3))

        with store.subscribe("orders", "new", start="latest") as again:
            assert self._next_ids(again, 2) == ["e2", "e3"]

    def test_subscription_waits_for_its_stream_to_begin(self, store: EventStore, other: EventStore) -> None:
        """A consumer may be there before the stream."""
        with store.subscribe("orders", "mailer") as subscription:
            waiting = _start(lambda: next(subscription).id)
            other.stream("orders").append(_event(0))

            assert self._join([waiting]) == ["e0"]

    def test_unknown_start_is_refused(self, store: EventStore) -> None:
        """A consumer begins at the earliest or the latest event."""
        with pytest.raises(ValueError, match="start"):
            store.subscribe("orders", "mailer", start="yesterday")  # type: ignore[arg-type]  # the mistake tested here

    # -- checkpoints, snapshots, blobs, objects ------------------------------------------------------------------------

    def test_checkpoint_is_what_was_saved_last(self, store: EventStore, other: EventStore) -> None:
        """A value comes back equal, with a version and a time, in every handle; `None` replaces whatever is there."""
        saved = store.checkpoints.save("a/b", {"orders": [1, {"é": None}]})
        loaded = other.checkpoints.load("a/b")
        replaced = other.checkpoints.save("a/b", 2)

        assert loaded == saved
        assert saved.updated is not None
        assert saved.updated.utcoffset() == timedelta(0)
        assert replaced.version != saved.version
        assert _loaded(store, "a/b") == 2
        assert store.checkpoints.load("nothing") is None
        assert store.checkpoints.list() == ["a/b"]

    def test_checkpoint_is_replaced_only_if_it_is_still_the_same(self, store: EventStore, other: EventStore) -> None:
        """With `expected_version` the second of two that loaded the same is told, and nothing is lost."""
        saved = store.checkpoints.save("position", 1, expected_version=ABSENT)
        other.checkpoints.save("position", 2, expected_version=saved.version)

        with pytest.raises(CheckpointConflictError) as caught:
            store.checkpoints.save("position", 3, expected_version=saved.version)
        with pytest.raises(CheckpointConflictError):
            store.checkpoints.save("position", 3, expected_version=ABSENT)

        assert caught.value.name == "position"
        assert _loaded(store, "position") == 2

    def test_version_never_comes_back(self, store: EventStore) -> None:
        """A value that was there before has another version now, also after a delete."""
        first = store.checkpoints.save("position", 1)
        store.checkpoints.save("position", 2)
        second = store.checkpoints.save("position", 1)
        assert store.checkpoints.delete("position")
        assert store.checkpoints.list() == []
        third = store.checkpoints.save("position", 1, expected_version=ABSENT)

        assert len({first.version, second.version, third.version}) == 3

    def test_checkpoints_that_race_lose_no_step(self, store: EventStore, open_handle: OpenStore) -> None:
        """Counting by load and compare-and-set, from several handles at once, counts every step."""
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

        assert _loaded(store, "count") == len(handles) * self.appends_each

    def test_snapshots_are_kept_by_name_and_time(self, store: EventStore, other: EventStore) -> None:
        """A snapshot is immutable unless replaced on purpose; the newest is found, old ones are pruned."""
        for day in (2, 0, 1):
            store.snapshots.save("state", {"day": day}, at=START + timedelta(days=day), cursor={"0": day})
        with pytest.raises(ConflictError):
            other.snapshots.save("state", {"day": "another"}, at=START)
        other.snapshots.save("state", {"day": "mended"}, at=START, replace=True)

        latest = other.snapshots.latest("state")
        assert latest is not None
        assert latest.cursor == {"0": 2}
        assert (latest.at, latest.state) == (START + timedelta(days=2), {"day": 2})
        assert other.snapshots.load("state", START).state == {"day": "mended"}
        assert [info.at for info in store.snapshots.list("state")] == [START + timedelta(days=n) for n in range(3)]
        assert [info.at for info in store.snapshots.prune("state", keep=1)] == [START, START + timedelta(days=1)]
        assert [info.at for info in other.snapshots.list("state")] == [START + timedelta(days=2)]
        assert other.snapshots.latest("nothing") is None

    def test_blobs_are_named_by_their_content(self, store: EventStore, other: EventStore) -> None:
        """The same bytes are one blob, whichever way they come; what is read is checked."""
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
        """Documents lie below the root under the paths given, beside the store's own, which they never touch."""
        store.stream("orders").append(_event(0))
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

    # -- upkeep --------------------------------------------------------------------------------------------------------

    def test_stats_count_what_is_stored(self, store: EventStore, other: EventStore) -> None:
        """`stats` tells partitions, offsets, segments and bytes."""
        days = store.stream("days", partition_by="day")
        days.append([_event(0), _event(1), _event(2, days=1)])
        days.append(_event(3))

        stats = other.stream("days").stats()

        assert (stats.stream, stats.partition_by, stats.events) == ("days", "day", 4)
        assert [(one.partition, one.start, one.next_offset, one.events) for one in stats.partitions] == [
            ("2026-02-05", 0, 3, 3),
            ("2026-02-06", 0, 1, 1),
        ]
        assert stats.segments >= 2
        assert stats.bytes > 4 * len('{"type":"test.event"}')

    def test_verify_reads_everything(self, store: EventStore, other: EventStore) -> None:
        """`verify` counts commits and events, and finds nothing wrong with what was written properly."""
        days = store.stream("days", partition_by="day")
        days.append([_event(0), _event(1), _event(2, days=1)])
        days.append(_event(3))

        report = other.stream("days").verify()

        assert (report.stream, report.partitions, report.commits, report.events) == ("days", 2, 3, 4)
        assert report.ok
        assert report.problems == ()

    @pytest.mark.parametrize("before", [3, 10])
    @pytest.mark.parametrize("compacted", [False, True], ids=["live", "compacted"])
    def test_truncated_log_begins_at_just_that_offset(
        self, stream: Stream, open_handle: OpenStore, before: int, *, compacted: bool
    ) -> None:
        """After `truncate(before=offset)` the log begins there, for all; the rest, and where it ends, are as before."""
        for number in range(0, 10, 2):
            stream.append([_event(number), _event(number + 1)])
        if compacted:
            stream.compact()

        report = stream.truncate(before=before)

        fresh = open_handle().stream("orders")
        assert (report.events, report.partitions[0].start) == (before, before)
        assert [event.offset for event in fresh.read()] == list(range(before, 10))
        assert _ids(fresh.recent(20)) == [f"e{number}" for number in range(9, before - 1, -1)]
        assert fresh.get(f"e{before - 1}") is None
        assert fresh.cursor() == {"0": 10}
        assert _commit(stream.append(_event(10))).offsets == (10,)
        verified = open_handle().stream("orders").verify()
        assert (verified.ok, verified.events) == (True, 11 - before)

    def test_cursor_before_the_start_is_told_where_the_log_begins(self, stream: Stream, open_handle: OpenStore) -> None:
        """Readers and tails get `OffsetOutOfRangeError` with `start`; whoever goes on from there reads the rest."""
        stream.append([_event(number) for number in range(6)])
        stream.truncate(before=4)
        fresh = open_handle().stream("orders")

        with pytest.raises(OffsetOutOfRangeError) as read:
            list(fresh.read({"0": 2}))
        with pytest.raises(OffsetOutOfRangeError) as followed:
            fresh.tail({"0": 2}).poll()

        for caught in (read.value, followed.value):
            assert (caught.partition, caught.offset, caught.start) == ("0", 2, 4)
            assert _ids(fresh.read({"0": caught.start})) == ["e4", "e5"]

    def test_truncating_by_time_moves_every_partition(self, store: EventStore, open_handle: OpenStore) -> None:
        """`truncate(before=time)`: each partition begins with its first event that is not older."""
        days = store.stream("days", partition_by="day")
        days.append([_event(number, days=day) for day in range(3) for number in range(10 * day, 10 * day + 3)])

        report = days.truncate(before=START + timedelta(days=1, seconds=11))

        assert [(one.partition, one.start) for one in report.partitions] == [
            ("2026-02-05", 3),
            ("2026-02-06", 1),
            ("2026-02-07", 0),
        ]
        assert _ids(open_handle().stream("days").read()) == ["e11", "e12", "e20", "e21", "e22"]

    def test_vacuum_removes_no_event(self, stream: Stream, open_handle: OpenStore) -> None:
        """What was compacted or truncated is removed a grace later, or at once where nobody else is active."""
        for number in range(0, 12, 2):
            stream.append([_event(number), _event(number + 1)])
        stream.compact()
        stream.truncate(before=3)
        kept = [f"e{number}" for number in range(3, 12)]

        waiting = stream.vacuum()

        assert (waiting.segments_removed, waiting.segments_waiting > 0) == (0, True)
        assert waiting.waiting_until is not None
        assert _ids(open_handle().stream("orders").read()) == kept

        removed = stream.vacuum(grace=0, exclusive=True)

        assert (removed.segments_removed, removed.bytes_removed) == (waiting.segments_waiting, waiting.bytes_waiting)
        assert (removed.segments_waiting, removed.waiting_until) == (0, None)
        assert _ids(open_handle().stream("orders").read()) == kept
        assert _commit(stream.append(_event(12))).offsets == (12,)
        assert open_handle().stream("orders").verify().ok
        assert stream.vacuum(grace=0, exclusive=True).segments_removed == 0

    def test_vacuum_in_a_hurry_needs_a_promise(self, stream: Stream) -> None:
        """Writers and readers rely on the stream's grace: a shorter one needs `exclusive=True`."""
        stream.append([_event(0), _event(1)])
        stream.compact()

        with pytest.raises(StreamSettingsError, match="exclusive"):
            stream.vacuum(grace=60)

    def test_dry_runs_tell_and_do_nothing(self, stream: Stream, open_handle: OpenStore) -> None:
        """With `dry_run=True` a read-only handle will do, and nothing is changed."""
        stream.append([_event(number) for number in range(4)])
        stream.compact()
        reading = open_handle(read_only=True).stream("orders")

        assert reading.truncate(before=3, dry_run=True).events == 3
        assert reading.vacuum(grace=0, exclusive=True, dry_run=True).segments_removed > 0

        assert len(list(reading.read())) == 4
        assert stream.vacuum(grace=0, exclusive=True).segments_removed > 0

    def test_stream_names_where_it_is_stored(self, store: EventStore) -> None:
        """`url` names the place of a stream, or of one of its partitions, for other programs."""
        stream = store.stream("orders")
        stream.append(_event(0))

        assert stream.url().startswith(store.url.rstrip("/") + "/")
        assert stream.url("0") == f"{stream.url()}/0"
        assert stream.name == "orders"

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _refuses_several_writers(self, open_handle: OpenStore) -> bool:
        """Tell whether this storage is for one writer: then whoever does not promise to be the only one is refused."""
        if self.several_writers:
            return False
        try:
            open_handle(single_writer=False).stream("race").append(_event(0))
        except CapabilityError as err:
            assert "single_writer=True" in str(err)  # noqa: PT017  (where nothing is raised, the test is skipped)
            return True
        pytest.skip("the store was opened for one writer, though its storage is safe for several")

    def _append_at_once(self, streams: Sequence[Stream]) -> list[list[Commit]]:
        """Append from a thread for each stream, now one event, now a batch; return each one's commits."""
        barrier = threading.Barrier(len(streams))

        def append(writer: int) -> list[Commit]:
            chance = random.Random(writer)
            made = []
            barrier.wait(self.timeout_seconds)
            for number in range(self.appends_each):
                count = chance.choice([1, 1, 4])
                batch = [_event(n, id=f"{writer}-{number}-{n}", subject=f"w{writer}") for n in range(count)]
                made.append(_commit(streams[writer].append(batch)))
            return made

        return self._together([partial(append, writer) for writer in range(len(streams))])

    def _check_log(self, stream: Stream, commits: Sequence[Sequence[Commit]]) -> None:
        """Check that a log holds what its writers were told: all of it, once, each at its offset, in their order."""
        found = list(stream.read())
        promised = {
            f"{writer}-{number}-{n}": offset
            for writer, made in enumerate(commits)
            for number, commit in enumerate(made)
            for n, offset in enumerate(commit.offsets)
        }
        assert [event.offset for event in found] == list(range(len(found)))
        assert {event.id: event.offset for event in found} == promised
        assert len(found) == len(promised)
        for made in commits:
            offsets = [offset for commit in made for offset in commit.offsets]
            assert offsets == sorted(offsets)
            for commit in made:
                assert commit.offsets == tuple(range(commit.first_offset, commit.next_offset))
        assert stream.verify().ok

    def _next_ids(self, events: Iterable[Event], count: int) -> list[str]:
        """Take events from a tail in a thread, so that one that never wakes fails the test instead of hanging it."""
        return self._join([_start(lambda: _ids(itertools.islice(events, count)))])[0]

    def _settled(self, before: set[threading.Thread]) -> None:
        """Check that no thread is left that was not there before; one that is about to end may do so."""
        for thread in set(threading.enumerate()) - before:
            thread.join(self.timeout_seconds)
        assert set(threading.enumerate()) <= before

    def _together(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Run tasks in a thread each, and return their results; fails when one does not end in time."""
        return self._join([_start(task) for task in tasks])

    def _join(self, futures: Sequence[Future[T]]) -> list[T]:
        """Wait for threads, and return their results or raise the error of one."""
        if wait(futures, timeout=self.timeout_seconds).not_done:
            pytest.fail(f"a thread was still waiting after {self.timeout_seconds:g} seconds")
        return [future.result() for future in futures]


# -- events ------------------------------------------------------------------------------------------------------------


def _event(number: int, *, days: int = 0, **fields: Any) -> Event:  # noqa: ANN401  (any field of an event)
    """Return the event `e<number>`, so many seconds after the start."""
    given: dict[str, Any] = {
        "type": "test.event",
        "id": f"e{number}",
        "time": START + timedelta(days=days, seconds=number % 3600),
        "data": number,
    }
    return Event(**{**given, **fields})


def _mixed_events(count: int) -> list[Event]:
    """Return events that differ in everything a filter looks at, over two days, in no order of time."""
    types, tags = ["order.placed", "order.paid", "order.sent"], ["UA", "B6", "AA"]
    return [
        Event(
            type=types[number % 3],
            id=f"id-{(number * 7) % count:03}" if count % 7 else f"id-{number:03}",
            subject=f"s{number % 4}" if number % 5 else None,
            source=["nyc", "ewr", "é/日本"][(number // 2) % 3],
            time=START + timedelta(hours=(number * 11) % 36),
            tags=tuple(tags[: number % 4]),
            data={"number": number, "types": types},
        )
        for number in range(count)
    ]


def _passes(event: Event, filters: Mapping[str, Any]) -> bool:
    """Tell whether an event passes: said once more, plainly."""
    held: dict[str, Sequence[str | None]] = {
        "types": [event.type],
        "subjects": [event.subject],
        "sources": [event.source],
        "tags": event.tags,
    }
    return all(
        event.time >= value
        if name == "since"
        else event.time < value
        if name == "until"
        else any(one in value for one in held[name])
        for name, value in filters.items()
    )


def _ids(events: Iterable[Event]) -> list[str]:
    return [event.id for event in events]


def _commit(result: Commit | list[Commit]) -> Commit:
    assert isinstance(result, Commit)
    return result


def _loaded(store: EventStore, name: str) -> object:
    checkpoint = store.checkpoints.load(name)
    assert checkpoint is not None
    return checkpoint.value


def _start(task: Callable[[], T]) -> Future[T]:
    """Run a task in a thread that does not keep the process from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = task()
        except BaseException as err:  # noqa: BLE001  (handed to whoever asks for the result)
            future.set_exception(err)
        else:
            future.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return future
