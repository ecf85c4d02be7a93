"""Which segments are merged: every live one, and each event few times; and what is made of them fits one put."""

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketlog import Event
from bucketlog.format.lines import check_events, encode_lines
from bucketlog.format.segments import Segment, Span, seal_commit
from bucketlog.log.raw_batch import RawBatch
from bucketlog.maintenance import compaction
from bucketlog.maintenance.compaction import FAN_IN, SEGMENT_BYTES_MAX, plan

SEGMENT_BYTES = 500  # of a compacted segment of one small event beside the event


@dataclass
class Log:
    """The segments of a partition, by their sizes alone; `ratio` is what is left of live ones when compacted."""

    ratio: float
    segments: list[Segment] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)  # of each event
    appended_bytes: int = 0
    written_bytes: int = 0
    segments_max: int = 0

    def append(self, size):
        self.segments.append(Segment(f"{len(self.sizes)}", len(self.sizes), None, size))
        self.sizes.append(size)
        self.appended_bytes += size

    def size(self, first, following):
        return int(self.ratio * sum(self.sizes[first:following])) + SEGMENT_BYTES + 10 * (following - first)

    def merge(self, first, following):
        """Return what becomes of some offsets: compacted segments, each closed once it is large."""
        made, begin, total = [], first, 0.0
        for offset in range(first, following):
            total += self.ratio * self.sizes[offset] + 10
            if total + SEGMENT_BYTES >= SEGMENT_BYTES_MAX or offset + 1 == following:
                made.append(Segment(f"{begin}-{offset + 1}", begin, offset + 1, int(total) + SEGMENT_BYTES))
                begin, total = offset + 1, 0.0
        self.written_bytes += sum(one.size for one in made)
        return made

    def compact(self):
        """Merge what is planned until nothing is; return how often there was something."""
        rounds = 0
        while runs := plan(self.segments):
            rounds += 1
            assert rounds < 10
            for run in runs:
                begin = self.segments.index(run[0])
                end = begin + len(run)
                following = self.segments[end].first if end < len(self.segments) else len(self.sizes)
                self.segments[begin:end] = self.merge(run[0].first, following)
        assert all(one.next is not None for one in self.segments)
        assert all(one.next == following.first for one, following in pairwise(self.segments))
        self.segments_max = max(self.segments_max, len(self.segments))
        return rounds


def live(first, size):
    return Segment(f"{first}.jsonl", first, None, size)


def done(first, following, size):
    return Segment(f"{first}-{following}.jsonl.zst", first, following, size)


sizes = st.one_of(st.integers(300, 5000), st.integers(300, 2**26))
listings = st.lists(st.tuples(st.booleans(), sizes), max_size=60).map(
    lambda some: [
        done(place, place + 1, size) if compacted else live(place, size) for place, (compacted, size) in enumerate(some)
    ]
)


# -- what is merged ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(listings)
def test_every_live_segment_is_merged_and_runs_are_neighbours_that_share_nothing(counting):
    before = list(counting)

    runs = plan(counting)

    assert counting == before
    assert runs == plan(counting)
    chosen = [one for run in runs for one in run]
    assert all(one in chosen for one in counting if one.next is None)
    assert len({one.key for one in chosen}) == len(chosen)
    for run in runs:
        begin = counting.index(run[0])
        assert list(run) == counting[begin : begin + len(run)]
        assert any(one.next is None for one in run) or len(run) >= FAN_IN
    assert [run[0].first for run in runs] == sorted(run[0].first for run in runs)


def test_nothing_is_planned_for_a_partition_without_segments_or_with_one_that_is_compacted():
    assert plan([]) == []
    assert plan([done(0, 5, 1000)]) == []
    assert plan([done(0, 5, 1000), done(5, 9, 1000)]) == []


def test_compacted_segments_are_merged_once_there_are_many_of_about_one_size():
    few = [done(place, place + 1, 1000) for place in range(FAN_IN - 1)]

    assert plan(few) == []
    assert plan([*few, done(99, 100, 900)]) == [[*few, done(99, 100, 900)]]
    assert plan([*few, live(15, 4000)]) == [[*few, live(15, 4000)]]
    assert plan([*few[:-1], live(14, 4000)]) == [[live(14, 4000)]]


