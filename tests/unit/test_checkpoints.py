"""A checkpoint is replaced only by a writer that read its version, even if a PUT is applied late or twice."""

import math
import threading
from datetime import UTC, datetime

import orjson
import pytest

from bucketlog.backend import ABSENT, ANY
from bucketlog.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    CheckpointConflictError,
    ConflictError,
    CorruptCheckpointError,
    InvalidNameError,
    InvalidValueError,
    OutcomeUnknownError,
    ReadOnlyError,
    UnprovenStorageError,
    UnsupportedFormatError,
)
from bucketlog.state.checkpoints import HISTORY_MAX, VALUE_BYTES_MAX, Checkpoints
from bucketlog.testing.clocks import START
from bucketlog.testing.faults import CrashAfter, Fail, Hold, LoseAnswer, SimulatedCrash, on

KEY = "checkpoints/c.json"


@pytest.fixture
def checkpoints(place):
    return Checkpoints(place.open())


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1, 1.5, 2**64 - 1, "", "é\u2028\0", [], {}, {"a": [1, {"b": None}], "": 1.25e-300, "format": "x"}],
)
def test_what_is_loaded_equals_what_was_saved(checkpoints, value):
    saved = checkpoints.save("c", value)

    assert checkpoints.load("c") == saved
    assert (saved.name, saved.value, saved.updated) == ("c", value, START)
    assert type(saved.value) is type(value)


def test_tuples_come_back_as_lists_in_the_saved_one_too(checkpoints):
    assert checkpoints.save("c", {"a": (1, (2,))}).value == {"a": [1, [2]]}
    assert checkpoints.load("c").value == {"a": [1, [2]]}


def test_changing_the_value_afterwards_does_not_show(checkpoints):
    value = {"n": [1]}
    saved = checkpoints.save("c", value)

    value["n"].append(2)

    assert saved.value == {"n": [1]}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [1, math.nan]}, r"value\.a\[1\] is nan"),
        (math.inf, "is inf"),
        ({1: 2}, "key 1 of type int"),
        ({"a": {3}}, "of type set"),
        (START, "of type datetime"),
        ("\ud800", "lone surrogates"),
        (2**64, "over 64 bits"),
        (b"x", "of type bytes"),
    ],
)
def test_a_value_that_json_cannot_represent_is_refused_and_nothing_is_written(place, checkpoints, value, says):
    with pytest.raises(InvalidValueError, match=rf"save checkpoint 'c' in .*{says}"):
        checkpoints.save("c", value)

    assert place.stored("checkpoints/") == []


def test_a_value_too_large_for_one_put_is_refused(place, checkpoints):
    with pytest.raises(InvalidValueError, match="among the blobs"):
        checkpoints.save("c", "x" * VALUE_BYTES_MAX)

    assert place.stored("checkpoints/") == []


def test_a_value_nested_too_deep_is_refused(checkpoints):
    value = []
    value.append(value)

    with pytest.raises(InvalidValueError, match="holds itself"):
        checkpoints.save("c", value)


def test_the_stored_form_is_the_documented_one(place, checkpoints):
    first = checkpoints.save("c", {"n": 1})
    second = checkpoints.save("c", {"n": 2})

    stored = orjson.loads(place.backend.get(KEY).data)
    assert stored == {
        "name": "c",
        "version": second.version,
        "updated": "2026-01-01T00:00:00Z",
        "value": {"n": 2},
        "history": ["", first.version.partition("-")[2], second.version.partition("-")[2]],
    }
    assert (first.version[:2], second.version[:2]) == ("1-", "2-")


def test_updated_is_aware_utc_to_the_microsecond(place):
    root = place.open()
    root.clock.advance(1.000002)
    saved = Checkpoints(root).save("c", 1)

    assert saved.updated == datetime(2026, 1, 1, 0, 0, 1, 2, tzinfo=UTC)
    assert Checkpoints(place.open()).load("c").updated == saved.updated


# -- versions and conditions -------------------------------------------------------------------------------------------


