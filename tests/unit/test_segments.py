"""Segments as bytes and names: whole commits are found, damage is reported, segments that count form a chain."""

import json
import random
from binascii import crc32
from itertools import permutations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bucketlog.format.segments import (
    ALL_BEFORE_SYNCED,
    TRAILER_BYTES,
    Scan,
    Segment,
    Span,
    chain,
    parse_segment,
    read_trailer,
    scan,
    seal_commit,
    segment_name,
)

SECTOR_BYTES = 512
IMITATION = "00000001-01-0123456789abcdef-0badc0de"


def line(number: int, data: object = None) -> bytes:
    return json.dumps({"type": "t", "id": f"e-{number}", "data": data}, separators=(",", ":")).encode() + b"\n"


def commit(*lines: bytes, flags: int = ALL_BEFORE_SYNCED, write_id: str = "0123456789abcdef") -> bytes:
    return seal_commit(b"".join(lines), events=len(lines), flags=flags, write_id=write_id)


def three_commits(*, flags: int = ALL_BEFORE_SYNCED) -> list[bytes]:
    # Long enough that sectors begin and end inside commits.
    return [commit(line(0, "x" * 300)), commit(line(1), line(2, "y" * 300)), commit(line(3, {"a": 1}), flags=flags)]


write_ids = st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}")
json_values = st.recursive(
    st.none()
    | st.integers()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.just(f',"commit":"{IMITATION}"}}\n'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["commit", "a", ""]), inner),
    max_leaves=5,
)
commits = st.lists(
    st.builds(
        lambda values, flags, write_id: (
            len(values),
            flags,
            write_id,
            commit(*(line(number, value) for number, value in enumerate(values)), flags=flags, write_id=write_id),
        ),
        st.lists(json_values, min_size=1, max_size=4),
        st.sampled_from([0, ALL_BEFORE_SYNCED]),
        write_ids,
    ),
    max_size=5,
)


# -- commits -----------------------------------------------------------------------------------------------------------


def test_a_commit_is_its_lines_with_one_more_member_at_the_end():
    body = b'{"type":"a"}\n{"type":"b"}\n'

    sealed = seal_commit(body, events=2, flags=1, write_id="0123456789abcdef")

    head = b'{"type":"a"}\n{"type":"b","commit":"00000002-01-0123456789abcdef-'
    assert sealed == head + b'%08x"}\n' % crc32(head)
    assert len(sealed) - len(body) == TRAILER_BYTES - 2
    assert [json.loads(line).get("commit", "")[:8] for line in sealed.splitlines()] == ["", "00000002"]


def test_the_trailer_is_read_from_the_end_of_the_bytes():
    assert read_trailer(commit(line(0), line(1), flags=0, write_id="f" * 16)) == (2, 0, "f" * 16)
    assert read_trailer(line(0)) is None
    assert read_trailer(b"") is None
    assert read_trailer(commit(line(0))[:-1]) is None


@pytest.mark.slow
@settings(deadline=None)
@given(commits)
def test_scanning_finds_every_commit_and_what_its_trailer_says(made):
    data = b"".join(one for *_, one in made)

    found = scan(data)

    assert (found.end, found.rest) == (len(data), "")
    assert [(span.events, span.flags, span.write_id) for span in found.spans] == [tuple(rest) for *rest, _ in made]
    assert [data[span.start : span.end] for span in found.spans] == [one for *_, one in made]


@pytest.mark.slow
@given(commits.filter(bool), st.data())
def test_bytes_that_end_anywhere_hold_the_commits_before_and_a_part_of_one(made, choices):
    data = b"".join(one for *_, one in made)
    size = choices.draw(st.integers(0, len(data)))
    ends = [0]
    for *_, one in made:
        ends.append(ends[-1] + len(one))

    found = scan(data[:size], complete=False)

    assert found.end == max(end for end in ends if end <= size)
    assert found.rest == ("" if found.end == size else "partial")


