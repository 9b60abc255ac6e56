"""Elections and standing: P1, P8, P9, P21, P39, P41, P45, and who may vote and lead."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from consensus_cluster import CLUSTER, Clock, Cluster, fake_clock
from pysyncobj.node import Node
from stock_cluster import StockCluster

from pickbox.consensus.library import Role
from pickbox.consensus.messages import Origin, TimeoutNow, VoteReply, VoteRequest, to_wire
from pickbox.consensus.options import Hooks
from pickbox.consensus.proposals import Fate
from pickbox.consensus.timing import Timing

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


def hear(
    cluster: Cluster, receiver: str, sender: str, message: Message, incarnation: str = "1"
) -> None:
    wire = to_wire(message, Origin(f"{sender}-{incarnation}".encode(), CLUSTER))
    cluster.nodes[receiver]._SyncObj__onMessageReceived(Node(sender), wire)


def said(cluster: Cluster, sender: str, kind: str) -> list[dict[str, object]]:
    return [m for a, _, m in cluster.network.sent if a == sender and m["type"] == kind]


def test_p01_term_and_vote_survive_a_power_cut(cluster: Cluster) -> None:
    leader = cluster.elect()
    follower = cluster.followers()[0]
    term, vote = cluster.nodes[follower].term, cluster.nodes[follower].voted_for
    cluster.crash(follower)
    node = cluster.start(follower)
    assert (node.term, node.voted_for) == (term, vote)
    assert vote is not None
    assert vote.startswith(f"{leader}/")


def test_p01_a_vote_leaves_only_when_it_is_durable(cluster: Cluster) -> None:
    cluster.elect()
    follower, other = cluster.followers()
    cluster.network.isolate(follower)
    cluster.run(2)
    cluster.network.connect(follower, other)
    cluster.network.sent.clear()
    node, log = cluster.nodes[follower], cluster.logs[follower]
    asked = VoteRequest(node.term + 1, 10**6, 10**6, False, True, 1)
    hear(cluster, follower, other, asked)
    assert log.dirty
    assert log._durable[1].term < asked.term
    assert not said(cluster, follower, "vote_reply")
    node.doTick(0.0)
    assert log._durable[1].term == asked.term
    assert [reply["granted"] for reply in said(cluster, follower, "vote_reply")] == [True]


def test_p09_stock_an_isolated_leader_leads_on_for_thirty_seconds(clock: Clock) -> None:
    stock = StockCluster(clock)
    leader = stock.elect()
    stock.network.isolate(leader)
    stock.run(25)
    assert stock.nodes[leader]._isLeader(), "for thirty seconds"


def test_p09_an_isolated_leader_steps_down(cluster: Cluster) -> None:
    leader = cluster.elect()
    node = cluster.nodes[leader]
    cluster.network.isolate(leader)
    cluster.run(node.timing.step_down + 0.2)
    assert not node.leads
    assert node.leader_id is None
    assert cluster.elect() != leader
    cluster.network.heal()
    cluster.run(0.5)
    assert cluster.nodes[leader].leader_id == cluster.leader


def test_p21_stock_a_vote_that_is_heard_twice_counts_twice(clock: Clock) -> None:
    stock = StockCluster(clock, "ABCDE")
    stock.network.links.clear()
    node = stock.nodes["A"]
    stock.run(3, only="A")
    assert node.private("raftState") == Role.CANDIDATE
    reply = {"type": "response_vote", "term": node.raftCurrentTerm}
    node.hear("B", reply)
    node.hear("B", reply)
    assert node._isLeader(), "one node's vote, heard twice"


def test_p21_votes_are_counted_by_node(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path), "ABCDE")
    old = cluster.elect()
    cluster.run(0.5)
    cluster.network.isolate(old)
    node = cluster.nodes[cluster.followers()[0]]
    node.elections._campaign(trial=False)
    other = next(n for n in cluster.nodes if n not in (old, node.node_id))
    for _ in range(3):
        hear(cluster, node.node_id, other, VoteReply(node.term, node.term, False, True))
    assert not node.leads
    hear(cluster, node.node_id, old, VoteReply(node.term, node.term, False, True))
    assert node.leads
    cluster.close()


def test_p21_stock_a_node_that_does_not_hear_the_leader_deposes_it(clock: Clock) -> None:
    stock = StockCluster(clock)
    leader = stock.elect()
    away = stock.followers(leader)[0]
    other = stock.followers(leader)[1]
    stock.network.disconnect(away, leader)
    term = stock.nodes[leader].raftCurrentTerm
    stock.run(6)
    assert stock.nodes[other].raftCurrentTerm > term


def test_p21_a_node_that_comes_back_does_not_depose_the_leader(cluster: Cluster) -> None:
    leader = cluster.elect()
    away = cluster.followers()[0]
    term = cluster.nodes[leader].term
    cluster.network.disconnect(away, leader)
    cluster.run(5)
    assert {n: node.term for n, node in cluster.nodes.items()} == dict.fromkeys("ABC", term)
    cluster.network.isolate(away)
    cluster.run(5)
    cluster.network.heal()
    cluster.run(1)
    assert cluster.leader == leader
    assert {n: node.term for n, node in cluster.nodes.items()} == dict.fromkeys("ABC", term)


def test_p39_a_node_says_what_it_is_at_each_change(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path), "A")
    cluster.crash("A")
    told: list[tuple[Role, int, str | None]] = []
    cluster.start("A", hooks=Hooks(on_role=lambda *role: told.append(role)))
    cluster.elect()
    assert told[0] == (Role.FOLLOWER, 0, None)
    assert told[-1] == (Role.LEADER, 1, "A")
    cluster.close()


def test_p41_the_library_has_no_thread_of_its_own(clock: Clock, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    cluster = Cluster(clock, str(tmp_path))
    cluster.elect()
    node = cluster.nodes["A"]
    assert node._SyncObj__thread is None
    assert not node.conf.autoTick
    assert set(threading.enumerate()) <= before
    cluster.close()


def test_p08_a_wait_ends_at_once_when_there_is_something_to_do(cluster: Cluster) -> None:
    node = cluster.nodes["A"]
    answers: list[Outcome] = []
    began = time.monotonic()
    threading.Timer(0.05, node.propose, (b"x", answers.append)).start()
    node.wait(10.0)
    assert time.monotonic() - began < 5.0


def test_p45_no_number_of_wakes_fails(cluster: Cluster) -> None:
    for _ in range(100_000):  # more than a pipe holds
        cluster.nodes["A"].wake()


def test_who_wakes_a_node_that_has_closed_is_not_failed(cluster: Cluster) -> None:
    """Who stops a node wakes it, and it may have seen already that it is to stop."""
    node = cluster.nodes["A"]
    cluster.crash("A")
    node.wake()


def test_a_paused_follower_hears_before_it_doubts(cluster: Cluster) -> None:
    leader = cluster.elect()
    term = cluster.nodes[leader].term
    paused = cluster.followers()[0]
    cluster.run(5, only="".join(n for n in "ABC" if n != paused))
    cluster.run(1)
    assert cluster.leader == leader
    assert cluster.nodes[paused].term == term


def test_a_follower_that_lacks_entries_is_not_elected(cluster: Cluster) -> None:
    leader = cluster.elect()
    behind, ahead = cluster.followers()
    cluster.network.isolate(behind)
    outcomes = cluster.propose(leader, b"x")
    cluster.until(lambda: outcomes)
    cluster.network.isolate(leader)
    cluster.network.connect(behind, ahead)
    cluster.until(lambda: cluster.leader == ahead)
    cluster.run(0.5)
    assert b"x" in cluster.machines[behind].commands


def test_a_transfer_says_who_leads_now(cluster: Cluster) -> None:
    leader = cluster.elect()
    target = cluster.followers()[1]
    cluster.run(0.5)
    outcomes: list[Outcome] = []
    cluster.nodes[leader].handover.transfer(target, 2.0, outcomes.append)
    cluster.until(lambda: outcomes)
    assert outcomes[0].fate is Fate.COMMITTED
    assert outcomes[0].value == target
    assert cluster.elect() == target


def test_a_transfer_that_fails_says_so_and_leadership_stays(cluster: Cluster) -> None:
    leader = cluster.elect()
    target = cluster.followers()[0]
    cluster.network.drop = lambda _, to, m: to == target and m["type"] == "timeout_now"
    outcomes: list[Outcome] = []
    cluster.nodes[leader].handover.transfer(target, 1.0, outcomes.append)
    cluster.run(0.1)
    held = cluster.propose(leader, b"during")
    cluster.until(lambda: outcomes)
    assert outcomes[0].fate is Fate.NOT_APPENDED
    assert cluster.leader == leader
    cluster.until(lambda: held)
    assert held[0].fate is Fate.COMMITTED
    refused: list[Outcome] = []
    cluster.nodes[leader].handover.transfer("nobody", 1.0, refused.append)
    cluster.nodes[target].handover.transfer(None, 1.0, refused.append)
    cluster.run(0.1)
    reasons = {outcome.reason for outcome in refused}
    assert reasons == {
        "nobody is not a connected voter other than the leader",
        "this node does not lead",
    }


def test_only_the_leader_can_ask_for_a_transfer(cluster: Cluster) -> None:
    cluster.elect()
    one, other = cluster.followers()
    term = cluster.nodes[one].term
    hear(cluster, one, other, TimeoutNow(term))
    cluster.run(0.2)
    assert cluster.nodes[one].term == term


def test_a_new_cluster_starts_only_when_all_of_its_voters_are_there(
    clock: Clock, tmp_path: Path
) -> None:
    cluster = Cluster(clock, str(tmp_path))
    cluster.network.isolate("C")
    cluster.run(5)
    assert cluster.leader is None, "C may be a wiped node, or the other two may"
    cluster.network.heal()
    leader = cluster.elect()
    voters = cluster.nodes[leader].configuration.voters
    assert {n: v.incarnation for n, v in voters.items()} == {n: f"{n}-1".encode() for n in "ABC"}
    cluster.close()


def test_a_wiped_node_does_not_vote_or_count_under_its_old_identity(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    leader = cluster.elect()
    outcomes = cluster.propose(leader, b"precious")
    cluster.until(lambda: outcomes)
    cluster.run(0.5)
    wiped, other = cluster.followers()
    cluster.crash(wiped)
    for kept in (cluster.logs, cluster.machines):
        kept.pop(wiped)
    reasons: list[str] = []
    hooks = Hooks(on_standing=reasons.append)
    cluster.directory += "/wiped"
    cluster.start(wiped, incarnation=b"another", hooks=hooks)
    cluster.network.heal()
    cluster.network.isolate(leader)  # the holder of `precious` that is left is `other`
    cluster.network.isolate(other)
    cluster.network.connect(wiped, other)
    cluster.run(5)
    assert cluster.leader in (None, leader)
    assert not cluster.nodes[wiped].leads
    assert not cluster.nodes[other].leads
    assert reasons
    assert "another data directory" in reasons[-1]
    refusals = [record for record in caplog.records if record.message == "incarnation_refused"]
    assert 1 <= len(refusals) <= 2, "each of the others says so once"


def test_an_unwell_state_machine_keeps_a_node_from_leading(cluster: Cluster) -> None:
    leader = cluster.elect()
    sick = cluster.followers()[0]
    cluster.machines[sick].refusal = OSError(28, "No space left on device")
    outcomes = cluster.propose(leader, b"x", b"y")
    cluster.until(lambda: len(outcomes) == 2)
    cluster.run(1)
    assert not cluster.nodes[sick].may_lead
    cluster.machines[sick].refusal = None
    cluster.until(lambda: cluster.machines[sick].commands == [b"x", b"y"])
    assert cluster.nodes[sick].may_lead


@pytest.mark.parametrize(
    ("heartbeat", "shortest", "longest", "says"),
    [
        (0.0, 1.0, 2.0, "heartbeat"),
        (0.1, 0.2, 0.6, "election_min"),
        (0.1, 0.4, 0.5, "election_max"),
    ],
)
def test_timeouts_that_do_not_fit_together_are_refused(
    heartbeat: float, shortest: float, longest: float, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Timing(heartbeat, shortest, longest)
