"""Compacted segments as bytes: they hold what was put in, are found by their index, and tell when they are damaged."""

import io
import random
import shutil
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

pytest.importorskip("duckdb")
pytest.importorskip("polars")

import duckdb
import polars as pl
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketlog import Event
from bucketlog.format import compacted, compacting
from bucketlog.format.compacted import CompactedSegment, DamageError
from bucketlog.format.compacting import Builder
from bucketlog.format.filters import Filter
from bucketlog.format.lines import check_events, encode_lines
from bucketlog.format.segments import seal_commit

START = datetime(2026, 2, 5, 12, 30, tzinfo=UTC)
KEY = "streams/s/0/a.jsonl.zst"
SMALL_BLOCK_BYTES = 300  # two or three events
fewer = settings(max_examples=40)


# -- making them -------------------------------------------------------------------------------------------------------


@contextmanager
def blocks_of(size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compacting, "BLOCK_BYTES", size)
        yield


def sealed(events, number=0):
    lines = encode_lines(check_events(events, where="here"), indexes=range(len(events)), where="here")
    return seal_commit(lines, events=len(events), flags=1, write_id=f"{number:016x}")


@dataclass
class Made:
    """A segment, and what was put into it."""

    first: int
    events: list
    lines: bytes
    content: bytes


def made(commits, *, first=0, block_bytes=SMALL_BLOCK_BYTES, at_a_time=1):
    """Build a segment of commits, so many of them given to the builder at a time."""
    pieces = [(sealed(one, number), len(one)) for number, one in enumerate(commits)]
    with blocks_of(block_bytes):
        builder = Builder(first)
        for begin in range(0, len(pieces), at_a_time):
            chosen = pieces[begin : begin + at_a_time]
            builder.add(b"".join(data for data, _ in chosen), events=sum(events for _, events in chosen))
        content = builder.finish()
    events = [event for one in commits for event in one]
    return Made(first, events, b"".join(data for data, _ in pieces), content)


def opened(content):
    return CompactedSegment.open(KEY, lambda start, end: content[start:end], len(content))


def unpacked(segment):
    return b"".join(segment.unpack(range(len(segment.blocks))))


def block_of(segment, offset):
    return next(
        place for place, one in enumerate(segment.blocks) if one.first <= offset < one.first + one.events
    )  # in exactly one of them, as a test of its own says


def uuid7(number, chance):
    """Return an id that ascends with its number, as those of events do."""
    return str(UUID(int=(0x019C_0000_0000 + number) << 80 | 0x7 << 76 | chance.getrandbits(62) | 0b10 << 62))


# Few texts, so that they repeat; and some that differ in one place far behind, or are hard to encode.
texts = st.sampled_from(["a", "b", "ä", '"', "\\", "order.placed", "x" * 40, "x" * 40 + "y", "\U0001f600"])
ids = st.one_of(
    st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}"),
    st.integers(0, 10**6).map(lambda number: f"https://example.com/a-long-prefix/{number}"),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
)
times = st.one_of(
    st.integers(0, 10**10).map(lambda number: START + timedelta(microseconds=number)),
    st.datetimes(timezones=st.just(UTC)),
)
events = st.builds(
    Event,
    type=texts,
    id=ids,
    time=times,
    source=st.none() | texts,
    subject=st.none() | texts,
    tags=st.lists(texts, max_size=3).map(tuple),
    data=st.one_of(st.none(), st.integers(), st.text(st.characters(codec="utf-8"), max_size=300)),
)
commits = st.lists(st.lists(events, min_size=1, max_size=6), min_size=1, max_size=12)
anything = st.builds(
    made,
    commits,
    first=st.integers(0, 10**12),
    block_bytes=st.sampled_from([1, 200, 1000, 65536]),
    at_a_time=st.integers(1, 4),
)


# -- what is in them ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(anything)
@fewer
def test_all_blocks_unpack_to_the_same_bytes(one):
    segment = opened(one.content)

    assert unpacked(segment) == one.lines
    assert segment.unpack([]) == []
    assert [segment.unpack([place])[0] for place in range(len(segment.blocks))] == segment.unpack(
        range(len(segment.blocks))
    )