def test_large_segments_are_compacted_for_good():
    closed = [done(place, place + 1, SEGMENT_BYTES_MAX // 2) for place in range(3 * FAN_IN)]

    assert plan(closed) == []
    assert plan([*closed, live(100, 10**8)]) == [[live(100, 10**8)]]


def test_what_another_compactor_left_between_is_filled_in():
    counting = [live(0, 500), done(1, 2, 500), live(2, 500), live(3, 500), done(4, 5, 500)]

    assert plan(counting) == [[live(0, 500)], [live(2, 500), live(3, 500)]]


# -- over time ---------------------------------------------------------------------------------------------------------


# (I25)
@pytest.mark.slow
@given(
    st.lists(st.lists(sizes, max_size=20), min_size=1, max_size=60),
    st.sampled_from([0.05, 0.2, 0.5, 0.95]),
)
@settings(max_examples=60)
def test_compaction_is_idempotent_and_leaves_nothing_live(steps, ratio):
    log = Log(ratio)
    for appended in steps:
        for size in appended:
            log.append(size)
        log.compact()
        assert log.compact() == 0


COMMITS = {
    "small commits": lambda chance: chance.randrange(300, 600),
    "commits of a few events": lambda chance: chance.randrange(1000, 10_000),
    "commits of all sizes": lambda chance: int(300 * 10 ** chance.uniform(0, 5)),
    "large commits": lambda chance: chance.randrange(2**20, 2**26),
}


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.5, 0.75])
@pytest.mark.parametrize("each", [8, 64, 512])
@pytest.mark.parametrize("commits", COMMITS)
def test_less_than_thrice_is_written_what_was_appended_and_segments_stay_few(commits, each, ratio):
    chance, log = random.Random(f"{commits} {each} {ratio}"), Log(ratio)

    for number in range(4096):
        log.append(COMMITS[commits](chance))
        if number % each == each - 1:
            log.compact()

    assert log.written_bytes < 3 * log.appended_bytes
    assert log.segments_max <= 4 * FAN_IN + log.written_bytes // (SEGMENT_BYTES_MAX // 8)


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.5])
def test_a_compaction_after_every_single_event_writes_a_few_times_what_was_appended(ratio):
    log = Log(ratio)
    for _ in range(4096):
        log.append(400)
        log.compact()

    # Of which most is what a segment of one event takes beside it, the first time.
    assert log.written_bytes < (3 + 4 * ratio) * log.appended_bytes
    assert log.segments_max <= 4 * FAN_IN


def test_an_event_is_written_again_no_oftener_the_more_there_are():
    """Counted for one at the beginning, which was there all the time."""
    log, rewritten = Log(0.2), []
    first = None
    for number in range(20_000):
        log.append(chance_size(number))
        if number % 32 == 31:
            log.compact()
            if log.segments[0] != first:
                first = log.segments[0]
                rewritten.append(number)

    assert len(rewritten) <= 6


def chance_size(number):
    return 20_000 + number * 7919 % 20_000


# -- what is made of them ----------------------------------------------------------------------------------------------


class Commits:
    """A partition's reader that has so many commits, each of some size that hardly gets less when compacted."""

    folder, where = "streams/s/0/", "here"

    def __init__(self, sizes):
        self.sizes = sizes

    def seek(self, offset):
        assert offset == 0

    def raw_batches(self, *, by_commit):
        assert by_commit
        chance = random.Random(1)
        for offset, size in enumerate(self.sizes):
            events = check_events(
                [Event(type="a", id=f"{offset:05}", data=chance.randbytes(size // 2).hex())], where=""
            )
            data = seal_commit(
                encode_lines(events, indexes=[0], where=""), events=1, flags=1, write_id=f"{offset:016x}"
            )
            yield RawBatch(offset, 1, data, len(data), "0.jsonl", 0, [Span(0, len(data), 1, 1, f"{offset:016x}")])


@pytest.mark.slow
@given(st.lists(st.integers(10, 8000), min_size=1, max_size=40), st.integers(1000, 6000), st.integers(0, 3000))
@settings(max_examples=60)
def test_no_segment_is_larger_than_one_put_takes_and_none_is_made_needlessly(commit_sizes, bytes_max, margin):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "SEGMENT_BYTES_MAX", bytes_max)
        patch.setattr(compaction, "_PUT_BYTES", bytes_max + margin)
        patch.setattr("bucketlog.format.compacting.BLOCK_BYTES", 100)
        made = list(compaction._built(Commits(commit_sizes), [live(0, 1)], 0, lambda size: None))

    here = 0
    for first, following, content in made:
        assert first == here
        # One commit alone may be larger, as it cannot be parted.
        assert len(content) <= bytes_max + margin + 1000 or following == first + 1
        here = following
    assert here == len(commit_sizes)
    for (_, _, content), (_, _, behind) in pairwise(made):
        assert len(content) + len(behind) > bytes_max
