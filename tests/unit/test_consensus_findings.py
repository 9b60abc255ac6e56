"""The other findings on the core: P5, P6, P8, P10, P14, P26 to P28, P34, P36 to P41 and P44."""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from consensus_cluster import Clock, Cluster, ListMachine, fake_clock
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated
from pysyncobj import journal as library_journal
from pysyncobj import pickle as library_pickle
from pysyncobj.config import SERIALIZER_STATE
from pysyncobj.node import Node
from pysyncobj.serializer import Serializer
from stock_cluster import StockCluster, StockNode

from pickbox.consensus.library import Role
from pickbox.consensus.options import Hooks
from pickbox.consensus.proposals import Fate
from pickbox.consensus.snapshot_store import SnapshotDamaged, SnapshotStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pickbox.consensus.proposals import Outcome


@pytest.fixture
def clock() -> Iterator[Clock]:
    with fake_clock() as clock:
        yield clock


@pytest.fixture
def cluster(clock: Clock, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(clock, str(tmp_path), keep_trailing=0)
    yield cluster
    cluster.close()


def commit(cluster: Cluster, *commands: bytes) -> list[Outcome]:
    outcomes = cluster.propose(cluster.elect(), *commands)
    cluster.until(lambda: len(outcomes) == len(commands))
    cluster.run(0.5)
    return outcomes


def test_p05_a_cluster_lives_without_unpickling_anything(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something is unpickled")

    for module in (library_pickle, library_journal):
        monkeypatch.setattr(module, "loads", refuse)
    monkeypatch.setattr(library_pickle, "load", refuse)
    leader = cluster.elect()
    behind = cluster.followers()[0]
    cluster.network.isolate(behind)
    commit(cluster, *[b"%d" % n for n in range(50)])
    cluster.nodes[leader].request_snapshot()
    cluster.run(0.5)
    cluster.network.heal()
    cluster.until(lambda: len(cluster.machines[behind].commands) == 50)
    added: list[Outcome] = []
    node = cluster.nodes[leader]
    node.membership.add_learner("D", "D:1", node.configuration.version, added.append)
    cluster.until(lambda: added)
    assert added[0].fate is Fate.COMMITTED


def test_p06_stock_who_hears_late_that_a_command_was_taken_never_hears_what_it_did(
    clock: Clock,
) -> None:
    stock = StockCluster(clock)
    leader = stock.elect()
    follower = stock.followers(leader)[0]
    late: list[dict[str, Any]] = []

    def hold_back(_: str, __: str, message: dict[str, Any]) -> bool:
        if message["type"] == "apply_command_response":
            late.append(message)
        return message in late

    stock.network.drop = hold_back
    answers: list[tuple[object, int]] = []
    stock.nodes[follower].op("x", callback=lambda *answer: answers.append(answer))
    stock.run(2)
    assert stock.nodes[follower].log == ["x"]
    stock.nodes[follower].hear(leader, late[0])
    assert answers == [(None, FAIL_REASON.UNKNOWN_OUTCOME)], "an assertion until 0.3.14"


def test_p08_stock_a_command_waits_for_the_tick_to_end(clock: Clock) -> None:
    node = StockCluster(clock, "A").nodes["A"]
    began = time.monotonic()
    threading.Timer(0.01, node.op, ("x",)).start()
    node.doTick(0.5)
    assert time.monotonic() - began >= 0.5


def test_p08_a_command_is_committed_within_a_round_trip(cluster: Cluster) -> None:
    leader = cluster.elect()
    cluster.run(0.5)
    outcomes = cluster.propose(leader, b"x")
    cluster.step()  # appended and sent
    cluster.step()  # taken in and answered
    cluster.step()  # counted
    assert outcomes[0].fate is Fate.COMMITTED


def test_p10_stock_a_node_whose_dump_is_damaged_votes_and_applies_nothing(
    clock: Clock, tmp_path: Path
) -> None:
    stock = StockCluster(clock, directory=tmp_path)
    leader = stock.elect()
    for n in range(20):
        stock.nodes[leader].op(n)
    stock.run(1)
    follower, other = stock.followers(leader)
    stock.compact(follower)
    stock.kill(follower)
    (tmp_path / f"{follower}.dump").write_bytes(b"damaged")
    node = stock.restart(follower)
    stock.network.isolate(other)
    stock.network.connect(leader, follower)
    answers: list[tuple[object, int]] = []
    stock.nodes[leader].op("after", callback=lambda *answer: answers.append(answer))
    stock.run(10)
    assert answers == [("after", 0)], "acknowledged by the damaged node"
    assert (node.raftLastApplied, node.log) == (1, [])


def test_p10_a_node_whose_snapshot_is_damaged_does_not_start(cluster: Cluster) -> None:
    commit(cluster, b"x", b"y")
    follower = cluster.followers()[0]
    cluster.nodes[follower].request_snapshot()
    cluster.run(0.5)
    cluster.crash(follower)
    cluster.machines[follower] = ListMachine()
    store = SnapshotStore(f"{cluster.directory}/{follower}")
    assert store.latest is not None
    with open(store.data_path(store.latest), "r+b") as data:
        data.write(b"?")
    with pytest.raises(SnapshotDamaged, match="add it to the cluster again"):
        cluster.start(follower)


def test_p14_stock_a_dump_newer_than_the_journal_clears_it(clock: Clock, tmp_path: Path) -> None:
    stock = StockCluster(clock, directory=tmp_path)
    leader = stock.elect()
    follower = stock.followers(leader)[0]
    for n in range(50):
        stock.nodes[leader].op(n)
    stock.run(1)
    # The crash comes between the rename of the dump and the cut of the journal.
    stock.nodes[follower].private("raftLog").deleteEntriesTo = lambda _: None
    stock.compact(follower)
    for n in range(50, 100):
        stock.nodes[leader].op(n)
    stock.run(1)
    acknowledged = stock.nodes[follower].last_index
    stock.kill(follower)
    node = stock.restart(follower)
    assert node.last_index == acknowledged
    node.doTick()
    assert acknowledged - node.last_index == 50


class Upgraded(StockNode):
    """`StockNode` with a second version of its method."""

    @replicated(ver=1)
    def op(self, value: Any) -> Any:
        self.log.append(("v1", value))
        return value


def test_p26_stock_a_node_that_was_not_upgraded_applies_a_command_twice(clock: Clock) -> None:
    stock = StockCluster(clock, kinds={"A": Upgraded, "B": Upgraded})
    stock.elect()
    stock.nodes["A"].op(1)
    stock.run(1)
    stock.nodes["A"].setCodeVersion(1)
    stock.run(1)
    for value in (2, 3):
        stock.nodes["C"].op(value)
    stock.run(2)
    assert stock.nodes["C"].log == [1, 2, 3, 3]


@pytest.mark.parametrize("kind", [b"\x01", b"\x02"])
def test_p26_every_entry_counts_once_whatever_its_kind(kind: bytes, cluster: Cluster) -> None:
    node = cluster.nodes[cluster.elect()]
    commit(cluster, b"before")
    index = node.last_index + 1
    if kind == b"\x02":
        kind += node.configuration.encode()
    node.append_own(kind)
    commit(cluster, b"after")
    assert node.entries(index, 1)[0][0] == kind
    for machine in cluster.machines.values():
        assert machine.commands == [b"before", b"after"]
        assert machine.applied[-1][0] == index + 1


@pytest.mark.parametrize("kind", [b"\x03", b"\x7f", b""])
def test_p26_a_node_stops_before_an_entry_that_it_does_not_understand(
    kind: bytes, cluster: Cluster
) -> None:
    node = cluster.nodes[cluster.elect()]
    commit(cluster, b"before")
    index = node.last_index + 1
    node.append_own(kind)
    cluster.propose(node.node_id, b"after")
    cluster.run(1)
    assert node.entries(index, 1)[0][0] == kind
    assert "does not know" in node.standing.reason
    for name, machine in cluster.machines.items():
        assert machine.commands == [b"before"]
        assert cluster.nodes[name].applied_index == index - 1


def test_p27_stock_a_snapshot_forgets_which_version_is_enabled(
    clock: Clock, tmp_path: Path
) -> None:
    stock = StockCluster(clock, directory=tmp_path, kinds=dict.fromkeys("ABC", Upgraded))
    stock.elect()
    stock.nodes["A"].setCodeVersion(1)
    stock.run(1)
    stock.nodes["A"].op(1)
    stock.run(1)
    assert stock.nodes["A"]._getFuncName("op") == "op_v1"
    stock.compact("A")
    stock.kill("A")
    node = stock.restart("A")
    node.doTick()
    assert node._getFuncName("op") == "op_v0"


def test_p27_a_command_means_the_same_before_and_after_a_snapshot(cluster: Cluster) -> None:
    commit(cluster, b"\x01command")
    for node_id in "ABC":
        cluster.nodes[node_id].request_snapshot()
    cluster.run(0.5)
    for node_id in "ABC":
        cluster.crash(node_id)
        cluster.machines[node_id] = ListMachine()
    for node_id in "ABC":
        cluster.start(node_id)
    cluster.network.heal()
    commit(cluster, b"\x01command")
    for machine in cluster.machines.values():
        assert machine.commands == [b"\x01command", b"\x01command"]


class Extended(StockNode):
    """`StockNode` with one more method, whose name comes first."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.amended: list[Any] = []
        super().__init__(*arguments, **settings)

    @replicated
    def amend(self, value: Any) -> None:
        self.amended.append(value)


def test_p28_stock_one_more_method_gives_commands_to_another(clock: Clock) -> None:
    stock = StockCluster(clock, kinds={"B": Extended})
    stock.elect()
    stock.nodes["A"].op("x")
    stock.run(1)
    node = stock.nodes["B"]
    assert isinstance(node, Extended)
    assert (node.log, node.amended) == ([], ["x"])


def test_p34_stock_a_dump_that_cannot_be_read_fails_every_tick(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = StockCluster(clock, directory=tmp_path)
    leader = stock.elect()
    behind = stock.followers(leader)[0]
    stock.network.isolate(behind)
    for n in range(20):
        stock.nodes[leader].op(n)
    stock.run(1)
    stock.compact(leader)
    monkeypatch.setattr("pysyncobj.serializer.open", Unreadable, raising=False)
    stock.errors.clear()
    stock.network.connect(leader, behind)
    stock.run(1)
    assert len(stock.errors) > 5
    assert {type(error) for error in stock.errors} == {TypeError}


class Unreadable:
    """A file on a disk that fails."""

    def __init__(self, *_: object) -> None: ...

    def seek(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def read(self, *_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_p34_where_a_leader_cannot_read_its_snapshot_another_one_serves(
    cluster: Cluster,
) -> None:
    leader = cluster.elect()
    cluster.run(0.5)
    behind = cluster.followers()[0]
    cluster.network.isolate(behind)
    commit(cluster, *[b"%d" % n for n in range(20)])
    for node in cluster.nodes.values():
        node.request_snapshot()
    cluster.run(0.5)
    cluster.nodes[leader].snapshot_sender._store.open = Unreadable  # type: ignore[method-assign]
    cluster.network.heal()
    cluster.until(lambda: len(cluster.machines[behind].commands) == 20)
    assert cluster.leader not in (None, leader)


def test_p36_stock_a_leader_that_writes_its_dump_is_deposed(clock: Clock, tmp_path: Path) -> None:
    def write_for_two_seconds(path: str, _: object) -> None:
        clock.now += 2.0
        (tmp_path / os.path.basename(path)).write_bytes(b"dump")

    stock = StockCluster(
        clock,
        fullDumpFile=str(tmp_path / "dump"),
        serializer=write_for_two_seconds,
        deserializer=lambda _: pytest.fail("nobody loads it"),
    )
    leader = stock.elect()
    stock.run(2)
    term = stock.nodes[leader].raftCurrentTerm
    stock.nodes[leader].forceLogCompaction()
    stock.run(1)
    assert stock.nodes[leader].raftCurrentTerm > term


def test_p36_stock_a_dump_that_is_written_aside_is_valid_before_it_is_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "dump"

    def begin(name: str, _: object) -> None:
        (tmp_path / os.path.basename(name)).write_bytes(b"the first half")

    def state() -> int:
        return SERIALIZER_STATE.SERIALIZING

    Serializer(str(path), 1 << 16, True, begin, None, state).serialize((None, 2, 1, []), 1)
    assert path.read_bytes() == b"the first half"


def test_p37_stock_a_process_with_threads_is_forked(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[int] = []

    def fork() -> int:
        running.append(threading.active_count())
        return 2**22 + 1  # no process has this number

    monkeypatch.setattr(os, "fork", fork)
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    stock = StockCluster(clock, "A", directory=tmp_path)
    stock.settings["useFork"] = True
    stock.directory = None
    stock.settings["fullDumpFile"] = str(tmp_path / "dump")
    stock.kill("A")
    stock.restart("A")
    stock.elect()
    stock.compact("A")
    done.set()
    other.join()
    assert running
    assert min(running) > 1


def test_p37_nothing_is_forked(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a process with threads is forked"))
    commit(cluster, b"x")
    for node in cluster.nodes.values():
        node.request_snapshot()
    cluster.run(0.5)
    assert {len(log) for log in cluster.logs.values()} == {0}


def test_p38_stock_a_follower_that_lacks_three_entries_needs_the_whole_dump(
    clock: Clock, tmp_path: Path
) -> None:
    stock = StockCluster(clock, directory=tmp_path)
    leader = stock.elect()
    behind = stock.followers(leader)[0]
    stock.network.isolate(behind)
    for n in range(3):
        stock.nodes[leader].op(n)
    stock.run(1)
    stock.compact(leader)
    assert len(stock.nodes[leader].private("raftLog")) == 2
    stock.network.connect(leader, behind)
    stock.network.sent.clear()
    stock.run(2)
    assert any(m.get("serialized") for _, to, m in stock.network.sent if to == behind)


def test_p39_stock_a_node_that_hears_nobody_is_ready_and_has_a_quorum(clock: Clock) -> None:
    stock = StockCluster(clock)
    leader = stock.elect()
    deaf = stock.followers(leader)[0]
    node = stock.nodes[deaf]
    for other in stock.followers(deaf):
        stock.network.held |= {(deaf, other), (other, deaf)}
    stock.run(60)
    assert node.isReady()
    assert node.hasQuorum


def test_p39_a_node_that_hears_nobody_says_that_it_has_no_leader(
    clock: Clock, tmp_path: Path
) -> None:
    cluster = Cluster(clock, str(tmp_path))
    told: dict[str, str | None] = {}
    for node_id in "ABC":
        cluster.crash(node_id)
        hooks = Hooks(on_role=lambda _, __, leader, n=node_id: told.update({n: leader}))
        cluster.start(node_id, hooks=hooks)
    cluster.network.heal()
    leader = cluster.elect()
    cluster.run(0.5)
    assert told == dict.fromkeys("ABC", leader)
    deaf = cluster.followers()[0]
    for other in set("ABC") - {deaf}:
        cluster.network.held |= {(deaf, other), (other, deaf)}
    cluster.run(cluster.nodes[deaf].timing.election_max + 0.1)
    assert told[deaf] is None
    assert cluster.nodes[deaf].is_connected(leader), "its links look well"
    cluster.close()


def test_p40_stock_a_look_at_the_status_fails_when_the_tick_thread_moves(clock: Clock) -> None:
    stock = StockCluster(clock)
    node = stock.nodes[stock.elect()]

    moving = threading.Event()

    class Passing(Node):
        """Once `moving`, its id is asked for just when the tick thread takes in a reader."""

        @property
        def id(self) -> str:
            if moving.is_set():
                moving.clear()
                connect = node.private("onReadonlyNodeConnected")
                tick = threading.Thread(target=connect, args=(Node("reader"),))
                tick.start()
                tick.join()
            return "passing"

    node.private("raftMatchIndex")[Passing("passing")] = 1
    moving.set()
    with pytest.raises(RuntimeError, match="changed size"):
        node.getStatus()


def test_p40_what_a_node_is_is_told_on_the_tick_thread(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path), "A")
    cluster.crash("A")
    told: list[tuple[Role, threading.Thread]] = []
    hooks = Hooks(on_role=lambda role, *_: told.append((role, threading.current_thread())))
    cluster.start("A", hooks=hooks)
    ticking = threading.Thread(target=cluster.elect)
    ticking.start()
    ticking.join()
    assert (Role.LEADER, ticking) in told
    assert {thread for _, thread in told} == {ticking}
    with pytest.raises(NotImplementedError):
        cluster.nodes["A"].getStatus()
    cluster.close()


def test_p41_stock_the_log_stops_with_the_thread_that_made_it() -> None:
    made: list[SyncObj] = []
    maker = threading.Thread(target=lambda: made.append(SyncObj(None, [], SyncObjConf())))
    maker.start()
    maker.join()
    deadline = time.monotonic() + 10
    while made[0].tick_thread_alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_p44_stock_a_deposed_leader_reads_what_was_replaced(clock: Clock) -> None:
    stock = StockCluster(clock)
    old = stock.elect()
    stock.nodes[old].op("old")
    stock.run(1)
    stock.network.isolate(old)
    stock.run(8)
    new = next(n for n in stock.followers(old) if stock.nodes[n]._isLeader())
    answers: list[tuple[object, int]] = []
    stock.nodes[new].op("new", callback=lambda *answer: answers.append(answer))
    stock.run(1)
    assert answers == [("new", 0)]
    assert stock.nodes[old]._isLeader()
    assert stock.nodes[old].isReady()
    assert stock.nodes[old].log == ["old"]
