"""The format page is complete: a reader written from it alone reads bucketlog's files, and finds the same damage.

The reader below uses only the standard library, zstandard and xxhash. If the format changes, this file fails first.
"""

import json
import re
import shutil
import struct
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote
from zlib import crc32

import pytest

pytest.importorskip("duckdb")
pytest.importorskip("polars")

import duckdb
import polars
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.drawing import names

import bucketlog
from bucketlog import Event
from bucketlog.errors import CorruptSegmentError
from bucketlog.format import compacting, segments
from bucketlog.format.names import encode_name
from bucketlog.log.settings import partition_of

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY.joinpath("docs", "format.md").read_text()
LOGS = REPOSITORY / "tests" / "logs"

# -- the reader: a page of code ----------------------------------------------------------------------------------------

TRAILER = re.compile(rb',"commit":"([0-9a-f]{8})-([0-9a-f]{2})-[0-9a-f]{16}-([0-9a-f]{8})"}\n')
FORM = b',"commit":"????????-??-????????????????-????????"}\n'
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?|stream\.json|bounds\.json", re.IGNORECASE)


def encoded(name):
    part = "".join(c if re.match(r"[A-Za-z0-9_.-]", c) else "".join(f"%{b:02X}" for b in c.encode()) for c in name)
    if part.startswith(".") or RESERVED.fullmatch(part):
        part = f"%{ord(part[0]):02X}{part[1:]}"
    return part[:-1] + "%2E" if part.endswith(".") else part


def read_stream(root, name):
    store = json.loads((root / "bucketlog.json").read_bytes())
    assert store["format"] == "bucketlog/1"
    folders = sorted(path for path in (root / "streams" / encoded(name)).iterdir() if path.is_dir())
    return {unquote(folder.name, errors="strict"): list(read_partition(folder, store["mode"])) for folder in folders}


def read_partition(folder, mode):
    bounds = folder / "bounds.json"
    bounds = json.loads(bounds.read_bytes()) if bounds.exists() else {"start": 0, "floor": 0}
    names = [path for path in folder.iterdir() if re.fullmatch(r"[0-9]{20}(-[0-9]{20}\.jsonl\.zst|\.jsonl)", path.name)]
    packed = [(int(path.name[21:41]), int(path.name[:20]), path) for path in names if path.suffix == ".zst"]
    live = {int(path.name[:20]): path for path in names if path.suffix == ".jsonl"}
    live, here = {first: one for first, one in live.items() if first >= bounds["floor"]}, bounds["start"]
    while True:
        containing = max((entry for entry in packed if entry[1] <= here < entry[0]), default=None)
        if containing is None and here not in live:
            return
        if containing:
            following, first, path = containing
            lines = lines_of(unpacked(path.read_bytes()), newest=False)
        else:
            following = min((first for first in [*live, *(entry[1] for entry in packed)] if first > here), default=None)
            newest = following is None and mode == "append" and live[here].stat().st_mode & 0o222
            first, lines = here, lines_of(live[here].read_bytes(), newest)
        end = first
        for end, line in enumerate(lines, first + 1):
            if end > here:
                yield end - 1, {name: value for name, value in json.loads(line).items() if name != "commit"}
        assert following in (None, end), "corrupt: a segment is missing"
        here = end


def unpacked(data):
    return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()


def lines_of(data, newest):
    start = 0
    for found in TRAILER.finditer(data):
        if crc32(data[start : found.start(3)]) != int(found[3], 16):
            break
        yield from data[start : found.end()].splitlines(keepends=False)
        start = found.end()
    assert start == len(data) or (newest and is_torn(data, start)), f"corrupt at byte {start}"


def is_torn(data, start):
    zeros = [one.span() for one in re.compile(rb"\0+").finditer(data, start)]
    later = list(TRAILER.finditer(data, start))
    if any(end - begin >= 16 or begin % 512 == 0 or end % 512 == 0 for begin, end in zeros):
        return not any(int(entry[2], 16) & 1 and is_whole(data[start : entry.end()], entry) for entry in later)
    end, head = data[start:][-51:], data[start:-51].rpartition(b"\n")[2]
    fixed = sum(one == form for one, form in zip(end, FORM, strict=False) if form != ord("?"))
    return not later and not (len(end) == 51 and fixed > 8 and is_object(head + b"}"))