@pytest.mark.slow
@given(anything)
@fewer
def test_blocks_are_whole_lines_and_follow_one_another_without_holes(one):
    segment = opened(one.content)

    here, byte = one.first, 0
    for block, lines in zip(segment.blocks, segment.unpack(range(len(segment.blocks))), strict=True):
        assert (block.first, block.start) == (here, byte)
        assert lines.endswith(b"\n")
        assert (lines.count(b"\n"), len(lines)) == (block.events, block.size)
        here, byte = here + block.events, block.end
    assert here == segment.summary.next == one.first + len(one.events)
    assert (segment.summary.first, segment.summary.blocks) == (one.first, len(segment.blocks))
    assert segment.summary.size == len(one.lines)


@pytest.mark.slow
@given(commits, st.integers(1, 5))
@fewer
def test_the_bytes_do_not_depend_on_how_the_commits_were_handed_over(some, at_a_time):
    assert made(some, at_a_time=at_a_time).content == made(some).content


@pytest.mark.slow
@given(anything)
@fewer
def test_the_summary_says_what_the_times_and_ids_range_over(one):
    summary = opened(one.content).summary

    assert summary.min_id == min(event.id for event in one.events)
    assert summary.max_id == max(event.id for event in one.events)
    assert summary.min_time == compacted.microseconds(min(event.time for event in one.events))
    assert summary.max_time == compacted.microseconds(max(event.time for event in one.events))


def test_a_line_that_is_no_event_and_a_wrong_number_of_them_are_refused():
    commit = sealed([Event(type="a", id="1"), Event(type="a", id="2")])
    too_few = Builder(0)
    too_few.add(commit, events=3)
    foreign = Builder(0)
    foreign.add(seal_commit(b'{"number":1}\n', events=1, flags=1, write_id="0" * 16), events=1)
    zoneless = Builder(0)
    line = b'{"type":"a","id":"1","time":"2026-02-05T12:00:00"}\n'
    zoneless.add(seal_commit(line, events=1, flags=1, write_id="0" * 16), events=1)

    with pytest.raises(ValueError, match="2 lines instead of 3"):
        too_few.finish()
    with pytest.raises(ValueError, match="required field"):
        foreign.finish()
    with pytest.raises(ValueError, match="time"):
        zoneless.finish()


