"""Old and new releases side by side: what may be proposed, who stands aside, and the end of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from consensus_cluster import Cluster, fake_clock

from pickbox.changes import Delete, Outcome, Raise, Receipt, Status, Submission
from pickbox.codec import encode_command
from pickbox.consensus.proposals import Fate
from pickbox.errors import ChangeRefused, LevelTooLow, NoLeader, UpgradeRefused
from pickbox.levels import LEVEL, WrongRelease
from pickbox.members import Member, Members
from pickbox.membership import MemberChanges
from pickbox.replication.admission import refuse_too_new, refuse_unready
from pickbox.replication.inline import InlineContent
from pickbox.replication.peers import PeerError
from pickbox.replication.rules import apply_change
from pickbox.replication.state_machine import StateMachine
from pickbox.status import NodeStatus
from pickbox.storage.catalog import Catalog
from pickbox.storage.staging import Staging
from pickbox.upgrades import ClusterUpgrade

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pickbox.changes import Change

NEWER = LEVEL + 1
REASON = "log entry 9 is of a later level: start the newer release"


@dataclass(frozen=True, slots=True)
class Later(Delete):
    """A kind of change that the next release brings."""

    level: ClassVar[int] = NEWER


def submission(*changes: Change) -> Submission:
    return Submission("r", "node1", 0, changes)


# -- what may be proposed -----------------------------------------------------------------------


def test_a_change_of_a_level_that_is_not_in_force_says_what_is_to_be_done() -> None:
    refuse_too_new([Delete(b"f"), Raise(NEWER, "9.9.0")], LEVEL)
    refuse_too_new([Later(b"f")], NEWER)
    with pytest.raises(LevelTooLow, match=f"level {NEWER}.*at level {LEVEL}.*`pickbox upgrade fin"):
        refuse_too_new([Delete(b"f"), Later(b"f")], LEVEL)


def test_a_leader_takes_no_command_into_the_log_that_a_member_may_not_understand() -> None:
    refuse_unready(encode_command([submission(Delete(b"f"))]), LEVEL)
    with pytest.raises(NoLeader, match="does not understand"):
        refuse_unready(encode_command([submission(Raise(NEWER, "9.9.0"))]), LEVEL)
    refuse_unready(encode_command([submission(Raise(LEVEL, "0.1.0"))]), LEVEL - 1)
    with pytest.raises(NoLeader, match=f"of level {LEVEL}, and the leader is at level {LEVEL - 1}"):
        refuse_unready(encode_command([submission(Delete(b"f"))]), LEVEL - 1)


def test_a_change_before_its_level_is_refused_by_the_rules_too(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path / "catalog.db"))
    with catalog.transaction(1) as txn:
        outcome = apply_change(txn, submission(), Later(b"f"))
    assert (outcome.status, outcome.path) == (Status.REFUSED, b"f")
    assert f"needs level {NEWER}" in outcome.reason


def test_a_cluster_goes_up_by_levels_and_never_down(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path / "catalog.db"))
    for level, status in ((NEWER, Status.APPLIED), (NEWER, Status.UNCHANGED)):
        with catalog.transaction(1) as txn:
            raised = apply_change(txn, submission(), Raise(level, "9.9.0"))
        assert raised == Outcome(status, NEWER, b"")
    with catalog.transaction(2) as txn:
        assert apply_change(txn, submission(), Raise(LEVEL, "0.1.0")).status is Status.UNCHANGED
    assert catalog.level == NEWER


def test_a_command_of_a_later_level_is_not_applied_nor_seen_again_at_a_start(
    tmp_path: Path,
) -> None:
    catalog = Catalog(str(tmp_path / "catalog.db"))
    machine = StateMachine(
        catalog,
        InlineContent(Staging(bytes(tmp_path / "staging"))),
        in_folder=lambda submission, put: False,
        on_applied=lambda index, touched, submissions: pytest.fail("it was applied"),
        on_loaded=lambda: None,
        before_snapshot=lambda: None,
        on_recalled=lambda index, submissions: pytest.fail("it was read"),
    )
    command = encode_command([submission(Raise(NEWER, "9.9.0"))])
    for see in (machine.apply, machine.recall):
        with pytest.raises(WrongRelease, match=f"log entry 9 is a command of level {NEWER}; .*new"):
            see(9, command)
    assert (catalog.applied_index, catalog.level) == (0, LEVEL)


# -- a node that does not understand what the log says ------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with fake_clock() as clock:
        cluster = Cluster(clock, str(tmp_path), keep_trailing=0)
        yield cluster
        cluster.close()


def does_not_understand(cluster: Cluster, node_id: str, command: bytes) -> None:
    """Have a node's state machine be of an older release than `command`."""
    machine = cluster.machines[node_id]
    understood = machine.apply

    def apply(index: int, given: bytes) -> object:
        if given == command:
            raise WrongRelease(REASON)
        return understood(index, given)

    machine.apply = apply  # type: ignore[method-assign]