def is_whole(data, trailer):
    lines, count = data.split(b"\n")[:-1], int(trailer[1], 16)
    return 0 < count < len(lines) and crc32(b"\n".join(lines[-count:])[:-10]) == int(trailer[3], 16)


def is_object(data):
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


# -- the reader of the index: eighty more ------------------------------------------------------------------------------

SALTS = [0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31]


class Compacted(NamedTuple):
    """A compacted segment: its content, the summary of its index, its sections by name, and its blocks."""

    data: bytes
    summary: dict
    sections: dict
    blocks: list


class Block(NamedTuple):
    first: int
    events: int
    frame: bytes
    size: int
    times: tuple[int, int]
    ids: tuple[bytes, bytes]


def open_compacted(data):
    count, descriptor, magic = struct.unpack("<IBI", data[-9:])
    assert (descriptor, magic) == (0, 0x8F92EAB1)
    end = len(data) - 8 * count - 17
    assert struct.unpack_from("<II", data, end) == (0x184D2A5E, 8 * count + 9)
    length, crc, name = struct.unpack("<II8s", data[end - 16 : end])
    text = data[end - 16 - length : end - 16]
    assert (name, crc) == (b"bktlogix", crc32(text))
    summary = json.loads(text)
    assert summary["format"] == "bucketlog.index/1"
    sections = {name: section_of(data, one) for name, one in summary["sections"].items()}
    blocks = list(blocks_of(data, sections["blocks"], summary["first"]))
    start = sum(len(block.frame) for block in blocks)
    assert struct.unpack_from("<II", data, start) == (0x184D2A5D, end - start - 8)
    assert start + 8 + sum(map(len, sections.values())) + length + 16 == end
    assert list(struct.iter_unpack("<II", data[end + 8 : -9])) == [(len(block.frame), block.size) for block in blocks]
    return Compacted(data, summary, sections, blocks)


def section_of(data, where):
    content = data[where["start"] : where["start"] + where["size"]]
    assert crc32(content) == where["crc32"]
    return content


def blocks_of(data, section, first):
    start = 0
    for events, packed, size, zero, low_time, high_time, low, high in struct.iter_unpack("<IIIIqq32s32s", section):
        assert zero == 0
        yield Block(first, events, data[start : start + packed], size, (low_time, high_time), (low, high))
        first, start = first + events, start + packed


def unpack(block):
    parameters = zstandard.get_frame_parameters(block.frame)
    assert (parameters.has_checksum, parameters.content_size) == (True, block.size)
    lines = zstandard.ZstdDecompressor().decompress(block.frame).splitlines(keepends=True)
    assert len(lines) == block.events
    return [(block.first + place, json.loads(line)) for place, line in enumerate(lines)]


