"""What must never happen inside the cluster, each with a checker that says how it was broken.

Election safety, log matching, leader completeness and state machine safety are those of figure 3 in
Ongaro, Ousterhout: In Search of an Understandable Consensus Algorithm (2014); that members change
one at a time is from Ongaro's thesis, chapter 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pickbox.consensus.configuration import Configuration, InvalidConfiguration
from pickbox.consensus.library import MEMBERSHIP
from simulation.events import (
    Appended,
    Applied,
    Committed,
    Diverged,
    Event,
    Failed,
    Forgot,
    Led,
    Restarted,
    Stood,
    Voted,
    Wiped,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


class OneLeaderATerm:
    name = "one leader a term"
    concerns: tuple[type[Event], ...] = (Led,)

    def __init__(self) -> None:
        self._leaders: dict[int, tuple[str, int]] = {}

    def see(self, event: Event) -> Iterable[str]:
        assert isinstance(event, Led)
        leader = self._leaders.setdefault(event.term, (event.node, event.life))
        if leader != (event.node, event.life):
            yield f"{leader[0]} and {event.node} both lead term {event.term}"


class OneVoteATerm:
    """Who has a node's vote keeps it for the term, over restarts too."""

    name = "one vote a term"
    concerns: tuple[type[Event], ...] = (Voted, Restarted, Wiped)

    def __init__(self) -> None:
        self._votes: dict[str, Voted] = {}

    def see(self, event: Event) -> Iterable[str]:
        assert isinstance(event, Voted | Restarted | Wiped)
        last = self._votes.get(event.node)
        if isinstance(event, Wiped):
            self._votes.pop(event.node, None)
        elif isinstance(event, Voted):
            self._votes[event.node] = event
            if last and last.term == event.term and last.candidate != event.candidate:
                yield (
                    f"{event.node} votes for {last.candidate} and for {event.candidate} in term "
                    f"{event.term}"
                )
        elif last and last.term == event.term and event.voted_for not in (None, last.candidate):
            yield (
                f"{event.node} restarts in term {event.term} without its vote for {last.candidate}"
            )


class LogMatching:
    """Index and term name one command and one predecessor, everywhere: so whole logs agree."""

    name = "log matching"
    concerns: tuple[type[Event], ...] = (Appended, Forgot)

    def __init__(self) -> None:
        self._writers: dict[tuple[int, int], set[str]] = {}
        self._commands: dict[tuple[int, int], bytes] = {}
        self._previous: dict[tuple[int, int], int] = {}

    def see(self, event: Event) -> Iterable[str]:
        if isinstance(event, Forgot):
            self._forget(event)
            return
        assert isinstance(event, Appended)
        entry = event.index, event.term
        self._writers.setdefault(entry, set()).add(event.node)
        command = self._commands.setdefault(entry, event.command)
        if command != event.command:
            yield (
                f"entry {event.index} of term {event.term} is {event.command!r} on {event.node}, "
                f"elsewhere {command!r}"
            )
        if event.previous_term is None:
            return
        previous = self._previous.setdefault(entry, event.previous_term)
        if previous != event.previous_term:
            yield (
                f"before entry {event.index} of term {event.term} comes one of term "
                f"{event.previous_term} on {event.node}, elsewhere one of term {previous}"
            )

    def _forget(self, event: Forgot) -> None:
        """A voter on its own may lose a term and all of it before anybody knows."""
        for entry in [e for e, w in self._writers.items() if e[1] > event.term]:
            if self._writers[entry] == {event.node}:
                del self._writers[entry], self._commands[entry]
                self._previous.pop(entry, None)


class LeaderCompleteness:
    """A leader holds everything that was committed in earlier terms."""

    name = "leader completeness"
    concerns: tuple[type[Event], ...] = (Committed, Led)

    def __init__(self) -> None:
        self._committed: dict[int, tuple[int, int]] = {}
        self._last = 0

    def see(self, event: Event) -> Iterable[str]:
        if isinstance(event, Committed):
            self._committed.setdefault(event.index, (event.term, event.in_term))
            self._last = max(self._last, event.index)
            return
        assert isinstance(event, Led)
        for index in range(event.first_index, self._last + 1):
            committed, in_term = self._committed.get(index, (0, event.term))
            if in_term >= event.term:
                continue
            position = index - event.first_index
            held = event.terms[position] if position < len(event.terms) else None
            if held != committed:
                what = "nothing" if held is None else f"an entry of term {held}"
                yield (
                    f"{event.node} leads term {event.term} with {what} at index {index}, where an "
                    f"entry of term {committed} is committed"
                )
                return


class CommitsByItsOwnTerm:
    """A leader commits entries of earlier terms only with one of its own (Raft, 5.4.2)."""

    name = "own term commits"
    concerns: tuple[type[Event], ...] = (Committed, Stood, Restarted)

    def __init__(self) -> None:
        self._decided: dict[str, Committed] = {}

    def see(self, event: Event) -> Iterable[str]:
        assert isinstance(event, Committed | Stood | Restarted)
        if isinstance(event, Committed):
            if event.voters:
                self._decided[event.node] = event
            return
        last = self._decided.pop(event.node, None)
        if last is None or last.term == last.in_term:
            return
        if isinstance(event, Stood) and event.commit == last.index:
            yield (
                f"{event.node} commits up to {last.index} in term {last.in_term}, and the last "
                f"entry is of term {last.term}"
            )


