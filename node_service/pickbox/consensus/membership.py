"""Changes of the members: one at a time, learner first, compare-and-set on the version.

Ongaro's thesis, chapter 4, with whole configurations in place of differences. A change is made
only by a leader that has committed an entry of its own term, which closes the fault of
single-server changes that was found in 2015.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from pickbox.consensus.configuration import Configuration, InvalidConfiguration, Participant
from pickbox.consensus.library import MEMBERSHIP
from pickbox.consensus.proposals import Fate, Outcome, answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.consensus.appending import Appending
    from pickbox.consensus.proposals import Callback, Proposals

log = logging.getLogger(__name__)

_CAUGHT_UP: Final = 100
"""A learner that lacks no more entries than this may vote."""

LATER: Final = "later"
"""The value of a refusal that may be none when the same is asked in a while."""

Change: TypeAlias = "Callable[[Configuration], Configuration]"


class NotYet(InvalidConfiguration):
    """The change makes a configuration, but it is too early for it."""


class MembershipCore(Protocol):
    """What changes need of the core."""

    @property
    def node_id(self) -> str: ...
    @property
    def leads(self) -> bool: ...
    @property
    def term(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def commit_index(self) -> int: ...
    @property
    def configuration(self) -> Configuration: ...
    @property
    def configuration_is_committed(self) -> bool: ...
    @property
    def own_term_is_committed(self) -> bool: ...
    def append_own(self, command: bytes) -> int: ...
    def post(self, call: Callable[[], None]) -> None: ...


class Membership:
    """Changes that this node makes as the leader. For any thread.

    Each takes the version of the configuration that the caller saw, and is turned away if it is
    not in force any more. The callback hears exactly once, with the new version as the value.
    """

    def __init__(self, core: MembershipCore, appending: Appending, proposals: Proposals) -> None:
        self._core = core
        self._appending = appending
        self._proposals = proposals

    def add_learner(self, node_id: str, address: str, version: int, callback: Callback) -> None:
        """Have the log sent to `node_id`, which is not counted yet."""
        self._post(lambda c: c.with_learner(node_id, Participant(address)), version, callback)

    def promote(self, node_id: str, version: int, callback: Callback) -> None:
        """Let the learner `node_id` vote; refused until it has caught up."""
        self._post(lambda c: self._promoted(c, node_id), version, callback)

    def demote(self, node_id: str, version: int, callback: Callback) -> None:
        """Count the voter `node_id` no more; the leader hands over its office first."""
        self._post(lambda c: self._demoted(c, node_id), version, callback)

    def remove(self, node_id: str, version: int, callback: Callback) -> None:
        """Let `node_id` take no part any more; a leader that removes itself leads until then."""
        self._post(lambda c: c.without(node_id), version, callback)

    def move(self, node_id: str, address: str, version: int, callback: Callback) -> None:
        """Record another address of `node_id`."""
        self._post(lambda c: c.with_address(node_id, address), version, callback)

    def _post(self, change: Change, version: int, callback: Callback) -> None:
        self._core.post(lambda: self._make(change, version, callback))

    def _make(self, change: Change, version: int, callback: Callback) -> None:
        core = self._core
        refusal = self._refusal(version)
        if refusal:
            answer(callback, Outcome(Fate.NOT_APPENDED, value=LATER, reason=refusal))
            return
        try:
            configuration = change(core.configuration)
        except InvalidConfiguration as error:
            later = LATER if isinstance(error, NotYet) else None
            answer(callback, Outcome(Fate.NOT_APPENDED, value=later, reason=str(error)))
            return
        index = core.append_own(MEMBERSHIP + configuration.encode())
        fields = {"version": configuration.version, "index": index}
        log.info("members_changing", extra={"fields": fields})
        self._proposals.expect(index, core.term, callback)

    def _refusal(self, version: int) -> str:
        core = self._core
        if not core.leads:
            return "this node does not lead"
        if not core.own_term_is_committed:
            return "the leader was just elected and has committed nothing yet: ask again"
        if not core.configuration_is_committed:
            return "another change of the members is not committed yet: ask again"
        if core.configuration.version != version:
            return (
                f"the configuration is at version {core.configuration.version}, not {version}: "
                "look at the members and decide again"
            )
        return ""

    def _demoted(self, configuration: Configuration, node_id: str) -> Configuration:
        if node_id == self._core.node_id:
            raise NotYet(f"{node_id} leads: hand its leadership over first")
        return configuration.with_demoted(node_id)

    def _promoted(self, configuration: Configuration, node_id: str) -> Configuration:
        peer = self._appending.peers.get(node_id)
        if node_id in configuration.learners:
            if peer is None or not peer.incarnation:
                raise NotYet(f"{node_id} has not been heard from: is it started?")
            # A vote for a data directory that is gone could be the one that a majority lacks.
            if not self._appending.has_heard_lately(node_id):
                raise NotYet(f"{node_id} does not answer: does it still run?")
            lacking = self._core.last_index - peer.match_index
            if lacking > _CAUGHT_UP:
                raise NotYet(f"{node_id} lacks {lacking} entries: wait until it has caught up")
        return configuration.with_voter(node_id, peer.incarnation if peer else b"")
