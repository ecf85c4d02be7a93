"""The commit protocol, in every state that a few writers, late puts, compactors, vacuums and truncates can reach.

With all rules on, no promise of the log can be broken. With any one rule off, some promise can be, by the history that
the rule prevents. The search finds the shortest such history, and a failing test prints it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

import pytest
from protocol_model import (
    ALL_RULES,
    LIVE,
    Compactor,
    Content,
    Rules,
    Scenario,
    State,
    Sweeper,
    Tail,
    Truncate,
    Writer,
    explore,
)

from bucketlog.format import segments

COMPACTOR = Compactor("lists", 1)
SWEEPER = Sweeper("lists")
TAIL = Tail("begins")
TRUNCATE = Truncate("begins")


def writer(*appends: str, losses: int = 0) -> Writer:
    """Return a writer of the given appends. Each letter is the id of an event."""
    return Writer("begins", tuple(map(tuple, appends)), losses)


def log(*commits: str, late: str = "", compacted: bool = False, actors: tuple = ()) -> State:
    """A log of some commits; each is live, or compacted alone and its live name removed.

    Args:
        commits: The ids of each, as letters.
        late: A commit whose writer is gone and whose put of the name 0 has not landed yet.
        compacted: Whether they are.
        actors: Who takes part.
    """
    stored, here = [], 0
    for ids in commits:
        stored.append((here, Content(f"old.{here}", tuple(ids))))
        here += len(ids)
    return State(
        objects=tuple(
            ((first, first + len(content.ids) if compacted else LIVE), (content,)) for first, content in stored
        ),
        floor=here if compacted else 0,
        free=here if compacted else 0,
        late=(((0, LIVE), (Content("gone.0", tuple(late)),)),) if late else (),
        actors=actors,
        log=tuple(stored),
    )


def overtaken(append: str) -> Writer:
    """Return a writer that has listed an empty log and sent its put of name 0."""
    content = Content("W0.0.0", tuple(append))
    return writer(append)._replace(doing="waits", attempt=1, basis_age=0, view_age=0, scratch=(0, content))


@dataclass(frozen=True)
class Explored:
    """A scenario and its minimum number of states: fewer would mean that something can no longer happen."""

    scenario: Scenario
    states: int


def scenario(states: int, first: State, **how: object) -> Explored:
    return Explored(Scenario(first=first, **how), states)


SCENARIOS = {
    "writers": scenario(45_000, log(actors=(writer("a", "d"), writer("b"), COMPACTOR))),
    "writers of several events": scenario(6_000, log(actors=(writer("a"), writer("bc"), COMPACTOR))),
    "writers without answers": scenario(
        80_000, log(actors=(writer("a", losses=1), writer("b", losses=1), COMPACTOR)), alike=((0, 1),)
    ),
    "writer without an answer": scenario(2_000, log(actors=(writer("a", "b", losses=1), COMPACTOR))),
    "writer that was overtaken": scenario(2_500, log("x", "y", "z", actors=(overtaken("a"), COMPACTOR))),
    "writers and a late put": scenario(
        25_000, log("x", late="st", actors=(writer("a"), writer("b"), COMPACTOR)), alike=((0, 1),)
    ),
    "writer and a late put": scenario(1_400, log("x", late="st", actors=(writer("a", "b"), COMPACTOR))),
    "late put that may win": scenario(3_000, log(late="st", actors=(writer("a", losses=1), COMPACTOR))),
    "late put of the same event": scenario(25_000, log("x", late="a", actors=(writer("a"), writer("b"), COMPACTOR))),
    "writers and compactors": scenario(
        70_000, log(actors=(writer("a"), writer("b"), COMPACTOR, COMPACTOR)), alike=((0, 1), (2, 3))
    ),
    "writers and truncate": scenario(20_000, log(actors=(writer("a", "d"), writer("b"), TRUNCATE))),
    "writers, compactor and truncate": scenario(
        45_000, log(actors=(writer("a"), writer("b"), COMPACTOR, TRUNCATE)), alike=((0, 1),)
    ),
    "writer, late put, compactor, truncate and vacuum": scenario(
        6_000, log("x", late="st", actors=(writer("a"), COMPACTOR, TRUNCATE, SWEEPER))
    ),
    "writer, compactor and truncates": scenario(
        25_000, log("xy", actors=(writer("a"), TRUNCATE, TRUNCATE, COMPACTOR)), alike=((1, 2),)
    ),
    "truncates": scenario(100, log("x", "y", actors=(TRUNCATE, TRUNCATE)), alike=((0, 1),)),
    "compactors and vacuums": scenario(
        2_500, log("x", "y", "z", actors=(COMPACTOR, COMPACTOR, SWEEPER, SWEEPER)), alike=((0, 1), (2, 3))
    ),
    "compacted segments and vacuums": scenario(
        25, log("x", "y", compacted=True, actors=(COMPACTOR, SWEEPER, SWEEPER)), alike=((1, 2),)
    ),
    "compactors and a late put": scenario(
        1_000, log("x", "y", late="st", actors=(COMPACTOR, COMPACTOR)), alike=((0, 1),)
    ),
    "tail": scenario(1_500, log("x", "y", late="st", actors=(COMPACTOR, TAIL))),
    "tail, compactors and vacuum": scenario(
        15_000, log("x", "y", late="st", actors=(COMPACTOR, COMPACTOR, SWEEPER, TAIL)), alike=((0, 1),)
    ),
    "tail, writer, compactor and truncate": scenario(
        100_000, log("x", late="st", actors=(COMPACTOR, writer("a"), TRUNCATE, TAIL))
    ),
    "listing of several pages": scenario(
        1_000, log("x", "y", "z", compacted=True, actors=(writer("a"), COMPACTOR, SWEEPER)), page=2
    ),
    "listing after the bounds were read": scenario(
        600, log("x", "y", compacted=True, actors=(writer("a"), TRUNCATE, SWEEPER)), page=LIVE
    ),
    "listing, compactor, truncate and vacuum": scenario(
        15_000, log("x", "y", actors=(writer("a"), COMPACTOR, TRUNCATE, SWEEPER)), page=2
    ),
    "listing, compactors and vacuum": scenario(
        20_000, log("x", "y", actors=(writer("a"), COMPACTOR, COMPACTOR, SWEEPER)), alike=((1, 2),), page=2
    ),
}


@dataclass(frozen=True)
class History:
    """The result of switching off a rule in a scenario: the broken promise, and steps that lead to it."""

    name: str
    rule: str
    scenario: str
    breaks: str
    steps: tuple[str, ...] = ()


HISTORIES = [
    History(
        "next_name_from_a_view_that_is_old",
        "basis_grows_old",
        "writers",
        "W. gets the answer -> and acknowledges",
        ("a vacuum removes 0.jsonl",),
    ),
    History("names_removed_without_a_floor", "floor", "writers", "-> and acknowledges"),
    History("names_removed_at_once", "grace", "writers", "-> and acknowledges"),
    History("short_grace", "grace_of_the_stream", "writers", "-> and acknowledges", ("a third of the grace passes",)),
    History(
        "truncate_without_grace",
        "truncate_removes_nothing",
        "writers and truncate",
        "-> and acknowledges",
        ("truncate moves the start to 1 and removes 0.jsonl",),
    ),
    History("suspended_laptop", "clocks_see_sleep", "writers", "-> and acknowledges", ("W., which sleeps",)),
    History(
        "fresh_by_reading_another",
        "own_basis",
        "writer that was overtaken",
        "-> and acknowledges",
        ("W0 reads 0.jsonl: x", "W0 reads 1.jsonl: y"),
    ),
    History("whole_grace", "half_a_grace", "writers", "-> and acknowledges"),
    History(
        "basis_noted_after_a_sleep",
        "basis_aged_when_checked",
        "writers",
        "-> and acknowledges d at 1",
        ("W0 takes its commit for its basis",),
    ),
    History(
        "basis_below_the_floor",
        "basis_above_floor",
        "writers",
        "-> and acknowledges d at 1",
        ("W0 looks for its commit, and finds it",),
    ),
    History(
        "next_name_from_a_stray",
        "listings_grow_old",
        "writer and a late put",
        "-> which leaves a name above the head",
        ("a put of s.t at 0.jsonl lands late", "W0 puts a at 2.jsonl"),
    ),
    History(
        "next_name_from_a_stray_while_asleep",
        "aged_when_answered",
        "writer and a late put",
        "-> which leaves a name above the head",
        ("a put of s.t at 0.jsonl lands late", "W0 reads 0.jsonl"),
    ),
    History("filter_from_a_stray", "ids_that_count", "late put of the same event", "stored at 0, where it is not"),
    History(
        "filter_from_a_stray_while_asleep",
        "aged_when_answered",
        "late put of the same event",
        "stored at 0, where it is not",
    ),
    History("tail_with_an_old_listing", "listings_grow_old", "tail", "-> and yields s.t for 0"),
    History("tail_that_slept_before_its_answer", "aged_when_answered", "tail", "-> and yields s.t for 0"),
    History(
        "compaction_of_a_stray",
        "compactions_grow_old",
        "compactors and a late put",
        "-> a process that opens the log now reads 0: s.t",
    ),
    History(
        "compaction_of_a_stray_while_asleep",
        "aged_when_answered",
        "compactors and a late put",
        "-> a process that opens the log now reads 0: s.t",
    ),
    History(
        "head_from_the_last_name",
        "floor_hides",
        "compactors and vacuums",
        "takes 2 for the head, which is 3",
        ("a vacuum removes 2.jsonl",),
    ),
    History(
        "cover_by_union",
        "one_other_contains",
        "compacted segments and vacuums",
        "reads nothing",
        ("a vacuum removes 0-1.zst", "a vacuum removes 0-2.zst"),
    ),
    History(
        "overlapping_compactions",
        "farthest_reaching",
        "compactors and vacuums",
        "reads 0: x, 0: x, 1: y",
        ("a compactor puts 0-1.zst", "a compactor puts 0-2.zst"),
    ),
    History(
        "bounds_lowered",
        "bounds_only_raised",
        "truncates",
        "reads nothing",
        ("truncate moves the start to 2", "truncate moves the start to 1"),
    ),
    History(
        "own_commit_taken_for_a_stray",
        "own_commit_compacted",
        "writers",
        "takes a, which it wrote itself, for a duplicate",
        ("a compactor puts 0-1.zst", "W0 looks for its commit, and starts over"),
    ),
    History(
        "own_commit_behind_what_was_compacted",
        "own_commit_live",
        "writer that was overtaken",
        "takes a, which it wrote itself, for a duplicate",
    ),
    History(
        "own_commit_under_anothers_name",
        "own_commit_replaced",
        "late put that may win",
        "takes a, which it wrote itself, for a duplicate",
        ("W0 reads 0.jsonl back: another's",),
    ),
    History("group_changed_after_send", "frozen_group", "writer without an answer", "-> and acknowledges a.b at 0"),
    History(
        "compacted_segment_replaced_under_a_listing",
        "listing_reaches_floor",
        "listing of several pages",
        "-> and acknowledges a at 2",
        ("a compactor puts 0-3.zst", "a vacuum removes 2-3.zst"),
    ),
    History(
        "truncated_between_bounds_and_listing",
        "listing_reaches_floor",
        "listing after the bounds were read",
        "-> and acknowledges a at 0",
        ("W0 reads the bounds: start 0, floor 2", "truncate moves the start to 1", "W0 lists 1-2.zst"),
    ),
]


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_promise_is_broken_in_any_state(name: str):
    explored = SCENARIOS[name]

    found = explore(explored.scenario)

    assert not found.steps, f"the shortest history that breaks a promise:\n{found}"
    assert found.states >= explored.states


@pytest.mark.parametrize("history", HISTORIES, ids=[history.name for history in HISTORIES])
def test_history_is_found_when_its_rule_is_switched_off(history: History):
    rules = replace(ALL_RULES, **{history.rule: False})

    found = explore(SCENARIOS[history.scenario].scenario, rules)

    assert found.steps, f"nothing breaks without the rule {history.rule}: is it needed?"
    for wanted in (*history.steps, history.breaks):
        assert re.search(wanted, " ".join(found.steps)), f"no {wanted!r} in\n{found}"


def test_each_rule_prevents_a_history():
    assert {rule.name for rule in fields(Rules)} == {history.rule for history in HISTORIES}


def test_what_counts_is_asked_of_the_code(monkeypatch: pytest.MonkeyPatch):
    def all_of_them(segments, *, start, floor):
        return sorted(segments, key=lambda segment: segment.first)

    monkeypatch.setattr(segments, "chain", all_of_them)

    found = explore(SCENARIOS["compactors and vacuums"].scenario)

    assert found.steps[-1] == "-> a process that opens the log now finds it damaged"
