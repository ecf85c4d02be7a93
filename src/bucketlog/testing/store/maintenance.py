"""Maintenance: statistics, verification, truncation and vacuum."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from bucketlog.errors import (
    OffsetOutOfRangeError,
    StreamSettingsError,
)
from bucketlog.testing.store.harness import (
    START,
    OpenStore,
    StoreTests,
    ids_of,
    make_event,
    one_commit,
)

if TYPE_CHECKING:
    from bucketlog.store import EventStore
    from bucketlog.stream import Stream


class MaintenanceTests(StoreTests):
    """Statistics, verification, truncation, compaction and vacuum."""

    # -- maintenance ---------------------------------------------------------------------------------------------------

    def test_stats_count_what_is_stored(self, store: EventStore, other: EventStore) -> None:
        """`stats` reports partitions, offsets, segments and bytes."""
        days = store.stream("days", partition_by="day")
        days.append([make_event(0), make_event(1), make_event(2, days=1)])
        days.append(make_event(3))

        stats = other.stream("days").stats()

        assert (stats.stream, stats.partition_by, stats.events) == ("days", "day", 4)
        assert [(part.partition, part.start, part.next_offset, part.events) for part in stats.partitions] == [
            ("2026-02-05", 0, 3, 3),
            ("2026-02-06", 0, 1, 1),
        ]
        assert stats.segments >= 2
        assert stats.bytes > 4 * len('{"type":"test.event"}')

    def test_verify_reads_everything(self, store: EventStore, other: EventStore) -> None:
        """`verify` counts commits and events, and finds no problem in an intact log."""
        days = store.stream("days", partition_by="day")
        days.append([make_event(0), make_event(1), make_event(2, days=1)])
        days.append(make_event(3))

        report = other.stream("days").verify()

        assert (report.stream, report.partitions, report.commits, report.events) == ("days", 2, 3, 4)
        assert report.ok
        assert report.problems == ()

    @pytest.mark.parametrize("before", [3, 10])
    @pytest.mark.parametrize("compacted", [False, True], ids=["live", "compacted"])
    def test_truncated_log_starts_at_exactly_that_offset(
        self, stream: Stream, open_handle: OpenStore, before: int, *, compacted: bool
    ) -> None:
        """After `truncate(before=offset)` every handle sees a log that starts there. Its end does not move."""
        for number in range(0, 10, 2):
            stream.append([make_event(number), make_event(number + 1)])
        if compacted:
            stream.compact()

        report = stream.truncate(before=before)

        fresh = open_handle().stream("orders")
        assert (report.events, report.partitions[0].start) == (before, before)
        assert [event.offset for event in fresh.read()] == list(range(before, 10))
        assert ids_of(fresh.recent(20)) == [f"e{number}" for number in range(9, before - 1, -1)]
        assert fresh.get(f"e{before - 1}") is None
        assert fresh.cursor() == {"0": 10}
        assert one_commit(stream.append(make_event(10))).offsets == (10,)
        verified = open_handle().stream("orders").verify()
        assert (verified.ok, verified.events) == (True, 11 - before)

    def test_cursor_before_the_start_is_out_of_range(self, stream: Stream, open_handle: OpenStore) -> None:
        """Reads and tails from a truncated offset raise `OffsetOutOfRangeError`; `start` is where to resume."""
        stream.append([make_event(number) for number in range(6)])
        stream.truncate(before=4)
        fresh = open_handle().stream("orders")

        with pytest.raises(OffsetOutOfRangeError) as read:
            list(fresh.read({"0": 2}))
        with pytest.raises(OffsetOutOfRangeError) as followed:
            fresh.tail({"0": 2}).poll()

        for caught in (read.value, followed.value):
            assert (caught.partition, caught.offset, caught.start) == ("0", 2, 4)
            assert ids_of(fresh.read({"0": caught.start})) == ["e4", "e5"]

    def test_truncating_by_time_moves_every_partition(self, store: EventStore, open_handle: OpenStore) -> None:
        """`truncate(before=time)` moves the start of each partition to its first event at or after that time."""
        days = store.stream("days", partition_by="day")
        days.append([make_event(number, days=day) for day in range(3) for number in range(10 * day, 10 * day + 3)])

        report = days.truncate(before=START + timedelta(days=1, seconds=11))

        assert [(part.partition, part.start) for part in report.partitions] == [
            ("2026-02-05", 3),
            ("2026-02-06", 1),
            ("2026-02-07", 0),
        ]
        assert ids_of(open_handle().stream("days").read()) == ["e11", "e12", "e20", "e21", "e22"]

    def test_vacuum_removes_no_event(self, stream: Stream, open_handle: OpenStore) -> None:
        """Vacuum removes only segments that were compacted or truncated, after the grace period.

        With `exclusive=True`, the promise that no one else is active, a grace of 0 removes them at once.
        """
        for number in range(0, 12, 2):
            stream.append([make_event(number), make_event(number + 1)])
        stream.compact()
        stream.truncate(before=3)
        kept = [f"e{number}" for number in range(3, 12)]

        waiting = stream.vacuum()

        assert (waiting.segments_removed, waiting.segments_waiting > 0) == (0, True)
        assert waiting.waiting_until is not None
        assert ids_of(open_handle().stream("orders").read()) == kept

        removed = stream.vacuum(grace=0, exclusive=True)

        assert (removed.segments_removed, removed.bytes_removed) == (waiting.segments_waiting, waiting.bytes_waiting)
        assert (removed.segments_waiting, removed.waiting_until) == (0, None)
        assert ids_of(open_handle().stream("orders").read()) == kept
        assert one_commit(stream.append(make_event(12))).offsets == (12,)
        assert open_handle().stream("orders").verify().ok
        assert stream.vacuum(grace=0, exclusive=True).segments_removed == 0

    def test_vacuum_with_a_shorter_grace_needs_exclusive(self, stream: Stream) -> None:
        """Readers and writers rely on the stream's grace period: a shorter one requires `exclusive=True`."""
        stream.append([make_event(0), make_event(1)])
        stream.compact()

        with pytest.raises(StreamSettingsError, match="exclusive"):
            stream.vacuum(grace=60)

    def test_dry_runs_change_nothing(self, stream: Stream, open_handle: OpenStore) -> None:
        """With `dry_run=True` the report is the same, nothing changes, and a read-only handle suffices."""
        stream.append([make_event(number) for number in range(4)])
        stream.compact()
        reading = open_handle(read_only=True).stream("orders")

        assert reading.truncate(before=3, dry_run=True).events == 3
        assert reading.vacuum(grace=0, exclusive=True, dry_run=True).segments_removed > 0

        assert len(list(reading.read())) == 4
        assert stream.vacuum(grace=0, exclusive=True).segments_removed > 0

    def test_url_of_a_stream_is_below_the_store(self, store: EventStore) -> None:
        """`url` is the location of a stream, or of one of its partitions, for use by other programs."""
        stream = store.stream("orders")
        stream.append(make_event(0))

        assert stream.url().startswith(store.url.rstrip("/") + "/")
        assert stream.url("0") == f"{stream.url()}/0"
        assert stream.name == "orders"