def test_a_save_with_the_version_that_is_there_replaces_it(checkpoints):
    first = checkpoints.save("c", 1)

    second = checkpoints.save("c", 2, expected_version=first.version)

    assert checkpoints.load("c") == second


def test_a_save_with_an_older_version_changes_nothing(checkpoints):
    first = checkpoints.save("c", 1)
    second = checkpoints.save("c", 2)

    with pytest.raises(CheckpointConflictError, match="load it and decide again") as caught:
        checkpoints.save("c", 3, expected_version=first.version)

    assert (caught.value.name, caught.value.expected_version) == ("c", first.version)
    assert caught.value.version == second.version
    assert checkpoints.load("c") == second


def test_a_save_with_a_version_conflicts_where_there_is_none(checkpoints):
    with pytest.raises(CheckpointConflictError, match="there is none"):
        checkpoints.save("c", 1, expected_version="1-0123456789abcdef")


def test_absent_makes_only_a_new_one(checkpoints):
    first = checkpoints.save("c", 1, expected_version=ABSENT)

    with pytest.raises(CheckpointConflictError, match="expected no such checkpoint, found") as caught:
        checkpoints.save("c", 2, expected_version=ABSENT)

    assert (caught.value.expected_version, caught.value.version) == (None, first.version)
    assert checkpoints.load("c") == first


@pytest.mark.parametrize("version", [ANY, 1, b"1-0", True])
def test_an_expected_version_that_cannot_be_one_is_refused(checkpoints, version):
    with pytest.raises(InvalidValueError, match="expected_version is"):
        checkpoints.save("c", 1, expected_version=version)
    with pytest.raises(InvalidValueError, match="expected_version is"):
        checkpoints.delete("c", expected_version=version)


def test_an_old_value_that_comes_back_is_another_version(checkpoints):
    versions = [checkpoints.save("c", value).version for value in (1, 2, 1)]
    checkpoints.delete("c")
    versions.append(checkpoints.save("c", 1).version)
    checkpoints.delete("c")
    versions.append(checkpoints.save("c", 1, expected_version=ABSENT).version)

    assert len(set(versions)) == 5
    for version in versions[:-1]:
        with pytest.raises(CheckpointConflictError):
            checkpoints.save("c", 9, expected_version=version)


def test_the_history_holds_the_last_16_versions(place, checkpoints):
    versions = [checkpoints.save("c", number).version for number in range(20)]

    history = orjson.loads(place.backend.get(KEY).data)["history"]
    assert history == [version.partition("-")[2] for version in versions[-HISTORY_MAX:]]
    assert len(history) == 16


def test_of_racing_saves_with_one_version_exactly_one_is_applied(place):
    handles = [Checkpoints(place.open()) for _ in range(6)]
    start = handles[0].save("c", "start")
    for _ in range(10):
        gate = threading.Barrier(len(handles))
        won, lost = [], []

        def race(number, expected=start.version, gate=gate, won=won, lost=lost):
            gate.wait()
            try:
                won.append(handles[number].save("c", number, expected_version=expected))
            except CheckpointConflictError as err:
                lost.append(err)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(len(handles))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert (len(won), len(lost)) == (1, len(handles) - 1)
        assert handles[0].load("c") == won[0]
        start = won[0]


def test_every_one_of_racing_saves_without_a_version_is_applied(place):
    handles = [Checkpoints(place.open()) for _ in range(4)]
    gate = threading.Barrier(len(handles))
    saved = []

    def race(number):
        gate.wait()
        saved.extend(handles[number].save("c", [number, turn]) for turn in range(8))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(len(handles))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({one.version for one in saved}) == 32
    assert handles[0].load("c").version.startswith("32-")


# -- deleting ----------------------------------------------------------------------------------------------------------


def test_a_deleted_checkpoint_is_hidden_and_can_be_created_again_with_absent(place, checkpoints):
    checkpoints.save("c", 1)

    assert checkpoints.delete("c") is True

    assert place.backend.head(KEY).size == 0
    assert checkpoints.load("c") is None
    assert checkpoints.list() == []
    assert checkpoints.delete("c") is False
    assert checkpoints.save("c", 2, expected_version=ABSENT).value == 2
    assert checkpoints.load("c").value == 2