class StateMachineSafety:
    """No two nodes commit or apply different commands at an index, and none skips one."""

    name = "state machine safety"
    concerns: tuple[type[Event], ...] = (Committed, Applied, Stood, Restarted)

    def __init__(self) -> None:
        self._commands: dict[int, tuple[bytes, str]] = {}
        self._states: dict[int, tuple[int, str]] = {}

    def see(self, event: Event) -> Iterable[str]:
        if isinstance(event, Committed | Applied):
            command, first = self._commands.setdefault(event.index, (event.command, event.node))
            if command != event.command:
                verb = "applies" if isinstance(event, Applied) else "commits"
                yield (
                    f"{event.node} {verb} {event.command!r} at index {event.index}, "
                    f"{first} had {command!r}"
                )
        elif isinstance(event, Stood) and event.applied:
            state, first = self._states.setdefault(event.applied, (event.state, event.node))
            if state != event.state:
                yield f"after {event.applied} the state of {event.node} is not that of {first}"


class NothingGoesBack:
    """Term, commit index and applied index only grow; over a restart the durable term does."""

    name = "nothing goes back"
    concerns: tuple[type[Event], ...] = (Stood, Restarted)

    def __init__(self) -> None:
        self._stood: dict[str, Stood] = {}

    def see(self, event: Event) -> Iterable[str]:
        if isinstance(event, Restarted):
            self._stood.pop(event.node, None)
            if event.term < event.durable_term:
                yield (
                    f"{event.node} restarts in term {event.term}, its disk had "
                    f"{event.durable_term} for certain"
                )
            if event.lost:
                yield f"{event.node} restarts without {event.lost}, which its disk had for certain"
            return
        assert isinstance(event, Stood)
        before = self._stood.get(event.node, event)
        self._stood[event.node] = event
        for what, was, now in (
            ("term", before.term, event.term),
            ("commit index", before.commit, event.commit),
            ("applied index", before.applied, event.applied),
        ):
            if now < was:
                yield f"the {what} of {event.node} goes back from {was} to {now}"
        if event.applied > event.commit:
            yield f"{event.node} has applied {event.applied}, its commit index is {event.commit}"


class OneCluster:
    """All committed configurations are of one cluster, and each follows from the one before."""

    name = "one cluster"
    concerns: tuple[type[Event], ...] = (Committed,)

    def __init__(self) -> None:
        self._by_version: dict[int, Configuration] = {}

    def see(self, event: Event) -> Iterable[str]:
        assert isinstance(event, Committed)
        members = members_in(event.command)
        if members is None:
            return
        known = self._by_version.setdefault(members.version, members)
        if known != members:
            yield f"the members of version {members.version} are {known}, on {event.node} {members}"
        first = next(iter(self._by_version.values()))
        if first.cluster_id != members.cluster_id:
            yield f"{first.cluster_id} and {members.cluster_id} are two clusters"


class OneChangeAtATime:
    """Voters are changed by one, and only when the change before is committed."""

    name = "one change at a time"
    concerns: tuple[type[Event], ...] = (Appended, Committed)

    def __init__(self) -> None:
        self._committed: set[bytes] = set()
        self._appended: dict[int, dict[bytes, Configuration]] = {}

    def see(self, event: Event) -> Iterable[str]:
        assert isinstance(event, Appended | Committed)
        members = members_in(event.command)
        if members is None:
            return
        if isinstance(event, Committed):
            self._committed.add(event.command)
            return
        siblings = self._appended.setdefault(members.version, {})
        if event.command not in siblings:
            siblings[event.command] = members
            parents = self._appended.get(members.version - 1, {})
            if parents and not any(self._follows(members, *parent) for parent in parents.items()):
                yield f"{event.node} appends {members}, which follows from no committed one"

    def _follows(self, members: Configuration, command: bytes, before: Configuration) -> bool:
        if command in self._committed:
            return len(members.voters.keys() ^ before.voters.keys()) <= 1
        # The first leader records the voters' data directories, and changes nobody.
        return members.voters.keys() == before.voters.keys() and members.learners == before.learners


class NothingDiverges:
    name = "no divergence"
    concerns: tuple[type[Event], ...] = (Diverged,)

    def see(self, event: Event) -> Iterable[str]:
        assert isinstance(event, Diverged)
        yield f"{event.node} is told that its state after {event.index} is another"


class NothingFails:
    name = "no tick fails"
    concerns: tuple[type[Event], ...] = (Failed,)

    def see(self, event: Event) -> Iterable[str]:
        assert isinstance(event, Failed)
        yield f"{event.node} raised {event.error}"


def members_in(command: bytes) -> Configuration | None:
    """The configuration in an entry; None if it is another one, or of the published library."""
    if command[:1] != MEMBERSHIP:
        return None
    try:
        return Configuration.decode(command[1:])
    except InvalidConfiguration:
        return None