def may_hold(words, what):
    hashed = xxhash.xxh64_intdigest(what, seed=0)
    group = ((hashed >> 32) * (len(words) // 32)) >> 32
    bits = [((hashed & 0xFFFFFFFF) * salt & 0xFFFFFFFF) >> 27 for salt in SALTS]
    return all(word >> bit & 1 for word, bit in zip(struct.unpack_from("<8I", words, 32 * group), bits, strict=True))


def blocks_with(segment, text):
    """Return the places of the blocks that may hold a text, which is prefixed with its letter."""
    filters = segment.sections["filters"]
    size = len(filters) // len(segment.blocks)
    places = range(len(segment.blocks))
    return [place for place in places if may_hold(filters[place * size :][:size], text.encode())]


def blocks_with_id(segment, event_id):
    if "ids" not in segment.sections:
        cut = event_id.encode()[:32].ljust(32, b"\0")
        return [place for place, one in enumerate(segment.blocks) if one.ids[0] <= cut <= one.ids[1]]
    if not may_hold(segment.sections["ids"], event_id.encode()):
        return []
    wanted = xxhash.xxh64_intdigest(event_id.encode(), seed=0) >> 32
    return sorted({place for hashed, place in places_of(segment.sections["places"]) if hashed == wanted})


def places_of(section):
    for at in range(0, len(section), 8 * 512 + 4):
        page = section[at : at + 8 * 512 + 4]
        assert page[-4:] == struct.pack("<I", crc32(page[:-4]))
        numbers, count = struct.unpack(f"<{len(page) // 4 - 1}I", page[:-4]), len(page) // 8
        yield from zip(numbers[:count], numbers[count:], strict=True)


# -- what it reads -----------------------------------------------------------------------------------------------------


MEMBERS = ["type", "id", "time", "source", "subject", "tags", "data", "meta"]
DEFAULTS = {"source": None, "subject": None, "tags": [], "data": None, "meta": {}}


def as_members(event: Event) -> dict:
    """An event as a line, as the page describes it."""
    members = {"type": event.type, "id": event.id}
    members["time"] = event.time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    members |= {"source": event.source, "subject": event.subject, "tags": list(event.tags)}
    members |= {"data": event.data, "meta": event.meta}
    return {name: value for name, value in members.items() if name not in DEFAULTS or value != DEFAULTS[name]}


def by_partition(events: list[Event], partition_by: str) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for index, event in enumerate(events):
        partition = partition_of(event, partition_by, None, index=index, where="")
        found.setdefault(partition, []).append(as_members(event))
    return found


def snapshot_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.just("commit"), inner, max_size=3),
    max_leaves=6,
)
random_events = st.builds(
    Event,
    type=texts.filter(bool),
    source=st.none() | texts,
    subject=st.sampled_from(["..", "a/b", "con", "Ü", "%2F"]),
    time=st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 3), timezones=st.just(UTC)),  # noqa: DTZ001  (bounds)
    tags=st.lists(texts, max_size=2).map(tuple),
    data=json_values,
    meta=st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts, max_size=2),
)


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.lists(random_events, min_size=1, max_size=5), min_size=1, max_size=5),
    st.sampled_from(["single", "day", "subject", "hash:3"]),
    texts.filter(lambda name: name and "\0" not in name and len(encoded(name)) < 255),
)
def test_the_reader_reads_what_was_just_written(tmp_path_factory, batches, partition_by, name):
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch, bucketlog.open(root) as store:
        patch.setattr(segments, "SEGMENT_BYTES_MAX", 500)  # so that a partition has several segments
        for batch in batches:
            store.stream(name, partition_by=partition_by).append(batch)

    found = read_stream(root, name)

    everything = [event for batch in batches for event in batch]
    assert {part: [event for _, event in events] for part, events in found.items()} == by_partition(
        everything, partition_by
    )
    for events in found.values():
        assert [offset for offset, _ in events] == list(range(len(events)))
        assert all(list(event) == [one for one in MEMBERS if one in event] for _, event in events)


@pytest.mark.slow
def test_the_reader_judges_damage_and_torn_writes_as_bucketlog_does(tmp_path):
    with bucketlog.open(tmp_path) as store:
        stream = store.stream("s")
        stream.append(Event(type="t", data={"a": "x" * 500}))
        stream.append([Event(type="t", data={"commit": "00000001-01-0123456789abcdef-0badc0de"})] * 1)
        stream.append([Event(type="t", data="y" * 40), Event(type="t")])
    segment = next(tmp_path.glob("streams/s/0/*.jsonl"))
    whole = segment.read_bytes()
    damaged = [whole[:size] for size in range(len(whole))]
    for at in range(len(whole)):
        damaged += [whole[:at] + bytes([value]) + whole[at + 1 :] for value in {0, whole[at] ^ 1, whole[at] ^ 16}]
        damaged.append(whole[:at] + bytes(min(200, len(whole) - at)) + whole[at + 200 :])
    verdicts = {"torn": 0, "corrupt": 0}

    for data in damaged:
        expected = segments.scan(data)
        try:
            lines = list(lines_of(data, newest=True))
        except AssertionError:
            assert expected.rest == "corrupt", data
            verdicts["corrupt"] += 1
        else:
            assert expected.rest in {"", "partial", "torn"}, data
            assert len(lines) == sum(span.events for span in expected.spans)
            verdicts["torn"] += 1

    assert min(verdicts.values()) > len(whole)


# -- a store written by this version -----------------------------------------------------------------------------------

EXPECTED = json.loads((LOGS / "v1.json").read_text())
EXPECTED_EVENTS = {name: [Event.from_cloudevent(event) for event in events] for name, events in EXPECTED.items()}
PARTITIONED_BY = {"by day": "day", "by subject": "subject", "by hash": "hash:12"}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_reader_reads_the_kept_store(name):
    found = read_stream(LOGS / "v1", name)

    assert {part: [event for _, event in events] for part, events in found.items()} == by_partition(
        EXPECTED_EVENTS[name], PARTITIONED_BY.get(name, "single")
    )