def test_deleting_what_never_was_writes_nothing(place, checkpoints):
    assert checkpoints.delete("c") is False
    assert place.stored("checkpoints/") == []


def test_a_delete_with_an_older_version_changes_nothing(checkpoints):
    first = checkpoints.save("c", 1)
    second = checkpoints.save("c", 2)

    with pytest.raises(CheckpointConflictError, match="delete checkpoint 'c'"):
        checkpoints.delete("c", expected_version=first.version)

    assert checkpoints.load("c") == second
    assert checkpoints.delete("c", expected_version=second.version) is True


def test_a_delete_fences_those_who_hold_the_old_version(checkpoints):
    old = checkpoints.save("c", 1)
    checkpoints.delete("c")

    with pytest.raises(CheckpointConflictError, match="there is none"):
        checkpoints.save("c", 2, expected_version=old.version)


def test_nothing_is_ever_put_without_a_condition_or_removed(place):
    root = place.open()
    sent = _record_puts(root.backend)
    checkpoints = Checkpoints(root)
    checkpoints.save("c", 1)
    checkpoints.save("c", 2)
    checkpoints.delete("c")
    checkpoints.save("c", 3)

    assert len(sent) == 5
    assert ANY not in [condition for _, condition in sent]
    assert root.backend.count("delete") == 0


# -- unclear outcomes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OutcomeUnknownError("timeout"), ConflictError("412 to our own retry")])
def test_a_save_whose_answer_is_lost_is_found_by_reading_back(place, error):
    checkpoints = Checkpoints(place.open(on("put", LoseAnswer(error))))

    saved = checkpoints.save("c", 1, expected_version=ABSENT)

    assert checkpoints.load("c") == saved


@pytest.mark.parametrize("error", [OutcomeUnknownError("500"), ConflictError("409"), BackendUnavailableError("down")])
def test_a_save_that_was_not_applied_is_sent_again_with_the_same_bytes_to_the_same_condition(place, error):
    first = Checkpoints(place.open()).save("c", 1)
    root = place.open(on("put", Fail(error)))
    sent = _record_puts(root.backend)

    saved = Checkpoints(root).save("c", 2, expected_version=first.version)

    assert Checkpoints(place.open()).load("c") == saved
    assert len(sent) == 2
    assert len(set(sent)) == 1


def test_checkpoint_read_back_too_late(place):
    """Ours was applied, its answer lost, others saved since: the last 16 versions tell."""
    first = Checkpoints(place.open()).save("c", 1)
    others = Checkpoints(place.open())
    root = place.open(on("put", LoseAnswer()))
    read = root.backend.inner.get

    def get(*where):
        if root.backend.count("put") == 1 and others.load("c").value == 2:
            for number in range(HISTORY_MAX - 1):
                others.save("c", f"later {number}")
        return read(*where)

    root.backend.inner.get = get
    saved = Checkpoints(root).save("c", 2, expected_version=first.version)

    assert saved.value == 2
    assert saved.version.startswith("2-")
    assert others.load("c").value == f"later {HISTORY_MAX - 2}"


def test_a_save_followed_by_more_versions_than_are_kept_has_an_unknown_outcome(place):
    first = Checkpoints(place.open()).save("c", 1)
    others = Checkpoints(place.open())
    root = place.open(on("put", LoseAnswer()))
    read = root.backend.inner.get

    def get(*where):
        if root.backend.count("put") == 1:
            for number in range(HISTORY_MAX):
                others.save("c", f"later {number}")
        return read(*where)

    root.backend.inner.get = get

    with pytest.raises(OutcomeUnknownError, match="read it before trying again") as caught:
        Checkpoints(root).save("c", 2, expected_version=first.version)

    assert caught.value.key == KEY


def test_a_loser_without_a_clear_answer_sees_that_another_followed_its_version(place):
    """Some servers answer the loser of a race with 500: what came after the expected version is known, and not ours."""
    first = Checkpoints(place.open()).save("c", 1)
    others = Checkpoints(place.open())
    root = place.open(lambda call: Fail(OutcomeUnknownError("500")) if call.method == "put" else None)
    root.backend.inner.get = _once_before(root, lambda: others.save("c", "other"))

    with pytest.raises(CheckpointConflictError):
        Checkpoints(root).save("c", 2, expected_version=first.version)


