"""Where the time goes, and what the machine allows: `python -m benchmarks.profile [NAME …]`, or `make profile`.

The main thread is sampled a thousand times a second while it appends or reads. A sample that comes late, because Python
is inside a long call, counts for all the time since the last one, so shares are shares of wall-clock time. The work of
other threads appears in the processor time only.
"""

from __future__ import annotations

import argparse
import linecache
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import zstandard
from isal.isal_zlib import crc32

import bucketlog
from bucketlog.format.lines import Line, StoredEvent, check_events, encode_lines

from . import report
from .data import BATCH, batches, departures, fresh
from .peers.bare import BareFile
from .replaying import envelopes, with_data
from .upkeep import NotThereYetError, compact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from bucketlog import Event, Stream

FOLDER = Path(os.environ.get("BUCKETLOG_BENCH_DIR", Path.cwd()))
_ROOT = Path(__file__).parents[1]
_OURS = (str(_ROOT / "src"), str(_ROOT / "backends"))
_LOOK_SECONDS = 0.001
_SHOWN = 14
_BLOCK_BYTES = 64 * 1024  # of a compacted segment
_ROUNDS = 5


class Looks:
    """A context manager that samples on which line of bucketlog the main thread is."""

    def __init__(self) -> None:
        self.seconds: defaultdict[tuple[str, int, str], float] = defaultdict(float)
        self.wall_seconds = self.processor_seconds = 0.0

    def __enter__(self) -> Looks:
        self._before = signal.signal(signal.SIGALRM, self._look)
        self._processor = time.process_time()
        self._began = self._last = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.wall_seconds = time.perf_counter() - self._began
        self.processor_seconds = time.process_time() - self._processor
        signal.signal(signal.SIGALRM, self._before)

    def _look(self, _number: int, frame: FrameType | None) -> None:
        now = time.perf_counter()
        while frame is not None and not frame.f_code.co_filename.startswith(_OURS):
            frame = frame.f_back
        if frame is not None:
            place = (frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_qualname)
        else:
            place = ("", 0, "the benchmark itself, which also frees what it has read")
        self.seconds[place] += now - self._last
        self._last = now

    def show(self, title: str, events: int) -> None:
        """Print the lines that took most of the time."""
        each = self.wall_seconds / events * 1e6
        print(
            f"\n{title}: {each:.3g} µs an event, {events / self.wall_seconds:,.0f} events/s; the processors worked "
            f"{self.processor_seconds / self.wall_seconds:.0%} of that time\n"
        )
        for (path, line, function), seconds in sorted(self.seconds.items(), key=lambda one: -one[1])[:_SHOWN]:
            share = seconds / self.wall_seconds
            place = f"{'/'.join(Path(path).parts[-2:])}:{line}" if path else ""
            source = linecache.getline(path, line).strip()
            print(f"  {share:5.1%} {share * each:9.3f} µs  {place:28} {function:36} {source[:70]}".rstrip())


# -- where the time goes -----------------------------------------------------------------------------------------------


def single_appends(folder: Path, events: Sequence[Event]) -> None:
    """One event for each commit."""
    with bucketlog.open(folder / "single") as store:
        stream = store.stream("events")
        some = fresh(events[:5000])
        stream.append(fresh(events[:1]))
        with Looks() as looks:
            for event in some:
                stream.append(event)
        looks.show("single append", len(some))


def batched_appends(folder: Path, events: Sequence[Event]) -> None:
    """A thousand events for each commit."""
    with bucketlog.open(folder / "batched") as store:
        stream = store.stream("events")
        given = list(batches(fresh(events)))
        with Looks() as looks:
            for batch in given:
                stream.append(batch)
        looks.show(f"append in batches of {BATCH:,}", len(events))


def replays(folder: Path, events: Sequence[Event]) -> None:
    """Live and compacted, envelopes and everything."""
    with bucketlog.open(folder / "replayed") as store:
        stream = store.stream("events")
        for _ in range(2):
            for batch in batches(fresh(events)):
                stream.append(batch)
        _replay(stream, "live")
        try:
            with Looks() as looks:
                compact(stream)
        except NotThereYetError as reason:
            print(f"\ncompacted: {reason}")
            return
        looks.show("compact()", 2 * len(events))
        _replay(stream, "compacted")


def _replay(stream: Stream, state: str) -> None:
    for title, call in ((f"replay, {state}", envelopes), (f"replay with data decoded, {state}", with_data)):
        call(stream)
        with Looks() as looks:
            count = call(stream)
        looks.show(title, count)