def commit(cluster: Cluster, leader: str, *commands: bytes) -> None:
    outcomes = cluster.propose(leader, *commands)
    cluster.until(lambda: len(outcomes) == len(commands))
    assert {outcome.fate for outcome in outcomes} == {Fate.COMMITTED}
    cluster.run(0.5)


def test_a_node_goes_no_further_than_an_entry_that_it_does_not_understand(cluster: Cluster) -> None:
    leader = cluster.elect()
    old = cluster.followers()[0]
    does_not_understand(cluster, old, b"new")
    commit(cluster, leader, b"x", b"new", b"after")
    assert cluster.machines[old].commands == [b"x"]
    assert cluster.machines[leader].commands == [b"x", b"new", b"after"]
    assert cluster.nodes[old].standing.reason == REASON
    assert not cluster.nodes[old].may_lead
    assert cluster.logs[old].last_index == cluster.logs[leader].last_index, "it keeps the log"


def test_no_change_of_the_members_lets_it_take_part_again(cluster: Cluster) -> None:
    leader = cluster.elect()
    old = cluster.followers()[0]
    does_not_understand(cluster, old, b"new")
    commit(cluster, leader, b"new")
    node = cluster.nodes[leader]
    outcomes: list[Any] = []
    node.membership.add_learner("D", "D:1", node.configuration.version, outcomes.append)
    cluster.until(lambda: outcomes)
    cluster.run(0.5)
    assert cluster.nodes[old].configuration.version == node.configuration.version
    assert cluster.nodes[old].standing.reason == REASON


def test_a_leader_that_does_not_understand_hands_over(cluster: Cluster) -> None:
    leader = cluster.elect()
    does_not_understand(cluster, leader, b"new")
    cluster.propose(leader, b"new")
    cluster.until(lambda: cluster.leader not in {leader, None})
    assert cluster.nodes[leader].standing.reason == REASON


def test_an_entry_of_an_unknown_kind_is_not_skipped(cluster: Cluster) -> None:
    leader = cluster.elect()
    node = cluster.nodes[leader]
    node.post(lambda: node.append_own(b"\x07what is this"))
    cluster.until(lambda: all(n.standing.reason for n in cluster.nodes.values()))
    assert "is of a kind that this release does not know" in node.standing.reason
    assert node.applied_index < node.commit_index


def snapshot_chunks(cluster: Cluster) -> int:
    """How many chunks with data were sent."""
    messages = [message for _, _, message in cluster.network.sent]
    return sum(m["type"] == "snapshot_chunk" and bool(m["data"]) for m in messages)


def test_a_snapshot_that_is_not_understood_is_neither_taken_in_nor_sent_again(
    cluster: Cluster,
) -> None:
    leader = cluster.elect()
    old = cluster.followers()[0]
    commit(cluster, leader, b"x")
    cluster.network.isolate(old)
    commit(cluster, leader, *[b"%d" % number for number in range(50)])
    cluster.nodes[leader].request_snapshot()
    cluster.run(0.5)
    before = list(cluster.machines[old].commands)

    def load(_: str) -> None:
        raise WrongRelease(REASON)

    cluster.machines[old].load = load  # type: ignore[method-assign]
    cluster.network.connect(leader, old)
    cluster.until(lambda: cluster.nodes[old].standing.reason)
    cluster.run(0.5)
    sent = snapshot_chunks(cluster)
    cluster.run(5)
    assert snapshot_chunks(cluster) == sent
    assert cluster.machines[old].commands == before
    assert cluster.nodes[old].standing.reason == REASON
    assert cluster.leader == leader


# -- the end of an upgrade ----------------------------------------------------------------------


