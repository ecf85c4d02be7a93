"""How much is measured: everything, what fits in three minutes, or just enough to see that it works."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Size:
    """Counts and rounds of one run.

    Attributes:
        name: What it is called in the JSON.
        single: Single appends a round.
        batches: Batches of 1,000 a round.
        replayed: Events of the logs that are replayed beside the peers'.
        rounds: Of what takes less than a second.
        long_rounds: Of what takes seconds.
        curve: How many events the logs of the scaling curves hold.
        beside_sqlite: Which one of these is measured beside SQLite with an index.
        queries: `recent` and `get` calls a round.
        s3_commits: Commits a round on S3.
        s3_replayed: Events of the log that is replayed from S3.
        s3_segments: Live segments of the log that is opened cold on S3.
    """

    name: str
    single: int
    batches: int
    replayed: int
    rounds: int
    long_rounds: int
    curve: tuple[int, ...]
    beside_sqlite: int
    queries: int
    s3_commits: int
    s3_replayed: int
    s3_segments: int

    def up_to(self, events: int) -> Size:
        """Return the same without the logs of the scaling curves that have more events."""
        curve = tuple(one for one in self.curve if one <= events)
        return replace(
            self, curve=curve, beside_sqlite=max((one for one in curve if one <= self.beside_sqlite), default=0)
        )


FULL = Size(
    name="full",
    single=1000,
    batches=40,
    replayed=600_000,
    rounds=7,
    long_rounds=5,
    curve=(10_000, 100_000, 1_000_000, 10_000_000),
    beside_sqlite=1_000_000,
    queries=200,
    s3_commits=100,
    s3_replayed=1_000_000,
    s3_segments=10_000,
)
QUICK = Size(
    name="quick",
    single=100,
    batches=5,
    replayed=60_000,
    rounds=5,
    long_rounds=3,
    curve=(10_000, 100_000),
    beside_sqlite=100_000,
    queries=50,
    s3_commits=20,
    s3_replayed=60_000,
    s3_segments=300,
)
TINY = Size(
    name="tiny",
    single=5,
    batches=1,
    replayed=1000,
    rounds=1,
    long_rounds=1,
    curve=(1000,),
    beside_sqlite=1000,
    queries=3,
    s3_commits=3,
    s3_replayed=1000,
    s3_segments=5,
)
SIZES = {one.name: one for one in (FULL, QUICK, TINY)}