def test_a_loser_of_the_first_save_without_a_clear_answer_sees_that_another_was_first(place):
    others = Checkpoints(place.open())
    root = place.open(lambda call: Fail(OutcomeUnknownError("500")) if call.method == "put" else None)
    root.backend.inner.get = _once_before(root, lambda: others.save("c", "other"))

    with pytest.raises(CheckpointConflictError):
        Checkpoints(root).save("c", 2, expected_version=ABSENT)


def test_a_save_that_may_have_been_applied_and_deleted_has_an_unknown_outcome(place):
    others = Checkpoints(place.open())
    first = others.save("c", 1)
    root = place.open(on("put", LoseAnswer()))
    root.backend.inner.get = _once_before(root, lambda: others.delete("c") and others.save("c", "new"))

    with pytest.raises(OutcomeUnknownError):
        Checkpoints(root).save("c", 2, expected_version=first.version)


def test_a_save_without_a_version_goes_on_when_it_surely_lost(place):
    Checkpoints(place.open()).save("c", 1)
    others = Checkpoints(place.open())
    root = place.open(on("put", Fail(OutcomeUnknownError("500"))))
    root.backend.inner.get = _once_before(root, lambda: others.save("c", "other"))

    saved = Checkpoints(root).save("c", 2)

    assert saved.version.startswith("3-")
    assert others.load("c") == saved


def test_no_answer_at_all_is_an_unknown_outcome_when_the_budget_is_spent(place):
    root = place.open(lambda call: Hold() if call.method == "put" else None)

    with pytest.raises(OutcomeUnknownError, match=r"save checkpoint 'c' in .*may still be: read it"):
        Checkpoints(root).save("c", 1)

    assert 10 < sum(root.clock.slept_seconds) <= 20


def test_a_storage_that_is_never_reached_is_unavailable_and_nothing_can_land(place):
    root = place.open(lambda call: Fail() if call.method == "put" else None)

    with pytest.raises(BackendUnavailableError):
        Checkpoints(root).save("c", 1)


def test_a_refusal_before_anything_was_sent_is_raised_at_once(place):
    root = place.open(on("put", Fail(AccessDeniedError("no"))))

    with pytest.raises(AccessDeniedError):
        Checkpoints(root).save("c", 1)

    assert root.clock.slept_seconds == []


def test_a_refusal_after_an_unclear_attempt_leaves_the_outcome_unknown(place):
    faults = {1: Fail(OutcomeUnknownError("timeout")), 2: Fail(AccessDeniedError("no"))}
    root = place.open(lambda call: faults.get(call.nth) if call.method == "put" else None)

    with pytest.raises(OutcomeUnknownError) as caught:
        Checkpoints(root).save("c", 1)

    assert isinstance(caught.value.__cause__, AccessDeniedError)


def test_a_read_back_that_fails_too_is_tried_again(place):
    faults = {("put", 1): LoseAnswer(), ("get", 2): Fail(), ("put", 2): Fail(), ("get", 3): Fail()}
    root = place.open()
    seen = {"put": 0, "get": 0}

    def plan(call):
        seen[call.method] += 1
        return faults.pop((call.method, seen[call.method]), None)

    root.backend.plan = plan
    saved = Checkpoints(root).save("c", 1, expected_version=ABSENT)

    assert faults == {}
    assert Checkpoints(place.open()).load("c") == saved


def test_storage_that_is_no_longer_as_proven_acknowledges_nothing(place):
    checkpoints = Checkpoints(place.open())
    checkpoints.save("c", 1)
    unproven = on("put", LoseAnswer(UnprovenStorageError("versioned")))

    with pytest.raises(UnprovenStorageError):
        Checkpoints(place.open(unproven)).save("c", 2)

    checkpoints.delete("c")
    unproven = on("put", LoseAnswer(UnprovenStorageError("versioned")))
    with pytest.raises(UnprovenStorageError):
        Checkpoints(place.open(unproven)).save("c", 3)


