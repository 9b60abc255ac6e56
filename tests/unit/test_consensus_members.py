"""Members: P17 to P20, and a node that is removed, moved, or was never added."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from consensus_cluster import CLUSTER, Clock, Cluster, MemoryLog, fake_clock
from pysyncobj.node import Node
from stock_cluster import StockCluster, StockNode

from pickbox.consensus.configuration import Configuration, InvalidConfiguration, Participant
from pickbox.consensus.library import Identity
from pickbox.consensus.messages import Introduction, Origin, VoteReply, to_wire
from pickbox.consensus.options import Hooks
from pickbox.consensus.proposals import Fate
from pickbox.consensus.recovering import NothingToRecover, force_new_cluster
from pickbox.consensus.snapshot_store import SnapshotStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pickbox.consensus.messages import Message
    from pickbox.consensus.proposals import Outcome


@pytest.fixture
def clock() -> Iterator[Clock]:
    with fake_clock() as clock:
        yield clock


@pytest.fixture
def cluster(clock: Clock, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(clock, str(tmp_path))
    yield cluster
    cluster.close()


def change(cluster: Cluster, kind: str, *arguments: str, wait: bool = True) -> Outcome:
    """Ask the leader for a change, against the version in force there."""
    node = cluster.nodes[cluster.elect()]
    outcomes: list[Outcome] = []
    method = getattr(node.membership, kind)
    cluster.until(lambda: node.own_term_is_committed and node.configuration_is_committed)
    method(*arguments, node.configuration.version, outcomes.append)
    if wait:
        cluster.until(lambda: outcomes)
        return outcomes[0]
    cluster.run(0.1)
    return outcomes[0] if outcomes else None  # type: ignore[return-value]


def join(cluster: Cluster, node_id: str) -> None:
    """Start a node that knows nothing, and let it be reached."""
    cluster.start(node_id, joining=True)
    cluster.network.heal()


def test_p17_stock_two_changes_are_under_way_at_once(clock: Clock) -> None:
    stock = StockCluster(clock, dynamicMembershipChange=True)
    leader = stock.elect()
    for follower in stock.followers(leader):
        stock.network.held.add((leader, follower))
    for new in "DE":
        stock.nodes[leader].addNodeToCluster(Node(new))
        stock.run(0.2)
    assert {n.id for n in stock.nodes[leader].otherNodes} >= {"D", "E"}, "neither is committed"


def test_p17_one_change_at_a_time(cluster: Cluster) -> None:
    leader = cluster.elect()
    cluster.run(0.5)
    for follower in cluster.followers():
        cluster.network.held.add((leader, follower))
    node = cluster.nodes[leader]
    first: list[Outcome] = []
    second: list[Outcome] = []
    version = node.configuration.version
    node.membership.add_learner("D", "D:1", version, first.append)
    cluster.run(0.1)
    node.membership.add_learner("E", "E:1", node.configuration.version, second.append)
    cluster.run(0.1)
    assert not first
    assert second[0].fate is Fate.NOT_APPENDED
    assert "not committed yet" in second[0].reason
    assert "E" not in node.configuration.participants


def test_p17_a_change_against_another_version_is_turned_away(cluster: Cluster) -> None:
    node = cluster.nodes[cluster.elect()]
    cluster.run(0.5)
    outcomes: list[Outcome] = []
    node.membership.add_learner("D", "D:1", node.configuration.version - 1, outcomes.append)
    cluster.until(lambda: outcomes)
    assert outcomes[0].fate is Fate.NOT_APPENDED
    assert "look at the members" in outcomes[0].reason


def test_p18_stock_a_change_is_in_force_twice(clock: Clock) -> None:
    stock = StockCluster(clock, dynamicMembershipChange=True)
    leader = stock.nodes[stock.elect()]
    seen: list[bool] = []
    inner = leader.private("doChangeCluster")

    def watched(request: list[object], reverse: bool = False) -> object:
        result = inner(request, reverse)
        seen.append(Node("D") in leader.otherNodes)
        return result

    leader._SyncObj__doChangeCluster = watched
    leader.addNodeToCluster(Node("D"))
    leader.removeNodeFromCluster(Node("D"))
    stock.run(2)
    assert seen == [True, False, True, False], "added and removed, and then again"


def test_p18_a_change_is_in_force_once(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path), "A")
    cluster.crash("A")
    versions: list[int] = []
    cluster.start("A", hooks=Hooks(on_configuration=lambda c, _: versions.append(c.version)))
    assert change(cluster, "add_learner", "D", "D:1").fate is Fate.COMMITTED
    assert change(cluster, "remove", "D").fate is Fate.COMMITTED
    cluster.run(2)
    assert versions == sorted(set(versions))
    cluster.close()


def test_p19_stock_the_constructor_says_who_the_members_are(clock: Clock) -> None:
    stock = StockCluster(clock, dynamicMembershipChange=True)
    leader = stock.elect()
    stock.nodes[leader].addNodeToCluster(Node("D"))
    stock.run(1)
    again = StockNode(leader, "XY", stock.transport, dynamicMembershipChange=True)
    assert {n.id for n in again.otherNodes} == {"X", "Y"}


def test_p19_the_log_says_who_the_members_are(cluster: Cluster) -> None:
    change(cluster, "add_learner", "D", "D:1")
    cluster.run(0.5)
    leader = cluster.elect()
    for node in cluster.nodes.values():
        node.request_snapshot()
    cluster.run(0.5)
    cluster.bootstrap = Configuration(1, "test", {"X": Participant("X:1")})
    for node_id in "ABC":
        cluster.crash(node_id)
        node = cluster.start(node_id)
        assert set(node.configuration.voters) == set("ABC")
        assert set(node.configuration.learners) == {"D"}
        assert {n.id for n in node.otherNodes} == set("ABCD") - {node_id}
    assert leader


def test_p19_a_truncated_change_is_not_in_force_any_more(cluster: Cluster) -> None:
    leader = cluster.elect()
    cluster.run(0.5)
    cluster.network.isolate(leader)
    assert change_on(cluster, leader, "add_learner", "D", "D:1") == []
    assert "D" in cluster.nodes[leader].configuration.learners
    cluster.until(lambda: cluster.leader not in (None, leader))
    cluster.network.heal()
    cluster.run(1)
    assert "D" not in cluster.nodes[leader].configuration.learners
    assert {n.id for n in cluster.nodes[leader].otherNodes} == set("ABC") - {leader}


def test_a_removal_that_is_not_committed_keeps_the_link_to_who_may_undo_it(
    cluster: Cluster,
) -> None:
    leader = cluster.elect()
    cluster.run(0.5)
    cluster.network.isolate(leader)
    removed = cluster.followers()[0]
    node = cluster.nodes[leader]
    assert change_on(cluster, leader, "remove", removed) == []
    assert removed not in node.configuration.voters
    assert {n.id for n in node.otherNodes} == set("ABC") - {leader}


def test_a_member_that_was_away_hears_whom_to_let_in(cluster: Cluster) -> None:
    leader = cluster.elect()
    away, other = cluster.followers()
    cluster.network.isolate(away)
    join(cluster, "D")
    cluster.network.isolate(away)
    assert change(cluster, "add_learner", "D", "D:1").fate is Fate.COMMITTED
    cluster.run(1)
    cluster.network.connect(away, other)
    cluster.run(0.1)
    node = cluster.nodes[away]
    assert "D" not in node.configuration.participants
    assert {n.id: n.places for n in node.otherNodes}["D"] == ("D:1",)
    cluster.network.connect(away, leader)
    cluster.run(0.5)
    assert "D" in node.configuration.learners
    assert change(cluster, "remove", "D").fate is Fate.COMMITTED
    cluster.run(0.5)
    assert {n.id for n in node.otherNodes} == set("ABC") - {away}


def test_a_member_that_was_away_hears_where_another_has_moved(cluster: Cluster) -> None:
    leader = cluster.elect()
    away, other = cluster.followers()
    cluster.network.isolate(away)
    assert change(cluster, "move", leader, "moved:1").fate is Fate.COMMITTED
    cluster.run(0.5)
    cluster.network.connect(away, other)
    cluster.run(0.1)
    node = cluster.nodes[away]
    assert node.configuration.voters[leader].address == f"{leader}:1", "the log has not told it"
    assert {n.id: n.places for n in node.otherNodes}[leader] == ("moved:1",)


def replace_data(cluster: Cluster, node_id: str, away: str) -> None:
    """Remove a voter and have it back as one with an empty data directory, while one is `away`."""
    assert change(cluster, "remove", node_id).fate is Fate.COMMITTED
    cluster.crash(node_id)
    for kept in (cluster.logs, cluster.machines):
        kept.pop(node_id)
    cluster.directory += "/new"
    cluster.start(node_id, joining=True, incarnation=b"new")
    for other in cluster.nodes.keys() - {node_id, away}:
        cluster.network.connect(node_id, other)
    assert change(cluster, "add_learner", node_id, f"{node_id}:1").fate is Fate.COMMITTED
    cluster.run(1)
    assert change(cluster, "promote", node_id).fate is Fate.COMMITTED


def hand_over(cluster: Cluster, to: str) -> None:
    outcomes: list[Outcome] = []
    cluster.nodes[cluster.elect()].handover.transfer(to, 2.0, outcomes.append)
    cluster.until(lambda: outcomes)
    assert outcomes[0].fate is Fate.COMMITTED
    assert cluster.elect() == to


@pytest.fixture
def cluster_of_four(clock: Clock, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(clock, str(tmp_path), "ABCD")
    cluster.elect()
    cluster.run(0.5)
    yield cluster
    cluster.close()


def test_a_voter_that_was_away_follows_a_leader_that_lost_its_data_meanwhile(
    cluster_of_four: Cluster,
) -> None:
    cluster = cluster_of_four
    away, replaced, _ = cluster.followers()
    cluster.network.isolate(away)
    replace_data(cluster, replaced, away)
    hand_over(cluster, replaced)
    cluster.network.connect(away, replaced)
    outcomes = cluster.propose(replaced, b"news")
    cluster.until(lambda: outcomes)
    cluster.until(lambda: cluster.machines[away].commands[-1:] == [b"news"])


def test_a_voter_that_missed_the_first_word_of_such_a_leader_follows_it_too(
    cluster_of_four: Cluster,
) -> None:
    cluster = cluster_of_four
    away, replaced, _ = cluster.followers()
    cluster.network.isolate(away)
    replace_data(cluster, replaced, away)
    hand_over(cluster, replaced)
    first_words = []

    def lost(_: str, receiver: str, message: dict[str, object]) -> bool:
        if receiver == away and message["type"] == "introduction" and not first_words:
            first_words.append(message)
            return True
        return False

    cluster.network.drop = lost
    cluster.network.connect(away, replaced)
    cluster.until(lambda: cluster.nodes[away].configuration.voters[replaced].incarnation == b"new")
    assert first_words


def test_a_vote_counts_only_from_the_data_directory_that_is_in_force(cluster: Cluster) -> None:
    cluster.elect()
    cluster.run(0.5)
    away, other = cluster.followers()
    cluster.network.isolate(away)
    node = cluster.nodes[away]
    members = node.configuration
    voters = {**members.voters, other: Participant(f"{other}:1", b"new")}
    newer = replace(members, version=members.version + 1, voters=voters)
    origin = Origin(b"new", CLUSTER)

    def hear(message: Message) -> None:
        node._SyncObj__onMessageReceived(Node(other), to_wire(message, origin))

    hear(Introduction(node.term, newer.encode()))
    cluster.until(lambda: node.elections._votes)
    held = node.elections.held
    hear(VoteReply(node.term, node.term + 1, True, True))
    assert node.elections._votes == {away}, "its trial goes on"
    assert node.elections.held == held


def change_on(cluster: Cluster, node_id: str, kind: str, *arguments: str) -> list[Outcome]:
    node = cluster.nodes[node_id]
    outcomes: list[Outcome] = []
    getattr(node.membership, kind)(*arguments, node.configuration.version, outcomes.append)
    cluster.run(0.1)
    return outcomes


def test_p20_stock_a_node_that_is_not_there_blocks_the_cluster(clock: Clock) -> None:
    stock = StockCluster(clock, "A", dynamicMembershipChange=True)
    leader = stock.nodes[stock.elect()]
    leader.addNodeToCluster(Node("D"))
    answers: list[int] = []
    leader.op("x", callback=lambda _, reason: answers.append(reason))
    stock.run(20)
    assert answers == []


def test_p20_a_node_that_is_not_there_blocks_nobody(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path), "A")
    assert change(cluster, "add_learner", "D", "D:1").fate is Fate.COMMITTED
    outcomes = cluster.propose("A", b"x")
    cluster.until(lambda: outcomes)
    assert outcomes[0].fate is Fate.COMMITTED
    refused = change(cluster, "promote", "D")
    assert "has not been heard from" in refused.reason
    cluster.close()


def test_a_learner_that_no_longer_answers_gets_no_vote(clock: Clock, tmp_path: Path) -> None:
    """Its data directory may be gone by now, and with it the majority of the two that they are."""
    cluster = Cluster(clock, str(tmp_path), "A")
    assert change(cluster, "add_learner", "D", "D:1").fate is Fate.COMMITTED
    join(cluster, "D")
    cluster.run(0.5)
    cluster.network.drop = lambda sender, *_: sender == "D"
    cluster.run(1)
    assert "does not answer" in change(cluster, "promote", "D").reason
    cluster.network.drop = lambda *_: False
    cluster.run(0.5)
    assert change(cluster, "promote", "D").fate is Fate.COMMITTED
    cluster.close()


def test_p20_a_learner_votes_only_when_it_has_caught_up(cluster: Cluster) -> None:
    leader = cluster.elect()
    many = cluster.propose(leader, *[b"%d" % n for n in range(500)])
    cluster.until(lambda: len(many) == 500)
    assert change(cluster, "add_learner", "D", "D:1").fate is Fate.COMMITTED
    cluster.network.drop = lambda _, to, m: to == "D" and bool(m.get("entries"))
    join(cluster, "D")
    cluster.run(0.5)
    assert "lacks" in change(cluster, "promote", "D").reason
    cluster.network.drop = lambda *_: False
    cluster.run(1)
    assert change(cluster, "promote", "D").fate is Fate.COMMITTED
    cluster.run(1)
    voters = cluster.nodes["D"].configuration.voters
    assert voters["D"] == Participant("D:1", b"D-1")
    assert cluster.machines["D"].commands == cluster.machines[leader].commands
    assert cluster.nodes["D"].entries(1, 1) == cluster.nodes[leader].entries(1, 1)


@pytest.mark.parametrize("ids", ["A", "AB", "ABC", "ABCD"])
def test_a_new_cluster_of_any_size_records_its_data_directories(
    clock: Clock, tmp_path: Path, ids: str
) -> None:
    cluster = Cluster(clock, str(tmp_path), ids)
    leader = cluster.elect()
    outcomes = cluster.propose(leader, b"x")
    cluster.until(lambda: outcomes)
    assert outcomes[0].fate is Fate.COMMITTED
    voters = cluster.nodes[leader].configuration.voters
    assert {n: v.incarnation for n, v in voters.items()} == {n: f"{n}-1".encode() for n in ids}
    cluster.close()


def test_a_cluster_that_grew_from_one_node_bears_the_loss_of_one(
    clock: Clock, tmp_path: Path
) -> None:
    cluster = Cluster(clock, str(tmp_path), "A")
    for node_id in "BC":
        join(cluster, node_id)
        assert change(cluster, "add_learner", node_id, f"{node_id}:1").fate is Fate.COMMITTED
        cluster.run(1)
        assert change(cluster, "promote", node_id).fate is Fate.COMMITTED
    cluster.run(1)
    cluster.crash("A")
    outcomes = cluster.propose(cluster.elect(), b"x")
    cluster.until(lambda: outcomes)
    assert outcomes[0].fate is Fate.COMMITTED
    cluster.close()


def test_a_removed_node_says_so_and_disturbs_nobody(cluster: Cluster) -> None:
    cluster.elect()
    removed = cluster.followers()[0]
    reasons: list[str] = []
    cluster.crash(removed)
    node = cluster.start(removed, hooks=Hooks(on_standing=reasons.append))
    cluster.network.heal()
    cluster.run(0.5)
    assert change(cluster, "remove", removed).fate is Fate.COMMITTED
    cluster.run(3)
    assert "was removed" in reasons[-1]
    assert not node.may_lead
    leader = cluster.elect()
    for member in set("ABC") - {removed}:
        assert removed not in {n.id for n in cluster.nodes[member].otherNodes}
    outcomes = cluster.propose(leader, b"x")
    cluster.until(lambda: outcomes)
    assert cluster.nodes[removed].last_index < outcomes[0].index


def test_a_node_that_was_away_when_it_was_removed_hears_of_it_later(cluster: Cluster) -> None:
    cluster.elect()
    removed = cluster.followers()[0]
    cluster.crash(removed)
    assert change(cluster, "remove", removed).fate is Fate.COMMITTED
    cluster.run(2)
    reasons: list[str] = []
    cluster.start(removed, hooks=Hooks(on_standing=reasons.append))
    cluster.network.heal()
    cluster.run(3)
    assert "was removed" in reasons[-1]


def test_a_leader_that_removes_itself_leads_until_it_is_committed(cluster: Cluster) -> None:
    leader = cluster.elect()
    assert change(cluster, "remove", leader).fate is Fate.COMMITTED
    cluster.run(0.1)
    assert not cluster.nodes[leader].leads
    assert "was removed" in cluster.nodes[leader].standing.reason
    assert cluster.elect() != leader
    assert len(cluster.nodes[cluster.elect()].configuration.voters) == 2


def test_a_node_whose_removal_is_not_committed_leads_until_it_is(
    clock: Clock, tmp_path: Path
) -> None:
    cluster = Cluster(clock, str(tmp_path), "AB")
    leader = cluster.elect()
    cluster.run(0.5)
    (other,) = cluster.followers()
    cluster.network.isolate(leader)
    assert change_on(cluster, leader, "remove", leader) == []
    cluster.until(lambda: not cluster.nodes[leader].leads)
    cluster.network.heal()
    cluster.until(lambda: cluster.leader == other)
    assert set(cluster.nodes[other].configuration.voters) == {other}
    cluster.close()


def test_a_removed_node_comes_back_as_another_data_directory(cluster: Cluster) -> None:
    cluster.elect()
    removed = cluster.followers()[0]
    assert change(cluster, "remove", removed).fate is Fate.COMMITTED
    cluster.run(2)
    cluster.crash(removed)
    for kept in (cluster.logs, cluster.machines):
        kept.pop(removed)
    assert change(cluster, "add_learner", removed, f"{removed}:1").fate is Fate.COMMITTED
    cluster.directory += "/new"
    cluster.start(removed, joining=True, incarnation=b"new")
    cluster.network.heal()
    cluster.run(1)
    assert change(cluster, "promote", removed).fate is Fate.COMMITTED
    cluster.run(1)
    assert cluster.nodes[removed].standing.reason == ""
    assert cluster.nodes[removed].configuration.voters[removed].incarnation == b"new"


def test_a_member_moves_to_another_address(cluster: Cluster) -> None:
    leader = cluster.elect()
    moved = cluster.followers()[0]
    assert change(cluster, "move", moved, "elsewhere:1").fate is Fate.COMMITTED
    places = {n.id: n.places for n in cluster.nodes[leader].otherNodes}
    assert places[moved] == ("elsewhere:1",)


def test_the_last_voter_cannot_be_removed(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path), "A")
    assert "only voter" in change(cluster, "remove", "A").reason
    cluster.close()


def test_a_message_of_another_cluster_is_not_heard(cluster: Cluster) -> None:
    leader = cluster.elect()
    node = cluster.nodes[cluster.followers()[0]]
    wire = {"type": "removed", "term": 99, "version": 99, "incarnation": b"x", "cluster": "other"}
    node._SyncObj__onMessageReceived(Node(leader), wire)
    assert node.standing.reason == ""
    node._SyncObj__onMessageReceived(Node(leader), {**wire, "cluster": "test"})
    assert node.standing.reason == "", "nor one from a data directory that is not recorded"


def test_a_node_that_is_left_alone_goes_on_by_decree(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path), keep_trailing=0)
    leader = cluster.elect()
    outcomes = cluster.propose(leader, b"kept")
    cluster.until(lambda: outcomes)
    cluster.nodes[leader].request_snapshot()
    cluster.run(0.5)
    for node_id in list(cluster.nodes):
        cluster.crash(node_id)
    store = SnapshotStore(f"{tmp_path}/{leader}")
    identity = Identity(leader, f"{leader}-1".encode(), CLUSTER)
    before = force_new_cluster(cluster.logs[leader], store, identity, f"{leader}:1")
    assert set(before.voters) == set("ABC")
    cluster.start(leader)
    assert cluster.elect() == leader
    more = cluster.propose(leader, b"more")
    cluster.until(lambda: more)
    assert cluster.machines[leader].commands == [b"kept", b"more"]
    assert set(cluster.nodes[leader].configuration.voters) == {leader}
    with pytest.raises(NothingToRecover, match="never been told"):
        force_new_cluster(MemoryLog(), SnapshotStore(str(tmp_path / "x")), identity, "a:1")
    cluster.close()


def test_a_configuration_is_read_back_as_it_was_written() -> None:
    written = Configuration(
        7, "c", {"a": Participant("a:1", b"\x00" * 16)}, {"b": Participant("b:1")}
    )
    assert Configuration.decode(written.encode()) == written
    for damaged in (b"", written.encode()[:-1], b"\x93\x01\xa1c\x90", b"\xc1"):
        with pytest.raises(InvalidConfiguration):
            Configuration.decode(damaged)