def test_the_kept_store_stays_readable_and_is_not_changed_by_reading():
    before = snapshot_of(LOGS / "v1")

    with bucketlog.open(LOGS / "v1", read_only=True) as store:
        assert store.streams() == sorted(EXPECTED)
        for name, events in EXPECTED_EVENTS.items():
            stream = store.stream(name)
            assert sorted(stream.read(), key=order) == sorted(events, key=order)
            assert stream.verify().ok
            assert sum(stream.cursor().values()) == len(events)
            assert stream.recent(3) == sorted(events, key=lambda one: (one.time, one.id))[: -1 - 3 : -1]
            assert stream.get(events[0].id) == events[0]
        assert list(store.stream("orders").read()) == EXPECTED_EVENTS["orders"]
        assert_documents(store)

    assert snapshot_of(LOGS / "v1") == before


def test_the_kept_compacted_segments_are_read_through_their_indexes():
    found = {}
    for path in sorted((LOGS / "v1").glob("streams/*/0/*.zst")):
        segment = open_compacted(path.read_bytes())
        found[unquote(path.parts[-3]), segment.summary["first"], segment.summary["next"]] = set(segment.sections)
        for offset, line in (one for block in segment.blocks for one in unpack(block)):
            for places in (
                blocks_with_id(segment, line["id"]),
                blocks_with(segment, f"t{line['type']}"),
                blocks_with(segment, f"s{line['subject']}"),
            ):
                assert offset in [number for place in places for number, _ in unpack(segment.blocks[place])]

    assert found == {
        ("compacted", 0, 40): {"blocks", "filters"},
        ("compacted", 40, 50): {"blocks", "filters"},
        ("compacted alone", 0, 50): {"blocks", "filters", "ids", "places"},
        ("compacted alone", 50, 60): {"blocks", "filters"},
    }


def order(event: Event) -> tuple[str, str]:
    return event.id, event.type


def assert_documents(store):
    assert store.checkpoints.list() == ["a/b: ü", "progress", "subscription 6 orders billing"]
    assert store.checkpoints.load("progress").value == {"seen": 2}
    assert store.checkpoints.load("progress").version.startswith("2-")
    assert store.checkpoints.load("a/b: ü").value == [None, 1.5, "x"]
    assert store.checkpoints.load("deleted") is None
    assert store.checkpoints.load("subscription 6 orders billing").value["cursor"] == {"0": 5}
    assert store.snapshots.load("totals", "2026-02-05").state == {"a": "ü", "b": [1, 2]}
    latest = store.snapshots.latest("totals")
    assert (latest.at, latest.cursor, latest.state) == (
        datetime(2026, 2, 5, 23, 59, 58, 500_000, tzinfo=UTC),
        {"0": 60},
        {"n": 60},
    )
    (blob,) = store.blobs.list()
    assert store.blobs.get(blob.digest) == b"attached\n"
    assert store.objects.get("reports/2026 Q1.txt") == b"all is well\n"


def test_the_kept_store_can_be_written_on(tmp_path):
    shutil.copytree(LOGS / "v1", tmp_path / "store")

    with bucketlog.open(tmp_path / "store") as store:
        for name, events in EXPECTED_EVENTS.items():
            with pytest.raises(bucketlog.errors.DuplicateEventError):
                store.stream(name).append(events[0])
            store.stream(name).append(Event(type="new", id="new", subject="..", time=events[0].time))
            assert store.stream(name).get("new") is not None
            assert sum(store.stream(name).cursor().values()) == len(events) + 1
        assert store.stream("by day").append(Event(type="t"))[0].first_offset == 0
        with store.subscribe("orders", "billing") as subscription:
            assert next(subscription).id == "e-5"

    (aside,) = (tmp_path / "store" / "streams" / "torn" / "0").glob(".torn-*")
    assert aside.read_bytes().startswith(b'{"type":"kind.1","id":"lost-1"')


# -- what the page says besides ----------------------------------------------------------------------------------------


def test_the_commit_on_the_page_is_one():
    (example,) = re.findall(r"```text\n(\{.*?)```", PAGE, re.DOTALL)

    found = segments.scan(example.encode())

    assert (found.rest, [(span.events, span.flags, span.write_id) for span in found.spans]) == (
        "",
        [(2, 1, "0123456789abcdef")],
    )
    assert [json.loads(line)["id"] for line in lines_of(example.encode(), newest=False)] == ["a1", "a2"]


