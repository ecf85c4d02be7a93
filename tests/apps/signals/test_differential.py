"""Random histories in metaspn-store and in ours: every query returns the same, except for deliberate improvements."""

import shutil
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("metaspn_store")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metaspn_store import FileSystemStore as Peer

from bucketlog.signals import EmissionEnvelope, EntityRef, ReplayCheckpoint, SignalEnvelope, SignalStore

BASE = datetime(2026, 2, 5, tzinfo=UTC)
SOURCES = ["route", "route.x", "router", "ingest"]
TYPES = ["SocialPostSeen", "OutcomePending", "EntityResolved", "Other"]
EMISSION_TYPES = ["OutcomeSuccess", "DraftRejected", "Other"]

times = st.integers(0, 4 * 24 * 4).map(lambda quarters: BASE + timedelta(minutes=15 * quarters))
refs = st.builds(
    EntityRef,
    ref_type=st.sampled_from(["e", "f"]),
    value=st.sampled_from(["1", "2"]),
    platform=st.sampled_from([None, "x"]),
    label=st.sampled_from([None, "L"]),
)
ref_tuples = st.lists(refs, max_size=2).map(tuple)
scores = st.sampled_from([0, 1, 2, 0.5, -1, True, None, "9", [1]])
expiries = st.sampled_from(["2026-02-06T12:00:00Z", "2026-02-07", "2026-02-06T11:00:00", "bogus", 5, None])
payloads = st.one_of(
    st.none(),
    st.just([1]),
    st.fixed_dictionaries(
        {},
        optional={
            "score": scores,
            "expires_at": expiries,
            "status": st.sampled_from(["READY", "DONE", 1]),
            "token_id": st.sampled_from(["t", 1, True]),
            "promise_id": st.sampled_from(["p", "q"]),
            "project_entity_id": st.sampled_from(["m", None]),
            "more": st.recursive(
                st.integers() | st.text(max_size=3) | st.floats(allow_nan=False), st.lists, max_leaves=3
            ),
        },
    ),
)
signals = st.builds(
    SignalEnvelope,
    signal_id=st.integers(0, 30).map(lambda number: f"s{number}"),
    timestamp=times,
    source=st.sampled_from(SOURCES),
    payload_type=st.sampled_from(TYPES),
    payload=payloads,
    entity_refs=ref_tuples,
)
emissions = st.builds(
    EmissionEnvelope,
    emission_id=st.integers(0, 20).map(lambda number: f"e{number}"),
    timestamp=times,
    emission_type=st.sampled_from(EMISSION_TYPES),
    payload=payloads,
    caused_by=st.integers(0, 30).map(lambda number: f"s{number}"),
    entity_refs=ref_tuples,
)
histories = st.lists(st.one_of(st.lists(signals, min_size=1, max_size=12), st.lists(emissions, max_size=8)), max_size=5)


def subset(values: list[str]) -> st.SearchStrategy[object]:
    return st.none() | st.lists(st.sampled_from(values), max_size=2)


windows = st.tuples(times, times)
limits = st.integers(-1, 6)
questions = st.fixed_dictionaries(
    {
        "window": windows,
        "entity": refs,
        "maybe_entity": st.none() | refs,
        "sources": subset(SOURCES),
        "types": subset(TYPES),
        "emission_types": subset(EMISSION_TYPES),
        "limit": limits,
        "maybe_limit": st.none() | limits,
        "checkpoint": st.none()
        | st.builds(
            ReplayCheckpoint,
            times,
            st.lists(st.integers(0, 30).map(lambda number: f"s{number}"), max_size=3).map(tuple),
        ),
        "resolved": st.sampled_from([None, True, False]),
        "stage": st.sampled_from(["route", "ingest", "rout"]),
        "token": st.sampled_from([None, "t", 1]),
        "promise": st.sampled_from([None, "p"]),
        "status": st.sampled_from([None, "READY", 1]),
        "unique": st.booleans(),
        "now": times,
    }
)


def result(ask):
    """Return the result of a query, or the error that it raises."""
    try:
        found = ask()
        return {key: list(value) for key, value in found.items()} if isinstance(found, dict) else list(found)
    except ValueError as err:
        return str(err)


