"""A killed writer leaves only whole records, and all that it acknowledged."""

import os
import signal as signals
import subprocess
import sys
from pathlib import Path

from bucketlog.signals import SignalStore

from .making import END, START, T, everything, signal

WRITER = """
import sys
from datetime import datetime, timedelta, timezone
from bucketlog.signals import SignalEnvelope, SignalStore

store = SignalStore(sys.argv[1])
at = datetime(2026, 2, 5, tzinfo=timezone.utc)
number = 0
while True:
    batch = [
        SignalEnvelope(f"{sys.argv[2]}-{number + more}", at + timedelta(hours=more), "s", "P", {"x": "y" * 2000})
        for more in range(40)
    ]
    store.write_signals(batch)
    number += len(batch)
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_whole_records_and_all_that_it_acknowledged(tmp_path: Path):
    for round_number in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(round_number)], stdout=subprocess.PIPE, text=True
        )
        acknowledged = 0
        for line in process.stdout:
            acknowledged = int(line)
            if acknowledged >= 80 + 40 * round_number:
                os.kill(process.pid, signals.SIGKILL)
                break
        acknowledged = max([acknowledged, *(int(line) for line in process.stdout)])
        process.wait()
        process.stdout.close()

        with SignalStore(tmp_path) as store:
            found = [
                signal for signal in store.iter_signals(START, END) if signal.signal_id.startswith(f"{round_number}-")
            ]
            assert {signal.signal_id for signal in found} >= {
                f"{round_number}-{number}" for number in range(acknowledged)
            }
            assert all(signal.payload == {"x": "y" * 2000} for signal in found)


def test_half_a_line_is_skipped_and_the_next_write_succeeds(tmp_path: Path):
    with SignalStore(tmp_path) as store:
        store.write_signals([signal("a"), signal("b", T(6))])
    (segment,) = (tmp_path / "store/streams/signals/2026-02-05").glob("*.jsonl")
    with segment.open("ab") as file:
        file.write(b'{"type":"SocialPostSeen","id":"half","ti')

    with SignalStore(tmp_path) as store:
        assert everything(store) == ["a", "b"]
        assert store.write_signal(signal("c", T(5))) == store.signals_dir / "2026-02-05"
        assert everything(store) == ["a", "c", "b"]
