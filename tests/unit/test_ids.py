"""The ids of a partition: exactly the stored ones, in any order of arrival, in bounded memory."""

import random
import subprocess
import sys
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bucketlog import Event
from bucketlog.format import compacting
from bucketlog.format.compacted import CompactedSegment
from bucketlog.format.compacting import Builder
from bucketlog.format.lines import check_events, encode_lines
from bucketlog.format.segments import seal_commit
from bucketlog.log import ids as ids_module
from bucketlog.log.ids import Ids, NoIds

RUN_EVENTS = 8
BLOCK_BYTES = 300  # two or three events


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    monkeypatch.setattr(ids_module, "RUN_EVENTS", RUN_EVENTS)
    monkeypatch.setattr(compacting, "BLOCK_BYTES", BLOCK_BYTES)


def segment_of(stored, first, following):
    """Return the offsets `[first, following)` as a compacted segment that is read from memory."""
    builder = Builder(first)
    for offset in range(first, following):
        lines = encode_lines(check_events([Event(type="a", id=stored[offset])], where=""), indexes=[0], where="")
        builder.add(seal_commit(lines, events=1, flags=1, write_id="0" * 16), events=1)
    content = builder.finish()
    made = CompactedSegment.open(f"{first}-{following}", lambda start, end: content[start:end], len(content))
    assert made is not None
    return made


def uuid7(number, chance):
    return str(UUID(int=(0x019C_0000_0000 + number) << 80 | 0x7 << 76 | chance.getrandbits(62) | 0b10 << 62))


ID_KINDS = {
    "ascending": lambda number: f"a{number:08}",
    "descending": lambda number: f"a{10**8 - number:08}",
    "random": lambda number: f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}",
    "with one beginning": lambda number: "x" * 50 + str(number),
    "mixed": lambda number: (f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}", f"m{number:08}", "ä" + str(number))[
        number % 3
    ],
}


