"""Committed entries on their way into the state machine, once each and in order."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from pickbox.consensus.library import MEMBERSHIP, NO_OP, REGULAR, LibraryNode
from pickbox.failpoints import failpoint
from pickbox.levels import WrongRelease

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.consensus.proposals import Proposals

log = logging.getLogger(__name__)

_READ_ENTRIES: Final = 8
"""Entries are read in steps of so many. Large ones may have to come from the disk, and what a tick
reads and does not come to apply, the next one reads again."""
_HASHES_KEPT: Final = 8
_RETRY_SECONDS: Final = 0.5
_WITHOUT_EFFECT: Final = frozenset({NO_OP, MEMBERSHIP})


class Machine(Protocol):
    """What the log drives. All of it is called on the tick thread."""

    @property
    def applied_index(self) -> int:
        """The last entry that is durably applied; 0 for none."""

    def apply(self, index: int, command: bytes) -> object:
        """Apply one command, the same way on every node.

        An exception is the command's own result and is the same everywhere, except those that
        are this node's alone (`refusals` of `Applying`): then nothing was applied, and the command
        comes again; and `WrongRelease`: then nothing was, and the node goes no further.
        """

    def state_hash(self) -> bytes:
        """A hash of all state, equal on nodes that applied the same entries."""

    def begin_dump(self) -> Callable[[str], None]:
        """Pin the state as it is now; what is returned writes it to a path, on any thread."""

    def load(self, path: str) -> None:
        """Replace all state by the copy at `path`, atomically and durably."""


@dataclass(frozen=True, slots=True)
class Poisoned:
    """The result of a command that the state machine has no answer to."""

    error: Exception


class Applying:
    """Feeds the state machine and answers who waits for an entry.

    Args:
        refusals: exceptions of the state machine that mean that this node alone is in trouble, as
            when its disk refuses.
        hash_every: the state is hashed after each entry whose index is a multiple of this.
        budget: seconds of a tick that applying may take, so that heartbeats stay on time.
        on_wrong_release: called with the reason, once, when an entry is not understood here.
    """

    def __init__(
        self,
        node: LibraryNode,
        machine: Machine,
        proposals: Proposals,
        *,
        refusals: tuple[type[Exception], ...],
        hash_every: int,
        budget: float,
        on_wrong_release: Callable[[str], None],
    ) -> None:
        self._node = node
        self._machine = machine
        self._proposals = proposals
        self._refusals = refusals
        self._hash_every = hash_every
        self._budget = budget
        self._retry_at = 0.0
        self._on_wrong_release = on_wrong_release
        self._at_its_end = False
        self.refusal: Exception | None = None
        self.hashes: dict[int, bytes] = {}
        """State hashes of the last checkpoints, by index."""

    @property
    def behind(self) -> bool:
        """Whether there is something to apply now."""
        if self._at_its_end or self._node.applied_index >= self._node.commit_index:
            return False
        return self.refusal is None or self._node.now() >= self._retry_at

    def run(self) -> None:
        """Apply what is committed, for as long as the budget lasts."""
        if not self.behind:
            return
        node = self._node
        deadline = node.now() + self._budget
        while node.applied_index < node.commit_index:
            first = node.applied_index + 1
            count = min(_READ_ENTRIES, node.commit_index - node.applied_index)
            for command, index, term in node.entries(first, count):
                if not self._apply(command, index, term):
                    return
                if node.now() >= deadline:
                    return

    def _apply(self, command: bytes, index: int, term: int) -> bool:
        """Apply one entry; False if the disk refuses it for now, or it is not understood here."""
        value: object = None
        if command[:1] == REGULAR:
            try:
                failpoint("commit_before_apply")
                value = self._machine.apply(index, command[1:])
            except self._refusals as error:
                self._refuse(index, error)
                return False
            except WrongRelease as error:
                self._end(str(error))
                return False
            except Exception as error:
                log.exception("command_poisoned", extra={"fields": {"index": index}})
                value = Poisoned(error)
        elif command[:1] not in _WITHOUT_EFFECT:
            self._end(f"log entry {index} is of a kind that this release does not know")
            return False
        self.refusal = None
        self._node.applied_index = index
        if index % self._hash_every == 0:
            self._checkpoint(index)
        self._proposals.applied(index, term, value)
        return True

    def _refuse(self, index: int, error: Exception) -> None:
        if self.refusal is None:
            fields = {"index": index, "why": str(error) or repr(error)}
            log.error("apply_refused_by_disk", extra={"fields": fields})
        self.refusal = error
        self._retry_at = self._node.now() + _RETRY_SECONDS

    def _end(self, why: str) -> None:
        """What comes after an entry that was not applied cannot be applied either."""
        self._at_its_end = True
        self._on_wrong_release(why)

    def _checkpoint(self, index: int) -> None:
        self.hashes[index] = self._machine.state_hash()
        while len(self.hashes) > _HASHES_KEPT:
            del self.hashes[next(iter(self.hashes))]

    def forget_states(self) -> None:
        """A snapshot took the place of the state that was hashed."""
        self.hashes.clear()
        self.refusal = None

    @property
    def checkpoint(self) -> tuple[int, bytes]:
        """Index and hash of the last checkpoint; (0, b"") before the first."""
        if not self.hashes:
            return 0, b""
        index = next(reversed(self.hashes))
        return index, self.hashes[index]
