"""Appends: P6, P11 to P13, P15, P16, P33 and P43, in pysyncobj and mended."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from consensus_cluster import CLUSTER, Clock, Cluster, MemoryLog, fake_clock
from pysyncobj.journal import FileJournal
from pysyncobj.node import Node
from stock_cluster import StockCluster

from pickbox.consensus.following import LogContradiction
from pickbox.consensus.messages import Append, AppendReply, Origin, to_wire
from pickbox.consensus.proposals import Fate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pickbox.consensus.messages import Message


@pytest.fixture
def clock() -> Iterator[Clock]:
    with fake_clock() as clock:
        yield clock


@pytest.fixture
def cluster(clock: Clock, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(clock, str(tmp_path))
    yield cluster
    cluster.close()


def hear(cluster: Cluster, receiver: str, sender: str, message: Message) -> None:
    wire = to_wire(message, Origin(f"{sender}-1".encode(), CLUSTER))
    cluster.nodes[receiver]._SyncObj__onMessageReceived(Node(sender), wire)


def commit(cluster: Cluster, count: int) -> str:
    leader = cluster.elect()
    outcomes = cluster.propose(leader, *[b"c%d" % n for n in range(count)])
    cluster.until(lambda: len(outcomes) == count)
    assert {outcome.fate for outcome in outcomes} == {Fate.COMMITTED}
    cluster.run(0.5)
    return leader


def test_p06_an_answer_to_a_forwarded_command_is_no_message(cluster: Cluster) -> None:
    leader = commit(cluster, 3)
    before = cluster.machines[leader].commands
    wire = {"type": "apply_command_response", "request_id": 1, "log_idx": 2, "log_term": 1}
    cluster.nodes[leader]._SyncObj__onMessageReceived(Node(cluster.followers()[0]), wire)
    cluster.run(0.2)
    assert cluster.machines[leader].commands == before
    assert cluster.leader == leader


def test_p11_stock_a_snapshot_on_its_way_commits_what_nobody_else_has(clock: Clock) -> None:
    stock = StockCluster(
        clock, logCompactionMinEntries=20, logCompactionMinTime=10**9, logCompactionBatchSize=64
    )
    old = stock.elect()
    stock.network.isolate(old)
    answers: list[tuple[object, int]] = []
    for n in range(10):
        stock.nodes[old].op(("lost", n), callback=lambda *answer: answers.append(answer))
    stock.run(8)
    new = next(n for n in stock.followers(old) if stock.nodes[n]._isLeader())
    for n in range(60):
        stock.nodes[new].op(("kept", n))
    stock.run(3)
    stock.nodes[new].forceLogCompaction()
    stock.run(1)
    follower = stock.nodes[old]
    snapshot = {"type": "append_entries", "term": stock.nodes[new].raftCurrentTerm}
    follower.hear(new, {**snapshot, "commit_index": 60, "serialized": (b"part", True, False)})
    stock.run(0.1, only=old)
    assert [reason for _, reason in answers] == [0] * 10, "ten writes that nobody else has"


def test_p11_a_snapshot_on_its_way_commits_nothing(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path), snapshot_every=20, keep_trailing=0)
    old = commit(cluster, 3)
    applied: list[bytes] = []
    apply = cluster.machines[old].apply

    def watched(index: int, command: bytes) -> object:
        applied.append(command)
        return apply(index, command)

    cluster.machines[old].apply = watched  # type: ignore[method-assign]
    cluster.network.isolate(old)
    lost = cluster.propose(old, *[b"lost%d" % n for n in range(10)])
    cluster.until(lambda: cluster.leader not in (None, old))
    new = cluster.elect()
    kept = cluster.propose(new, *[b"kept%d" % n for n in range(60)])
    cluster.until(lambda: len(kept) == 60)
    cluster.run(1)
    cluster.network.heal()
    cluster.until(lambda: cluster.machines[old].commands == cluster.machines[new].commands)
    cluster.until(lambda: len(lost) == 10)
    assert Fate.COMMITTED not in {outcome.fate for outcome in lost}
    assert not [command for command in applied if command.startswith(b"lost")]
    assert any(m["type"] == "snapshot_chunk" for _, _, m in cluster.network.sent)
    cluster.close()


def test_p12_stock_a_late_duplicate_truncates_what_was_acknowledged(clock: Clock) -> None:
    stock = StockCluster(clock)
    leader = stock.elect()
    for n in range(5):
        stock.nodes[leader].op(n)
    stock.run(1)
    follower = stock.nodes[stock.followers(leader)[0]]
    last = follower.last_index
    entries = list(follower.private("raftLog")[1:3])
    late = {"type": "append_entries", "term": follower.raftCurrentTerm, "commit_index": last}
    follower.hear(leader, {**late, "entries": entries, "prevLogIdx": 1, "prevLogTerm": 0})
    assert follower.last_index == 3 < last, "a late duplicate truncates what was acknowledged"


def test_p12_matching_entries_are_kept(cluster: Cluster) -> None:
    leader = commit(cluster, 5)
    follower = cluster.followers()[0]
    node = cluster.nodes[follower]
    last = node.last_index
    entries = [[term, command] for command, _, term in node.entries(2, 2)]
    hear(cluster, follower, leader, Append(node.term, 1, 0, entries, last, 10**6))
    assert node.last_index == last
    cluster.network.sent.clear()
    cluster.step()
    replies = [m for a, _, m in cluster.network.sent if a == follower]
    assert replies[0]["match_index"] == 3, "what was compared is acknowledged, and no more"


def test_p12_matching_entries_are_kept_before_they_are_committed(cluster: Cluster) -> None:
    leader = commit(cluster, 5)
    follower, other = cluster.followers()
    node = cluster.nodes[follower]
    committed = node.commit_index
    cluster.network.isolate(other)
    cluster.network.held.add((follower, leader))
    cluster.propose(leader, *[b"u%d" % n for n in range(5)])
    cluster.until(lambda: node.last_index == committed + 5)
    cluster.run(0.05)
    assert node.commit_index == committed
    entries = [[term, command] for command, _, term in node.entries(committed + 1, 2)]
    previous_term = node.term_at(committed) or 0
    hear(
        cluster,
        follower,
        leader,
        Append(node.term, committed, previous_term, entries, committed, 1),
    )
    assert node.last_index == committed + 5, "a late duplicate cuts nothing off"


def test_p12_a_conflict_truncates_only_what_is_not_committed(cluster: Cluster) -> None:
    leader = commit(cluster, 5)
    follower = cluster.followers()[0]
    node = cluster.nodes[follower]
    cluster.nodes[follower].commit_index = 3
    term = node.term + 1
    hear(
        cluster, follower, leader, Append(term, 4, node.term_at(4) or 0, [[term, b"\x00new"]], 3, 1)
    )
    assert node.last_index == 5
    assert node.entries(5, 1) == [(b"\x00new", 5, term)]
    node.commit_index = 5
    wrong = Append(term + 1, 4, node.term_at(4) or 0, [[term + 1, b"\x00other"]], 3, 1)
    hear(cluster, follower, leader, wrong)
    assert node.entries(5, 1) == [(b"\x00new", 5, term)], "what is committed matches by proof"


def test_p12_replacing_a_committed_entry_stops_the_node(cluster: Cluster) -> None:
    commit(cluster, 5)
    node = cluster.nodes[cluster.followers()[0]]
    with pytest.raises(LogContradiction, match="stop this node"):
        node.following._replace_from(node.commit_index, [[9, b"\x00x"]])


def test_p13_stock_compaction_of_a_truncated_log_ends_a_node_for_good(clock: Clock) -> None:
    stock = StockCluster(clock)
    leader = stock.elect()
    for n in range(20):
        stock.nodes[leader].op(n)
    stock.run(1)
    node = stock.nodes[stock.followers(leader)[0]]
    node.private("deleteEntriesFrom")(10)  # what P12 does
    node.private("deleteEntriesTo")(20)
    stock.run(1)
    assert {type(error) for error in stock.errors} == {IndexError}
    assert node.private("raftLog")[:] == [], "and so in every tick to come"


def test_p13_compaction_leaves_a_log_to_go_on_with(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path), keep_trailing=0)
    leader = commit(cluster, 20)
    for node in cluster.nodes.values():
        node.request_snapshot()
    cluster.run(0.5)
    assert {len(log) for log in cluster.logs.values()} == {0}
    outcomes = cluster.propose(leader, b"after")
    cluster.until(lambda: outcomes)
    assert outcomes[0].fate is Fate.COMMITTED
    cluster.crash(leader)
    assert cluster.elect() != leader
    cluster.close()


def test_p15_stock_an_ack_of_any_leadership_is_believed(clock: Clock) -> None:
    stock = StockCluster(clock)
    leader = stock.elect()
    node, follower = stock.nodes[leader], stock.followers(leader)[0]
    ack = {"type": "next_node_idx", "next_node_idx": 1000, "reset": False, "success": True}
    node.hear(follower, ack)
    assert node.private("raftMatchIndex")[Node(follower)] == 999


def test_p15_acks_of_an_earlier_leadership_are_not_believed(cluster: Cluster) -> None:
    leader = commit(cluster, 5)
    node, follower = cluster.nodes[leader], cluster.followers()[0]
    cluster.network.held.add((follower, leader))
    cluster.propose(leader, b"more")
    cluster.step()
    matched = node.appending.peers[follower].match_index
    late = AppendReply(node.term - 1, node.last_index, -1, 0, 1, 0, b"")
    hear(cluster, leader, follower, late)
    assert node.appending.peers[follower].match_index == matched < node.last_index
    impossible = AppendReply(node.term, node.last_index + 1, -1, 0, 1, 0, b"")
    hear(cluster, leader, follower, impossible)
    assert node.appending.peers[follower].match_index == matched


def test_p16_stock_the_commit_index_exceeds_the_log(clock: Clock, tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    journal = FileJournal(path)
    journal.setRaftCommitIndex(32)
    journal.onOneSecondTimer()
    journal._destroy()
    stock = StockCluster(clock, "A", journalFile=path)
    assert stock.nodes["A"].raftCommitIndex == 32
    assert stock.nodes["A"].last_index == 1


def test_p16_the_commit_index_never_exceeds_the_log(cluster: Cluster) -> None:
    leader = commit(cluster, 5)
    follower = cluster.followers()[0]
    cluster.crash(follower)
    cluster.logs[follower].commit_hint = 10**6
    node = cluster.start(follower)
    assert node.commit_index == node.last_index
    assert leader == cluster.leader


def test_p33_stock_the_end_of_a_large_entry_is_taken_for_whole(clock: Clock) -> None:
    stock = StockCluster(clock)
    leader = stock.elect()
    for size in range(2**17 - 200, 2**17 + 100, 11):
        stock.nodes[leader].op(b"x" * size)
        stock.run(0.5)
    assert stock.errors, "the end of an entry is taken for whole"


def test_p33_an_entry_larger_than_a_batch_arrives_whole(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path), batch_bytes=100)
    leader = cluster.elect()
    sizes = [*range(90, 110), 1000, 100_000]
    outcomes = cluster.propose(leader, *[b"x" * size for size in sizes])
    cluster.until(lambda: len(outcomes) == len(sizes))
    cluster.run(1)
    for machine in cluster.machines.values():
        assert [len(command) for command in machine.commands] == sizes
    assert all(len(m.get("entries", [])) <= 100 for _, _, m in cluster.network.sent)
    cluster.close()


def test_p43_a_command_takes_its_own_length_in_the_log(cluster: Cluster) -> None:
    leader = cluster.elect()
    command = bytes(range(256)) * 16
    outcomes = cluster.propose(leader, command)
    cluster.until(lambda: outcomes)
    node = cluster.nodes[leader]
    assert node.entries(outcomes[0].index, 1)[0][0] == b"\x00" + command


def test_an_append_that_does_not_fit_is_refused_with_a_place_to_go_on(cluster: Cluster) -> None:
    leader = commit(cluster, 5)
    follower = cluster.followers()[0]
    cluster.network.isolate(follower)
    more = cluster.propose(leader, *[b"m%d" % n for n in range(500)])
    cluster.until(lambda: len(more) == 500)
    cluster.network.heal()
    cluster.run(0.5)
    assert cluster.machines[follower].commands == cluster.machines[leader].commands


def test_one_sync_a_tick_serves_all_proposals_and_an_idle_node_does_none(cluster: Cluster) -> None:
    leader = commit(cluster, 1)
    before = {n: log.syncs for n, log in cluster.logs.items()}
    outcomes = cluster.propose(leader, *[b"%d" % n for n in range(64)])
    cluster.until(lambda: len(outcomes) == 64)
    cluster.run(5)
    assert {n: log.syncs - before[n] for n, log in cluster.logs.items()} == dict.fromkeys("ABC", 1)


def test_nothing_is_promised_before_the_log_is_durable(cluster: Cluster) -> None:
    leader = commit(cluster, 1)
    follower = cluster.followers()[0]
    cluster.logs[follower].fail_next_sync = OSError(5, "Input/output error")
    cluster.network.sent.clear()
    cluster.propose(leader, b"x")
    with pytest.raises(OSError, match="Input/output"):
        cluster.run(1)
    assert not [m for a, _, m in cluster.network.sent if a == follower]


def count_reads(patch: pytest.MonkeyPatch, clock: Clock) -> list[int]:
    """How many entries each read of a log returns from now on. Each takes a millisecond."""
    reads: list[int] = []

    def read(log: MemoryLog, position: slice) -> list[tuple[bytes, int, int]]:
        found = log._entries[position]
        reads.append(len(found))
        clock.now += 0.001 * len(found)
        return found

    patch.setattr(MemoryLog, "__getitem__", read)
    return reads


def test_a_backlog_is_not_read_again_in_each_tick(
    cluster: Cluster, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large entries come from the disk, and a tick has time for a few."""
    leader = commit(cluster, 3)
    behind = cluster.followers()[0]
    cluster.machines[behind].refusal = OSError(errno.EIO, "refused")
    outcomes = cluster.propose(leader, *[b"c%d" % n for n in range(200)])
    cluster.until(lambda: len(outcomes) == 200)
    cluster.run(1)
    cluster.machines[behind].refusal = None
    clock.now += 1  # it is time to try again
    applied = cluster.nodes[behind].applied_index
    reads = count_reads(monkeypatch, clock)
    cluster.nodes[behind].applying.run()
    assert cluster.nodes[behind].applied_index - applied > 16
    assert sum(reads) <= cluster.nodes[behind].applied_index - applied + 8


def test_an_append_reads_hardly_more_than_it_holds(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(clock, str(tmp_path), batch_bytes=1000)
    leader = commit(cluster, 3)
    outcomes = cluster.propose(leader, *[b"x" * 300] * 200)
    cluster.until(lambda: len(outcomes) == 200)
    cluster.run(1)
    reads = count_reads(monkeypatch, clock)
    entries, _ = cluster.nodes[leader].appending._batch(10)
    assert len(entries) == 3
    assert sum(reads) <= 8
    cluster.close()