def test_the_names_on_the_page_are_encoded_so():
    table = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", PAGE.partition("## Events")[0], re.MULTILINE)

    assert len(table) > 8
    for name, part in table:
        assert encode_name(name) == encoded(name) == part


@given(names())
def test_names_are_encoded_as_the_page_says(name):
    assert encode_name(name) == encoded(name)
    assert unquote(encoded(name), errors="strict") == name


def test_the_limits_on_the_page_are_those_of_the_code():
    assert segments.TRAILER_BYTES == 51
    assert segments.COMMIT_BYTES_MAX == segments.SEGMENT_BYTES_MAX == 64 * 1024 * 1024
    assert bucketlog.format.lines.EVENT_BYTES_MAX == 8 * 1024 * 1024
    assert bucketlog.format.lines.DATA_DEPTH_MAX == 200


def packed(data: bytes, *, frames: int = 3) -> bytes:
    """A compacted segment as the page describes it: frames with checksums, then skippable ones."""
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    step = len(data) // frames + 1
    skippable = b"".join(
        (0x184D2A50 + kind).to_bytes(4, "little") + len(body).to_bytes(4, "little") + body
        for kind, body in [(0, b"an index"), (0xE, b"a seek table")]
    )
    return b"".join(compressor.compress(data[at : at + step]) for at in range(0, len(data), step)) + skippable