class Nodes:
    """Three members as the one that is asked sees them, and its way to propose."""

    def __init__(self, **understands: int) -> None:
        self.level = LEVEL
        self.known = {
            node_id: NodeStatus(
                node_id, reachable=True, version=f"0.{level}.0", level=LEVEL, understands=level
            )
            for node_id, level in understands.items()
        }
        self.proposed: list[Change] = []
        self.silent: set[str] = set()
        self.not_heard_of: set[str] = set()

    @property
    def node_id(self) -> str:
        return "node1"

    request_timeout = 5.0

    def members(self) -> Members:
        return Members(
            3,
            tuple(
                Member(node, f"{node}:1", voter=node != "node3")
                for node in self.known
                if node not in self.not_heard_of
            ),
        )

    def barrier(self, timeout: float) -> None:
        """The node that is asked catches up with the log."""
        self.not_heard_of.clear()

    def status(self) -> NodeStatus:
        own = NodeStatus("node1", reachable=True, understands=LEVEL)
        return dataclasses.replace(self.known.get("node1", own), level=self.level)

    def expect(self, node_id: str) -> Any:
        return Asked(self, node_id)

    def propose(
        self, changes: Sequence[Change], *, request_id: str | None = None, timeout: float
    ) -> Receipt:
        self.proposed += changes
        self.level = changes[0].level
        return Receipt("r", 9, ())

    @property
    def upgrade(self) -> ClusterUpgrade:
        parts: Any = self
        return ClusterUpgrade(parts, parts, parts, parts, parts, parts.barrier)


@dataclass
class Asked:
    """A peer, asked for its status."""

    nodes: Nodes
    node_id: str

    def status(self, timeout: float) -> NodeStatus:
        if self.node_id in self.nodes.silent:
            raise PeerError(f"{self.node_id} cannot be reached")
        return self.nodes.known[self.node_id]


def test_an_upgrade_is_finished_when_all_members_understand_and_stays_so() -> None:
    nodes = Nodes(node1=LEVEL, node2=LEVEL, node3=LEVEL)
    nodes.level = LEVEL - 1
    assert not nodes.upgrade.status().finished
    for _ in range(2):
        assert nodes.upgrade.finish().finished
    assert nodes.proposed == [Raise(LEVEL, "0.1.0")], "a second time changes nothing"


def test_it_is_not_while_a_member_lags_whether_it_is_counted_or_not() -> None:
    nodes = Nodes(node1=NEWER, node2=NEWER, node3=LEVEL)
    with pytest.raises(UpgradeRefused) as refused:
        nodes.upgrade.finish()
    assert str(refused.value) == (
        f"the cluster stays at level {LEVEL}: node3 runs release 0.{LEVEL}.0, which understands "
        f"level {LEVEL} and not {NEWER}: upgrade it"
    )
    assert nodes.proposed == []


def test_it_is_not_while_a_member_does_not_answer() -> None:
    nodes = Nodes(node1=LEVEL, node2=LEVEL, node3=LEVEL)
    nodes.level = LEVEL - 1
    nodes.silent = {"node2"}
    assert [node.error for node in nodes.upgrade.status().nodes] == [
        "",
        "node2 cannot be reached",
        "",
    ]
    with pytest.raises(UpgradeRefused, match=r"node2 does not answer .*: start it, or remove it$"):
        nodes.upgrade.finish()
    assert nodes.proposed == []


def test_the_node_that_is_asked_may_be_the_one_that_lags() -> None:
    nodes = Nodes(node1=LEVEL, node2=NEWER, node3=NEWER)
    with pytest.raises(UpgradeRefused, match="node1 runs release"):
        nodes.upgrade.finish()


def test_a_node_that_lags_behind_the_log_asks_the_members_that_were_added_meanwhile_too() -> None:
    nodes = Nodes(node1=NEWER, node2=NEWER, node3=LEVEL)
    nodes.not_heard_of = {"node3"}
    with pytest.raises(UpgradeRefused, match="node3 runs release"):
        nodes.upgrade.finish()
    assert nodes.proposed == []


def test_only_a_member_is_asked_to_finish_an_upgrade() -> None:
    nodes = Nodes(node2=NEWER, node3=NEWER)
    with pytest.raises(UpgradeRefused, match=r"node1 is not a member: ask one of node2, node3$"):
        nodes.upgrade.finish()


def test_a_learner_that_does_not_understand_the_cluster_is_not_counted() -> None:
    nodes = Nodes(node1=NEWER, node2=NEWER, node3=LEVEL)
    nodes.level = NEWER
    parts: Any = nodes
    with pytest.raises(ChangeRefused, match=f"node3 runs release .* level {LEVEL}, and the clus"):
        MemberChanges(parts, parts, parts, parts).promote("node3")