# -- what the machine allows -------------------------------------------------------------------------------------------


def limits(folder: Path, events: Sequence[Event]) -> None:
    """What each step costs by itself, on the same bytes: a lower bound for everything that needs it."""
    lines = check_events(events, where="profile")
    body = encode_lines(lines, indexes=range(len(lines)), where="profile")
    size = len(body) / len(events)
    print(f"\nthe least that each step can cost, alone, on {len(events):,} departures of {size:.0f} bytes\n")
    for title, seconds in _steps(folder, events, lines, body):
        each = seconds / len(events)
        rate = f"{1 / each:14,.0f} events/s {len(body) / seconds / 1e6:10,.0f} MB/s"
        print(f"  {each * 1e6:9.4f} µs an event {rate}  {title}")


def _steps(folder: Path, events: Sequence[Event], lines: Sequence[Line], body: bytes) -> Iterator[tuple[str, float]]:
    size = len(body) // len(events)
    with closing(BareFile(folder / "bare")) as bare:
        few = max(1, min(1000, len(events) // 20))
        single = _best(lambda: [bare.append(body[:size]) for _ in range(few)]) / few
        yield "write + fdatasync of one event", single * len(events)
        chunk = body[: size * BATCH]
        some = max(1, min(50, len(events) // BATCH))
        batch = _best(lambda: [bare.append(chunk) for _ in range(some)]) / some
        yield f"write + fdatasync of {BATCH:,} events", batch / BATCH * len(events)
    path = folder / "page-cache"
    path.write_bytes(body)
    yield "reading a file from the page cache", _best(path.read_bytes)
    yield "memcpy", _best(lambda: bytearray(body))
    yield "crc32", _best(lambda: crc32(body))
    yield "finding the ends of lines (count)", _best(lambda: body.count(b"\n"))

    # In batches, and below in blocks, as a program would: a list of everything is slower because of its memory.
    encoder, given, checked = msgspec.json.Encoder(), list(batches(events)), list(batches(lines))
    yield (
        "msgspec, checking and converting",
        _best(lambda: [len(msgspec.convert(batch, list[Line], from_attributes=True)) for batch in given]),
    )
    yield "msgspec, encoding", _best(lambda: [len(encoder.encode_lines(batch)) for batch in checked])
    pieces = _pieces(body)
    for title, decoder in (
        ("msgspec, decoding envelopes", msgspec.json.Decoder(StoredEvent)),
        ("msgspec, decoding everything", msgspec.json.Decoder(bucketlog.Event)),
        ("msgspec, decoding as dicts", msgspec.json.Decoder()),
    ):
        yield title, _best(lambda decoder=decoder: [len(decoder.decode_lines(piece)) for piece in pieces])

    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    blocks = [compressor.compress(piece) for piece in pieces]
    shrunk = sum(map(len, blocks)) / len(body)
    yield (
        f"zstd, packing blocks of {_BLOCK_BYTES // 1024} KiB, to {shrunk:.0%}",
        _best(lambda: [compressor.compress(piece) for piece in pieces]),
    )
    decompressor = zstandard.ZstdDecompressor()
    yield "zstd, unpacking them", _best(lambda: [decompressor.decompress(block) for block in blocks])


def _pieces(body: bytes) -> list[bytes]:
    """Cut lines into blocks."""
    cut, start = [], 0
    while start < len(body):
        end = body.find(b"\n", min(start + _BLOCK_BYTES, len(body)) - 1) + 1
        cut.append(body[start:end])
        start = end
    return cut


def _best(call: Callable[[], object]) -> float:
    """Return the median of some rounds, after one that warms up."""
    call()
    took = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return statistics.median(took)


PROFILES = {"single": single_appends, "batch": batched_appends, "replay": replays, "limits": limits}


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.profile", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(PROFILES)} (default: all)")
    parser.add_argument("--events", type=int, default=100_000, help="how many departures (default: 100,000)")
    options = parser.parse_args()
    if unknown := set(options.names) - PROFILES.keys():
        parser.error(f"no such profile: {', '.join(sorted(unknown))}; there are {', '.join(PROFILES)}")
    if sys.platform == "win32":
        parser.error("needs the signals of a POSIX system")
    print(report.told(report.machine(FOLDER)))
    events = list(departures(options.events))
    for name in options.names or PROFILES:
        with tempfile.TemporaryDirectory(dir=FOLDER, prefix=".bench-") as folder:
            PROFILES[name](Path(folder), events)


if __name__ == "__main__":
    main()
