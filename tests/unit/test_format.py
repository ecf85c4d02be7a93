"""The format page tells everything: a reader written from it alone reads what bucketlog wrote, and judges as it does.

The reader below uses nothing but the standard library. If the format changes, this file fails first.
"""

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote
from zlib import crc32

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import bucketlog
from bucketlog import Event, segments
from bucketlog.errors import CorruptSegmentError
from bucketlog.names import encode_name
from bucketlog.partitioning import partition_of

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY.joinpath("docs", "format.md").read_text()
LOGS = REPOSITORY / "tests" / "logs"

# -- the reader: fifty lines -------------------------------------------------------------------------------------------

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
    folders = sorted(one for one in (root / "streams" / encoded(name)).iterdir() if one.is_dir())
    return {unquote(one.name, errors="strict"): list(read_partition(one, store["mode"])) for one in folders}


def read_partition(folder, mode):
    bounds = folder / "bounds.json"
    bounds = json.loads(bounds.read_bytes()) if bounds.exists() else {"start": 0, "floor": 0}
    live = {int(one.name[:20]): one for one in folder.iterdir() if re.fullmatch(r"[0-9]{20}\.jsonl", one.name)}
    live, here = {first: one for first, one in live.items() if first >= bounds["floor"]}, bounds["start"]
    while here in live:
        following = min((first for first in live if first > here), default=None)
        newest = following is None and mode == "append" and live[here].stat().st_mode & 0o222
        for line in lines_of(live[here].read_bytes(), newest):
            yield here, {name: value for name, value in json.loads(line).items() if name != "commit"}
            here += 1
        assert following in (None, here), "corrupt: a segment is missing"


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
        return not any(int(one[2], 16) & 1 and is_whole(data[start : one.end()], one) for one in later)
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


# -- what it reads -----------------------------------------------------------------------------------------------------


MEMBERS = ["type", "id", "time", "source", "subject", "tags", "data", "meta"]
DEFAULTS = {"source": None, "subject": None, "tags": [], "data": None, "meta": {}}


def as_members(event: Event) -> dict:
    """An event as the page says that it stands in a line."""
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
    return {str(one.relative_to(root)): one.read_bytes() for one in sorted(root.rglob("*")) if one.is_file()}


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
EXPECTED_EVENTS = {name: [Event.from_cloudevent(one) for one in events] for name, events in EXPECTED.items()}
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
            assert stream.get("e-0") == events[0]
        assert list(store.stream("orders").read()) == EXPECTED_EVENTS["orders"]
        assert_documents(store)

    assert snapshot_of(LOGS / "v1") == before


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

    assert (found.rest, [(one.events, one.flags, one.write_id) for one in found.spans]) == (
        "",
        [(2, 1, "0123456789abcdef")],
    )
    assert [json.loads(line)["id"] for line in lines_of(example.encode(), newest=False)] == ["a1", "a2"]


def test_the_names_on_the_page_are_encoded_so():
    table = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", PAGE.partition("## Events")[0], re.MULTILINE)

    assert len(table) > 8
    for name, part in table:
        assert encode_name(name) == encoded(name) == part


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20))
def test_names_are_encoded_as_the_page_says(name):
    assert encode_name(name) == encoded(name)
    assert unquote(encoded(name), errors="strict") == name


def test_the_limits_on_the_page_are_those_of_the_code():
    assert segments.TRAILER_BYTES == 51
    assert segments.COMMIT_BYTES_MAX == segments.SEGMENT_BYTES_MAX == 64 * 1024 * 1024
    assert bucketlog.event.EVENT_BYTES_MAX == 8 * 1024 * 1024
    assert bucketlog.event.DATA_DEPTH_MAX == 200


def compacted(data: bytes, *, frames: int = 3) -> bytes:
    """A compacted segment as the page says: frames with checksums, then skippable ones."""
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
    live = {int(one.name[:20]): one for one in folder.glob("*.jsonl")}
    assert sorted(live) == [0, 2, 4, 6]
    union = b"".join(live[first].read_bytes() for first in (0, 2, 4))
    (folder / f"{0:020}-{6:020}.jsonl.zst").write_bytes(compacted(union))
    (folder / f"{2:020}-{4:020}.jsonl.zst").write_bytes(compacted(live[2].read_bytes()))

    for removed in ([], [0], [0, 2, 4]):  # as vacuum goes on
        for first in removed:
            live[first].unlink(missing_ok=True)
        with bucketlog.open(tmp_path, read_only=True) as store:
            assert list(store.stream("s").read()) == events
            assert list(store.stream("s").read({"0": 3})) == events[3:]

    live[4].write_bytes(live[6].read_bytes())  # a stray below the floor
    (folder / "bounds.json").write_text('{"start": 2, "floor": 6}')
    with bucketlog.open(tmp_path, read_only=True) as store:
        assert list(store.stream("s").read()) == events[2:]

    damaged = bytearray(compacted(union))
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
        (folder / f"{first:020}-{following:020}.jsonl.zst").write_bytes(compacted(union))
    for offset in range(6):
        (folder / segments.segment_name(offset)).unlink()

    with bucketlog.open(tmp_path) as store:
        assert [(one.offset, one.id) for one in store.stream("s").read()] == [(n, f"e-{n}") for n in range(8)]
        assert [(one.offset, one.id) for one in store.stream("s").read({"0": 5})] == [
            (n, f"e-{n}") for n in range(5, 8)
        ]
        assert store.stream("s").append(Event(type="t"), partition="0").first_offset == 8
        assert store.stream("s").verify().ok