def test_compacted_segments_bounds_and_strays_are_read_as_the_page_says(tmp_path):
    events = [Event(type="t", id=f"e-{number}", data=number) for number in range(8)]
    with pytest.MonkeyPatch.context() as patch, bucketlog.open(tmp_path) as store:
        patch.setattr(segments, "SEGMENT_BYTES_MAX", 100)
        for start in range(0, 8, 2):
            store.stream("s").append(events[start : start + 2])
    folder = tmp_path / "streams" / "s" / "0"
    live = {int(path.name[:20]): path for path in folder.glob("*.jsonl")}
    assert sorted(live) == [0, 2, 4, 6]
    union = b"".join(live[first].read_bytes() for first in (0, 2, 4))
    (folder / f"{0:020}-{6:020}.jsonl.zst").write_bytes(packed(union))
    (folder / f"{2:020}-{4:020}.jsonl.zst").write_bytes(packed(live[2].read_bytes()))

    for removed in ([], [0], [0, 2, 4]):  # as vacuum proceeds
        for first in removed:
            live[first].unlink(missing_ok=True)
        with bucketlog.open(tmp_path, read_only=True) as store:
            assert list(store.stream("s").read()) == events
            assert list(store.stream("s").read({"0": 3})) == events[3:]

    live[4].write_bytes(live[6].read_bytes())  # an orphan below the floor
    (folder / "bounds.json").write_text('{"start": 2, "floor": 6}')
    with bucketlog.open(tmp_path, read_only=True) as store:
        assert list(store.stream("s").read()) == events[2:]

    damaged = bytearray(packed(union))
    damaged[len(damaged) // 2] ^= 1
    (folder / f"{0:020}-{6:020}.jsonl.zst").write_bytes(damaged)
    with bucketlog.open(tmp_path, read_only=True) as store, pytest.raises(CorruptSegmentError):
        list(store.stream("s").read())


def test_overlapping_compactions_are_read_once(tmp_path):
    events = [Event(type="t", id=f"e-{number}", data=number) for number in range(8)]
    with pytest.MonkeyPatch.context() as patch, bucketlog.open(tmp_path) as store:
        patch.setattr(segments, "SEGMENT_BYTES_MAX", 100)
        for event in events:
            store.stream("s").append(event)
    folder = tmp_path / "streams" / "s" / "0"
    for first, following in [(0, 4), (2, 6)]:
        union = b"".join((folder / segments.segment_name(offset)).read_bytes() for offset in range(first, following))
        (folder / f"{first:020}-{following:020}.jsonl.zst").write_bytes(packed(union))
    for offset in range(6):
        (folder / segments.segment_name(offset)).unlink()

    with bucketlog.open(tmp_path) as store:
        assert [(event.offset, event.id) for event in store.stream("s").read()] == [(n, f"e-{n}") for n in range(8)]
        assert [(event.offset, event.id) for event in store.stream("s").read({"0": 5})] == [
            (n, f"e-{n}") for n in range(5, 8)
        ]
        assert store.stream("s").append(Event(type="t"), partition="0").first_offset == 8
        assert store.stream("s").verify().ok


# -- finding through the index -----------------------------------------------------------------------------------------


def test_the_summary_on_the_page_is_like_a_real_one(tmp_path):
    (example,) = re.findall(r'^\{"format":"bucketlog.index/1".*$', PAGE, re.MULTILINE)
    compacted_store(tmp_path, event_id=in_order, commits=[9])

    summary = json.loads(example)

    real = open_compacted(only_compacted(tmp_path).read_bytes()).summary
    assert list(summary) == list(real)
    assert {name: list(one) for name, one in summary["sections"].items()} == {
        name: list(one) for name, one in real["sections"].items()
    }
    blocks, filters = summary["sections"].values()
    assert (blocks["size"], filters["start"]) == (96 * summary["blocks"], blocks["start"] + blocks["size"])
    assert filters["size"] % (32 * summary["blocks"]) == 0


def compacted_store(root: Path, *, event_id, commits: list[int]) -> list[Event]:
    """Make a store with one compacted segment, from commits of the given numbers of events."""
    events = [
        Event(
            type=f"t{number % 3}",
            id=event_id(number),
            time=datetime.fromtimestamp(1_770_000_000 + number, UTC),
            source=None if number % 2 else "/shop",
            subject=f"s-{number // 50}",
            tags=(f"tag-{number % 500}", "all"),
            data={"number": number, "text": "x" * (number % 200)},
        )
        for number in range(sum(commits))
    ]
    with bucketlog.open(root, sync="never") as store:
        left = iter(events)
        for count in commits:
            store.stream("s").append(list(islice(left, count)))
        (done,) = store.stream("s").compact()
        assert (done.events, done.segments_after) == (len(events), 1)
    return events


def only_compacted(root: Path) -> Path:
    """Remove everything from a store's partition except its compacted segment."""
    folder = root / "streams" / "s" / "0"
    for live in folder.glob("*.jsonl"):
        live.unlink()
    (segment,) = folder.glob("*.zst")
    return segment


def in_order(number: int) -> str:
    return f"{number:032}-e"  # they differ only in the part that a block keeps


def at_random(number: int) -> str:
    return sha256(b"%d" % number).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize(("event_id", "has_ids"), [(in_order, False), (at_random, True)])
def test_the_reader_finds_events_through_the_index(tmp_path, event_id, has_ids):
    events = compacted_store(tmp_path, event_id=event_id, commits=[1, 999, 4000, 5])
    members = [as_members(event) for event in events]

    segment = open_compacted(only_compacted(tmp_path).read_bytes())

    held = [line for block in segment.blocks for line in unpack(block)]
    assert [offset for offset, _ in held] == list(range(len(events)))
    assert [{name: value for name, value in line.items() if name != "commit"} for _, line in held] == members
    wanted = {f"o{event.source}" for event in events if event.source}
    wanted |= {text for event in events[::70] for text in (f"t{event.type}", f"s{event.subject}", f"g{event.tags[0]}")}
    for text in wanted:
        field = {"t": "type", "o": "source", "s": "subject", "g": "tags"}[text[0]]
        matching = [place for place, one in enumerate(members) if text[1:] in as_list(one.get(field))]
        chosen = blocks_with(segment, text)
        found = [
            offset
            for place in chosen
            for offset, line in unpack(segment.blocks[place])
            if text[1:] in as_list(line.get(field))
        ]
        assert found == matching
    assert len(blocks_with(segment, "ss-17")) <= 3 < len(segment.blocks)
    assert sum(len(blocks_with(segment, f"snobody {number}")) for number in range(200)) < 20
    for offset in range(0, len(events), 70):
        places = blocks_with_id(segment, events[offset].id)
        assert (offset, members[offset]["id"]) in [
            (found, line["id"]) for place in places for found, line in unpack(segment.blocks[place])
        ]
        assert len(places) <= 2
    assert ("ids" in segment.sections) == has_ids
    assert has_ids == (sum(len(blocks_with_id(segment, f"{number:032}-f")) for number in range(200)) < 5)


def as_list(value):
    return value if isinstance(value, list) else [value]


def test_the_index_says_of_blocks_and_segment_what_is_in_them(tmp_path):
    events = compacted_store(tmp_path, event_id=at_random, commits=[3, 4000, 2])

    segment = open_compacted(only_compacted(tmp_path).read_bytes())

    summary = segment.summary
    assert (summary["first"], summary["next"], summary["blocks"]) == (0, len(events), len(segment.blocks))
    assert summary["size"] == sum(block.size for block in segment.blocks)
    assert (summary["min_id"], summary["max_id"]) == (
        min(event.id for event in events),
        max(event.id for event in events),
    )
    assert (summary["min_time"], summary["max_time"]) == times_of(events)
    for block in segment.blocks:
        inside = events[block.first : block.first + block.events]
        assert block.times == times_of(inside)
        assert [event_id.decode() for event_id in block.ids] == [
            min(event.id for event in inside)[:32],
            max(event.id for event in inside)[:32],
        ]
    assert all(block.size >= 65_536 for block in segment.blocks[:-1])
    commits = {0, 3, 4003, 4005}
    assert any(block.first not in commits for block in segment.blocks)


def times_of(events):
    times = [round(event.time.timestamp() * 1_000_000) for event in events]
    return min(times), max(times)


def test_other_programs_read_a_compacted_segment_as_json_lines(tmp_path):
    events = compacted_store(tmp_path, event_id=at_random, commits=[1, 999, 3])
    segment = only_compacted(tmp_path)
    found = {
        "duckdb": duckdb.sql(f"SELECT id FROM read_json('{segment}')").fetchall(),
        "polars": polars.scan_ndjson(segment).select("id").collect().rows(),
    }

    assert found["duckdb"] == found["polars"] == [(event.id,) for event in events]
    if shutil.which("zstdcat"):
        printed = subprocess.run(["zstdcat", segment], capture_output=True, check=True).stdout
        assert len(list(lines_of(printed, newest=False))) == len(events)


@pytest.mark.slow
def test_every_byte_of_a_compacted_segment_is_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(compacting, "BLOCK_BYTES", 700)
    compacted_store(tmp_path, event_id=at_random, commits=[1, 36, 3])
    whole = only_compacted(tmp_path).read_bytes()
    lines = check_compacted(whole)
    frames = range(whole.index(0x184D2A5D.to_bytes(4, "little")))

    for at in range(len(whole)):
        try:
            found = check_compacted(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        except (AssertionError, ValueError, LookupError, struct.error, zstandard.ZstdError):
            continue
        assert at in frames, at
        assert found == lines  # a bit that means nothing to zstd, such as those that fill up a byte


@pytest.mark.slow
def test_bucketlog_finds_damage_in_an_index_and_never_returns_what_is_not_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(compacting, "BLOCK_BYTES", 700)
    events = compacted_store(tmp_path, event_id=at_random, commits=[1, 36, 3])
    path = only_compacted(tmp_path)
    whole = path.read_bytes()
    index = range(whole.index(0x184D2A5D.to_bytes(4, "little")) + 8, whole.index(b"bktlogix"))
    questions = [
        (lambda stream: list(stream.read()), events),
        (lambda stream: list(stream.read(tags=["tag-7"], since=events[3].time)), [events[7]]),
        (lambda stream: stream.recent(1, subject="s-0"), [events[-1]]),
        (lambda stream: [stream.get(event.id) for event in events[::7]], events[::7]),
    ]

    for at in range(0, index.stop, 29):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with bucketlog.open(tmp_path, read_only=True) as store:
            stream = store.stream("s")
            assert not (stream.verify().ok and at in index)
            for ask, answer in questions:
                with suppress(CorruptSegmentError):
                    assert ask(stream) == answer


def check_compacted(data):
    """Check all of a compacted segment whose ids are random; return its lines."""
    segment = open_compacted(data)
    lines = list(lines_of(unpacked(data), newest=False))
    assert [line for block in segment.blocks for _, line in unpack(block)] == list(map(json.loads, lines))
    assert len(lines) == segment.summary["next"] - segment.summary["first"]
    hashes = [hashed for hashed, _ in places_of(segment.sections["places"])]
    assert hashes == sorted(hashes)
    assert len(hashes) == len(lines)
    return lines
