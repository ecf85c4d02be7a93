"""Partitioning: where events go, and ids across partitions."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from bucketlog.commit import Commit
from bucketlog.errors import (
    DuplicateEventError,
    InvalidEventError,
    StreamSettingsError,
)
from bucketlog.testing.store.harness import (
    START,
    StoreTests,
    ids_of,
    make_event,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bucketlog.event import Event
    from bucketlog.store import EventStore
    from bucketlog.stream import Stream


class PartitionTests(StoreTests):
    """How events are assigned to partitions."""

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
    def test_partitioning_assigns_events(
        self,
        store: EventStore,
        other: EventStore,
        partition_by: str | Callable[[Event], str] | None,
        expected: list[str],
    ) -> None:
        """A batch makes one commit per partition that it touches, in the order of their first events."""
        stream = store.stream("orders", partition_by=partition_by)
        evening = (START + timedelta(hours=10)).astimezone(timezone(timedelta(hours=-5)))  # the same day there and here
        batch = [
            make_event(0, subject="b", source="nyc", type="x"),
            make_event(1, subject="a", source="ewr", type="x", days=1),
            make_event(2, subject="b", source="ewr", type="y", time=evening),
            make_event(3, subject="c", source="nyc", type="y", days=-1),
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
        """`hash:4` spreads subjects over at most four partitions. All events of a subject are in one."""
        stream = store.stream("orders", partition_by="hash:4")
        stream.append([make_event(number, subject=f"s{number % 20}") for number in range(40)])
        other.stream("orders").append([make_event(100 + number, subject=f"s{number}") for number in range(20)])

        places: dict[str | None, set[str | None]] = {}
        for event in stream.read():
            places.setdefault(event.subject, set()).add(event.partition)

        assert {len(partitions) for partitions in places.values()} == {1}
        assert set(stream.partitions()) <= {"0", "1", "2", "3"}
        assert len(stream.partitions()) > 1

    def test_single_event_of_a_partitioned_stream_returns_a_list(self, store: EventStore) -> None:
        """Whether `append` returns a list depends on the stream, not on the number of events."""
        days = store.stream("days", partition_by="day")

        assert days.append(make_event(0)) == [Commit("2026-02-05", 0, 1, (0,), (), (0,))]
        assert days.append(make_event(1), partition="2026-02-05") == Commit("2026-02-05", 1, 2, (1,), (), (0,))

    def test_partition_may_be_named(self, stream: Stream) -> None:
        """`partition=` overrides the partitioning. Offsets and ids are those of the named partition."""
        stream.append([make_event(0), make_event(1)])

        commit = stream.append([make_event(0), make_event(2)], partition="side")

        assert commit == Commit("side", 0, 2, (0, 1), (), (0, 1))
        assert stream.partitions() == ["0", "side"]

    def test_event_goes_to_its_own_day_only(self, store: EventStore) -> None:
        """An event cannot be put under another day than its own: readers by time would not find it there."""
        days = store.stream("days", partition_by="day")

        with pytest.raises(StreamSettingsError):
            days.append(make_event(0), partition="2026-02-06")

        assert store.streams() == []

    @pytest.mark.parametrize("partition_by", ["subject", "source"])
    def test_event_without_the_partitioning_field_is_refused(self, store: EventStore, partition_by: str) -> None:
        """A stream by subject or source refuses a batch in which an event has none; nothing is written."""
        stream = store.stream("orders", partition_by=partition_by)

        with pytest.raises(InvalidEventError) as caught:
            stream.append([make_event(0, subject="a", source="b"), make_event(1)])

        assert (caught.value.index, caught.value.field) == (1, partition_by)
        assert store.streams() == []

    def test_first_append_settles_the_partitioning(self, store: EventStore, other: EventStore) -> None:
        """The first append stores the partitioning. Later handles may omit it; a different one is refused."""
        store.stream("days", partition_by="day").append(make_event(0))

        for wrong in ("single", "subject", "hash:4", lambda _: "0"):
            with pytest.raises(StreamSettingsError):
                other.stream("days", partition_by=wrong).append(make_event(1))
        other.stream("days").append(make_event(2, days=1))

        assert store.stream("days").partitions() == ["2026-02-05", "2026-02-06"]
        assert ids_of(store.stream("days").read()) == ["e0", "e2"]

    def test_reader_does_not_settle_the_partitioning(self, store: EventStore) -> None:
        """`store.stream` does no I/O: only an append stores the partitioning."""
        assert list(store.stream("orders", partition_by="day").read()) == []

        store.stream("orders").append(make_event(0))

        assert store.stream("orders").partitions() == ["0"]

    def test_custom_partitioning_must_be_passed_again(self, store: EventStore, other: EventStore) -> None:
        """A callable cannot be stored: a later writer passes it again, or names the partition."""
        store.stream("orders", partition_by=lambda event: event.type).append(make_event(0))
        without = other.stream("orders")

        with pytest.raises(StreamSettingsError):
            without.append(make_event(1))
        without.append(make_event(1), partition="named")
        other.stream("orders", partition_by=lambda event: event.type).append(make_event(2))

        assert {event.id: event.partition for event in without.read()} == {
            "e0": "test.event",
            "e1": "named",
            "e2": "test.event",
        }

    @pytest.mark.parametrize("wrong", ["days", "", "hash", "hash:0", "hash:-1", "hash:x", "hash:04", 7])
    def test_unknown_partitioning_is_refused(self, store: EventStore, wrong: Any) -> None:  # noqa: ANN401
        """`partition_by` is a known name or a callable; anything else raises `StreamSettingsError`."""
        with pytest.raises(StreamSettingsError):
            store.stream("orders", partition_by=wrong)

    def test_ids_are_unique_across_days(self, store: EventStore, other: EventStore) -> None:
        """In a stream by day, an id that was stored on one day is a duplicate on every other day."""
        days = store.stream("days", partition_by="day")
        days.append([make_event(0), make_event(1)])
        repeat = make_event(1, days=3)

        for stream in (days, other.stream("days")):
            with pytest.raises(DuplicateEventError) as caught:
                stream.append(repeat)
            assert (caught.value.partition, caught.value.offset) == ("2026-02-05", 1)
            assert stream.append(repeat, on_duplicate="skip") == [Commit("2026-02-05", 2, 2, (1,), (0,), (0,))]

        assert days.partitions() == ["2026-02-05"]

    def test_ids_are_unique_across_days_in_a_named_partition(self, store: EventStore, other: EventStore) -> None:
        """Naming the day does not allow an id to be stored a second time."""
        store.stream("days", partition_by="day").append([make_event(0), make_event(1)])
        repeat = make_event(1, days=3)

        for handle in (store, other):
            with pytest.raises(DuplicateEventError) as caught:
                handle.stream("days").append([make_event(2, days=3), repeat], partition="2026-02-08")
            assert (caught.value.event_id, caught.value.index, caught.value.partition) == ("e1", 1, "2026-02-05")

        assert store.stream("days").partitions() == ["2026-02-05"]

    def test_repeat_inside_a_batch_is_found_across_days(self, store: EventStore) -> None:
        """An id that occurs twice in a batch over several days is stored once, on the day of its first event."""
        days = store.stream("days", partition_by="day")
        batch = [make_event(0), make_event(1, days=1), make_event(0, days=1)]

        with pytest.raises(DuplicateEventError):
            days.append(batch)
        commits = days.append(batch, on_duplicate="skip")

        assert commits == [
            Commit("2026-02-05", 0, 1, (0, 0), (2,), (0, 2)),
            Commit("2026-02-06", 0, 1, (0,), (), (1,)),
        ]

    def test_checks_of_all_partitions_come_before_the_first_write(self, store: EventStore) -> None:
        """A duplicate in one partition leaves the other partitions unwritten too."""
        stream = store.stream("orders", partition_by="subject")
        stream.append(make_event(0, subject="b"))

        with pytest.raises(DuplicateEventError) as caught:
            stream.append([make_event(1, subject="a"), make_event(0, subject="b")])

        assert caught.value.index == 1
        assert caught.value.commits == ()
        assert stream.partitions() == ["b"]
