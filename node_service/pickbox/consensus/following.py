"""The follower's side of the log: what is appended, truncated and acknowledged.

Only an entry that conflicts is truncated, and never a committed one (Raft, figure 2, step 3 of
AppendEntries). What is acknowledged is what was compared with the leader's log, not what happens
to be in this one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from pickbox.consensus.messages import Append, AppendReply

if TYPE_CHECKING:
    from pickbox.consensus.library import LibraryNode

log = logging.getLogger(__name__)


class LogContradiction(Exception):
    """A leader asked to replace a committed entry: some node's log is not what it promised."""


class EntryKeeping(Protocol):
    """What the core does with entries as they come and go."""

    def add_entry(self, command: bytes, index: int, term: int) -> None: ...

    def truncate_from(self, index: int) -> None: ...

    def commit_to(self, index: int) -> None: ...

    def state_checkpoint(self) -> tuple[int, bytes]: ...


class Following:
    """Takes appends in, and owes the leader one answer a tick."""

    def __init__(self, node: LibraryNode, keeping: EntryKeeping) -> None:
        self._node = node
        self._keeping = keeping
        self._owed_to: str | None = None
        self._owed_term = 0
        self._match_index = self._rejected_index = -1
        self._hint_index = self._round = 0
        self.leader_commit_index = 0
        """The highest commit index that a leader has told, whether its entries are here or not."""

    @property
    def owes(self) -> bool:
        """Whether the leader waits for an answer."""
        return self._owed_to is not None

    def on_append(self, leader: str, append: Append) -> None:
        """Compare and take in the leader's entries. The term was seen to by the caller."""
        self._owe(leader, append)
        self.leader_commit_index = max(self.leader_commit_index, append.commit_index)
        previous, entries = self._without_committed(append)
        if not self._agrees_at(previous, append):
            self._reject(append.previous_index)
            return
        index = self._skip_matching(previous, entries)
        last = previous + len(entries)
        if index < last:
            self._replace_from(index + 1, entries[index - previous :])
        self._match_index = max(self._match_index, last)
        self._keeping.commit_to(min(append.commit_index, last))

    def _without_committed(self, append: Append) -> tuple[int, list[Any]]:
        """The part of an append past the commit index: what is committed matches by Raft's proof.

        It may also be compacted away, so that there is nothing left to compare with.
        """
        committed = self._node.commit_index
        previous, entries = append.previous_index, append.entries
        if previous < committed:
            covered = min(committed - previous, len(entries))
            return previous + covered, entries[covered:]
        return previous, entries

    def _agrees_at(self, previous: int, append: Append) -> bool:
        if previous <= self._node.commit_index:
            return True
        return self._node.term_at(previous) == append.previous_term

    def _skip_matching(self, previous: int, entries: list[Any]) -> int:
        """Index of the last of `entries` that this log has already."""
        index = previous
        for term, _ in entries:
            if self._node.term_at(index + 1) != term:
                break
            index += 1
        return index

    def _replace_from(self, first: int, entries: list[Any]) -> None:
        node = self._node
        if first <= node.last_index:
            if first <= node.commit_index:
                raise LogContradiction(
                    f"the leader of term {node.term} asks to replace entry {first}, but all up to "
                    f"{node.commit_index} are committed here: stop this node and compare the logs"
                )
            log.info("log_truncated", extra={"fields": {"from": first, "last": node.last_index}})
            self._keeping.truncate_from(first)
        for offset, (term, command) in enumerate(entries):
            self._keeping.add_entry(command, first + offset, term)

    def _reject(self, rejected: int) -> None:
        """Remember where the logs do not agree, and where they may: before the term in conflict."""
        node = self._node
        hint = min(rejected, node.last_index)
        conflicting = node.term_at(hint)
        if hint == rejected and conflicting is not None:
            hint = self._start_of_term(hint, conflicting) - 1
        self._rejected_index, self._hint_index = rejected, max(hint, node.commit_index)

    def _start_of_term(self, index: int, term: int) -> int:
        while index > self._node.commit_index + 1 and self._node.term_at(index - 1) == term:
            index -= 1
        return index

    def _owe(self, leader: str, append: Append) -> None:
        if self._owed_to != leader or self._owed_term != append.term:
            self._match_index = self._rejected_index = -1
            self._hint_index = self._round = 0
        self._owed_to, self._owed_term = leader, append.term
        self._round = max(self._round, append.round)

    def settle(self) -> None:
        """Queue the answer that is owed, to be sent when the log is durable."""
        leader = self._owed_to
        if leader is None:
            return
        self._owed_to = None
        if self._owed_term != self._node.term:
            return  # the leader is deposed; what it asked for is no longer its business
        state_index, state_hash = self._keeping.state_checkpoint()
        reply = AppendReply(
            self._owed_term,
            self._match_index,
            self._rejected_index,
            self._hint_index,
            self._round,
            state_index,
            state_hash,
        )
        self._match_index = self._rejected_index = -1
        self._hint_index = 0
        self._node.send_after_sync(leader, reply)
