"""A model of the commit protocol, small enough to explore every reachable state.

A state is what the storage holds, which requests are in flight, what each actor believes, and how old that belief is.
A step is one request that reaches the storage, one answer that reaches its actor, or time that passes. Steps happen in
any order, so an actor may sleep before and after each. `bucketlog.format.segments` decides which segments count.

Each of the `Rules` can be switched off. `explore` visits all states, nearest first, and returns the shortest history in
which the log breaks a promise.
"""

from __future__ import annotations

import gc
from collections import deque
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, takewhile, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from bucketlog.format import segments as seg

if TYPE_CHECKING:
    from collections.abc import Iterator

GRACE = 3  # steps of the clock
HALF = 2  # this many or more are half a grace period
LIVE = 99  # the end of a live segment in its name; only its content has the real one

Name = tuple[int, int]  # of a segment: its first offset, and its end or LIVE; sorts like keys


class Content(NamedTuple):
    """A commit: its write id, and the ids of its events."""

    write_id: str
    ids: tuple[str, ...]


Object = tuple[Name, tuple[Content, ...]]
Commits = tuple[tuple[int, Content], ...]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules that keep the log intact. Each comment says what holds while the rule is on."""

    # What may be removed, and when.
    floor: bool = True  # the floor is raised above live names before they are removed
    grace: bool = True  # they are removed a grace period later, not at once
    grace_of_the_stream: bool = True  # that is the grace period writers rely on, not a shorter one
    truncate_removes_nothing: bool = True  # it raises the bounds; vacuum removes the names
    bounds_only_raised: bool = True  # by compare-and-set
    one_other_contains: bool = True  # a compacted segment is removed if one other contains it, not several together
    # Which segments count.
    floor_hides: bool = True  # live names below the floor do not count, whichever are left
    farthest_reaching: bool = True  # of overlapping compacted segments, the one that ends last counts
    ids_that_count: bool = True  # ids are learned from segments that count
    listing_reaches_floor: bool = True  # otherwise names were removed during the listing, and it is repeated
    # What is believed, and for how long.
    clocks_see_sleep: bool = True  # some clock advances while a machine sleeps
    half_a_grace: bool = True  # after half a grace period a view is old, not after a whole one
    listings_grow_old: bool = True  # an old listing is repeated before one of its names is read
    compactions_grow_old: bool = True  # a compactor does not write if its listing is old by then
    aged_when_answered: bool = True  # age is checked when the answer arrives, not when the request is sent
    basis_grows_old: bool = True  # a writer with an old basis checks whether the name it won still counts
    own_basis: bool = True  # a basis is the writer's own listing or commit, not a segment of another
    basis_aged_when_checked: bool = True  # a commit is a basis as of the clock reading that confirmed it
    basis_above_floor: bool = True  # a commit found in a compacted segment is no basis
    # What a writer concludes.
    frozen_group: bool = True  # a retry sends the same bytes
    own_commit_compacted: bool = True  # the name it won may be old and the commit compacted: success
    own_commit_live: bool = True  # or the name is not below the floor, whatever the basis: success
    own_commit_replaced: bool = True  # even if another commit has its name by then


ALL_RULES = Rules()


class BrokenPromiseError(Exception):
    """A step broke a promise. The arguments are the step and the promise."""


class Writer(NamedTuple):
    """Appends one batch after another."""

    doing: str
    todo: tuple[tuple[str, ...], ...]  # the ids of each append
    losses: int = 0  # how many of its requests may stay unanswered
    number: int = 0  # of the append
    attempt: int = 0  # counts different bytes
    head: int = 0
    basis: int = 0
    basis_age: int = GRACE
    view_age: int = GRACE
    seen: tuple[tuple[str, int], ...] = ()  # its ids that are stored, and their offsets
    scratch: tuple = ()


class Compactor(NamedTuple):
    """Merges adjacent segments, `runs` times."""

    doing: str
    runs: int
    age: int = GRACE
    scratch: tuple = ()


class Sweeper(NamedTuple):
    """Lists compacted segments once, then removes some."""

    doing: str
    scratch: tuple = ()


class Truncate(NamedTuple):
    """Moves the start of the log once."""

    doing: str
    start: int = 0
    scratch: tuple = ()


class Tail(NamedTuple):
    """Yields events from an offset."""

    doing: str
    offset: int = 0
    age: int = GRACE
    scratch: tuple = ()


Actor = Writer | Compactor | Sweeper | Truncate | Tail


class State(NamedTuple):
    """The storage, the requests in flight, and the actors."""

    objects: tuple[Object, ...] = ()
    start: int = 0
    floor: int = 0
    raised: tuple[tuple[int, int], ...] = ()  # floors younger than a grace period, and their age
    free: int = 0  # the floor a grace period ago: live names below it may be removed
    late: tuple[Object, ...] = ()  # puts that may still land, though their senders gave up
    actors: tuple[Actor, ...] = ()
    log: Commits = ()  # the true log, which no actor knows: what should be readable


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """The first state and the actors. The floor may be raised, and names below it removed, at any time."""

    first: State
    page: int = 0  # names per page of a writer's listing; 0 for all at once, with the bounds
    alike: tuple[tuple[int, ...], ...] = ()  # indexes of actors that differ only in their names


@dataclass(frozen=True)
class Found:
    """The result: the number of states, and the shortest history that breaks a promise, the promise last."""

    states: int
    steps: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(f"{number:3}. {step}" for number, step in enumerate(self.steps, 1))


def explore(scenario: Scenario, rules: Rules = ALL_RULES, *, states_max: int = 1_000_000) -> Found:
    """Visit every reachable state, nearest first, until a promise is broken or none are left."""
    model = _Model(scenario, rules)
    came_from: dict[State, tuple[State, str] | None] = {scenario.first: None}
    waiting = deque(came_from)
    collects = gc.isenabled()
    gc.disable()  # millions of tuples and no cycles: collection would take half the time
    try:
        while waiting:
            state = waiting.popleft()
            ends = True
            for step, following in model.steps(state):
                ends = False
                way = (state, step)
                if came_from.setdefault(following, way) is way:
                    if broken := model.broken(following):
                        return Found(len(came_from), (*_way_to(following, came_from), broken))
                    waiting.append(following)
            if ends and (broken := model.stuck(state)):
                return Found(len(came_from), (*_way_to(state, came_from), broken))
            if len(came_from) > states_max:
                msg = f"more than {states_max} states; make the scenario smaller"
                raise RuntimeError(msg)
    except BrokenPromiseError as err:
        return Found(len(came_from), (*_way_to(state, came_from), *map(str, err.args)))
    finally:
        if collects:
            gc.enable()
    return Found(len(came_from))


def _way_to(state: State, came_from: dict[State, tuple[State, str] | None]) -> list[str]:
    steps: list[str] = []
    while (before := came_from[state]) is not None:
        state, step = before
        steps.append(step)
    return steps[::-1]


# -- what can be read --------------------------------------------------------------------------------------------------


def counting(names: tuple[Name, ...], start: int, floor: int) -> tuple[Name, ...]:
    """Return the names of the segments that count, in order."""
    listed = [seg.Segment("", first, None if end == LIVE else end, 0) for first, end in names]
    chain = seg.chain(listed, start=start, floor=floor)
    return tuple((segment.first, LIVE if segment.next is None else segment.next) for segment in chain)


def read(objects: tuple[Object, ...], names: tuple[Name, ...]) -> Commits | str:
    """Return the commits of segments read one after another, or what is wrong with them."""
    held = dict(objects)
    commits: list[tuple[int, Content]] = []
    here = names[0][0] if names else 0
    for name in names:
        contents = held.get(name)
        if contents is None:
            return "gone"
        first, end = name
        if first > here or (end == LIVE and first != here):
            return "damaged"
        for content in contents:
            if first >= here:
                commits.append((first, content))
            first += len(content.ids)
        here = max(here, first)
    return tuple(commits)


def end_of(commits: Commits, otherwise: int) -> int:
    """Return the offset after the last commit."""
    return commits[-1][0] + len(commits[-1][1].ids) if commits else otherwise


def _from(commits: Commits, offset: int) -> Commits:
    return tuple(commit for commit in commits if end_of((commit,), 0) > offset)


def _read_all(state: State) -> Commits:
    """Read every compacted segment in full, regardless of overlaps."""
    commits: list[tuple[int, Content]] = []
    here = state.start
    for (first, end), contents in state.objects:
        if first == here or (first < here and end != LIVE):
            for content in contents:
                commits.append((first, content))
                first += len(content.ids)
            here = max(here, first)
    return tuple(commits)


def _names(state: State) -> tuple[Name, ...]:
    return tuple(name for name, _ in state.objects)


def _is_compacted(name: Name) -> bool:
    return name[1] != LIVE


def _text(name: Name) -> str:
    return f"{name[0]}.jsonl" if name[1] == LIVE else f"{name[0]}-{name[1]}.zst"


def _texts(names: tuple[Name, ...]) -> str:
    return ", ".join(map(_text, names)) or "nothing"


# -- steps -------------------------------------------------------------------------------------------------------------


class _Model:
    def __init__(self, scenario: Scenario, rules: Rules) -> None:
        self.scenario, self.rules = scenario, rules
        self._half = HALF if rules.half_a_grace else GRACE
        self._counting = cache(counting)
        self._fresh_views: dict[tuple, str] = {}

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Yield every possible next step and its state.

        Raises:
            BrokenPromiseError: A possible step breaks a promise.
        """
        yield from self._time(state)
        yield from self._storage(state)
        first = self.scenario.first.actors
        waits = {
            place
            for group in self.scenario.alike
            for before, place in pairwise(group)
            if state.actors[before] == first[before]
        }
        for place, actor in enumerate(state.actors):
            if actor.doing == "done" or place in waits:  # of identical actors, the first one starts
                continue
            match actor:
                case Writer():
                    yield from self._writer(state, place, actor)
                case Compactor():
                    yield from self._compactor(state, place, actor)
                case Sweeper():
                    yield from self._sweeper(state, place, actor)
                case Truncate():
                    yield from self._truncate(state, place, actor)
                case Tail():
                    yield from self._tail(state, place, actor)

    def broken(self, state: State) -> str:
        """Return what a process that opens the log in this state would find wrong, or an empty text."""
        key = (state.objects, state.start, self._floor(state), state.log)
        broken = self._fresh_views.get(key)
        if broken is None:
            broken = self._fresh_views[key] = self._broken(state)
        return broken

    def _broken(self, state: State) -> str:
        names = _names(state)
        if self.rules.farthest_reaching:
            found = read(state.objects, self._counting(names, state.start, self._floor(state)))
        else:
            found = _read_all(state)
        if isinstance(found, str):
            return f"-> a process that opens the log now finds it {found}"
        if _from(found, state.start) != _from(state.log, state.start):
            return f"-> a process that opens the log now reads {_events(found)}; the log is {_events(state.log)}"
        least = state.floor if self.rules.floor_hides else 0
        live = [name for name in names if name[1] == LIVE and name[0] >= least]
        if live and (seems := end_of(read(state.objects, live[-1:]), 0)) != (head := end_of(state.log, state.start)):
            return f"-> a process that looks for the last name now takes {seems} for the head, which is {head}"
        return ""

    def stuck(self, state: State) -> str:
        """Return which actor waits forever in a state without further steps, or an empty text."""
        head = end_of(state.log, state.start)
        for place, actor in enumerate(state.actors):
            if isinstance(actor, Tail) and actor.doing != "done" and actor.offset < head:
                return f"-> {_who(actor, place)} waits forever at {actor.offset}, though the head is {head}"
            if isinstance(actor, Writer) and actor.doing != "done":
                return f"-> {_who(actor, place)} never ends"
        return ""

    # -- time and storage ----------------------------------------------------------------------------------------------

    def _time(self, state: State) -> Iterator[tuple[str, State]]:
        wait = GRACE if self.rules.grace_of_the_stream else 1
        raised = tuple((floor, age + 1) for floor, age in state.raised)
        free = max((floor for floor, age in raised if age >= wait), default=state.free)
        raised = tuple((floor, age) for floor, age in raised if age < wait)
        actors = tuple(_older(actor, self._half) for actor in state.actors)
        following = state._replace(raised=raised, free=free, actors=actors)
        if following != state:
            yield "a third of the grace passes", following
        if not self.rules.clocks_see_sleep:
            for place, actor in enumerate(state.actors):
                if actor != actors[place]:
                    sleeping = (*actors[:place], actor, *actors[place + 1 :])
                    if (asleep := following._replace(actors=sleeping)) != state:
                        yield f"a third of the grace passes, but not for {_who(actor, place)}, which sleeps", asleep

    def _storage(self, state: State) -> Iterator[tuple[str, State]]:
        for place, (name, contents) in enumerate(state.late):
            if place and state.late[place - 1] == state.late[place]:
                continue
            step = f"a put of {_contents(contents)} at {_text(name)} lands late"
            rest = state._replace(late=state.late[:place] + state.late[place + 1 :])
            yield step, self._put(rest, name, contents, step)[0]
        end = state.start
        for _, following in self._counting(_names(state), state.start, state.floor):
            if following == LIVE:
                break
            end = following
            if end > state.floor:
                yield f"a vacuum raises the floor to {end}", self._raise(state, state.start, end)
        for name, _ in state.objects:
            if name[1] == LIVE and name[0] < state.free:
                yield f"a vacuum removes {_text(name)}", _without(state, (name,))

    def _floor(self, state: State) -> int:
        return state.floor if self.rules.floor else 0

    def _raise(self, state: State, start: int, floor: int) -> State:
        if not self.rules.grace:
            return state._replace(start=start, floor=floor, raised=(), free=floor)
        return state._replace(start=start, floor=floor, raised=(*state.raised, (floor, 0)))

    def _put(self, state: State, name: Name, contents: tuple[Content, ...], step: str) -> tuple[State, bool]:
        """Create an object if its name is free. Returns the state, and whether it was created."""
        if any(name == taken for taken, _ in state.objects):
            return state, False
        objects = tuple(sorted((*state.objects, (name, contents))))
        log = state.log
        if name[1] == LIVE:
            head = end_of(log, state.start)
            if name[0] > head:
                raise BrokenPromiseError(step, f"-> which leaves a name above the head, {head}")
            if name[0] == head:
                log = (*log, (head, contents[0]))
                ids = [event_id for _, content in log for event_id in content.ids]
                if len(set(ids)) != len(ids):
                    raise BrokenPromiseError(step, f"-> which stores an event twice: {_events(log)}")
        return state._replace(objects=objects, log=log), True

    # -- a writer ------------------------------------------------------------------------------------------------------

    def _writer(self, state: State, place: int, writer: Writer) -> Iterator[tuple[str, State]]:
        who = _who(writer, place)
        held = dict(state.objects)
        match writer.doing:
            case "begins":
                bounds = (state.start, self._floor(state))
                begun = writer._replace(doing="lists", basis_age=0, view_age=0, scratch=(bounds, ()))
                if self.scenario.page:
                    step = f"{who} reads the bounds: start {bounds[0]}, floor {bounds[1]}"
                    yield step, _with(state, place, begun)
                else:
                    step = f"{who} reads the bounds, start {bounds[0]}, floor {bounds[1]}, and lists {_texts((*held,))}"
                    yield step, self._listed(state, place, begun, bounds, _names(state))

            case "lists":
                bounds, shown = writer.scratch
                names = tuple(name for name in held if not shown or name > shown[-1])[: self.scenario.page]
                step = f"{who} lists {_texts(names)}"
                if len(names) == self.scenario.page:
                    yield step, _with(state, place, writer._replace(scratch=(bounds, shown + names)))
                else:
                    yield step, self._listed(state, place, writer, bounds, shown + names)

            case "reads":
                start, names, others = writer.scratch
                step = f"{who} reads {_texts(names)}"
                found = read(state.objects, names)
                if found == "gone" or (self._is_old(writer.view_age) and self.rules.aged_when_answered):
                    yield f"{step}, and lists again", _with(state, place, _restarted(writer))
                    return
                if isinstance(found, str):
                    raise BrokenPromiseError(step, f"-> and finds the log {found}")
                learned = *found, *(item for name in others if name in held for item in read(state.objects, (name,)))
                head = end_of(found, start)
                knowing = writer._replace(head=head, basis=head, basis_age=writer.view_age, seen=_seen(writer, learned))
                yield step, self._send(state, place, knowing, step)

            case "reads on":
                name = (writer.head, LIVE)
                step = f"{who} reads {_text(name)}"
                if name not in held:
                    yield f"{step}, which is not there", self._send(state, place, writer, step)
                elif self._is_old(writer.view_age) and self.rules.aged_when_answered:
                    yield f"{step}, and lists again", _with(state, place, _restarted(writer))
                else:
                    commits = ((writer.head, held[name][0]),)
                    knowing = writer._replace(head=end_of(commits, 0), seen=_seen(writer, commits))
                    if not self.rules.own_basis:
                        knowing = knowing._replace(basis=knowing.head, basis_age=0, view_age=0)
                    yield f"{step}: {_contents(held[name])}", _with(state, place, knowing)

            case "waits":
                offset, content = writer.scratch
                put = ((offset, LIVE), (content,))
                step = f"{who} puts {_contents(put[1])} at {_text(put[0])}"
                following, landed = self._put(state, *put, step)
                answered = writer._replace(doing="has won" if landed else "looks")
                yield f"{step}: {'it lands' if landed else 'the name is taken'}", _with(following, place, answered)
                if writer.losses:
                    late = state._replace(late=tuple(sorted((*state.late, put))))
                    unsure = writer._replace(doing="looks", losses=writer.losses - 1)
                    yield f"{step}, and gets no answer", _with(late, place, unsure)

            case "has won":
                step = f"{who} gets the answer"
                yield step, self._won(state, place, writer, step)
                if writer.losses:
                    unsure = writer._replace(doing="looks", losses=writer.losses - 1)
                    yield f"{who} gets no answer", _with(state, place, unsure)

            case "looks":
                offset, content = writer.scratch
                step = f"{who} reads {offset}.jsonl back"
                there = held.get((offset, LIVE))
                if there is None:
                    again = writer._replace(doing="waits")
                    if not self.rules.frozen_group and len(writer.todo) > 1:
                        joined = content._replace(ids=content.ids + writer.todo[1])
                        again = again._replace(scratch=(offset, joined), todo=(joined.ids, *writer.todo[2:]))
                    yield f"{step}: nothing; it will retry", _with(state, place, again)
                    yield (
                        f"{step}: nothing; it gives up, with the outcome unknown",
                        _with(state, place, _next_append(writer)),
                    )
                elif there[0].write_id == content.write_id:
                    yield f"{step}: its own", self._won(state, place, writer, step)
                elif writer.basis_age >= self._half and self.rules.own_commit_replaced:
                    unsure = writer._replace(doing="doubts", scratch=(offset, content, False))
                    yield f"{step}: another's, but its view is old", _with(state, place, unsure)
                else:
                    yield f"{step}: another's", _with(state, place, self._lost(writer))

            case "doubts":
                offset, content, is_there = writer.scratch
                start, floor = state.start, self._floor(state)
                step = f"{who} reads the bounds: start {start}, floor {floor}"
                if (offset if self.rules.own_commit_live else writer.basis) >= floor:
                    if is_there:
                        yield step, self._acknowledge(state, place, writer, step)
                    else:
                        yield f"{step}; it was another's", _with(state, place, self._lost(writer))
                elif offset < start:
                    yield f"{step}, and the outcome is unknown", _with(state, place, _next_append(writer))
                else:
                    yield step, _with(state, place, writer._replace(doing="searches"))

            case "searches":
                offset, content, _ = writer.scratch
                chain = self._counting(_names(state), state.start, self._floor(state))
                found = read(state.objects, tuple(takewhile(_is_compacted, chain)))
                step = f"{who} looks for its commit"
                if offset < state.start:
                    yield f"{step}, before the start: the outcome is unknown", _with(state, place, _next_append(writer))
                elif self.rules.own_commit_compacted and (offset, content) in found:
                    yield f"{step}, and finds it", self._acknowledge(state, place, writer, step, compacted=True)
                else:
                    yield f"{step}, and starts over", _with(state, place, _restarted(writer))

            case "will be its basis":
                step = f"{who} takes its commit for its basis"
                yield step, self._continue(state, place, writer, step)

    def _listed(self, state: State, place: int, writer: Writer, bounds: tuple[int, int], names: tuple) -> State:
        start, floor = bounds
        chain = self._counting(names, start, floor)
        end = chain[-1][1] if chain else start
        if end < floor and self.rules.listing_reaches_floor:
            return _with(state, place, _restarted(writer))
        if self._is_old(writer.view_age) and chain and not self.rules.aged_when_answered:
            return _with(state, place, _restarted(writer))
        others = () if self.rules.ids_that_count else tuple(n for n in names if n[1] == LIVE and n not in chain)
        return _with(state, place, writer._replace(doing="reads", scratch=(start, chain, others)))

    def _send(self, state: State, place: int, writer: Writer, step: str) -> State:
        """Decide, and put if there is something to write."""
        ids = writer.todo[0]
        for event_id, offset in writer.seen:
            if event_id in ids:
                self._check_duplicate(state, event_id, offset, _own(place, writer), step)
                following = _next_append(writer, head=writer.head)
                return self._send(state, place, following, step) if following.todo else _with(state, place, following)
        content = Content(f"{_own(place, writer)}{writer.attempt}", ids)
        return _with(
            state, place, writer._replace(doing="waits", attempt=writer.attempt + 1, scratch=(writer.head, content))
        )

    def _check_duplicate(self, state: State, event_id: str, offset: int, own: str, step: str) -> None:
        if offset < state.start:
            return
        for first, content in state.log:
            if event_id in content.ids and first == offset:
                if content.write_id.startswith(own):
                    raise BrokenPromiseError(step, f"-> and takes {event_id}, which it wrote itself, for a duplicate")
                return
        raise BrokenPromiseError(step, f"-> and finds {event_id} stored at {offset}, where it is not")

    def _won(self, state: State, place: int, writer: Writer, step: str) -> State:
        if self.rules.basis_grows_old and writer.basis_age >= self._half:
            return _with(state, place, writer._replace(doing="doubts", scratch=(*writer.scratch, True)))
        return self._acknowledge(state, place, writer, step)

    def _acknowledge(self, state: State, place: int, writer: Writer, step: str, *, compacted: bool = False) -> State:
        offset, content = writer.scratch[:2]
        if (offset, content) not in state.log:
            broken = f"-> and acknowledges {_contents((content,))} at {offset}; the log is {_events(state.log)}"
            raise BrokenPromiseError(step, broken)
        if compacted and self.rules.basis_above_floor:
            return _with(state, place, _next_append(writer))
        done = writer._replace(head=offset + len(content.ids), basis=offset + len(content.ids), scratch=())
        if not self.rules.basis_aged_when_checked:
            return _with(state, place, done._replace(doing="will be its basis"))
        return self._continue(state, place, done, step)

    def _continue(self, state: State, place: int, writer: Writer, step: str) -> State:
        """Start the next append from the current knowledge. The writer's own commit is its basis."""
        following = _next_append(writer, head=writer.head)
        if following.doing == "done":
            return _with(state, place, following)
        return self._send(state, place, following._replace(basis_age=0), step)

    def _lost(self, writer: Writer) -> Writer:
        return _restarted(writer) if self._is_old(writer.view_age) else writer._replace(doing="reads on", scratch=())

    def _is_old(self, age: int) -> bool:
        """Return True if a listing must be repeated."""
        return self.rules.listings_grow_old and age >= self._half

    # -- other actors --------------------------------------------------------------------------------------------------

    def _compactor(self, state: State, place: int, compactor: Compactor) -> Iterator[tuple[str, State]]:
        match compactor.doing:
            case "lists":
                names = _names(state)
                chain = self._counting(names, state.start, self._floor(state))
                for first in range(len(chain)):
                    for last in range(first, len(chain)):
                        run = chain[first : last + 1]
                        if len(run) > 1 or run[0][1] == LIVE:
                            chosen = compactor._replace(doing="reads", age=0, scratch=run)
                            yield f"a compactor lists and picks {_texts(run)}", _with(state, place, chosen)
            case "reads":
                run = compactor.scratch
                step = f"the compactor of {_texts(run)} reads them"
                found = read(state.objects, run)
                if isinstance(found, str) or (
                    self.rules.compactions_grow_old and self.rules.aged_when_answered and self._is_old(compactor.age)
                ):
                    again = Compactor("lists", compactor.runs)
                    yield f"{step}, and lists again", _with(state, place, again)
                else:
                    name = (run[0][0], end_of(found, 0))
                    contents = tuple(content for _, content in found)
                    yield step, _with(state, place, Compactor("puts", compactor.runs, scratch=(name, contents)))
            case "puts":
                name, contents = compactor.scratch
                step = f"a compactor puts {_text(name)}"
                left = compactor.runs - 1
                following, _ = self._put(state, name, contents, step)
                yield step, _with(following, place, Compactor("lists" if left else "done", left))

    def _sweeper(self, state: State, place: int, sweeper: Sweeper) -> Iterator[tuple[str, State]]:
        if sweeper.doing == "lists":
            compacted = [name for name in _names(state) if name[1] != LIVE]
            needless = tuple(name for name in compacted if name[1] <= state.start or self._contained(name, compacted))
            if needless:
                step = f"a vacuum lists {_texts(tuple(compacted))} and finds {_texts(needless)} needless"
                yield step, _with(state, place, Sweeper("removes", needless))
        else:
            for name in sweeper.scratch:
                others = tuple(other for other in sweeper.scratch if other != name)
                left = Sweeper("removes", others) if others else Sweeper("done")
                yield f"a vacuum removes {_text(name)}", _without(_with(state, place, left), (name,))

    def _contained(self, name: Name, compacted: list[Name]) -> bool:
        others = [other for other in compacted if other != name]
        if self.rules.one_other_contains:
            return any(first <= name[0] and name[1] <= end for first, end in others)
        return all(any(first <= offset < end for first, end in others) for offset in range(*name))

    def _truncate(self, state: State, place: int, truncate: Truncate) -> Iterator[tuple[str, State]]:
        bounds = (state.start, state.floor)
        if truncate.doing == "begins":
            boundaries = {end_of((commit,), 0) for commit in state.log}
            compacted = [name for name in _names(state) if _is_compacted(name)]
            for offset in range(state.start + 1, end_of(state.log, state.start) + 1):
                # A log may start at a live segment, or anywhere in a compacted one.
                if offset in boundaries or any(first < offset < end for first, end in compacted):
                    chosen = Truncate("moves", offset, bounds)
                    yield f"truncate to {offset} reads the bounds: {bounds}", _with(state, place, chosen)
            return
        start, floor = truncate.scratch
        step = f"truncate moves the start to {truncate.start}"
        if not self.rules.bounds_only_raised:
            moved = self._raise(state, truncate.start, max(floor, truncate.start))
        elif bounds != truncate.scratch:
            again = truncate._replace(scratch=bounds) if truncate.start > bounds[0] else Truncate("done")
            yield f"truncate to {truncate.start} finds the bounds changed: {bounds}", _with(state, place, again)
            return
        else:
            moved = self._raise(state, max(start, truncate.start), max(floor, truncate.start))
        if not self.rules.truncate_removes_nothing:
            below = tuple(name for name in _names(state) if name[1] == LIVE and name[0] < truncate.start)
            step = f"{step} and removes {_texts(below)}"
            moved = _without(moved, below)
        yield step, _with(moved, place, Truncate("done"))

    def _tail(self, state: State, place: int, tail: Tail) -> Iterator[tuple[str, State]]:
        who = _who(tail, place)
        old = self._is_old(tail.age)
        match tail.doing:
            case "begins":
                bounds = (state.start, self._floor(state))
                step = f"{who} reads the bounds: start {bounds[0]}, floor {bounds[1]}"
                if tail.offset < state.start:
                    yield f"{step}, and finds where the log starts", _with(state, place, Tail("done"))
                else:
                    yield step, _with(state, place, Tail("lists", tail.offset, 0, bounds))
            case "lists":
                start, floor = tail.scratch
                chain = self._counting(_names(state), start, floor)
                end = chain[-1][1] if chain else start
                step = f"{who} lists {_texts(_names(state))}"
                if end < floor and self.rules.listing_reaches_floor:
                    yield f"{step}, and lists again", _with(state, place, Tail("begins", tail.offset))
                    return
                if end < tail.offset and not (old and self.rules.aged_when_answered):
                    raise BrokenPromiseError(step, f"-> and finds that the log ends at {end}, before {tail.offset}")
                todo = tuple(
                    name
                    for name, after in zip_longest(chain, chain[1:], fillvalue=(LIVE, LIVE))
                    if min(name[1], after[0]) > tail.offset
                )
                yield step, _with(state, place, self._tailing(tail, tail.offset, todo))
            case "reads":
                name, *others = tail.scratch
                step = f"{who} reads {_text(name)}"
                found = read(state.objects, (name,))
                if found == "gone" or (old and self.rules.aged_when_answered):
                    yield f"{step}, and lists again", _with(state, place, Tail("begins", tail.offset))
                else:
                    offset = self._yielded(state, tail.offset, found, step)
                    yield step, _with(state, place, self._tailing(tail, offset, tuple(others)))
            case "reads on":
                name = (tail.offset, LIVE)
                step = f"{who} reads {_text(name)}"
                if old and self.rules.aged_when_answered:
                    yield f"{step}, and lists again", _with(state, place, Tail("begins", tail.offset))
                elif (found := read(state.objects, (name,))) != "gone":
                    offset = self._yielded(state, tail.offset, found, step)
                    yield step, _with(state, place, self._tailing(tail, offset, ()))

    def _tailing(self, tail: Tail, offset: int, todo: tuple[Name, ...]) -> Tail:
        """Return a tail that will continue to read. With an old listing it lists again first."""
        if self._is_old(tail.age):
            return Tail("begins", offset)
        return Tail("reads" if todo else "reads on", offset, tail.age, todo)

    def _yielded(self, state: State, offset: int, found: Commits, step: str) -> int:
        for first, content in _from(found, offset):
            if first > offset or (first, content) not in state.log:
                broken = f"-> and yields {_contents((content,))} for {offset}; the log is {_events(state.log)}"
                raise BrokenPromiseError(step, broken)
            offset = first + len(content.ids)
        return offset