# -- torn writes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [0, ALL_BEFORE_SYNCED])
def test_a_last_commit_torn_at_any_byte_is_not_taken_for_damage(flags):
    *before, last = three_commits(flags=flags)
    whole = b"".join(before)

    for size in range(1, len(last)):
        found = scan(whole + last[:size])

        assert (len(found.spans), found.end, found.rest) == (2, len(whole), "partial"), size


IMITATIONS = [
    f',"commit":"{IMITATION}"}}\n',
    f',"commit":"{IMITATION}"',
    f",xcommitx:x{IMITATION}",  # like a trailer in all bytes except the quotes, which JSON escapes
    {"a": 1, "commit": IMITATION},
    {"a": {"b": {"c": 1, "commit": IMITATION}}},
    [{"a": 1, "commit": IMITATION}],
    {"commit": IMITATION},
    {f'"}}\n{{"commit":"{IMITATION}': f',"commit":"{IMITATION}"}}'},
]


@pytest.mark.parametrize("data", IMITATIONS)
def test_event_data_that_imitates_a_trailer_is_data(data):
    whole = commit(line(0, data), line(1, data))

    assert scan(whole) == Scan([Span(0, len(whole), 2, 1, "0123456789abcdef")], len(whole), "")


@pytest.mark.parametrize("data", IMITATIONS)
def test_a_commit_whose_data_imitates_a_trailer_is_torn_at_any_byte_all_the_same(data):
    before, last = commit(line(0)), commit(line(1, data), line(2, data), line(3))

    for size in range(1, len(last)):
        assert scan(before + last[:size]).rest == "partial", last[:size]