@pytest.mark.slow
def test_a_builder_knows_about_how_large_its_segment_is():
    chance = random.Random(5)
    for size in (20, 300, 5000):
        builder = Builder(0)
        for number in range(2_000_000 // (size + 150)):
            event = Event(
                type="a", id=uuid7(number, chance), subject=str(number % 50), data=chance.randbytes(size).hex()
            )
            builder.add(sealed([event], number), events=1)

        about, exactly = builder.size, len(builder.finish())

        assert 0.95 < about / exactly < 1.3


# -- finding events ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(anything, st.data())
@fewer
def test_no_block_with_a_wanted_event_is_ever_ruled_out(one, choices):
    segment = opened(one.content)
    place = choices.draw(st.integers(0, len(one.events) - 1))
    event = one.events[place]

    def perhaps(*values):
        return choices.draw(st.none() | st.just(frozenset(values)))

    wanted = Filter(
        types=perhaps(event.type, "never"),
        subjects=perhaps(event.subject) if event.subject is not None else None,
        sources=perhaps("never", event.source) if event.source is not None else None,
        tags=perhaps(event.tags[-1]) if event.tags else None,
        since=choices.draw(st.none() | st.just(event.time)),
        until=choices.draw(st.none() | st.just(event.time + timedelta(microseconds=1)))
        if event.time.year < 9999
        else None,
        ids=perhaps(event.id),
    )

    assert wanted.passes(event)
    matches = segment.may_match(wanted)
    assert len(matches) == len(segment.blocks)
    assert matches[block_of(segment, one.first + place)]


@pytest.mark.slow
@given(anything)
@fewer
def test_every_id_is_found_in_its_block(one):
    segment = opened(one.content)

    for place, event in enumerate(one.events):
        assert block_of(segment, one.first + place) in segment.places_of(event.id)
        assert segment.may_hold_id(event.id)


def many(count, make_id, *, block_bytes=SMALL_BLOCK_BYTES):
    return made(
        [
            [Event(type="a", id=make_id(number), subject=f"s{number // 10}", time=START + timedelta(seconds=number))]
            for number in range(count)
        ],
        block_bytes=block_bytes,
        at_a_time=50,
    )


def test_ids_that_ascend_with_time_are_found_by_ranges_alone():
    chance = random.Random(1)
    one = many(2000, lambda number: uuid7(number, chance))
    segment = opened(one.content)

    assert {*segment.summary.sections} == {"blocks", "filters"}
    assert all(len(segment.places_of(event.id)) <= 2 for event in one.events)
    assert segment.places_of(uuid7(5000, chance)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "make_id",
    [
        lambda number: f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}",
        lambda number: f"https://example.com/{'x' * 40}/{number:06}",
    ],
    ids=["at random", "with the same beginning"],
)
def test_other_ids_are_found_by_filter_and_hash_in_few_blocks_and_few_reads(make_id):
    one = many(5000, make_id)
    reads = []

    def read(start, end):
        reads.append(end - start)
        return one.content[start:end]

    segment = CompactedSegment.open(KEY, read, len(one.content))
    assert len(segment.blocks) > 1000
    segment.places_of(one.events[0].id)  # reads the filter
    reads.clear()

    for place in range(0, 5000, 97):
        reads.clear()
        found = segment.places_of(one.events[place].id)
        assert block_of(segment, place) in found
        assert len(found) <= 2
        assert len(reads) <= 2
        assert sum(reads) < 40_000
    reads.clear()
    passed = sum(bool(segment.places_of(f"0{number:015x}")) for number in range(0, 2**60, 2**60 // 2000))
    assert passed < 20
    assert len(reads) < 60


@pytest.mark.slow
def test_ids_whose_hashes_meet_are_all_found(monkeypatch):
    real = compacted.bloom.hash_text
    crowded = lambda text, kind=b"": 7 << 60 | 5 << 32 | real(text) & 0xFFFFFFFF  # noqa: E731  (one upper half for all)
    monkeypatch.setattr(compacted.bloom, "hash_text", crowded)
    monkeypatch.setattr(
        compacted.bloom, "hash_texts", lambda texts: __import__("numpy").array([crowded(one) for one in texts], "u8")
    )
    one = many(1000, lambda number: f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}")
    segment = opened(one.content)

    for place, event in enumerate(one.events):
        assert block_of(segment, place) in segment.places_of(event.id)


def test_filters_rule_out_most_blocks_without_the_wanted():
    one = many(3000, lambda number: f"{number:06}")
    segment = opened(one.content)

    for number in range(0, 300, 7):
        matches = segment.may_match(Filter(subjects=frozenset([f"s{number}"])))
        assert sum(matches) <= 10 + len(matches) // 100
    assert not any(segment.may_match(Filter(types=frozenset())))
    since, until = START + timedelta(seconds=1000), START + timedelta(seconds=1010)
    matches = segment.may_match(Filter(since=since, until=until))
    assert 10 // 4 <= sum(matches) <= 12
    assert not any(segment.may_match(Filter(since=START + timedelta(days=9))))
    assert not any(segment.may_match(Filter(until=START)))


def test_one_busy_block_does_not_make_the_filters_of_all_large():
    quiet = [[Event(type="a", id=f"{number:06}", subject="s")] for number in range(500)]
    busy = [[Event(type="a", id="999999", tags=tuple(f"tag {number}" for number in range(20_000)))]]

    small, large = made(quiet), made(quiet + busy)

    assert len(large.content) - len(small.content) < 2 * len(sealed(busy[0]))
    segment = opened(large.content)
    assert segment.may_match(Filter(tags=frozenset(["tag 19999"])))[-1]


def test_filters_of_events_read_no_more_than_the_index():
    one = many(3000, lambda number: f"{number:06}")
    reads = []

    def read(start, end):
        reads.append((start, end))
        return one.content[start:end]

    segment = CompactedSegment.open(KEY, read, len(one.content))
    segment.may_match(Filter(subjects=frozenset(["s1"]), since=START))

    frames_end = segment.blocks[-1].end
    assert all(start >= frames_end for start, _ in reads[1:])
    assert len(reads) <= 3


# -- damage ------------------------------------------------------------------------------------------------------------


def seen(content, asked):
    """Return all that a segment says, or that it is damaged."""
    try:
        segment = opened(content)
        if segment is None:
            return by_frames(content)
        return [unpacked(segment), *(found_of(segment, event) for event in asked)]
    except DamageError as err:
        sound = err.key == KEY and 0 <= err.byte <= len(content) and err.why
        return "damaged" if sound else repr(err)


def found_of(segment, event):
    blocks = segment.blocks
    wanted = Filter(types=frozenset([event.type]), tags=frozenset(event.tags), since=event.time)
    return (
        [(blocks[place].first, segment.unpack([place])) for place in segment.places_of(event.id)],
        segment.may_match(wanted if event.subject is None else wanted._replace(subjects=frozenset([event.subject]))),
    )


def by_frames(content):
    """Read a segment of which nobody knows whether it has an index, as other programs do."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as stream:
            return [stream.read()]
    except zstandard.ZstdError:
        return "damaged"


@pytest.mark.slow
@pytest.mark.parametrize("in_order", [True, False], ids=["ids in order", "ids at random"])
def test_a_change_of_any_byte_is_harmless_or_told(in_order):
    chance = random.Random(3)
    one = made(
        [
            [
                Event(
                    type="ab"[number % 2],
                    id=f"{number:04}" if in_order else f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}",
                    subject=f"s{number // 5}",
                    tags=(f"g{number % 3}",),
                    time=START + timedelta(seconds=number),
                )
            ]
            for number in range(24)
        ],
        block_bytes=500,
    )
    asked = one.events[::5]
    truth = seen(one.content, asked)
    assert truth[0] == one.lines
    assert ("places" in opened(one.content).summary.sections) == (not in_order)
    told = 0

    for at in range(len(one.content)):
        damaged = bytearray(one.content)
        damaged[at] ^= chance.choice([1 << chance.randrange(8), chance.randrange(1, 256)])

        found = seen(bytes(damaged), asked)

        told += found == "damaged"
        assert found in ("damaged", truth, truth[:1]), at
    assert told > len(one.content) * 0.8


@pytest.mark.slow
@given(anything, st.data())
@settings(max_examples=100)
def test_a_change_of_a_byte_of_any_segment_never_gives_other_events(one, choices):
    damaged = bytearray(one.content)
    damaged[choices.draw(st.integers(0, len(damaged) - 1))] ^= choices.draw(st.integers(1, 255))

    found = seen(bytes(damaged), one.events[:2])

    assert found == "damaged" or found[0] == one.lines
    if found != "damaged" and len(found) > 1:
        assert found == seen(one.content, one.events[:2])


def test_a_segment_that_was_cut_off_anywhere_is_told_or_has_no_index_and_too_few_events():
    one = made([[Event(type="a", id=f"{number:03}", data="x" * 50)] for number in range(12)])

    for size in range(len(one.content)):
        found = seen(one.content[:size], one.events[:2])
        assert found == "damaged" or one.lines.startswith(found[0])
        with pytest.raises(DamageError, match="ends here"):
            CompactedSegment.open(
                KEY, lambda start, end, size=size: one.content[start : min(end, size)], len(one.content)
            )


def test_a_segment_that_is_checked_has_its_whole_index_read():
    one = many(300, lambda number: f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}")
    sections = opened(one.content).summary.sections
    opened(one.content).check()

    for section in sections.values():
        for at in (section.start, section.start + section.size // 2, section.start + section.size - 1):
            damaged = bytearray(one.content)
            damaged[at] ^= 0x10
            with pytest.raises(DamageError) as told:
                opened(bytes(damaged)).check()
            assert told.value.byte == section.start


def test_segments_without_an_index_or_with_one_of_another_version_are_read_without():
    one = made([[Event(type="a", id="1")]])
    frames = one.content[: opened(one.content).blocks[-1].end]
    later = one.content.replace(b"bucketlog.index/1", b"bucketlog.index/2")
    summary_at = later.index(b'{"format"')
    summary_end = later.rindex(b"bktlogix") - 8
    crc = compacted.crc32(later[summary_at:summary_end]).to_bytes(4, "little")
    later = later[: summary_end + 4] + crc + later[summary_end + 8 :]

    assert opened(frames) is None
    assert opened(later) is None
    assert opened(b"") is None
    assert opened(zstandard.ZstdCompressor().compress(one.lines)) is None
    assert by_frames(later) == [one.lines]


# -- other programs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["in order", "at random"])
def file(request, tmp_path_factory):
    """A segment of many blocks as a file, with what it holds."""
    chance = random.Random(2)
    make_id = (
        (lambda number: uuid7(number, chance))
        if request.param == "in order"
        else lambda number: chance.randbytes(8).hex()
    )
    one = made(
        [
            [
                Event(type="a", id=make_id(10 * number + more), subject=str(number % 7), data={"n": 10 * number + more})
                for more in range(10)
            ]
            for number in range(400)
        ],
        block_bytes=16 * 1024,
    )
    path = tmp_path_factory.mktemp("compacted") / "0-4000.jsonl.zst"
    path.write_bytes(one.content)
    assert len(opened(one.content).blocks) > 20
    return path, one


def test_a_zstd_reader_prints_the_same_lines(file):
    path, one = file

    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as stream:
        assert io.BufferedReader(stream).read() == one.lines


@pytest.mark.skipif(shutil.which("zstd") is None, reason="the command zstd is not installed")
def test_the_command_zstd_prints_the_same_lines_and_finds_it_sound(file):
    path, one = file

    assert subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout == one.lines
    subprocess.run(["zstd", "-t", path], check=True, capture_output=True)


def test_duckdb_reads_all_events(file):
    path, one = file

    with duckdb.connect() as connection:  # the one that all share would be left with an unfinished result
        ((count, last, total),) = connection.execute(
            "SELECT count(*), max(subject), sum(CAST(data.n AS INTEGER)) FROM read_json(?, format='newline_delimited')",
            [str(path)],
        ).fetchall()

    assert (count, last, total) == (len(one.events), "6", sum(range(len(one.events))))


def test_polars_reads_all_events(file):
    path, one = file

    frame = pl.read_ndjson(path)

    assert frame["id"].to_list() == [event.id for event in one.events]
    assert frame["data"].struct.field("n").to_list() == [event.data["n"] for event in one.events]


def test_the_seek_table_is_that_of_the_seekable_format(file):
    """Read as its description says: a footer of 9 bytes, an entry of 8 bytes a frame, then the frames from the start.

    https://github.com/facebook/zstd/blob/v1.5.6/contrib/seekable_format/zstd_seekable_compression_format.md
    """
    path, one = file
    content = path.read_bytes()
    frames = int.from_bytes(content[-9:-5], "little")
    assert (content[-5], content[-4:]) == (0, (0x8F92EAB1).to_bytes(4, "little"))
    table = content[-9 - 8 * frames : -9]
    header = content[-9 - 8 * frames - 8 : -9 - 8 * frames]
    assert header == (0x184D2A5E).to_bytes(4, "little") + (8 * frames + 9).to_bytes(4, "little")

    at, lines = 0, []
    for place in range(frames):
        packed = int.from_bytes(table[8 * place : 8 * place + 4], "little")
        size = int.from_bytes(table[8 * place + 4 : 8 * place + 8], "little")
        lines.append(zstandard.ZstdDecompressor().decompress(content[at : at + packed]))
        assert len(lines[-1]) == size
        assert zstandard.get_frame_parameters(content[at : at + packed]).has_checksum
        at += packed
    assert b"".join(lines) == one.lines


def test_a_check_finds_every_change_outside_of_the_blocks():
    """What no reader of ours needs, others go by: the header of the index's frame, and the seek table."""
    chance = random.Random(11)
    one = made([[Event(type="a", id=f"{number:03}", data="x" * 50)] for number in range(12)], block_bytes=200)
    segment = opened(one.content)
    segment.check()

    for at in range(segment.blocks[-1].end, len(one.content)):
        damaged = bytearray(one.content)
        damaged[at] ^= chance.randrange(1, 256)
        with suppress(DamageError):
            found = opened(bytes(damaged))
            if found is not None:  # else it is read without an index, as one that never had any
                found.check()
                pytest.fail(f"byte {at} is not what was written, and nobody says so")


@pytest.mark.parametrize("count", [12, 40, 700])
@pytest.mark.parametrize("order", ["ascend", "almost ascend", "at random"])
def test_a_segment_of_one_block_has_a_filter_of_its_ids_unless_they_ascend(count, order):
    """With many small segments, as a stream by day has, a range that covers all ids would be looked into each time."""
    chance = random.Random(count)
    numbers = [10 * number + chance.randrange(15 if order == "almost ascend" else 1) for number in range(count)]
    if order == "at random":
        chance.shuffle(numbers)
    one = made([[Event(type="a", id=f"{number:06}")] for number in numbers], block_bytes=10**6)
    segment = opened(one.content)

    assert len(segment.blocks) == 1
    assert ("ids" in segment.summary.sections) == (order == "at random")
    assert all(segment.may_hold_id(event.id) for event in one.events)
    if order == "at random":
        assert sum(segment.may_hold_id(f"{number:06}") for number in range(5, 10 * count, 10)) <= count * 0.1
