"""Writing: what is accepted and refused, and that a refused write changes nothing."""

import json
import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType

import pytest

pytest.importorskip("metaspn_schemas")
pytest.importorskip("metaspn_store")

from metaspn_schemas import SignalEnvelope as TheirSignal
from metaspn_store import FileSystemStore as Peer

import bucketlog
from bucketlog.errors import InvalidEventError, InvalidValueError
from bucketlog.signals import (
    DuplicateEventError,
    EmissionEnvelope,
    EntityRef,
    ReplayCheckpoint,
    SignalEnvelope,
    SignalStore,
    TraceContext,
)

from .making import END, START, R, T, emission, everything, ids, signal


class Level(IntEnum):
    HIGH = 3


class Color(Enum):
    RED = 1


@dataclass(frozen=True)
class Post:
    text: str
    at: datetime
    tags: tuple[str, ...] = ()


NOT_JSON = [
    {1, 2},
    b"x",
    Decimal("1.5"),
    {"n": Decimal(1)},
    date(2026, 2, 5),
    {1: 1, "a": 2},
    uuid.UUID(int=7),
    Color.RED,
]
NOT_JSON += [{"deep": [{"er": Decimal("2.5")}]}, MappingProxyType({"a": 1}), object(), {"c": Color.RED}, {"a": b""}]


@pytest.mark.parametrize("payload", NOT_JSON, ids=lambda value: repr(value).partition(" at 0x")[0])
def test_what_json_cannot_encode_is_a_type_error_and_nothing_is_written(tmp_path, payload):
    with SignalStore(tmp_path) as store:
        with pytest.raises(TypeError):
            store.write_signal(signal("bad", payload=payload))

        assert everything(store) == []
        assert list(store.signals_dir.iterdir()) == []


JSON = [
    None, True, 0, -1, 2**63, 2**64 - 1, 2**64, -(10**30), 1.5, -0.0, 1e300, 5e-324, math.inf, "", "é\u2028\U0001f600",
    "\x00", [], {}, [[[[[[[[1]]]]]]]], {"a": {"b": {"c": {"d": {"e": None}}}}}, {"": ""}, {"json": "{}"}, {None: 1},
    {True: 1}, {1.5: 1}, (1, (2,)), Level.HIGH, {"l": Level.HIGH}, Post("é", T(5)), {"p": [Post("x", T(5), ("t",))]},
    {"z": 1, "a": 2}, "null", {"commit": 1}, T(5), T(5).replace(tzinfo=None), [math.nan],
]  # fmt: skip


@pytest.mark.parametrize("payload", JSON, ids=repr)
def test_what_is_read_is_what_json_makes_of_it(payload):
    written = signal(
        "a", payload=payload, raw={"p": payload}, refs=[R], trace=TraceContext("t", ("x",), metadata={"k": "v"})
    )
    as_json = SignalEnvelope.from_dict(json.loads(json.dumps(written.to_dict(), sort_keys=True)))

    with SignalStore(f"memory://{uuid.uuid4()}") as store:
        store.write_signal(written)
        (read,) = store.iter_signals(START, END)

        assert json.dumps(read.payload, sort_keys=True) == json.dumps(as_json.payload, sort_keys=True)
        assert vars(read).keys() == vars(as_json).keys()
        assert math.nan in (payload if isinstance(payload, list) else ()) or read == as_json
        assert read.payload is not payload or payload is None or not isinstance(payload, (list, dict))
        assert type(read) is SignalEnvelope


def test_deep_nesting_comes_back():
    payload: list = []
    for _ in range(300):
        payload = [payload]

    with SignalStore(f"memory://{uuid.uuid4()}") as store:
        store.write_signals([signal("a", payload=payload), emission_like()])

        assert [signal.payload for signal in store.iter_signals(START, END)] == [payload, {}]


def emission_like():
    return signal("b", payload={})


ODD = [
    {"source": ""}, {"source": "\ud800"}, {"type": ""}, {"type": "\udfff%"}, {"source": 5}, {"type": None},
    {"source": None},
    {"raw": {"a": {1: 2}}}, {"refs": [EntityRef("a:b", "c%", None)]}, {"refs": [EntityRef("é", "\ud800", "", "")]},
    {"refs": [EntityRef("t", 5)]}, {"refs": [R, R]}, {"schema_version": "x"}, {"schema_version": 7},
    {"trace": TraceContext("t", privacy_mode=True, provenance="p", redactions=("r",))}, {"trace": TraceContext(5)},
]  # fmt: skip