def answers(store, q: dict) -> dict[str, object]:
    start, end = q["window"]
    window = {"start": start, "end": end}
    entity = {"entity_ref": q["maybe_entity"]}
    sources = {"sources": q["sources"]}
    types = {"payload_types": q["types"]}
    outcomes = {
        "pending_payload_types": q["types"],
        "success_emission_types": q["emission_types"],
        **window,
        **entity,
        **sources,
    }
    resume = {"checkpoint": q["checkpoint"], **window, **entity, **sources}
    promise = {"promise_id": q["promise"], "status": q["status"], **window, **entity}
    asked = {
        "signals": lambda: store.iter_signals(start, end, q["maybe_entity"], q["sources"]),
        "emissions": lambda: store.iter_emissions(start, end, q["maybe_entity"], q["emission_types"]),
        "resumed": lambda: store.iter_signals_from_checkpoint(**resume),
        "resumed without start": lambda: store.iter_signals_from_checkpoint(**{**resume, "start": None}),
        "candidates": lambda: store.iter_entity_candidate_signals(resolved=q["resolved"], **window, **sources),
        "stage": lambda: store.iter_stage_window_signals(stage=q["stage"], **resume, **types),
        "recommendation": lambda: store.iter_recommendation_signals(**resume, **types),
        "learning": lambda: store.iter_learning_signals(**resume, **types),
        "learning emissions": lambda: store.iter_learning_emissions(
            emission_types=q["emission_types"], **window, **entity
        ),
        "recent": lambda: store.get_recent_signals_by_entity(
            entity_ref=q["entity"], limit=q["limit"], **window, **sources
        ),
        "recent till now": lambda: store.get_recent_signals_by_entity(
            entity_ref=q["entity"], limit=q["limit"], start=start
        ),
        "by source": lambda: store.get_recent_signals_by_source(source="route", limit=q["limit"], **window, **entity),
        "drafts": lambda: store.get_latest_draft_signals(limit=q["limit"], **window, **entity, **sources, **types),
        "approvals": lambda: store.get_latest_approval_outcomes(
            limit=q["limit"], emission_types=q["emission_types"], **window, **entity
        ),
        "ready": lambda: store.get_ready_candidates(limit=q["maybe_limit"], **window, **entity, **sources, **types),
        "top": lambda: store.get_top_recommendation_candidates(
            limit=q["limit"], unique_by_entity=q["unique"], **window, **entity, **sources, **types
        ),
        "tokens": lambda: store.get_token_signals(
            token_id=q["token"], limit=q["maybe_limit"], **window, **entity, **sources, **types
        ),
        "promises": lambda: store.get_promise_signals(limit=q["maybe_limit"], **promise, **sources, **types),
        "promise outcomes": lambda: store.get_promise_outcomes_for_window(
            emission_types=q["emission_types"], **promise
        ),
        "outcomes": lambda: store.get_outcomes_for_window(emission_types=q["emission_types"], **window, **entity),
        "unresolved": lambda: store.get_unresolved_outcome_signals(**outcomes),
        "expired": lambda: store.get_expired_outcome_signals(now=q["now"], **outcomes),
        "buckets": lambda: store.get_outcome_window_buckets(now=q["now"], **outcomes),
    }
    found = {name: result(ask) for name, ask in asked.items()}
    if isinstance(found["signals"], list):
        found["checkpoint"] = result(lambda: [store.build_signal_checkpoint(store.iter_signals(start, end)) is None])
    return found


@pytest.fixture(params=["file", "memory"])
def make_store(request):
    folders = []

    def make():
        if request.param == "memory":
            return SignalStore(f"memory://{uuid.uuid4()}")
        folders.append(tempfile.mkdtemp())
        return SignalStore(folders[-1], sync="never")

    yield make
    for folder in folders:
        shutil.rmtree(folder)


@pytest.mark.slow
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    history=histories, asked=st.lists(questions, min_size=1, max_size=4), policy=st.sampled_from(["ignore", "raise"])
)
def test_every_answer_is_that_of_metaspn_store(make_store, tmp_path, history, asked, policy):
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    peer = Peer(folder)
    with make_store() as store:
        for batch in history:
            kind = "write_signals" if batch and isinstance(batch[0], SignalEnvelope) else "write_emissions"
            written = [
                result(lambda one=one, batch=batch, kind=kind: getattr(one, kind)(batch, on_duplicate=policy))
                for one in (store, peer)
            ]
            if isinstance(written[1], list):
                assert [path.stem for path in written[0]] == [path.stem for path in written[1]]
            else:
                assert written[0].partition(" already")[0] == written[1].partition(" already")[0]
        for question in asked:
            ours, theirs = answers(store, question), answers(peer, question)
            assert ours == theirs
            # Without a start metaspn-store tries to open a file for every day since 1970.
            posts = {"entity_ref": question["entity"], "limit": question["limit"], "start": BASE}
            found = store.get_last_posts_by_entity(**posts)
            assert found[: len(before := peer.get_last_posts_by_entity(**posts))] == before
    shutil.rmtree(folder)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=2)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    payload=json_values,
    raw=st.none() | st.dictionaries(st.text(max_size=2), json_values, max_size=2),
    source=st.text(st.characters(), max_size=3),
    signal_id=st.text(st.characters(), min_size=1, max_size=3),
)
def test_any_json_comes_back_as_from_metaspn_store(tmp_path, payload, raw, source, signal_id):
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    written = SignalEnvelope(signal_id, BASE, source, "P", payload, raw=raw)
    peer = Peer(folder)
    peer.write_signal(written)

    with SignalStore(f"memory://{uuid.uuid4()}") as store:
        store.write_signal(written)

        (ours,), (theirs,) = store.iter_signals(BASE, BASE), peer.iter_signals(BASE, BASE)
    shutil.rmtree(folder)
    assert plain(ours.payload) == plain(theirs.payload)
    assert plain(ours.raw) == plain(theirs.raw)
    assert (ours.source, ours.signal_id) == (source, signal_id)


def plain(value: object) -> object:
    """Return a form in which equal values have equal types, and NaN equals NaN."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return type(value), repr(value)