class Against(RuleBasedStateMachine):
    """`Ids` compared with a dict, while ids are learnt, forgotten and evicted."""

    def __init__(self):
        super().__init__()
        self.stored = []  # by offset
        self.kind = "mixed"
        self.ids = Ids(lambda first, following: self.stored[first:following])
        self.learnt = 0  # the ids up to this offset were learnt

    @initialize(kind=st.sampled_from(sorted(ID_KINDS)))
    def begin(self, kind):
        self.kind = kind

    def new(self, count):
        make, begin = ID_KINDS[self.kind], len(self.stored)
        self.stored += [make(number) for number in range(begin, begin + count)]
        return begin

    @rule(count=st.sampled_from([1, 1, 2, 3, RUN_EVENTS, 3 * RUN_EVENTS]))
    def learn(self, count):
        begin = self.new(count)
        self.ids.learn(self.stored[begin:], begin)

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def learn_again(self, data):
        """A new listing may begin at a region that was read before."""
        begin = data.draw(st.integers(0, len(self.stored) - 1))
        self.ids.learn(self.stored[begin:], begin)

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def start_over(self, data):
        """One part is compacted and learnt by its index; the ids of the rest are learnt."""
        compacted_to = data.draw(st.integers(0, len(self.stored)))
        cut = data.draw(st.integers(0, compacted_to))
        self.ids.clear()
        for first, following in ((0, cut), (cut, compacted_to)):
            if following > first:
                self.ids.learn_segment(segment_of(self.stored, first, following))
        if compacted_to < len(self.stored):
            self.ids.learn(self.stored[compacted_to:], compacted_to)

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def learn_an_overlapping_segment(self, data):
        first = data.draw(st.integers(0, len(self.stored) - 1))
        following = data.draw(st.integers(first + 1, len(self.stored)))
        self.ids.learn_segment(segment_of(self.stored, first, following))

    @invariant()
    def find_agrees_with_the_dict(self):
        expected = {one: offset for offset, one in enumerate(self.stored)}
        others = [ID_KINDS[self.kind](number) for number in range(len(self.stored), len(self.stored) + 20)]
        for one in [
            *self.stored[:: max(len(self.stored) // 10, 1)],
            *self.stored[-3:],
            *others[:5],
            "",
            "zzz",
            "\U0010ffff",
        ]:
            assert self.ids.find(one) == expected.get(one)
            assert self.ids.knows_any([one]) == (one in expected)
            assert not (self.ids.surely_new(one) and one in expected)
        assert not self.ids.knows_any(others)
        assert not self.ids.knows_any([])
        if self.stored:
            assert self.ids.knows_any([*others, self.stored[len(self.stored) // 2]])
            assert self.ids.knows_any([self.stored[0], *others])


TestAgainstADict = Against.TestCase
TestAgainstADict.pytestmark = [pytest.mark.slow]
TestAgainstADict.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)


# (I21)
@pytest.mark.parametrize("kind", sorted(ID_KINDS))
def test_every_id_that_was_ever_learnt_is_found_at_its_offset(kind):
    stored = [ID_KINDS[kind](number) for number in range(500)]
    ids = Ids(lambda first, following: stored[first:following])
    for begin in range(0, 500, 7):
        ids.learn(stored[begin : begin + 7], begin)

    assert [ids.find(event_id) for event_id in stored] == [*range(500)]
    assert all(ids.knows_any([event_id]) for event_id in stored)
    assert not any(ids.find(ID_KINDS[kind](number)) is not None for number in range(500, 900))


def test_ascending_ids_are_known_to_be_new_without_reading_anything():
    chance = random.Random(1)
    stored = [uuid7(number, chance) for number in range(400)]

    def read(first, following):
        raise AssertionError("nothing needs to be read")

    ids = Ids(read)
    for offset, one in enumerate(stored[:300]):
        assert ids.surely_new(one)
        assert ids.find(one) is None
        ids.learn([one], offset)

    assert not ids.knows_any(stored[300:])
    assert all(ids.surely_new(event_id) for event_id in stored[300:])


def test_ids_before_the_start_of_the_log_are_free_and_may_be_stored_again():
    stored = [ID_KINDS["random"](number) for number in range(100)]
    ids = Ids(lambda first, following: stored[first:following])
    ids.learn_segment(segment_of(stored, 0, 40))
    ids.learn(stored[40:], 40)

    ids.start = 50

    assert [ids.find(event_id) for event_id in stored] == [None] * 50 + [*range(50, 100)]
    ids.learn([stored[3]], 100)
    stored.append(stored[3])
    assert ids.find(stored[3]) == 100
    for number in range(101, 160):
        stored.append(ID_KINDS["random"](number))
        ids.learn([stored[-1]], number)
    assert ids.find(stored[3]) == 100


def test_two_runs_that_begin_at_one_offset_are_not_taken_for_each_other():
    stored = [ID_KINDS["random"](number) for number in range(60)]
    ids = Ids(lambda first, following: stored[first:following])
    ids.learn(stored[: 2 * RUN_EVENTS], 0)  # [0, 8) is evicted
    assert ids.find(stored[0]) == 0
    ids.learn(stored[: RUN_EVENTS - 1], 0)  # read again: later another run begins at 0 and reaches farther
    for begin in range(2 * RUN_EVENTS, 5 * RUN_EVENTS):
        ids.learn([stored[begin]], begin)

    for _ in range(2):
        assert [ids.find(event_id) for event_id in stored[: 5 * RUN_EVENTS]] == [*range(5 * RUN_EVENTS)]


def test_an_evicted_run_is_read_once_for_neighbours():
    stored = [ID_KINDS["random"](number) for number in range(200)]
    reads = []

    def read(first, following):
        reads.append((first, following))
        return stored[first:following]

    ids = Ids(read)
    ids.learn(stored, 0)
    for event_id in stored[16:24]:
        assert ids.find(event_id) is not None

    assert len(reads) <= 3


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), unique=True, max_size=120))
@settings(max_examples=60)
def test_any_texts_are_ids(stored):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids_module, "RUN_EVENTS", 4)
        ids = Ids(lambda first, following: stored[first:following])
        half = len(stored) // 2
        if half:
            ids.learn_segment(segment_of(stored, 0, half))
        if stored[half:]:
            ids.learn(stored[half:], half)

        assert [ids.find(event_id) for event_id in stored] == [*range(len(stored))]
        assert all(ids.knows_any([event_id, "never"]) for event_id in stored)


def test_a_partition_that_does_not_exist_has_no_ids():
    assert NoIds().find("a") is None
    assert not NoIds().knows_any(["a", "b"])


# -- memory ------------------------------------------------------------------------------------------------------------


MEMORY = """
import random, sys
from pathlib import Path
from bucketlog.format import bloom
from bucketlog.log.ids import Ids
bloom.hash_texts(["numpy is loaded before anything is measured"])
chance, ids = random.Random(1), Ids(lambda first, following: [])
# Not getrusage: that begins with what the process that started this one takes.
most = lambda: int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = most()
for begin in range(0, 1_000_000, 1000):
    numbers = range(begin, begin + 1000)
    if sys.argv[1] == "in order":
        ids.learn([f"{number:012x}-7000-8000-{number:012x}" for number in numbers], begin)
    else:
        ids.learn([f"{chance.getrandbits(128):032x}" for _ in numbers], begin)
print(most() - before)
"""


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
@pytest.mark.parametrize("how", ["in order", "at random"])
def test_a_million_ids_take_little_memory(how):
    done = subprocess.run([sys.executable, "-c", MEMORY, how], check=True, capture_output=True, text=True)

    # The newest 64 thousand in memory, and a few bytes for each of the others if they do not ascend.
    assert int(done.stdout) < 40_000  # kibibytes; a dict of these texts takes some 200,000
