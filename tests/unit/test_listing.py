"""Finding where a partition ends takes tens of requests, however many segments it has."""

import bisect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketlog.backend import Entry
from bucketlog.format.segments import chain, compacted_name, segment_name
from bucketlog.log import listing
from bucketlog.log.listing import live_before, newest_live, segments_after, skim

FOLDER = "streams/s/0/"


class Names:
    """A listing of names that counts the requests, with a thousand names each."""

    def __init__(self, names):
        self.names = sorted(FOLDER + name for name in names)
        self.requests = 0

    def list(self, prefix, *, start_after="", delimiter=False):
        assert prefix == FOLDER
        place = bisect.bisect_right(self.names, start_after)
        while True:
            self.requests += 1
            page = self.names[place : place + 1000]
            yield from (Entry(key, 100) for key in page)
            place += 1000
            if len(page) < 1000:
                return


def live(firsts, *more):
    return Names([*map(segment_name, firsts), "bounds.json", *more])


@pytest.mark.slow
@pytest.mark.parametrize("events", [1, 7, 1000])
def test_newest_of_a_million_segments_is_found_in_forty_requests(events):
    names = live(range(0, 1_000_000 * events, events))

    found = newest_live(names, FOLDER, 0)

    assert found.first == 999_999 * events
    assert names.requests <= 40


@pytest.mark.slow
@given(
    st.lists(st.sampled_from([1, 2, 900, 5_000, 10**6]), max_size=60),
    st.sampled_from([1, 3, 1500]),
    st.integers(0, 5000),
)
@settings(max_examples=200, deadline=None)
def test_newest_segment_is_the_last_one_that_is_not_below_the_floor(steps, repeat, floor):
    firsts, here = [], 0
    for step in steps:
        for _ in range(repeat):
            firsts.append(here)
            here += step
    expected = max((first for first in firsts if first >= floor), default=None)

    found = newest_live(live(firsts), FOLDER, floor)

    assert (found and found.first) == expected


@pytest.mark.slow
@given(st.lists(st.sampled_from([1, 3, 5_000, 10**6]), max_size=50), st.integers(0, 10**7), st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_an_offset_is_found_in_the_segment_before_it(steps, offset, floor):
    firsts = [sum(steps[:count]) for count in range(len(steps) + 1)]
    floor = min((first for first in firsts if first >= floor), default=firsts[-1])
    expected = max((first for first in firsts if floor <= first <= offset), default=floor)

    names = live(firsts)
    begin = live_before(names, FOLDER, max(offset, floor), floor)

    assert begin <= max(offset, floor)
    assert begin in firsts
    assert sum(begin <= first <= offset for first in firsts) <= 1000
    assert expected >= begin
    assert names.requests <= 10


def test_segments_that_a_compacted_one_replaces_are_skipped():
    names = live(range(100_000), compacted_name(0, 99_990))

    found = list(skim(names, FOLDER, 0))

    assert [segment.first for segment in found if segment.next is None][-10:] == [*range(99_990, 100_000)]
    assert names.requests <= 3


def test_segments_from_an_offset_on_leave_out_those_before_it():
    names = Names([segment_name(0), segment_name(5), compacted_name(5, 9), compacted_name(4, 9), segment_name(9)])

    assert [(segment.first, segment.next) for segment in segments_after(names, FOLDER, 5)] == [
        (5, 9),
        (5, None),
        (9, None),
    ]


@pytest.mark.slow
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=14),
    st.lists(st.tuples(st.integers(0, 13), st.integers(1, 14)), max_size=8),
    st.integers(1, 6),
)
@settings(max_examples=300, deadline=None)
def test_any_compacted_segments_between_change_nothing(sizes, runs, page_entries):
    """With any compacted segments, overlapping or not, and with any page size."""
    firsts = [sum(sizes[:count]) for count in range(len(sizes) + 1)]
    end = firsts.pop()
    compacted = {
        compacted_name(firsts[begin], [*firsts, end][min(begin + count, len(firsts))])
        for begin, count in runs
        if begin < len(firsts)
    }
    names = live(firsts, *compacted)
    everything = list(segments_after(names, FOLDER, 0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "PAGE_ENTRIES", page_entries)
        assert newest_live(names, FOLDER, 0).first == firsts[-1]
        skimmed = chain(list(skim(names, FOLDER, 0)), start=0, floor=0)
        for offset in range(end):
            begin = live_before(names, FOLDER, offset, 0)
            assert begin in firsts
            assert begin <= offset
    whole = chain(everything, start=0, floor=0)
    assert (skimmed[-1].next or end) == (whole[-1].next or end) == end
    assert all(segment in everything for segment in skimmed)