def test_late_unconditional_checkpoint(place):
    """A put or delete that was given up lands after a newer version was acknowledged: nothing changes."""
    others = Checkpoints(place.open())
    others.save("c", 4)
    for attempt in (lambda late: late.save("c", 5), lambda late: late.delete("c")):
        root = place.open(lambda call: Hold() if call.method == "put" else None)
        with pytest.raises(OutcomeUnknownError):
            attempt(Checkpoints(root))
        newer = others.save("c", 6)

        landed = root.backend.release()

        assert landed
        assert all(isinstance(error, ConflictError) for error in landed)
        assert others.load("c") == newer


def test_a_save_over_a_deleted_one_that_is_applied_twice_does_not_bring_it_back(place):
    """Where versions are digests all empty objects have one version, so a put against it could land again later."""
    others = Checkpoints(place.open())
    others.save("c", "old")
    others.delete("c")
    for turn in range(3):
        seen = on("put", Hold(), nth=2 if turn else 1)
        root = place.open(seen)

        Checkpoints(root).save("c", "late", expected_version=ABSENT)
        others.delete("c")
        root.backend.release()

        assert others.load("c") is None
        assert others.list() == []
        assert others.save("c", "new", expected_version=ABSENT).value == "new"
        others.delete("c")


@pytest.mark.parametrize("fault", [LoseAnswer(), Fail(OutcomeUnknownError("500")), LoseAnswer(ConflictError("412"))])
def test_a_delete_whose_answer_is_lost_is_settled_by_reading_back(place, fault):
    Checkpoints(place.open()).save("c", 1)

    assert Checkpoints(place.open(on("put", fault))).delete("c") is True

    assert Checkpoints(place.open()).load("c") is None


def test_a_delete_that_surely_lost_deletes_the_newer_one(place):
    others = Checkpoints(place.open())
    others.save("c", 1)
    root = place.open(on("put", Fail(OutcomeUnknownError("500"))))
    root.backend.inner.get = _once_before(root, lambda: others.save("c", 2))

    assert Checkpoints(root).delete("c") is True

    assert others.load("c") is None


def test_a_delete_followed_by_a_new_checkpoint_is_not_repeated(place):
    others = Checkpoints(place.open())
    others.save("c", 1)
    root = place.open(on("put", LoseAnswer()))
    root.backend.inner.get = _once_before(root, lambda: others.save("c", "new", expected_version=ABSENT))

    with pytest.raises(OutcomeUnknownError, match="delete checkpoint 'c'"):
        Checkpoints(root).delete("c")

    assert others.load("c").value == "new"


@pytest.mark.parametrize("act", [lambda one: one.save("c", "mine"), lambda one: one.delete("c")])
def test_a_writer_that_loses_every_attempt_gets_a_conflict(place, act):
    others = Checkpoints(place.open())
    others.save("c", 0)
    root = place.open(lambda call: others.save("c", call.nth) and None if call.method == "put" else None)

    with pytest.raises(CheckpointConflictError, match="another writer replaced it first at every attempt"):
        act(Checkpoints(root))


@pytest.mark.parametrize("fault", [Fail(ConflictError("409")), Fail(OutcomeUnknownError("500")), LoseAnswer()])
def test_a_mark_of_a_deleted_checkpoint_is_never_sent_twice(place, fault):
    """One that was sent twice could come back, and a late save against it would then be applied."""
    others = Checkpoints(place.open())
    others.save("c", 1)
    others.delete("c")
    root = place.open(on("put", fault))
    sent = _record_puts(root.backend)

    saved = Checkpoints(root).save("c", 2)

    assert others.load("c") == saved
    marks = [data for data, _ in sent if data.startswith(b'{"deleted"')]
    assert marks
    assert len(set(marks)) == len(marks)


def test_a_lost_race_for_the_empty_object_is_tried_again(place):
    others = Checkpoints(place.open())
    others.save("c", 1)
    others.delete("c")
    root = place.open(on("put", Fail(ConflictError("409"))))

    saved = Checkpoints(root).save("c", 2)

    assert others.load("c") == saved


