"""Subscriptions: every event at least once, one holder at a time, and no cursor lost."""

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


def test_subscribing_takes_over_before_it_returns(storage):
    store = filled(storage)
    first = store.subscribe("orders", "mailer")
    assert take(first, 1) == ["e0"]

    second = storage.open().subscribe("orders", "mailer")

    with pytest.raises(SubscriptionLostError, match="mailer"):
        first.ack()
    assert take(second, 1) == ["e0"]
    assert second.ack() == {"0": 1}
    first.close()
    second.close()


def test_next_consumer_resumes_where_the_replaced_one_acknowledged(storage):
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

    for replaced in held[:-1]:
        with pytest.raises(SubscriptionLostError):
            replaced.ack()
    assert held[-1].ack({"0": 2}) == {"0": 2}
    assert store.subscribe("orders", "mailer").cursor == {"0": 2}


def test_acknowledgement_during_a_takeover_is_not_lost(storage):
    """The holder acknowledges after the new consumer has read its checkpoint, and before that is replaced."""
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


def contended(storage, rounds):
    """Return a plan for a store in which, `rounds` times, a rival takes the subscription over just before we do."""
    rival = filled(storage)
    rival.subscribe("orders", "mailer")
    left = iter(range(rounds))

    def plan(call):
        if call.method == "put" and call.key.startswith("checkpoints/") and next(left, None) is not None:
            rival.subscribe("orders", "mailer")

    return plan


def test_taking_over_pauses_before_each_new_attempt(storage):
    clock = FakeClock()

    subscription = storage.open(contended(storage, rounds=6), clock=clock).subscribe("orders", "mailer")

    assert subscription.ack({"0": 1}) == {"0": 1}
    pauses = clock.slept_seconds[1::2]  # the others are those of `Checkpoints.save`, which finds the version replaced
    assert len(pauses) == 6
    assert all(0 < pause <= 0.05 * 2**number for number, pause in enumerate(pauses))
    assert max(pauses) > 0.05


def test_taking_over_gives_up_when_others_never_stop(storage):
    clock = FakeClock()

    with pytest.raises(SubscriptionLostError, match="loop") as caught:
        storage.open(contended(storage, rounds=1000), clock=clock).subscribe("orders", "mailer")

    assert caught.value.name == "mailer"
    assert 15 < sum(clock.slept_seconds) < 21
    assert max(clock.slept_seconds) <= 2


def test_any_cursor_may_be_acknowledged(storage):
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


def test_ack_that_is_applied_late_is_recognised_as_our_own(storage):
    """An acknowledgement of unknown outcome is applied later: the consumer is still the holder."""
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


def test_holder_of_a_deleted_checkpoint_has_lost_it(storage):
    store = filled(storage)
    subscription = store.subscribe("orders", "mailer")
    [name] = store.checkpoints.list()
    store.checkpoints.delete(name)

    with pytest.raises(SubscriptionLostError):
        subscription.ack()


@pytest.mark.parametrize("garbage", [{"fence": "x"}, {"cursor": 3, "fence": "x"}, {"cursor": {"0": -1}}, [], None])
def test_checkpoint_without_a_cursor_is_reported(storage, garbage):
    store = filled(storage)
    store.subscribe("orders", "mailer").close()
    [name] = store.checkpoints.list()
    store.checkpoints.save(name, garbage)

    with pytest.raises(CorruptCheckpointError, match="mailer"):
        store.subscribe("orders", "mailer")


def test_checkpoint_that_is_not_json_is_reported(storage):
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


def test_no_two_pairs_of_names_share_a_checkpoint(storage):
    store = storage.open()
    pairs = [("a", "b c"), ("a b", "c"), ("1 a", "b"), ("a", "1 b"), ("x" * 200, "y" * 200), ("x" * 200, "y" * 201)]
    for stream, name in pairs:
        store.subscribe(stream, name).close()

    assert len(store.checkpoints.list("subscription ")) == len(pairs)


def test_read_only_store_cannot_subscribe(storage):
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


def test_crashed_consumer_gets_unacknowledged_events_again(storage):
    """A consumer that dies every few events and acknowledges every third one misses none."""
    filled(storage, 20)
    seen = []
    while len(set(seen)) < 20:
        with storage.open().subscribe("orders", "mailer") as subscription:
            for number, received in enumerate(subscription):
                seen.append(received.id)
                if number % 3 == 2:
                    subscription.ack()
                if number == 4 or received.id == "e19":
                    break

    assert list(dict.fromkeys(seen)) == [f"e{number}" for number in range(20)]
    assert max(seen.count(event_id) for event_id in seen) <= 3