@pytest.mark.parametrize("fields", ODD, ids=repr)
def test_odd_members_come_back_and_are_found(fields):
    written = signal("a", **fields)
    as_json = SignalEnvelope.from_dict(json.loads(json.dumps(written.to_dict(), sort_keys=True)))

    with SignalStore(f"memory://{uuid.uuid4()}") as store:
        store.write_signal(written)

        assert list(store.iter_signals(START, END)) == [as_json]
        if isinstance(as_json.source, str):
            assert list(store.iter_signals(START, END, sources=[as_json.source])) == [as_json]
        if as_json.payload_type is not None:
            found = store.iter_learning_signals(start=START, end=END, payload_types=[as_json.payload_type])
            assert list(found) == [as_json]
        for ref in as_json.entity_refs:
            assert store.get_recent_signals_by_entity(entity_ref=ref, limit=2, end=END) == [as_json]


@pytest.mark.parametrize("odd_id", ['"', '"a"', '"\\ud800"', "\ud800", "é", " ", "\x00", "a/b", '""', 7])
def test_any_id_is_stored_once(odd_id):
    with SignalStore(f"memory://{uuid.uuid4()}") as store:
        store.write_signals([signal(odd_id), signal(odd_id, T(6)), signal("other")])

        assert everything(store) == [str(odd_id), "other"]


def test_no_two_ids_are_taken_for_one():
    odd = ['"', '\\"', '"\\""', "\ud800", "\\ud800", '"\\ud800"', "\ud801", "%uD800"]

    with SignalStore(f"memory://{uuid.uuid4()}") as store:
        store.write_signals([signal(one) for one in odd])

        assert everything(store) == odd


def test_no_two_entities_share_a_tag():
    refs = [
        EntityRef("a", "b", "c"),
        EntityRef("a", "b:c"),
        EntityRef("a:b", "c"),
        EntityRef("a", "b", ""),
        EntityRef("a", "b"),
    ]

    with SignalStore(f"memory://{uuid.uuid4()}", entity_match="identity") as store:
        store.write_signals([signal(str(number), refs=[ref]) for number, ref in enumerate(refs)])

        for number, ref in enumerate(refs):
            assert ids(store.iter_signals(START, END, ref)) == [str(number)]


NAIVE = T(5, 23, 30).replace(tzinfo=None)


class Foreign:
    """Something like a signal."""

    signal_id, schema_version, timestamp = "f", "1", NAIVE

    def __init__(self, **members: object) -> None:
        self.members = members

    def to_dict(self) -> dict[str, object]:
        given = {
            "signal_id": "f",
            "timestamp": "2026-02-05T23:30:00",
            "source": "s",
            "payload_type": "P",
            "payload": (1,),
        }
        return {**given, **self.members}


def test_anything_with_an_id_a_time_and_to_dict_is_written(store):
    path = store.write_signal(Foreign(more=1))

    assert path.name == "2026-02-05"
    assert list(store.iter_signals(START, END)) == [SignalEnvelope("f", NAIVE, "s", "P", [1])]


def test_what_would_be_no_envelope_is_refused_before_it_is_written(tmp_path):
    with SignalStore(tmp_path) as store:
        with pytest.raises(ValueError, match="Invalid isoformat"):
            store.write_signal(Foreign(timestamp="today"))
        with pytest.raises(ValueError, match="signal_id is required"):
            store.write_signal(Foreign(signal_id=""))

        assert everything(store) == []


def test_messages_are_those_that_programs_know(tmp_path):
    def refusals(store):
        store.write_signal(signal("n1"))
        store.write_emission(emission("e1"))
        for write, envelope, policy in (
            (store.write_signal, signal(""), "raise"),
            (store.write_signal, signal("a", schema_version=""), "ignore"),
            (store.write_emission, emission(""), "ignore"),
            (store.write_emission, emission("a", schema_version=""), "ignore"),
            (store.write_signal, signal("n1"), "raise"),
            (store.write_emission, emission("e1", T(9)), "raise"),
            (store.write_signal, signal("n1"), "replace"),
        ):
            with pytest.raises(ValueError, match=r"required|Duplicate|Unsupported") as raised:
                write(envelope, on_duplicate=policy)
            yield str(raised.value).replace(str(tmp_path), "").replace("streams/", "").replace(".jsonl", "")

    with SignalStore(tmp_path / "a") as store:
        ours = [text.replace("/a/", "/") for text in refusals(store)]

    assert ours == [text.replace("/b/", "/") for text in refusals(Peer(tmp_path / "b"))]
    assert ours[4] == "Duplicate signal_id='n1' already exists in /store/signals/2026-02-05"


