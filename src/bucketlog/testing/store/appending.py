"""Appending events: offsets, batches, duplicates, and the buffered writer."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from bucketlog.commit import Commit
from bucketlog.errors import (
    DuplicateEventError,
    InvalidEventError,
    OffsetConflictError,
    StreamSettingsError,
)
from bucketlog.event import Event
from bucketlog.testing.store.harness import (
    START,
    StoreTests,
    ids_of,
    make_event,
    one_commit,
)

if TYPE_CHECKING:
    from bucketlog.buffered_writer import BufferedWriter
    from bucketlog.store import EventStore
    from bucketlog.stream import Stream


class AppendingTests(StoreTests):
    """Appends, duplicates, and the buffered writer."""

    # -- append --------------------------------------------------------------------------------------------------------

    def test_append_returns_the_offset_of_the_event(self, stream: Stream) -> None:
        """An event gets the partition's next offset. The first event of a stream has offset 0 in partition "0"."""
        first = stream.append(make_event(1))
        second = stream.append(make_event(2))

        assert first == Commit("0", 0, 1, offsets=(0,), duplicates=(), indexes=(0,))
        assert second == Commit("0", 1, 2, offsets=(1,), duplicates=(), indexes=(0,))

    def test_batch_gets_contiguous_offsets(self, stream: Stream) -> None:
        """A batch, any iterable of events, is one commit with contiguous offsets in the order of the batch."""
        stream.append(make_event(0))

        commit = one_commit(stream.append(make_event(number) for number in range(1, 5)))

        assert (commit.first_offset, commit.next_offset, commit.offsets) == (1, 5, (1, 2, 3, 4))
        assert [(event.id, event.offset) for event in stream.read()] == [(f"e{n}", n) for n in range(5)]
        assert stream.verify().commits == 2

    def test_empty_batch_writes_nothing(self, store: EventStore, stream: Stream) -> None:
        """An empty batch returns a commit without offsets and creates neither a stream nor a partition."""
        before = one_commit(stream.append([]))
        streams = store.streams()
        stream.append(make_event(1))
        after = one_commit(stream.append([]))

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
    def test_event_reads_back_unchanged(self, stream: Stream, event: Event) -> None:
        """Every field reads back as written. `partition` and `offset` are added, and do not count for equality."""
        stream.append([make_event(0), event, make_event(1)])

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
        """A time in any zone reads back as the same instant in UTC, to the microsecond."""
        there = START.astimezone(timezone(timedelta(hours=-5, minutes=-30)))

        stream.append(make_event(1, time=there))

        found = next(iter(stream.read())).time
        assert found == START
        assert found.utcoffset() == timedelta(0)

    def test_large_event_reads_back_whole(self, stream: Stream) -> None:
        """An event may be several megabytes."""
        text = "0123456789abcdef" * 200_000

        stream.append([make_event(0), make_event(1, data=text), make_event(2)])

        assert [event.data == text for event in stream.read()] == [False, True, False]

    def test_batch_with_an_impossible_event_writes_nothing(self, store: EventStore, stream: Stream) -> None:
        """`InvalidEventError` gives the index and field of an event that cannot be written. The whole batch fails."""
        with pytest.raises(InvalidEventError) as caught:
            stream.append([make_event(0), make_event(1, data={"mean": float("nan")}), make_event(2)])

        assert (caught.value.index, caught.value.field) == (1, "data")
        assert store.streams() == []
        assert ids_of(stream.read()) == []

    def test_wrong_expected_offset_writes_nothing(self, stream: Stream) -> None:
        """`expected_offset=n` appends only if the next offset is n. The error has the actual next offset."""
        stream.append(make_event(0), expected_offset=0)
        stream.append([make_event(1), make_event(2)], expected_offset=1)

        for wrong in (0, 2, 4):
            with pytest.raises(OffsetConflictError) as caught:
                stream.append(make_event(3), expected_offset=wrong)
            error = caught.value
            assert (error.partition, error.expected_offset, error.next_offset) == ("0", wrong, 3)

        assert ids_of(stream.read()) == ["e0", "e1", "e2"]

    def test_expected_offset_sees_what_another_handle_appended(self, store: EventStore, other: EventStore) -> None:
        """A handle with an outdated view gets `OffsetConflictError` too. It can retry at the error's `next_offset`."""
        mine, theirs = store.stream("orders"), other.stream("orders")
        mine.append(make_event(0))
        theirs.append(make_event(1))

        with pytest.raises(OffsetConflictError) as caught:
            mine.append(make_event(2), expected_offset=1)
        mine.append(make_event(2), expected_offset=caught.value.next_offset)

        assert ids_of(theirs.read()) == ["e0", "e1", "e2"]

    def test_wrong_expected_offset_creates_no_stream(self, store: EventStore, stream: Stream) -> None:
        """A refused append creates nothing, even as the first append to its stream."""
        with pytest.raises(OffsetConflictError):
            stream.append(make_event(0), expected_offset=1)

        assert store.streams() == []

    def test_expected_offset_needs_a_single_partition(self, store: EventStore) -> None:
        """A batch over several partitions with `expected_offset` raises `StreamSettingsError`; nothing is written."""
        days = store.stream("days", partition_by="day")

        with pytest.raises(StreamSettingsError):
            days.append([make_event(0), make_event(1, days=1)], expected_offset=0)
        commits = days.append([make_event(0), make_event(1)], expected_offset=0)

        assert commits == [Commit("2026-02-05", 0, 2, (0, 1), (), (0, 1))]
        assert days.partitions() == ["2026-02-05"]

    # -- duplicates ----------------------------------------------------------------------------------------------------

    def test_stored_id_raises_by_default(self, stream: Stream) -> None:
        """By default a batch with an id that is already stored raises `DuplicateEventError`; nothing is written."""
        stream.append([make_event(0), make_event(1)])

        with pytest.raises(DuplicateEventError) as caught:
            stream.append([make_event(2), make_event(1), make_event(3)])

        error = caught.value
        assert (error.event_id, error.index, error.partition, error.offset) == ("e1", 1, "0", 1)
        assert isinstance(error, ValueError)
        assert ids_of(stream.read()) == ["e0", "e1"]

    @pytest.mark.parametrize("on_duplicate", ["skip", "return"])
    def test_stored_ids_are_skipped_and_their_offsets_returned(self, stream: Stream, on_duplicate: Any) -> None:  # noqa: ANN401
        """With "skip" and "return" only new events are written. Duplicates get the offset of the stored event."""
        stream.append([make_event(0), make_event(1)])

        commit = stream.append([make_event(2), make_event(1), make_event(3), make_event(0)], on_duplicate=on_duplicate)

        assert commit == Commit("0", 2, 4, offsets=(2, 1, 3, 0), duplicates=(1, 3), indexes=(0, 1, 2, 3))
        assert ids_of(stream.read()) == ["e0", "e1", "e2", "e3"]

    @pytest.mark.parametrize("on_duplicate", ["skip", "return"])
    def test_batch_of_duplicates_writes_nothing(self, stream: Stream, on_duplicate: Any) -> None:  # noqa: ANN401
        """A batch of duplicates only is acknowledged without a commit."""
        stream.append([make_event(0), make_event(1)])

        commit = one_commit(stream.append([make_event(1), make_event(0)], on_duplicate=on_duplicate))

        assert commit.first_offset == commit.next_offset
        assert (commit.offsets, commit.duplicates) == ((1, 0), (0, 1))
        assert stream.verify().commits == 1

    def test_repeat_inside_a_batch_is_a_duplicate_of_the_first(self, stream: Stream) -> None:
        """An id that occurs twice in a batch is stored once, at the offset of its first event."""
        batch = [make_event(0), make_event(1), make_event(0, data="again"), make_event(2), make_event(1)]

        with pytest.raises(DuplicateEventError) as caught:
            stream.append(batch)
        commit = one_commit(stream.append(batch, on_duplicate="skip"))

        assert (caught.value.event_id, caught.value.index) == ("e0", 2)
        assert (commit.offsets, commit.duplicates, commit.next_offset) == ((0, 1, 0, 2, 1), (2, 4), 3)
        assert [(event.id, event.data) for event in stream.read()] == [("e0", 0), ("e1", 1), ("e2", 2)]

    def test_refused_duplicate_creates_no_stream(self, store: EventStore, stream: Stream) -> None:
        """A refused batch creates nothing, even as the first append to its stream."""
        with pytest.raises(DuplicateEventError):
            stream.append([make_event(0), make_event(0)])

        assert store.streams() == []

    def test_id_stored_by_another_handle_is_a_duplicate(self, store: EventStore, other: EventStore) -> None:
        """An id is unique in its partition, whichever handle stored it, even if this handle's view is outdated."""
        mine, theirs = store.stream("orders"), other.stream("orders")
        mine.append(make_event(0))
        theirs.append([make_event(1), make_event(2)])

        with pytest.raises(DuplicateEventError) as caught:
            mine.append([make_event(3), make_event(2)])
        commit = one_commit(mine.append([make_event(3), make_event(2)], on_duplicate="return"))

        assert caught.value.offset == 2
        assert (commit.offsets, commit.duplicates) == ((3, 2), (1,))
        assert ids_of(theirs.read()) == ["e0", "e1", "e2", "e3"]

    def test_id_is_unique_in_its_partition_only(self, stream: Stream) -> None:
        """Two partitions may hold the same id."""
        stream.append(make_event(0), partition="a")
        stream.append(make_event(0), partition="b")

        assert [(event.partition, event.id) for event in stream.read()] == [("a", "e0"), ("b", "e0")]

    def test_unknown_on_duplicate_is_refused(self, stream: Stream) -> None:
        """An `on_duplicate` other than the three raises `ValueError`."""
        stream.append(make_event(0))

        with pytest.raises(ValueError, match="on_duplicate"):
            stream.append(make_event(1), on_duplicate="replace")  # type: ignore[call-overload]  # the mistake tested here

    # -- buffered writer -----------------------------------------------------------------------------------------------

    def test_writer_gathers_appends_into_few_commits(self, store: EventStore, other: EventStore) -> None:
        """Many small appends become few commits, in order. When the block ends, all of them are durable."""
        stream = store.stream("orders")

        with stream.writer(max_events=100, linger=10) as writer:
            for number in range(250):
                writer.append(make_event(number))

        assert ids_of(other.stream("orders").read()) == [f"e{number}" for number in range(250)]
        assert stream.verify().commits <= 5
        assert (writer.written, writer.duplicates) == (250, 0)

    def test_flush_makes_earlier_appends_durable(self, store: EventStore, other: EventStore) -> None:
        """`flush` does not wait for `linger`. Once it returns, another handle reads the events appended before it."""
        with store.stream("orders").writer(linger=self.timeout_seconds) as writer:
            writer.append([make_event(0), make_event(1)])
            writer.flush()
            assert ids_of(other.stream("orders").read()) == ["e0", "e1"]
            assert writer.written == 2
            writer.flush()

    def test_writer_commits_after_linger(self, store: EventStore, other: EventStore) -> None:
        """After `linger` an append is committed without another call."""
        with store.stream("orders").writer(linger=0.01) as writer:
            writer.append(make_event(0))
            with other.stream("orders").tail(poll=0.02) as tail:
                assert self._next_ids(tail, 1) == ["e0"]

    def test_writer_refuses_an_impossible_event_at_once(self, stream: Stream) -> None:
        """The append of an impossible event raises. The writer stays usable, without that batch."""
        with stream.writer() as writer:
            writer.append(make_event(0))
            with pytest.raises(InvalidEventError):
                writer.append([make_event(1), make_event(2, data={1, 2})])
            writer.append(make_event(3))

        assert ids_of(stream.read()) == ["e0", "e3"]

    def test_writer_counts_duplicates_that_it_skips(self, stream: Stream) -> None:
        """With `on_duplicate="skip"` an event that is already stored is counted, not written again."""
        stream.append([make_event(0), make_event(1)])

        with stream.writer(on_duplicate="skip") as writer:
            writer.append([make_event(1), make_event(2)])

        assert (writer.written, writer.duplicates) == (2, 1)
        assert ids_of(stream.read()) == ["e0", "e1", "e2"]

    def test_writer_keeps_earlier_appends_when_its_block_fails(self, stream: Stream) -> None:
        """If the caller's code raises inside the block, the events appended before are still made durable."""

        def fail(writer: BufferedWriter) -> None:
            with writer:
                writer.append(make_event(0))
                msg = "the caller's own"
                raise RuntimeError(msg)

        with pytest.raises(RuntimeError, match="the caller's own"):
            fail(stream.writer(linger=self.timeout_seconds))

        assert ids_of(stream.read()) == ["e0"]

    def test_closed_writer_refuses_appends(self, stream: Stream) -> None:
        """An append to a closed writer raises `ValueError`. Closing ends the writer's thread."""
        before = set(threading.enumerate())
        writer = stream.writer()
        writer.append(make_event(0))
        writer.close()
        writer.close()

        with pytest.raises(ValueError, match="closed"):
            writer.append(make_event(1))

        assert ids_of(stream.read()) == ["e0"]
        assert set(threading.enumerate()) <= before
