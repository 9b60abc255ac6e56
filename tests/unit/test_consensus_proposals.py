"""Proposals and reads: P23 to P25, P28, P44, P45, and that each caller hears exactly once."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

import pytest
from consensus_cluster import Clock, Cluster, fake_clock
from pysyncobj import SyncObj
from pysyncobj.pipe_notifier import PipeNotifier
from pysyncobj.poller import createPoller
from stock_cluster import StockCluster

from pickbox.consensus.applying import Poisoned
from pickbox.consensus.options import Hooks
from pickbox.consensus.proposals import Fate, Outcome, Proposal, Proposals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def clock() -> Iterator[Clock]:
    with fake_clock() as clock:
        yield clock


@pytest.fixture
def cluster(clock: Clock, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(clock, str(tmp_path))
    yield cluster
    cluster.close()


def test_p23_stock_a_poisonous_command_stops_every_node(clock: Clock) -> None:
    stock = StockCluster(clock)
    leader = stock.elect()
    answers: list[object] = []
    stock.nodes[leader].op("poison", callback=lambda *answer: answers.append(answer))
    stock.nodes[leader].op("after", callback=lambda *answer: answers.append(answer))
    stock.run(30)
    assert answers == []
    assert [node.log for node in stock.nodes.values()] == [[], [], []]


def test_p23_a_poisonous_command_is_an_answer(cluster: Cluster) -> None:
    leader = cluster.elect()
    for machine in cluster.machines.values():
        machine.poison.add(b"poison")
    outcomes = cluster.propose(leader, b"poison", b"after")
    cluster.until(lambda: len(outcomes) == 2)
    assert [outcome.fate for outcome in outcomes] == [Fate.COMMITTED] * 2
    assert isinstance(outcomes[0].value, Poisoned)
    cluster.run(0.5)
    assert {tuple(machine.commands) for machine in cluster.machines.values()} == {(b"after",)}


def test_a_disk_that_refuses_loses_no_entry_and_holds_up_no_heartbeat(cluster: Cluster) -> None:
    leader = cluster.elect()
    cluster.machines[leader].refusal = OSError(28, "No space left on device")
    outcomes = cluster.propose(leader, b"x")
    cluster.run(5)
    assert outcomes == []
    assert cluster.leader == leader
    cluster.machines[leader].refusal = None
    cluster.until(lambda: outcomes)
    assert outcomes[0].fate is Fate.COMMITTED


def test_p24_stock_nobody_hears_of_a_lost_answer(clock: Clock) -> None:
    stock = StockCluster(clock)
    leader = stock.elect()
    follower = stock.followers(leader)[0]
    stock.network.drop = lambda _, __, m: m["type"] == "apply_command_response"
    answers: list[object] = []
    stock.nodes[follower].op("x", callback=lambda *answer: answers.append(answer))
    stock.run(30)
    assert answers == []
    assert stock.nodes[leader].log == ["x"], "it was done, and nobody heard"


def test_p24_every_proposal_is_answered_once(cluster: Cluster) -> None:
    leader = cluster.elect()
    follower = cluster.followers()[0]
    refused = cluster.propose(follower, b"not here")
    cluster.step()
    assert [outcome.fate for outcome in refused] == [Fate.NOT_APPENDED]
    cluster.network.isolate(leader)
    unknown = cluster.propose(leader, *[b"%d" % n for n in range(10)])
    cluster.run(3)
    assert [outcome.fate for outcome in unknown] == [Fate.UNKNOWN] * 10
    cluster.network.heal()
    cluster.run(3)
    assert len(unknown) == 10


def test_p24_closing_a_node_answers_all_who_wait(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path))
    leader = cluster.elect()
    node = cluster.nodes.pop(leader)
    outcomes: list[Outcome] = []
    cluster.network.isolate(leader)
    node.propose(b"appended", outcomes.append)
    node.doTick(0.0)
    node.propose(b"queued", outcomes.append)
    node.reads.barrier(outcomes.append)
    node.close()
    node.proposals.submit(Proposal(b"late", outcomes.append))
    fates = sorted(outcome.fate.value for outcome in outcomes)
    assert fates[:2] == ["not appended"] * 2
    assert fates.count("unknown") == 1
    cluster.close()


def test_p24_an_entry_that_another_replaced_is_known_not_to_be_committed() -> None:
    proposals, outcomes = Proposals(), []
    proposals.expect(7, 3, outcomes.append)
    proposals.applied(7, 4, "another's")
    assert [outcome.fate for outcome in outcomes] == [Fate.NOT_APPENDED]


def test_p25_stock_a_command_is_done_a_minute_after_it_was_asked_for(clock: Clock) -> None:
    stock = StockCluster(clock)
    for node_id in stock.nodes:
        stock.network.isolate(node_id)
    answers: list[object] = []
    stock.nodes["A"].op("old", callback=lambda *answer: answers.append(answer))
    stock.run(60)
    assert answers == []
    stock.network.heal()
    stock.run(10)
    assert stock.nodes["B"].log == ["old"], "a minute after it was asked for"


def test_p25_without_a_leader_nothing_is_kept_for_later(cluster: Cluster) -> None:
    cluster.elect()
    follower = cluster.followers()[0]
    cluster.network.isolate(follower)
    cluster.run(2)
    outcomes = cluster.propose(follower, b"old")
    cluster.step()
    assert [outcome.fate for outcome in outcomes] == [Fate.NOT_APPENDED]
    cluster.network.heal()
    cluster.run(3)
    assert not any(b"old" in machine.commands for machine in cluster.machines.values())


SAFE = {"doTick", "conf", "encryptor", "isNodeConnected", "selfNode", "otherNodes", "readonlyNodes",
        "raftCommitIndex", "raftCurrentTerm", "raftLastApplied", "tick_thread_alive", "waitReady",
        "waitBinded"}  # fmt: skip


def test_what_the_library_offers_is_safe_or_refused(cluster: Cluster) -> None:
    node = cluster.nodes["A"]
    offered = {name for name in dir(SyncObj) if not name.startswith("_")}
    assert offered >= SAFE
    assert node.hasQuorum is None
    for name in offered - SAFE - {"hasQuorum"}:
        with pytest.raises(NotImplementedError):
            getattr(node, name)("X")


def test_p28_no_command_is_a_method(cluster: Cluster) -> None:
    assert cluster.nodes["A"]._methodToID == {}


def test_p45_the_queue_holds_what_it_says() -> None:
    answers: list[Outcome] = []
    proposals = Proposals(most=3, most_bytes=100)
    for _ in range(3):
        proposals.submit(Proposal(b"x", answers.append))
    assert answers == []
    proposals.submit(Proposal(b"x", answers.append))
    assert [answer.fate for answer in answers] == [Fate.NOT_APPENDED]
    assert "too many" in answers[0].reason
    proposals.take(3, 100)
    proposals.submit(Proposal(b"x" * 100, answers.append))
    proposals.submit(Proposal(b"x", answers.append))
    assert len(answers) == 2, "bytes are bounded too"


def test_p45_stock_a_full_pipe_fails_the_caller() -> None:
    notifier = PipeNotifier(createPoller("auto"))
    with pytest.raises(BlockingIOError):
        deque((notifier.notify() for _ in range(1 << 20)), maxlen=0)
    os.close(notifier._PipeNotifier__pipeR)
    os.close(notifier._PipeNotifier__pipeW)


def test_a_callback_that_fails_does_not_stop_the_log(cluster: Cluster) -> None:
    leader = cluster.elect()

    def fail(_: Outcome) -> None:
        raise RuntimeError("the caller's own fault")

    cluster.nodes[leader].propose(b"x", fail)
    outcomes = cluster.propose(leader, b"y")
    cluster.until(lambda: outcomes)
    assert outcomes[0].fate is Fate.COMMITTED


def barrier(cluster: Cluster, node_id: str) -> list[Outcome]:
    outcomes: list[Outcome] = []
    cluster.nodes[node_id].reads.barrier(outcomes.append)
    return outcomes


def test_p44_a_barrier_covers_what_was_acknowledged_before(cluster: Cluster) -> None:
    leader = cluster.elect()
    written = cluster.propose(leader, b"x")
    cluster.until(lambda: written)
    read = barrier(cluster, leader)
    cluster.until(lambda: read)
    assert read[0].fate is Fate.COMMITTED
    assert read[0].index >= written[0].index
    assert cluster.nodes[leader].applied_index >= read[0].index


def test_p44_waiting_reads_share_a_round(cluster: Cluster) -> None:
    leader = cluster.elect()
    cluster.run(0.5)
    before = cluster.nodes[leader].appending.round
    reads = [barrier(cluster, leader) for _ in range(50)]
    cluster.until(lambda: all(reads), seconds=0.05)
    assert cluster.nodes[leader].appending.round - before <= 2


def test_p44_a_paused_leader_reads_nothing_old(cluster: Cluster) -> None:
    old = cluster.elect()
    others = "".join(cluster.followers())
    cluster.run(0.5)
    cluster.network.held |= {(other, old) for other in others}  # what comes waits in its socket
    for _ in range(300):
        cluster.step(only=others)
        if any(cluster.nodes[n].leads for n in others):
            break
    new = next(n for n in others if cluster.nodes[n].leads)
    written: list[Outcome] = []
    cluster.nodes[new].propose(b"new", written.append)
    while not written:
        cluster.step(only=others)
    assert cluster.nodes[old].leads, "it has heard nothing yet"
    read = barrier(cluster, old)
    cluster.nodes[old].doTick(0.0)
    assert read == []
    cluster.network.held.clear()
    cluster.run(2)
    assert [outcome.fate for outcome in read] == [Fate.NOT_APPENDED]


def test_p44_a_leader_that_hears_no_majority_answers_no_read(cluster: Cluster) -> None:
    leader = cluster.elect()
    cluster.run(0.5)
    cluster.network.isolate(leader)
    read = barrier(cluster, leader)
    cluster.run(0.3)
    assert read == []
    cluster.run(2)
    assert [outcome.fate for outcome in read] == [Fate.NOT_APPENDED]


def test_a_state_that_differs_is_told_to_the_node_that_has_it(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path), hash_every=10)
    leader = cluster.elect()
    wrong = cluster.followers()[0]
    cluster.crash(wrong)
    told: list[int] = []
    cluster.start(wrong, hooks=Hooks(on_diverged=told.append))
    cluster.network.heal()
    cluster.run(0.5)
    cluster.machines[wrong].applied.append((0, b"not from the log"))
    outcomes = cluster.propose(leader, *[b"%d" % n for n in range(25)])
    cluster.until(lambda: len(outcomes) == 25)
    cluster.run(0.5)
    assert told
    assert all(index % 10 == 0 for index in told)
    assert "differs" in cluster.nodes[wrong].standing.reason
    assert cluster.nodes[leader].standing.reason == ""
    cluster.close()


def test_a_leader_whose_state_differs_leads_no_more(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path), hash_every=10)
    leader = cluster.elect()
    cluster.machines[leader].applied.append((0, b"not from the log"))
    cluster.propose(leader, *[b"%d" % n for n in range(25)])
    cluster.run(3)
    assert "differs" in cluster.nodes[leader].standing.reason
    assert cluster.elect() != leader
    cluster.close()