def test_pages_that_were_never_written_are_torn_with_all_that_follows():
    """unsynced_page_in_the_middle"""
    first, lost, after = commit(line(0, "x" * 1000)), commit(line(1, "y" * 2000)), commit(line(2), flags=0)
    data = bytearray(first + lost + after)
    page = (len(first) // SECTOR_BYTES + 1) * SECTOR_BYTES
    data[page : page + SECTOR_BYTES] = bytes(SECTOR_BYTES)

    found = scan(bytes(data))

    assert (len(found.spans), found.end, found.rest) == (1, len(first), "torn")


# (I9)
def test_zero_bytes_before_a_commit_that_says_all_was_synced_are_damage():
    first, lost, after = commit(line(0, "x" * 1000)), commit(line(1, "y" * 2000)), commit(line(2))
    data = bytearray(first + lost + after)
    page = (len(first) // SECTOR_BYTES + 1) * SECTOR_BYTES
    data[page : page + SECTOR_BYTES] = bytes(SECTOR_BYTES)

    assert scan(bytes(data)).rest == "corrupt"


def test_where_the_bytes_stand_in_the_segment_decides_what_a_sector_is():
    before, last = commit(line(0)), commit(line(1, "x" * 600))
    data = bytearray(before + last)
    data[SECTOR_BYTES] = 0

    assert scan(bytes(data)).rest == "torn"
    assert scan(bytes(data), at=7).rest == "corrupt"
    assert scan(bytes(data[len(before) :]), at=len(before)).rest == "torn"


def test_a_file_that_grew_by_zero_bytes_alone_is_torn():
    before = b"".join(three_commits())

    assert scan(before + bytes(4096)) == Scan(scan(before).spans, len(before), "torn")
    assert scan(bytes(4096)) == Scan([], 0, "torn")


# -- damage ------------------------------------------------------------------------------------------------------------


def may_be_torn(data: bytes, at: int) -> bool:
    """A zero byte on the edge of a sector may be the rest of one that was never written."""
    return data[at] == 0 and (at % SECTOR_BYTES == 0 or (at + 1) % SECTOR_BYTES == 0)


# (I7)
@pytest.mark.slow
@pytest.mark.parametrize("flags", [0, ALL_BEFORE_SYNCED])
def test_every_change_of_one_byte_is_detected(flags):
    """crc_without_its_own_fields, damage_in_a_closed_segment"""
    made = three_commits(flags=flags)
    whole = b"".join(made)
    ends = [0, len(made[0]), len(made[0]) + len(made[1]), len(whole)]
    chosen = random.Random(7)

    for at in range(len(whole)):
        here = max(end for end in ends if end <= at)
        others = {whole[at] ^ 1 << bit for bit in range(8)} | {0, 0x0A, 0x22, 0x7D, chosen.randrange(256)}
        for value in others - {whole[at]}:
            damaged = bytearray(whole)
            damaged[at] = value

            found = scan(bytes(damaged))

            # Commits before it stay readable; a flag in a later commit says that these bytes were synced once.
            later_says_synced = here < ends[1] or (here < ends[2] and flags)
            torn = may_be_torn(damaged, at) and not later_says_synced
            assert (found.end, found.rest) == (here, "torn" if torn else "corrupt"), (at, value)


@pytest.mark.slow
@given(commits.filter(bool), st.data())
def test_a_change_of_any_byte_of_any_commit_is_detected(made, choices):
    whole = bytearray(b"".join(one for *_, one in made))
    at = choices.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= choices.draw(st.integers(1, 255))

    found = scan(bytes(whole))

    assert found.end <= at
    assert found.rest == "corrupt" or (found.rest == "torn" and may_be_torn(bytes(whole), at))


def test_a_missing_and_a_repeated_commit_in_the_middle_are_whole_commits_for_the_names_to_tell():
    first, second, third = three_commits()

    assert len(scan(first + third).spans) == 2
    assert len(scan(first + second + second + third).spans) == 4


def test_bytes_lost_from_the_middle_of_a_commit_are_damage():
    first, second, third = three_commits()

    for data in (first[:50] + first[60:] + second, first + second[:-30] + third, first[1:]):
        assert scan(data).rest == "corrupt"


# -- names -------------------------------------------------------------------------------------------------------------


# (I1)
@given(st.integers(0, 10**20 - 1), st.integers(0, 2**40))
def test_the_name_of_a_live_segment_tells_its_first_offset(first, size):
    assert parse_segment("f/", segment_name(first), size) == Segment(f"f/{segment_name(first)}", first, None, size)
    assert len(segment_name(first)) == len("00000000000000000000.jsonl")


# (I1)
@pytest.mark.slow
@given(st.lists(st.integers(0, 10**20 - 1)))
def test_names_sort_as_their_offsets_do(offsets):
    assert sorted(map(segment_name, offsets)) == [segment_name(offset) for offset in sorted(offsets)]


def test_the_name_of_a_compacted_segment_tells_what_it_covers():
    name = f"{5:020}-{128:020}.jsonl.zst"

    assert parse_segment("f/", name, 9) == Segment(f"f/{name}", 5, 128, 9)


@pytest.mark.parametrize(
    "name",
    [
        *("bounds.json", ".lock", ".torn-1-00000000000000000000.jsonl", "0.jsonl", "00000000000000000000.jsonl.zst"),
        *("000000000000000000000.jsonl", "00000000000000000000.jsonl.tmp", "00000000000000000000.JSONL", ""),
        *("00000000000000000000-00000000000000000001.jsonl", "00000000000000000000.jsonl\n", "\u0660" * 20 + ".jsonl"),
    ],
)
def test_other_files_are_no_segments(name):
    assert parse_segment("f/", name, 1) is None


# -- what counts -------------------------------------------------------------------------------------------------------


def segments(*names: int | tuple[int, int]) -> list[Segment]:
    made = []
    for name in names:
        first, following = name if isinstance(name, tuple) else (name, None)
        made.append(Segment(str(name), first, following, 1))
    return made


def chained(*names: int | tuple[int, int], start: int = 0, floor: int = 0) -> list[int | tuple[int, int]]:
    """The chain, which does not depend on the order of the listing."""
    made = segments(*names)
    found = chain(made, start=start, floor=floor)
    for other in list(permutations(made))[:120]:
        assert chain(other, start=start, floor=floor) == found
    return [segment.first if segment.next is None else (segment.first, segment.next) for segment in found]


@pytest.mark.parametrize(
    ("listed", "bounds", "counting"),
    [
        ([], {}, []),
        ([0], {}, [0]),
        ([0, 2, 5], {}, [0, 2, 5]),
        ([1, 2], {}, []),
        ([(0, 4), 4, 6], {}, [(0, 4), 4, 6]),
        ([(0, 4)], {}, [(0, 4)]),
        ([0, 2, (4, 8), 8], {}, [0, 2, (4, 8), 8]),
        ([(0, 4), (4, 8)], {}, [(0, 4), (4, 8)]),
        ([(0, 4), 0, 2, 4], {}, [(0, 4), 4]),
        ([(0, 4), 5], {}, [(0, 4)]),
        ([(0, 4), (5, 8), 8], {}, [(0, 4)]),
        ([(0, 4), 4, 6], {"start": 2, "floor": 4}, [(0, 4), 4, 6]),
        ([4, 6], {"start": 4, "floor": 4}, [4, 6]),
        ([], {"start": 4, "floor": 4}, []),
    ],
)
def test_segments_count_in_an_unbroken_chain(listed, bounds, counting):
    assert chained(*listed, **bounds) == counting


def test_what_the_union_covers_is_read_from_the_one_that_contains_it():
    """cover_by_union"""
    assert chained((0, 1), (1, 2), (0, 2)) == [(0, 2)]
    assert chained((0, 1), (1, 2)) == [(0, 1), (1, 2)]
    assert chained((1, 2), (0, 2)) == [(0, 2)]


# (I26)
def test_overlapping_compactions_are_read_once():
    """overlapping_compactions"""
    assert chained((0, 4), (2, 6), 6) == [(0, 4), (2, 6), 6]
    assert chained((0, 4), (2, 6), (3, 9), (4, 7), 9) == [(0, 4), (3, 9), 9]
    assert chained((0, 9), (2, 6), (8, 9), 9) == [(0, 9), 9]


def test_the_head_is_the_end_of_the_chain_not_the_last_name():
    """head_from_the_last_name"""
    assert chained(0, (0, 4)) == [(0, 4)]
    assert chained(998, (0, 1000), 1000, floor=1000) == [(0, 1000), 1000]


def test_a_stray_below_the_floor_counts_for_nothing():
    """next_name_from_a_stray"""
    assert chained((0, 2), 1, 2, floor=2) == [(0, 2), 2]
    assert chained(1, start=1, floor=2) == []
    assert chained(2, start=1, floor=2) == []
    assert chained(1, (1, 2), 2, start=1, floor=2) == [(1, 2), 2]


@pytest.mark.slow
@given(st.data())
@example(None)
def test_whatever_was_compacted_and_left_behind_the_chain_covers_every_offset_once(choices):
    if choices is None:
        return
    sizes = choices.draw(st.lists(st.integers(1, 3), min_size=1, max_size=12))
    firsts = [sum(sizes[:index]) for index in range(len(sizes) + 1)]
    ranges = st.tuples(st.integers(0, len(sizes)), st.integers(0, len(sizes))).filter(lambda pair: pair[0] < pair[1])
    compacted = [(firsts[one], firsts[other]) for one, other in choices.draw(st.lists(ranges, max_size=5))]
    # A live segment may be removed if one compacted segment contains it.
    contained = [
        index for index in range(len(sizes)) if any(a <= firsts[index] and firsts[index + 1] <= b for a, b in compacted)
    ]
    removed = set(choices.draw(st.lists(st.sampled_from(contained)))) if contained else set()
    live = [firsts[index] for index in range(len(sizes)) if index not in removed]
    listed = choices.draw(st.permutations(segments(*live, *compacted)))

    counting = chain(listed, start=0, floor=0)

    here = 0
    for one, following in zip(counting, [*counting[1:], None], strict=True):
        assert one.first <= here
        end = one.next if one.next is not None else firsts[firsts.index(one.first) + 1]
        assert end > here
        if one.next is None:
            assert one.first == here
            assert following is None or following.first <= end
        here = end
    assert here == firsts[-1]
