"""A program written for metaspn-store runs here with one more line."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import bucketlog.signals
sys.modules["metaspn_store"] = bucketlog.signals

from datetime import datetime, timezone
from metaspn_schemas import EmissionEnvelope, EntityRef, SignalEnvelope
from metaspn_store import DuplicateEventError, FileSystemStore, RESOLVED_ENTITY_PAYLOAD_TYPES, ReplayCheckpoint
from metaspn_store.store import DEFAULT_SUCCESS_EMISSION_TYPES, DuplicatePolicy
from metaspn_store.store import DuplicateEventError as SameError, FileSystemStore as SameStore
import metaspn_store.store

assert SameError is DuplicateEventError is metaspn_store.store.DuplicateEventError
assert SameStore is FileSystemStore is bucketlog.signals.SignalStore
assert metaspn_store.store.ReplayCheckpoint is ReplayCheckpoint
assert FileSystemStore.__module__.startswith("bucketlog.")

store = FileSystemStore(workspace=sys.argv[1])
at = datetime(2026, 2, 5, 10, tzinfo=timezone.utc)
ref = EntityRef(ref_type="entity_id", value="v")
signal = SignalEnvelope(
    signal_id="s1", timestamp=at, source="ingest", payload_type="SocialPostSeen", payload={"n": 1}, entity_refs=(ref,)
)
path = store.write_signal(signal)
assert path.exists() and path.stem == "2026-02-05"
try:
    store.write_signal(signal, on_duplicate="raise")
except DuplicateEventError as err:
    assert str(err) == f"Duplicate signal_id='s1' already exists in {path}"
else:
    raise AssertionError
assert list(store.iter_signals(at, at)) == [signal]
assert store.get_recent_signals_by_entity(entity_ref=ref, limit=1) == [signal]
checkpoint = store.build_signal_checkpoint(store.iter_signals(at, at))
store.write_checkpoint("worker", checkpoint)
assert store.read_checkpoint("worker") == checkpoint == ReplayCheckpoint(at, ("s1",))
assert list(store.iter_signals_from_checkpoint(end=at, checkpoint=checkpoint)) == []
emission = EmissionEnvelope("e1", at, "DraftApproved", {"ok": True}, "s1")
store.write_emissions([emission])
assert store.get_outcomes_for_window(start=at, end=at) == [emission]
path = store.write_daily_digest_snapshot(day=at, digest={"n": 1})
assert list(path.parent.glob("digest__2026-02-05*.json")) == [path]
print("done")
"""


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_program_for_metaspn_store_needs_one_line_more(tmp_path: Path):
    assert run(PROGRAM, str(tmp_path)) == "done"


WITHOUT_SCHEMAS = """
import sys
sys.modules["metaspn_schemas"] = None

from datetime import datetime, timezone
from bucketlog.signals import EmissionEnvelope, EntityRef, SignalEnvelope, SignalStore, TraceContext

assert SignalEnvelope.__module__ == "bucketlog.signals.own_envelopes"
at = datetime(2026, 2, 5, 10, tzinfo=timezone.utc)
signal = SignalEnvelope(
    "s1", at, "ingest", "SocialPostSeen", {"n": 1}, entity_refs=(EntityRef("e", "v"),),
    trace=TraceContext("t", caused_by=("x",), metadata={"a": "b"}), raw={"r": 1},
)
emission = EmissionEnvelope("e1", at, "DraftApproved", None, "s1", trace=TraceContext("t"))
with SignalStore(sys.argv[1]) as store:
    store.write_signal(signal)
    store.write_emission(emission)
    assert list(store.iter_signals(at, at)) == [signal]
    assert list(store.iter_emissions(at, at)) == [emission]
print("done")
"""


def test_the_schemas_are_not_needed(tmp_path: Path):
    assert run(WITHOUT_SCHEMAS, str(tmp_path)) == "done"
