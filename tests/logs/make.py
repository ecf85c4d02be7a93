"""Writes a store by the present format version, to be kept and read for ever: `python tests/logs/make.py v1`.

It is run once for each version of the format, and again when more of it is to be kept: what is there is never written
again. What went in is kept beside it, as `v1.json`.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from blake3 import blake3
from msgspec.structs import replace

import bucketlog
from bucketlog import Cursor, Event
from bucketlog.format import compacting, segments
from bucketlog.maintenance import compaction

BEGIN = datetime(2026, 2, 5, 23, 59, 58, tzinfo=UTC)
AWKWARD = ["..", "a/b\\c", "con", "%2F", ".hidden", "Zürich 😀", "stream.json", "50%", "x.", "~"]
DATA = [
    None,
    0,
    -1.5,
    2**63,
    True,
    "",
    'quotes " and \\ and / and controls \x00\x1f\x7f\u2028',
    "é 😀",
    [1, [2, {"a": None}]],
    {"commit": "00000001-01-0123456789abcdef-0badc0de"},
    ',"commit":"00000001-01-0123456789abcdef-0badc0de"}\n',
    {"null": "null", "nested": {"deep": [{}, []]}},
]


def an_event(number: int) -> Event:
    return Event(
        type=f"kind.{number % 3}",
        id=f"e-{number}",
        time=BEGIN + timedelta(seconds=number, microseconds=number % 2),
        source=[None, "/shop", ""][number % 3],
        subject=AWKWARD[number % len(AWKWARD)],
        tags=("a", "ü")[: number % 3],
        data=DATA[number % len(DATA)],
        meta={"actor": "x", "attempt": number, "rate": 0.5, "none": None, "dry": False} if number % 2 else {},
    )


def write(root: Path) -> dict[str, list[Event]]:
    """Make the store with live segments; return what every stream holds, in the order of the appends."""
    segments.SEGMENT_BYTES_MAX = 2048  # so that there are several in little space
    events = [an_event(number) for number in range(60)]
    store = bucketlog.open(root)
    orders = store.stream("orders")
    for start, stop in [(0, 1), (1, 4), (4, 5), (5, 25), (25, 26), (26, 60)]:
        orders.append(events[start:stop])
    store.stream("by day", partition_by="day").append(events[:6])
    store.stream("by subject", partition_by="subject").append(events[:20])
    store.stream("by hash", partition_by="hash:12").append(events[:20])
    store.stream("../évil?").append(events[0])
    torn = store.stream("torn")
    torn.append(events[0])
    torn.append(events[1:3])
    segment = next(root.glob("streams/torn/0/*.jsonl"))
    whole = segment.read_bytes()
    last = whole[whole.index(b"\n") + 1 :].replace(b"e-", b"lost-")
    segment.write_bytes(whole + last[: len(last) // 2])

    store.checkpoints.save("progress", {"seen": 1})
    store.checkpoints.save("progress", {"seen": 2})
    store.checkpoints.save("a/b: ü", [None, 1.5, "x"])
    store.checkpoints.save("deleted", 1)
    store.checkpoints.delete("deleted")
    store.snapshots.save("totals", {"b": [1, 2], "a": "ü"}, at="2026-02-05")
    store.snapshots.save("totals", {"n": 60}, cursor=Cursor({"0": 60}), at=BEGIN + timedelta(microseconds=500_000))
    store.blobs.put(b"attached\n")
    store.objects.put("reports/2026 Q1.txt", b"all is well\n")
    with store.subscribe("orders", "billing") as subscription:
        for _ in range(5):
            next(subscription)
        subscription.ack()
    store.close()
    return {
        "orders": events,
        "by day": events[:6],
        "by subject": events[:20],
        "by hash": events[:20],
        "../évil?": events[:1],
        "torn": events[:3],
    }


def write_compacted(root: Path) -> dict[str, list[Event]]:
    """Add streams with compacted segments; return what they hold."""
    segments.SEGMENT_BYTES_MAX = 2048
    compacting.BLOCK_BYTES = 1024
    compaction.SEGMENT_BYTES_MAX = 2048
    events = [an_event(number) for number in range(60)]
    in_order = [replace(one, id=f"{number:04}") for number, one in enumerate(events)]
    at_random = [replace(one, id=blake3(one.id.encode()).hexdigest()) for one in events]
    with bucketlog.open(root) as store:
        # Two generations of compacted segments, what they were made of, and a live segment behind them.
        some = store.stream("compacted")
        some.append(in_order[:3])
        some.append(in_order[3:40])
        some.compact()
        some.append(in_order[40:50])
        some.compact()
        some.append(in_order[50:])
        # Nothing but compacted segments, with tables of their ids.
        all_of_it = store.stream("compacted alone")
        all_of_it.append(at_random[:50])
        all_of_it.append(at_random[50:])
        all_of_it.compact()
        all_of_it.vacuum(grace=0, exclusive=True)
    return {"compacted": in_order, "compacted alone": at_random}


def main() -> None:
    root = Path(__file__).parent / sys.argv[1]
    kept = root.with_suffix(".json")
    expected = json.loads(kept.read_text()) if kept.exists() else {}
    for wanted, make in (("orders", write), ("compacted", write_compacted)):
        if wanted not in expected:
            expected |= {name: [one.to_cloudevent() for one in events] for name, events in make(root).items()}
    for path in sorted(root.rglob("*"), reverse=True):  # locks and scratch, of which a copy has none either
        if path.name.startswith(".") and path.is_file():
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif path.is_file():
            path.chmod(0o644)  # git keeps no other
    kept.write_text(json.dumps(expected, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
