"""Subscriptions: every event at least once, one holder at a time, and no place that is lost."""

import pytest

from bucketlog.backend import ANY
from bucketlog.errors import (
    CorruptCheckpointError,
    InvalidNameError,
    InvalidValueError,
    OutcomeUnknownError,
    ReadOnlyError,
    SubscriptionLostError,
)
from bucketlog.testing import Fail, FakeClock, Hold, LoseAnswer, on

from .stores import DEADLINE_SECONDS, KINDS, event, ids, opened_storage, start


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    yield from opened_storage(request.param, tmp_path)


def take(subscription, count):
    return start(lambda: [next(subscription).id for _ in range(count)]).result(DEADLINE_SECONDS)


def filled(storage, count=4):
    store = storage.open()
    store.stream("orders").append([event(number) for number in range(count)])
    return store


def test_fence_is_taken_in_the_call(storage):
    store = filled(storage)
    first = store.subscribe("orders", "mailer")
    assert take(first, 1) == ["e0"]

    second = storage.open().subscribe("orders", "mailer")

    with pytest.raises(SubscriptionLostError, match="mailer"):
        first.ack()
    assert take(second, 1) == ["e0"]
    assert second.ack() == {"0": 1}
    for held in (first, second):
        held.close()


def test_one_that_acknowledged_before_it_was_replaced_hands_over_its_place(storage):
    store = filled(storage)
    first = store.subscribe("orders", "mailer")
    assert take(first, 3) == ["e0", "e1", "e2"]
    first.ack()

    second = store.subscribe("orders", "mailer")

    assert second.cursor == {"0": 3}
    assert take(second, 1) == ["e3"]
    with pytest.raises(SubscriptionLostError):
        first.ack()


def test_taking_over_back_and_forth_has_one_holder(storage):
    store = filled(storage)
    held = [store.subscribe("orders", "mailer") for _ in range(4)]

    for one in held[:-1]:
        with pytest.raises(SubscriptionLostError):
            one.ack()
    assert held[-1].ack({"0": 2}) == {"0": 2}
    assert store.subscribe("orders", "mailer").cursor == {"0": 2}


def test_place_that_is_acknowledged_while_it_is_taken_over_is_not_lost(storage):
    """The holder acknowledges between the look and the fence of the one that takes over."""
    first = filled(storage).subscribe("orders", "mailer")
    take(first, 3)
    acknowledged = []

    def plan(call):
        if call.method == "put" and call.key.startswith("checkpoints/") and not acknowledged:
            acknowledged.append(first.ack())

    second = storage.open(plan).subscribe("orders", "mailer")

    assert acknowledged == [{"0": 3}]
    assert second.cursor == {"0": 3}
    with pytest.raises(SubscriptionLostError):
        first.ack()


def test_taking_over_gives_up_when_others_never_stop(storage):
    rival = filled(storage)
    rival.subscribe("orders", "mailer")

    def plan(call):
        if call.method == "put" and call.key.startswith("checkpoints/"):
            rival.subscribe("orders", "mailer")

    with pytest.raises(SubscriptionLostError, match="loop"):
        storage.open(plan, clock=FakeClock()).subscribe("orders", "mailer")


def test_cursor_may_be_acknowledged_by_itself(storage):
    subscription = filled(storage).subscribe("orders", "mailer")
    take(subscription, 4)

    assert subscription.ack({"0": 2}) == {"0": 2}
    assert subscription.cursor == {"0": 2}
    assert subscription.tail.cursor == {"0": 4}
    with pytest.raises(InvalidValueError):
        subscription.ack({"0": -1})


def test_polling_acknowledges_what_was_polled(storage):
    store = filled(storage)
    subscription = store.subscribe("orders", "mailer")

    assert ids(subscription.poll()) == ["e0", "e1", "e2", "e3"]
    assert subscription.ack() == {"0": 4}
    assert subscription.poll() == []
    subscription.close()
    assert subscription.wait() is False


def test_ack_whose_answer_was_lost_is_settled(storage):
    store = filled(storage)
    subscription = store.subscribe("orders", "mailer")
    take(subscription, 2)
    store.backend.plan = on("put", LoseAnswer(), key="checkpoints/")

    assert subscription.ack() == {"0": 2}
    assert subscription.ack() == {"0": 2}