def _record_puts(backend):
    put, sent = backend.put, []

    def record(key, data, *, if_version=ANY):
        sent.append((data, if_version))
        return put(key, data, if_version=if_version)

    backend.put = record
    return sent


def _once_before(root, act):
    """Do something just before the first read that follows a put of this handle."""
    read = root.backend.inner.get
    done = []

    def get(*where):
        if root.backend.count("put") and not done:
            done.append(True)
            act()
        return read(*where)

    return get


# -- damage ------------------------------------------------------------------------------------------------------------

GARBAGE = [
    b"garbage",
    b"\xff\xfe",
    b"\0\0\0",
    b'{"name":"c"',
    b"[]",
    b"{}",
    b"1",
    b'{"name":"c","version":"1-0123456789abcdef","updated":"2026-01-01T00:00:00Z"}',
    b'{"name":"c","version":"one","updated":"2026-01-01T00:00:00Z","value":1,"history":[]}',
    b'{"name":"c","version":"1-0123456789abcdef","updated":"2026-01-01T00:00:00","value":1,"history":[]}',
    b'{"name":"d","version":"1-0123456789abcdef","updated":"2026-01-01T00:00:00Z","value":1,"history":[]}',
    b'{"deleted":"0123456789ABCDEF"}\n',
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_an_error_that_names_the_object_unless_a_default_or_a_plain_save_replaces_it(place, garbage):
    place.backend.put(KEY, garbage)
    checkpoints = Checkpoints(place.open())

    for act in (
        lambda: checkpoints.load("c"),
        lambda: checkpoints.save("c", 1, expected_version=ABSENT),
        lambda: checkpoints.save("c", 1, expected_version="1-0123456789abcdef"),
        lambda: checkpoints.delete("c", expected_version="1-0123456789abcdef"),
    ):
        with pytest.raises(CorruptCheckpointError, match=KEY) as caught:
            act()
        assert caught.value.key == KEY
    assert place.backend.get(KEY).data == garbage
    assert checkpoints.list() == ["c"]

    default = checkpoints.load("c", default={"n": 0})
    assert (default.value, default.version, default.updated) == ({"n": 0}, "", None)
    assert checkpoints.load("c", default=None) is None
    saved = checkpoints.save("c", 1, expected_version=default.version)
    assert checkpoints.load("c") == saved


def test_garbage_can_be_replaced_and_deleted_without_a_version(place):
    place.backend.put(KEY, b"garbage")
    checkpoints = Checkpoints(place.open())

    assert checkpoints.save("c", 1).version.startswith("1-")
    place.backend.put(KEY, b"garbage")
    assert checkpoints.delete("c") is True
    assert checkpoints.load("c") is None


def test_garbage_that_appears_while_an_outcome_is_unclear_leaves_it_unknown(place):
    Checkpoints(place.open()).save("c", 1)
    root = place.open(on("put", LoseAnswer()))
    root.backend.inner.get = _once_before(root, lambda: place.backend.put(KEY, b"garbage"))

    with pytest.raises(OutcomeUnknownError):
        Checkpoints(root).save("c", 2)


def test_a_default_stands_in_for_what_is_missing_and_leaves_room_for_the_first_save(checkpoints):
    default = checkpoints.load("c", default=0)

    assert (default.name, default.value, default.version, default.updated) == ("c", 0, "", None)
    saved = checkpoints.save("c", 1, expected_version=default.version)
    assert checkpoints.load("c", default=0) == saved
    with pytest.raises(CheckpointConflictError, match="expected no such checkpoint"):
        checkpoints.save("c", 2, expected_version=default.version)


def test_an_empty_file_counts_as_deleted(place):
    place.backend.put(KEY, b"")
    checkpoints = Checkpoints(place.open())

    assert checkpoints.load("c") is None
    assert checkpoints.list() == []


def test_what_a_newer_version_saved_is_neither_misread_nor_overwritten(place):
    newer = b'{"format":"bucketlog.checkpoint/2","name":"c","value":1}'
    place.backend.put(KEY, newer)
    checkpoints = Checkpoints(place.open())

    for act in (
        lambda: checkpoints.load("c"),
        lambda: checkpoints.load("c", default=1),
        lambda: checkpoints.save("c", 1),
        lambda: checkpoints.delete("c"),
    ):
        with pytest.raises(UnsupportedFormatError, match="upgrade"):
            act()
    assert place.backend.get(KEY).data == newer


# -- names -------------------------------------------------------------------------------------------------------------

NAMES = ["a", "A b", "a/b", "a\\b", "..", ".", "%2F", "con", "?", "é", "e\u0301", "x.json", "__", "~", "\n", "a" * 250]


def test_any_text_is_a_name_of_its_own_and_listed_as_given(place, checkpoints):
    for name in NAMES:
        checkpoints.save(name, f"value of {name}")

    assert checkpoints.list() == sorted(NAMES)
    for name in NAMES:
        assert checkpoints.load(name).value == f"value of {name}"
    assert all(key.count("/") == 1 for key in place.stored("checkpoints/"))


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "a" * 251, None, b"c"])
def test_what_is_no_name_is_refused_everywhere(place, checkpoints, name):
    for act in (checkpoints.load, checkpoints.delete, lambda name: checkpoints.save(name, 1)):
        with pytest.raises(InvalidNameError, match="checkpoint"):
            act(name)

    assert place.stored("checkpoints/") == []


