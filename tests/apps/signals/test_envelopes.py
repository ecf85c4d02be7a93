"""Our own envelope classes equal those of `metaspn_schemas`, except for the module that defines them."""

from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from datetime import UTC, datetime, timedelta, timezone

import pytest

pytest.importorskip("metaspn_schemas")

import metaspn_schemas

from bucketlog.signals import own_envelopes

NAMES = ("EntityRef", "TraceContext", "SignalEnvelope", "EmissionEnvelope")


@dataclass(frozen=True)
class Seen:
    at: datetime
    tags: tuple[str, ...]


AT = datetime(2026, 2, 5, 12, 0, 0, 123, tzinfo=timezone(timedelta(hours=2)))
TRACE = {"trace_id": 7, "caused_by": [1, "b"], "metadata": {"k": 1}, "privacy_mode": 1, "redactions": ["x"]}
SIGNAL = {"signal_id": 1, "timestamp": "2026-02-05T10:00:00Z", "source": 2, "payload_type": "P", "payload": {"a": [1]}}
DOCUMENTS = [
    SIGNAL,
    {
        **SIGNAL,
        "entity_refs": [{"ref_type": "e", "value": 3, "label": "L", "more": 1}],
        "trace": TRACE,
        "raw": {"r": 1},
    },
    {**SIGNAL, "trace": None, "raw": None, "source": None, "payload": None, "unknown": 1},
    {**SIGNAL, "timestamp": "2026-02-05T10:00:00.000123", "entity_refs": []},
]
EMISSION = {"emission_id": "e", "timestamp": "2026-02-05", "emission_type": "T", "payload": 1, "caused_by": 5}


def same(ours: object, theirs: object) -> bool:
    return repr(ours) == repr(theirs).replace("metaspn_schemas.core.", "")


@pytest.mark.parametrize("name", NAMES)
def test_fields_defaults_and_order_are_the_same(name):
    def shape(module):
        return [
            (one.name, one.default, one.default_factory is MISSING, dict(one.metadata))
            for one in fields(getattr(module, name))
            if one.name not in ("caused_by", "redactions", "entity_refs")  # an empty tuple, made in two ways
        ]

    assert shape(own_envelopes) == shape(metaspn_schemas)
    assert [one.name for one in fields(getattr(own_envelopes, name))] == [
        one.name for one in fields(getattr(metaspn_schemas, name))
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_reading_and_writing_json_gives_the_same(document):
    ours = own_envelopes.SignalEnvelope.from_dict(document)
    theirs = metaspn_schemas.SignalEnvelope.from_dict(document)

    assert same(ours, theirs)
    assert ours.to_dict() == theirs.to_dict()
    assert list(ours.to_dict()) == list(theirs.to_dict())
    assert ours.to_dict(privacy_mode=True) == theirs.to_dict(privacy_mode=True)


def test_an_emission_is_read_and_written_the_same():
    ours = own_envelopes.EmissionEnvelope.from_dict(EMISSION)

    assert same(ours, metaspn_schemas.EmissionEnvelope.from_dict(EMISSION))
    assert ours.caused_by == "5"


@pytest.mark.parametrize("module", [own_envelopes, metaspn_schemas])
def test_nested_values_become_json(module):
    signal = module.SignalEnvelope("s", AT, "x", "P", {"b": Seen(AT, ("q",)), "a": (1, [AT])})

    assert signal.timestamp == AT
    assert signal.timestamp.tzinfo is UTC
    assert signal.to_dict()["timestamp"] == "2026-02-05T10:00:00.000123Z"
    assert signal.to_dict()["payload"] == {
        "a": [1, ["2026-02-05T10:00:00.000123Z"]],
        "b": {"at": "2026-02-05T10:00:00.000123Z", "tags": ["q"]},
    }


@pytest.mark.parametrize("module", [own_envelopes, metaspn_schemas])
def test_what_cannot_be_read_is_refused(module):
    with pytest.raises(ValueError, match="Missing required field: source"):
        module.SignalEnvelope.from_dict({"signal_id": "s", "timestamp": "2026-02-05", "payload_type": "", "payload": 1})
    with pytest.raises(TypeError, match="Cannot parse datetime from <class 'int'>"):
        module.SignalEnvelope.from_dict({**SIGNAL, "timestamp": 5})
    with pytest.raises(ValueError, match="Invalid isoformat"):
        module.SignalEnvelope.from_dict({**SIGNAL, "timestamp": "today"})


def test_envelopes_are_frozen():
    with pytest.raises(FrozenInstanceError):
        own_envelopes.EntityRef("e", "v").value = "w"