def test_an_unknown_policy_is_refused_before_anything_is_written(store):
    with pytest.raises(ValueError, match="Unsupported duplicate policy: 'replace'"):
        store.write_signals([signal("a")], on_duplicate="replace")
    with pytest.raises(ValueError, match="Unsupported duplicate policy"):
        store.write_signals([], on_duplicate="replace")

    assert everything(store) == []


def test_a_repeat_is_one_even_where_it_cannot_be_encoded(store):
    path = store.write_signal(signal("a", T(5)))

    assert store.write_signals([signal("b"), signal("a", T(6), {1}), signal("c")]) == [path] * 3
    with pytest.raises(DuplicateEventError, match="Duplicate signal_id='a'"):
        store.write_signal(signal("a", T(6), {1}), on_duplicate="raise")
    assert everything(store) == ["a", "b", "c"]


def failing(items: list[object], item: object) -> Iterator[object]:
    yield from items
    if isinstance(item, BaseException):
        raise item
    yield item
    yield signal("behind")


@pytest.mark.parametrize(
    ("item", "error"),
    [
        (KeyError("k"), KeyError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (signal(""), ValueError),
        (signal("bad", payload={1}), TypeError),
        (None, AttributeError),
    ],
    ids=["iterable", "interrupt", "id", "payload", "none"],
)
def test_what_stands_before_a_failure_is_stored(store, item, error):
    with pytest.raises(error):
        store.write_signals(failing([signal("1"), signal("2", T(4))], item))

    assert everything(store) == ["2", "1"]


def test_too_large_an_event_is_refused_and_what_stands_before_it_is_stored(tmp_path):
    large = "x" * (8 * 1024 * 1024)

    with SignalStore(tmp_path) as store:
        with pytest.raises(InvalidEventError) as raised:
            store.write_signals([signal("1"), signal("large", payload=large), signal("2")])
        assert isinstance(raised.value, ValueError)
        assert everything(store) == ["1"]

        path = store.write_signal(signal("large", T(9)))
        assert store.write_signals([signal("1"), signal("large", payload=large), signal("2")])[1] == path
        assert everything(store) == ["1", "2", "large"]


def test_large_batches_are_written_in_parts(tmp_path):
    with SignalStore(tmp_path) as store:
        paths = store.write_signals(signal(str(n), T(1 + n % 3), "x" * 5_000_000) for n in range(20))

        assert [path.name for path in paths[:3]] == ["2026-02-01", "2026-02-02", "2026-02-03"]
        assert sorted(everything(store), key=int) == [str(n) for n in range(20)]


def test_one_object_that_changes_between_items_is_written_as_it_was(store):
    payload: dict[str, int] = {}

    def changing():
        for number in range(3):
            payload["n"] = number
            yield signal(str(number), payload=payload)

    store.write_signals(changing())

    assert [signal.payload for signal in store.iter_signals(START, END)] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_signals_and_emissions_have_ids_of_their_own(store):
    assert store.write_signal(signal("x")).parent == store.signals_dir
    assert store.write_emission(emission("x", caused_by="x"), on_duplicate="raise").parent == store.emissions_dir
    assert ids(store.iter_emissions(START, END)) == everything(store) == ["x"]


def test_both_kinds_of_policy_that_go_on_return_the_first_path(store):
    first = store.write_emissions([emission("e", T(5)), emission("e", T(7))], on_duplicate="ignore")

    assert first == [store.emissions_dir / "2026-02-05"] * 2
    assert store.write_emissions([]) == []


def test_what_is_stored_reads_as_events_of_a_log(tmp_path):
    with SignalStore(tmp_path) as store:
        written = signal("a", T(5, 1), {"n": 1}, refs=[EntityRef("entity_id", "v", "x")])
        concluded = emission("b", T(5, 2), {"m": None}, caused_by="a", type="")
        store.write_signals([written, signal("nan", payload=math.nan)])
        store.write_emission(concluded)

    with bucketlog.open(tmp_path / "store") as log:
        first, second = log.stream("signals").read()
        (third,) = log.stream("emissions").read()

    assert (first.id, first.time, first.type, first.source) == ("a", T(5, 1), "SocialPostSeen", "ingest")
    assert (first.subject, first.tags, first.data) == (None, ("entity_id:v:x",), written.to_dict())
    assert json.loads(second.data["json"])["signal_id"] == "nan"
    assert (third.id, third.time, third.type, third.source) == ("b", T(5, 2), "emission", None)
    assert (third.subject, third.tags, third.data) == ("a", (), concluded.to_dict())


@pytest.mark.parametrize("state", [{1, 2}, {"a": Decimal(1)}, {1: 1, "a": 1}], ids=repr)
def test_a_document_that_cannot_be_encoded_leaves_the_old_one(store, state):
    path = store.write_snapshot("s", {"n": 1}, T(5))
    store.write_calibration_snapshot(day="d", report={"n": 1})

    with pytest.raises(TypeError):
        store.write_snapshot("s", state, T(5))
    with pytest.raises(TypeError):
        store.write_calibration_snapshot(day="d", report=state)

    assert path.read_text() == '{"n":1}\n'
    assert store.read_calibration_snapshot("d")["report"] == {"n": 1}


def test_a_day_is_a_date_a_time_or_a_text(store):
    written = [store.write_credibility_snapshot(day=day, report=1) for day in (date(2026, 2, 5), T(5, 9), "2026-02-05")]

    assert len(set(written)) == 1
    assert store.read_credibility_snapshot(date(2026, 2, 5)) == {
        "day": "2026-02-05",
        "report": 1,
        "schema_version": "0.1",
    }
    assert store.read_credibility_snapshot("2026-02-06") is None
    for wrong in (5, None, 1.5):
        with pytest.raises(TypeError, match="pass a date, a datetime or a str"):
            store.write_credibility_snapshot(day=wrong, report=1)


def test_documents_are_the_bytes_that_metaspn_store_writes(tmp_path):
    state = {"b": [1, math.nan, "é"], "a": {1: None, 2: 10**30}}
    peer = Peer(tmp_path / "b")

    with SignalStore(tmp_path / "a") as store:
        for one in (store, peer):
            one.write_snapshot("my.state-1__x", state, T(5, 1, 2, 3).replace(microsecond=4, tzinfo=None))
            one.write_daily_digest_snapshot(day=T(5), digest=state)
            one.write_calibration_snapshot(day="2026-2-5", report=state)
            one.write_credibility_snapshot(day=date(2026, 2, 5), report=state)

        def documents(folder):
            return {path.name: path.read_bytes() for path in folder.glob("*.json")}

        assert documents(store.snapshots_dir) == documents(peer.snapshots_dir)


def test_names_that_cannot_be_are_refused(store):
    for name in ("\0", "x" * 300, "\ud800"):
        with pytest.raises(ValueError, match="part of a path"):
            store.write_snapshot(name, {}, T(5))


def test_a_read_only_store_cannot_be_written(store, open_store):
    store.write_signal(signal("a"))

    reading = open_store(read_only=True)
    with pytest.raises(PermissionError):
        reading.write_signal(signal("b"))
    assert everything(reading) == ["a"]


def test_unknown_ways_to_match_are_refused(tmp_path):
    with pytest.raises(ValueError, match="use 'exact' or 'identity'"):
        SignalStore(tmp_path, entity_match="fuzzy")


def test_a_checkpoint_that_json_cannot_hold_is_refused(store):
    store.write_checkpoint("w", ReplayCheckpoint(T(5)))

    with pytest.raises(InvalidValueError):
        store.write_checkpoint("w", ReplayCheckpoint(T(6), (b"x",)))
    assert store.read_checkpoint("w") == ReplayCheckpoint(T(5))


def test_the_same_classes_are_written_and_read():
    assert TheirSignal is SignalEnvelope
    assert EmissionEnvelope("e", NAIVE, "", None, "").timestamp.tzinfo is UTC