def test_ack_that_arrives_late_is_known_as_our_own(storage):
    """An acknowledgement that nobody could tell the outcome of lands later: the consumer is still the holder."""
    store = storage.open(clock=FakeClock())
    store.stream("orders").append([event(0), event(1)])
    subscription = store.subscribe("orders", "mailer")
    take(subscription, 1)
    lost = []

    def plan(call):
        if call.method == "put" and call.key.startswith("checkpoints/"):
            lost.append(call)
            return Hold() if len(lost) == 1 else Fail(OutcomeUnknownError("no answer"))
        return None

    store.backend.plan = plan
    with pytest.raises(OutcomeUnknownError):
        subscription.ack()
    store.backend.plan = lambda call: None
    store.backend.release()
    take(subscription, 1)

    assert subscription.ack() == {"0": 2}
    assert storage.open().subscribe("orders", "mailer").cursor == {"0": 2}


def test_deleted_place_is_lost_to_its_holder(storage):
    store = filled(storage)
    subscription = store.subscribe("orders", "mailer")
    [name] = store.checkpoints.list()
    store.checkpoints.delete(name)

    with pytest.raises(SubscriptionLostError):
        subscription.ack()


@pytest.mark.parametrize("garbage", [{"fence": "x"}, {"cursor": 3, "fence": "x"}, {"cursor": {"0": -1}}, [], None])
def test_place_that_is_no_cursor_is_told(storage, garbage):
    store = filled(storage)
    store.subscribe("orders", "mailer").close()
    [name] = store.checkpoints.list()
    store.checkpoints.save(name, garbage)

    with pytest.raises(CorruptCheckpointError, match="mailer"):
        store.subscribe("orders", "mailer")


def test_place_that_is_no_json_is_told(storage):
    store = filled(storage)
    store.subscribe("orders", "mailer").close()
    [key] = storage.contents("checkpoints/")
    storage.backend.put(key, b"{", if_version=ANY)

    with pytest.raises(CorruptCheckpointError, match=r"\.json") as caught:
        store.subscribe("orders", "mailer")
    assert caught.value.key == key


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 256])
def test_impossible_name_is_refused_and_nothing_written(storage, name):
    store = filled(storage)
    before = storage.contents()

    with pytest.raises(InvalidNameError):
        store.subscribe("orders", name)

    assert storage.contents() == before


def test_no_two_pairs_of_names_share_a_place(storage):
    store = storage.open()
    pairs = [("a", "b c"), ("a b", "c"), ("1 a", "b"), ("a", "1 b"), ("x" * 200, "y" * 200), ("x" * 200, "y" * 201)]
    for stream, name in pairs:
        store.subscribe(stream, name).close()

    assert len(store.checkpoints.list("subscription ")) == len(pairs)


def test_reader_cannot_subscribe(storage):
    filled(storage)

    with pytest.raises(ReadOnlyError):
        storage.open(read_only=True).subscribe("orders", "mailer")


def test_events_of_new_partitions_come_and_are_acknowledged(storage):
    clock = FakeClock()
    store = storage.open(clock=clock)
    days = store.stream("days", partition_by="day")
    days.append(event(0))
    with store.subscribe(days, "mailer") as subscription:
        assert ids(subscription.poll()) == ["e0"]
        days.append([event(1, days=1), event(2, days=-1)])
        clock.advance(10)
        found = []
        while more := ids(subscription.poll()):
            found += more

        assert sorted(found) == ["e1", "e2"]
        assert subscription.ack() == {"2026-02-04": 1, "2026-02-05": 1, "2026-02-06": 1}


def test_crashed_consumer_gets_again_what_it_had_not_acknowledged(storage):
    """A consumer that dies every few events, and acknowledges every third: nothing is missed."""
    filled(storage, 20)
    seen = []
    while len(set(seen)) < 20:
        with storage.open().subscribe("orders", "mailer") as subscription:
            for number, one in enumerate(subscription):
                seen.append(one.id)
                if number % 3 == 2:
                    subscription.ack()
                if number == 4 or one.id == "e19":
                    break

    assert list(dict.fromkeys(seen)) == [f"e{number}" for number in range(20)]
    assert max(seen.count(one) for one in seen) <= 3
