"""Following a stream: tails and subscriptions."""

from __future__ import annotations

import threading
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING

import pytest

from bucketlog.errors import (
    InvalidNameError,
    SubscriptionLostError,
)
from bucketlog.testing.store.harness import (
    IMPOSSIBLE_NAMES,
    StoreTests,
    make_event,
)
from bucketlog.testing.threads import start

if TYPE_CHECKING:
    from bucketlog.store import EventStore


class FollowingTests(StoreTests):
    """Tails and subscriptions."""

    # -- tail ----------------------------------------------------------------------------------------------------------

    def test_tail_reads_stored_events_and_then_new_ones(self, store: EventStore, other: EventStore) -> None:
        """A tail reads from its cursor to the end, then waits for events that any handle appends."""
        writer = other.stream("orders")
        writer.append([make_event(0), make_event(1)])

        with store.stream("orders").tail(poll=0.02) as tail:
            assert self._next_ids(tail, 2) == ["e0", "e1"]
            for number in range(2, 6):
                writer.append(make_event(number))
                assert self._next_ids(tail, 1) == [f"e{number}"]
            assert tail.cursor == {"0": 6}

        with store.stream("orders").tail({"0": 4}, poll=0.02) as tail:
            assert self._next_ids(tail, 2) == ["e4", "e5"]

    def test_waiting_tail_wakes_up(self, store: EventStore, other: EventStore) -> None:
        """An event appended while the tail waits reaches it without another call."""
        writer = other.stream("orders")
        writer.append(make_event(0))

        with store.stream("orders").tail(poll=0.02) as tail:
            assert self._next_ids(tail, 1) == ["e0"]
            waiting = start(lambda: next(tail).id)
            assert not wait([waiting], timeout=0.1).done
            writer.append(make_event(1))

            assert self._join([waiting]) == ["e1"]

    def test_tail_waits_for_its_stream_to_begin(self, store: EventStore, other: EventStore) -> None:
        """A tail may start before its stream exists."""
        with store.stream("orders").tail(poll=0.02) as tail:
            waiting = start(lambda: next(tail).id)
            assert not wait([waiting], timeout=0.1).done
            other.stream("orders").append(make_event(0))

            assert self._join([waiting]) == ["e0"]

    def test_tail_finds_new_partitions(self, store: EventStore, other: EventStore) -> None:
        """A tail picks up partitions created later. With `partitions`, only the named ones."""
        days = other.stream("days", partition_by="day")
        days.append(make_event(0))

        with (
            store.stream("days").tail(poll=0.02) as tail,
            store.stream("days").tail(poll=0.02, partitions=["2026-02-07"]) as narrow,
        ):
            assert self._next_ids(tail, 1) == ["e0"]
            days.append(make_event(1, days=1))
            assert self._next_ids(tail, 1) == ["e1"]
            days.append(make_event(2, days=2))
            assert self._next_ids(tail, 1) == ["e2"]
            assert tail.cursor == {"2026-02-05": 1, "2026-02-06": 1, "2026-02-07": 1}
            assert self._next_ids(narrow, 1) == ["e2"]

    def test_filtered_tail_has_a_cursor_after_its_last_event(self, store: EventStore, other: EventStore) -> None:
        """A filtered tail yields matching events. Its cursor is after the last one yielded."""
        writer = other.stream("orders")
        writer.append([make_event(0), make_event(1, type="wanted"), make_event(2)])

        with store.stream("orders").tail(poll=0.02, types=["wanted"]) as tail:
            assert self._next_ids(tail, 1) == ["e1"]
            assert tail.cursor == {"0": 2}
            writer.append([make_event(3), make_event(4, type="wanted")])
            assert self._next_ids(tail, 1) == ["e4"]
            assert tail.cursor == {"0": 5}

    def test_breaking_off_a_tail_leaves_no_thread(self, store: EventStore) -> None:
        """A consumer that breaks out of the loop leaves no thread behind."""
        stream = store.stream("orders")
        stream.append(make_event(0))
        before = set(threading.enumerate())

        for event in stream.tail(poll=0.02):
            assert event.id == "e0"
            break

        assert set(threading.enumerate()) <= before

    def test_closing_a_tail_ends_its_waiting_at_once(self, store: EventStore) -> None:
        """`close`, from any thread, ends the iteration at once, however long the poll interval."""
        stream = store.stream("orders")
        stream.append(make_event(0))
        before = set(threading.enumerate())
        tail = stream.tail(poll=self.timeout_seconds)
        assert self._next_ids(tail, 1) == ["e0"]
        waiting = start(lambda: list(tail))
        assert not wait([waiting], timeout=0.2).done

        began = time.monotonic()
        tail.close()
        tail.close()

        assert self._join([waiting]) == [[]]
        assert time.monotonic() - began < 2
        assert tail.cursor == {"0": 1}
        self._settled(before)

    # -- subscriptions -------------------------------------------------------------------------------------------------

    def test_subscription_resumes_after_the_last_ack(self, store: EventStore, other: EventStore) -> None:
        """A new subscriber continues after the last `ack`: unacknowledged events are delivered again."""
        store.stream("orders").append([make_event(number) for number in range(5)])
        with store.subscribe("orders", "mailer") as first:
            assert self._next_ids(first, 2) == ["e0", "e1"]
            assert first.ack() == {"0": 2}
            assert self._next_ids(first, 2) == ["e2", "e3"]

        with other.subscribe("orders", "mailer") as second:
            assert second.cursor == {"0": 2}
            assert self._next_ids(second, 3) == ["e2", "e3", "e4"]
            second.ack()
            assert second.cursor == {"0": 5}

    def test_replaced_subscriber_fails_at_its_next_ack(self, store: EventStore, other: EventStore) -> None:
        """A later subscriber of the same name takes over at once. The earlier one gets `SubscriptionLostError`."""
        store.stream("orders").append([make_event(0), make_event(1)])
        with store.subscribe("orders", "mailer") as first:
            assert self._next_ids(first, 1) == ["e0"]
            with other.subscribe("orders", "mailer") as second:
                with pytest.raises(SubscriptionLostError) as caught:
                    first.ack()
                assert self._next_ids(second, 2) == ["e0", "e1"]
                second.ack()

                assert caught.value.name == "mailer"
                assert second.cursor == {"0": 2}

    def test_subscriptions_are_independent_of_each_other(self, store: EventStore) -> None:
        """Each name has a position of its own in each stream, whatever characters the names contain."""
        store.stream("a b").append([make_event(0), make_event(1)])
        store.stream("a").append([make_event(10), make_event(11)])

        with (
            store.subscribe("a b", "c") as first,
            store.subscribe("a", "b c") as second,
            store.subscribe(store.stream("a"), "c") as third,
        ):
            assert self._next_ids(first, 2) == ["e0", "e1"]
            first.ack()
            assert self._next_ids(second, 1) == ["e10"]
            second.ack()
            assert self._next_ids(third, 2) == ["e10", "e11"]
            third.ack()
            first.ack()

            assert [dict(subscription.cursor) for subscription in (first, second, third)] == [
                {"0": 2},
                {"0": 1},
                {"0": 2},
            ]

    def test_stream_and_consumer_may_have_any_names(self, store: EventStore) -> None:
        """Stream and consumer may have the longest and strangest names. Impossible names raise `InvalidNameError`."""
        stream = store.stream("x" * 255)
        stream.append([make_event(0), make_event(1)])

        for name in ("y" * 255, "z" * 255, "/", "é"):
            with store.subscribe(stream, name) as subscription:
                assert self._next_ids(subscription, 1) == ["e0"]
                assert subscription.ack() == {"0": 1}
        for name in IMPOSSIBLE_NAMES:
            with pytest.raises(InvalidNameError):
                store.subscribe(stream, name)

    def test_new_subscription_may_start_at_the_end(self, store: EventStore) -> None:
        """`start="latest"` starts a new consumer at the end of the stream. A known one resumes where it stopped."""
        stream = store.stream("orders")
        stream.append([make_event(0), make_event(1)])
        with store.subscribe("orders", "new", start="latest") as new:
            stream.append(make_event(2))
            assert self._next_ids(new, 1) == ["e2"]
        stream.append(make_event(3))

        with store.subscribe("orders", "new", start="latest") as again:
            assert self._next_ids(again, 2) == ["e2", "e3"]

    def test_subscription_waits_for_its_stream_to_begin(self, store: EventStore, other: EventStore) -> None:
        """A subscription may start before its stream exists."""
        with store.subscribe("orders", "mailer") as subscription:
            waiting = start(lambda: next(subscription).id)
            other.stream("orders").append(make_event(0))

            assert self._join([waiting]) == ["e0"]

    def test_unknown_start_is_refused(self, store: EventStore) -> None:
        """`start` is "earliest" or "latest"; anything else raises `ValueError`."""
        with pytest.raises(ValueError, match="start"):
            store.subscribe("orders", "mailer", start="yesterday")  # type: ignore[arg-type]  # the mistake tested here

    def _settled(self, before: set[threading.Thread]) -> None:
        """Check that no thread is left that was not in `before`, after giving each time to end."""
        for thread in set(threading.enumerate()) - before:
            thread.join(self.timeout_seconds)
        assert set(threading.enumerate()) <= before