def _who(actor: Actor, place: int) -> str:
    return f"{'T' if isinstance(actor, Tail) else 'W' if isinstance(actor, Writer) else 'C'}{place}"


def _own(place: int, writer: Writer) -> str:
    """Return the prefix of the write ids of a writer's append."""
    return f"W{place}.{writer.number}."


def _older(actor: Actor, oldest: int) -> Actor:
    match actor:
        case Writer() if actor.basis_age < oldest or actor.view_age < oldest:
            return actor._replace(basis_age=min(actor.basis_age + 1, oldest), view_age=min(actor.view_age + 1, oldest))
        case Compactor() | Tail() if actor.age < oldest:
            return actor._replace(age=actor.age + 1)
    return actor


def _restarted(writer: Writer) -> Writer:
    """Return the writer without its knowledge."""
    return Writer("begins", writer.todo, writer.losses, writer.number, writer.attempt)


def _next_append(writer: Writer, *, head: int | None = None) -> Writer:
    """Return the writer at its next append: with a known head, or without knowledge."""
    todo, number = writer.todo[1:], writer.number + 1
    if not todo:
        return Writer("done", ())
    if head is None:
        return Writer("begins", todo, writer.losses, number)
    return writer._replace(doing="waits", todo=todo, number=number, attempt=0, head=head, scratch=())


def _seen(writer: Writer, commits: Commits) -> tuple[tuple[str, int], ...]:
    """Return the offsets of those of a writer's ids that it has read."""
    wanted = {event_id for ids in writer.todo for event_id in ids}
    found = dict(writer.seen)
    for first, content in commits:
        for event_id in content.ids:
            if event_id in wanted:
                found[event_id] = first
    return tuple(sorted(found.items()))


def _with(state: State, place: int, actor: Actor) -> State:
    actors = [*state.actors]
    actors[place] = actor
    return state._replace(actors=tuple(actors))


def _without(state: State, names: tuple[Name, ...]) -> State:
    return state._replace(objects=tuple(item for item in state.objects if item[0] not in names))


def _contents(contents: tuple[Content, ...]) -> str:
    return " ".join("+".join(content.ids) for content in contents)


def _events(commits: Commits) -> str:
    return ", ".join(f"{first}: {'+'.join(content.ids)}" for first, content in commits) or "nothing"