def test_list_takes_a_prefix_of_the_names_and_passes_over_foreign_files(place, checkpoints):
    for name in ("b", "a/2", "a/1", "ab", "gone"):
        checkpoints.save(name, 1)
    checkpoints.delete("gone")
    for foreign in ("note.txt", "a b.json", "%FF.json", "deep/x.json"):
        place.backend.put(f"checkpoints/{foreign}", b"foreign")

    assert checkpoints.list() == ["a/1", "a/2", "ab", "b"]
    assert checkpoints.list("a/") == checkpoints.list(prefix="a/") == ["a/1", "a/2"]
    assert checkpoints.list("A") == []


def test_list_reads_no_checkpoint(place):
    root = place.open()
    checkpoints = Checkpoints(root)
    for number in range(5):
        checkpoints.save(str(number), number)
    checkpoints.delete("3")
    before = root.backend.count("get", "head")

    assert checkpoints.list() == ["0", "1", "2", "4"]
    assert root.backend.count("get", "head") == before


def test_list_leaves_out_what_a_save_that_was_broken_off_left_of_a_deleted_one(place, checkpoints):
    checkpoints.save("c", 1)
    checkpoints.delete("c")
    root = place.open(on("put", CrashAfter()))
    with pytest.raises(SimulatedCrash):
        Checkpoints(root).save("c", 2)

    assert place.backend.head(KEY).size > 0
    assert checkpoints.list() == []
    assert checkpoints.load("c") is None
    assert checkpoints.delete("c") is False
    assert checkpoints.save("c", 3, expected_version=ABSENT) == checkpoints.load("c")


def test_list_leaves_out_what_was_removed_meanwhile(place):
    root = place.open()
    place.backend.put(KEY, b'{"deleted":"0123456789abcdef"}\n')
    read = root.backend.inner.get
    root.backend.inner.get = lambda *where: place.backend.delete([KEY]) or read(*where)

    assert Checkpoints(root).list() == []


def test_two_names_that_differ_in_case_are_kept_apart_or_refused_on_a_disk_that_ignores_case(place, checkpoints):
    checkpoints.save("c", 1)
    place.backend.put("checkpoints/C.json", place.backend.get(KEY).data)  # what such a disk would show

    with pytest.raises(InvalidNameError, match="ignores case"):
        checkpoints.load("C")


def test_a_store_opened_for_reading_reads_and_never_writes(place):
    saved = Checkpoints(place.open()).save("c", 1)
    reader = Checkpoints(place.open(read_only=True))

    assert reader.load("c") == saved
    assert reader.list() == ["c"]
    for act in (lambda: reader.save("c", 2), lambda: reader.delete("c")):
        with pytest.raises(ReadOnlyError):
            act()
    assert reader.load("c") == saved
