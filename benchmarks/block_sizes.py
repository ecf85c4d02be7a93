"""What the size of a compacted segment's blocks costs and gains: `python -m benchmarks.block_sizes [EVENTS]`.

It made the table of docs/decisions/0003-index-of-compacted-segments.md.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from typing import TYPE_CHECKING

from bucketlog.format import compacted, compacting
from bucketlog.format.lines import check_events, encode_lines
from bucketlog.format.segments import ALL_BEFORE_SYNCED, seal_commit

from .data import BATCH, IDS, departures

if TYPE_CHECKING:
    from collections.abc import Sequence

_KIBS = (16, 32, 64, 128, 256, 1024)
_BLOCKS_TRIED = 40
_ROUNDS = 15


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 150_000
    print("| ids | block | lines shrink by | with the index | index, bytes an event | a block unpacks in | MB/s |")
    print("|---|---|---|---|---|---|---|")
    for ids in IDS:
        commits = _commits(count, ids)
        for kib in _KIBS:
            compacting.BLOCK_BYTES = kib * 1024
            print(f"| {ids} | {kib} KiB | {' | '.join(_measure(commits, count))} |", flush=True)


def _commits(count: int, ids: str) -> list[bytes]:
    events = list(departures(count, ids=ids))
    commits = []
    for start in range(0, count, BATCH):
        lines = check_events(events[start : start + BATCH], where="")
        body = encode_lines(lines, indexes=range(len(lines)), where="")
        write_id = f"{random.getrandbits(64):016x}"
        commits.append(seal_commit(body, events=len(lines), flags=ALL_BEFORE_SYNCED, write_id=write_id))
    return commits


def _measure(commits: Sequence[bytes], count: int) -> list[str]:
    began = time.process_time()
    builder = compacting.Builder(0)
    for start, commit in zip(range(0, count, BATCH), commits, strict=True):
        builder.add(commit, events=min(BATCH, count - start))
    content = builder.finish()
    seconds = time.process_time() - began
    segment = compacted.CompactedSegment.open("", lambda start, end: content[start:end], len(content))
    if segment is None:
        msg = "what was built has no index"
        raise RuntimeError(msg)
    size, frames = sum(map(len, commits)), segment.blocks[-1].end
    full = range(max(len(segment.blocks) - 1, 1))
    chosen = random.Random(0).sample(full, min(_BLOCKS_TRIED, len(full)))
    return [
        f"{size / frames:.1f}",
        f"{size / len(content):.1f}",
        f"{(len(content) - frames) / count:.1f}",
        f"{statistics.median(_unpacking_seconds(segment, place) for place in chosen) * 1e6:.0f} µs",
        f"{size / seconds / 1e6:.0f}",
    ]


def _unpacking_seconds(segment: compacted.CompactedSegment, place: int) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        segment.unpack([place])
        best = min(best, time.perf_counter() - began)
    return best


if __name__ == "__main__":
    main()
