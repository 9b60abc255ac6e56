"""Snapshots: P10, P14, P35, P36, P38, what a crash leaves of them, and what a node boots from."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING, Any

import pytest
from consensus_cluster import CLUSTER, Clock, Cluster, ListMachine, MemoryLog, fake_clock
from pysyncobj.serializer import Serializer
from stock_cluster import StockCluster

from pickbox.consensus.booting import StateContradiction, boot
from pickbox.consensus.configuration import Configuration, Participant
from pickbox.consensus.log.disk import RealFile
from pickbox.consensus.proposals import Fate
from pickbox.consensus.snapshot_store import Snapshot, SnapshotDamaged, SnapshotStore
from simulation.disk import PowerCut, SimulatedDisk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MEMBERS = Configuration(3, CLUSTER, {"A": Participant("A:1", b"A-1")})


@pytest.fixture
def clock() -> Iterator[Clock]:
    with fake_clock() as clock:
        yield clock


@pytest.fixture
def cluster(clock: Clock, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(clock, str(tmp_path), keep_trailing=0)
    yield cluster
    cluster.close()


def left_behind(cluster: Cluster, size: int = 1) -> tuple[str, str]:
    """A leader with a snapshot, and a follower that needs it; the link between them is down."""
    leader = cluster.elect()
    cluster.run(0.5)
    behind = cluster.followers()[0]
    cluster.network.isolate(behind)
    commands = [b"%03d" % n + b"." * size for n in range(100)]
    outcomes = cluster.propose(leader, *commands)
    cluster.until(lambda: len(outcomes) == 100)
    cluster.nodes[leader].request_snapshot()
    cluster.run(0.5)
    assert len(cluster.logs[leader]) == 0
    return leader, behind


def same(cluster: Cluster) -> bool:
    return len({tuple(machine.commands) for machine in cluster.machines.values()}) == 1


def test_p10_stock_a_snapshot_that_cannot_be_loaded_is_acknowledged(
    clock: Clock, tmp_path: Path
) -> None:
    def fail(_: str) -> Any:
        raise OSError("the dump is damaged")

    stock = StockCluster(
        clock,
        fullDumpFile=str(tmp_path / "dump"),
        serializer=lambda path, _: (tmp_path / os.path.basename(path)).write_bytes(b"dump"),
        deserializer=fail,
        useFork=False,
    )
    leader = stock.elect()
    node = stock.nodes[stock.followers(leader)[0]]
    sent: list[dict[str, Any]] = []
    stock.network.drop = lambda _, __, m: bool(sent.append(m))
    term = {"type": "append_entries", "term": node.raftCurrentTerm, "commit_index": 50}
    node.hear(leader, {**term, "serialized": (b"x", True, False)})
    node.hear(leader, {**term, "serialized": (b"", False, True)})
    assert [m["success"] for m in sent if m["type"] == "next_node_idx"] == [True]


def test_p10_a_snapshot_that_cannot_be_loaded_is_not_acknowledged(cluster: Cluster) -> None:
    leader, behind = left_behind(cluster)

    def fail(_: str) -> None:
        raise ValueError("the snapshot makes no sense")

    cluster.machines[behind].load = fail  # type: ignore[method-assign]
    cluster.network.connect(leader, behind)
    with pytest.raises(ValueError, match="makes no sense"):
        cluster.run(2)
    replies = [
        m for a, _, m in cluster.network.sent if (a, m["type"]) == (behind, "snapshot_reply")
    ]
    assert replies
    assert not any(m["installed"] for m in replies)
    assert SnapshotStore(f"{cluster.directory}/{behind}").latest is None


def test_a_snapshot_that_the_machine_has_taken_in_is_kept_whatever_fails_then(
    cluster: Cluster,
) -> None:
    """Without it the machine would be ahead of its log, and the node never start again."""
    _, behind = left_behind(cluster)
    machine, load = cluster.machines[behind], cluster.machines[behind].load

    def load_and_fail(path: str) -> None:
        load(path)
        raise RuntimeError("can't start new thread")

    machine.load = load_and_fail  # type: ignore[method-assign]
    cluster.network.heal()
    with pytest.raises(RuntimeError, match="new thread"):
        cluster.run(5)
    latest = cluster.nodes[behind]._store.latest
    assert latest is not None
    assert latest.machine_index == machine.applied_index
    machine.load = load  # type: ignore[method-assign]
    cluster.crash(behind)
    cluster.start(behind)
    cluster.network.heal()
    cluster.until(lambda: same(cluster))


def test_a_snapshot_brings_a_node_up_and_the_log_goes_on(cluster: Cluster) -> None:
    leader, behind = left_behind(cluster, size=10_000)
    cluster.network.heal()
    cluster.until(lambda: same(cluster))
    outcomes = cluster.propose(leader, b"after")
    cluster.until(lambda: outcomes)
    cluster.run(0.5)
    assert same(cluster)
    cluster.crash(behind)
    node = cluster.start(behind)
    assert node.configuration == cluster.nodes[leader].configuration
    cluster.network.heal()
    cluster.run(1)
    assert same(cluster)
    assert cluster.leader == leader


def test_a_transfer_goes_on_where_the_link_broke(cluster: Cluster) -> None:
    leader, behind = left_behind(cluster, size=20_000)
    sent = cluster.network.sent
    chunks = lambda: sum(len(m["data"]) for _, _, m in sent if m["type"] == "snapshot_chunk")  # noqa: E731
    cluster.network.connect(leader, behind)
    cluster.until(lambda: chunks() > 1_000_000)
    cluster.crash(behind)
    cluster.start(behind)
    cluster.network.heal()
    cluster.until(lambda: same(cluster))
    size = os.path.getsize(f"{cluster.directory}/{leader}/{snapshot_file(cluster, leader)}")
    assert chunks() < size + 1_000_000


def snapshot_file(cluster: Cluster, node_id: str) -> str:
    return next(n for n in os.listdir(f"{cluster.directory}/{node_id}") if n.endswith(".data"))


def test_a_snapshot_that_changed_on_its_way_is_not_installed(cluster: Cluster) -> None:
    leader, behind = left_behind(cluster, size=1000)
    damaged = 0

    def damage(_: str, __: str, message: dict[str, Any]) -> bool:
        nonlocal damaged
        if message["type"] == "snapshot_chunk" and message["data"] and not damaged:
            damaged = 1
            message["data"] = b"?" + message["data"][1:]
        return False

    cluster.network.drop = damage
    cluster.network.connect(leader, behind)
    cluster.until(lambda: same(cluster))
    assert damaged
    assert cluster.machines[behind].commands[0].startswith(b"000")


def unread(cluster: Cluster, leader: str) -> str:
    """Where the snapshot is that `leader` has for others; its log reaches back no further."""
    return f"{cluster.directory}/{leader}/{snapshot_file(cluster, leader)}"


def damaged(path: str) -> None:
    with open(path, "r+b") as file:
        file.seek(10)
        file.write(b"???")


def cut_short(path: str) -> None:
    os.truncate(path, os.path.getsize(path) // 2)


@pytest.mark.parametrize("harm", [damaged, cut_short, os.unlink])
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_peer_is_brought_up_though_the_snapshot_of_the_leader_was_harmed(
    cluster: Cluster, harm: Callable[[str], None], size: int
) -> None:
    leader, _ = left_behind(cluster, size)
    harm(unread(cluster, leader))
    cluster.network.heal()
    cluster.until(lambda: same(cluster))


@pytest.mark.parametrize("harm", [damaged, cut_short, os.unlink])
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_leader_whose_snapshot_was_harmed_makes_another_if_nobody_else_has_one(
    cluster: Cluster, harm: Callable[[str], None], size: int
) -> None:
    """Nor can anything be committed, on which a newer one could be made."""
    leader, behind = left_behind(cluster, size)
    cluster.crash(next(n for n in cluster.nodes if n not in (leader, behind)))
    harm(unread(cluster, leader))
    cluster.network.heal()
    cluster.until(lambda: cluster.machines[behind].commands == cluster.machines[leader].commands)
    assert cluster.elect() == leader


class UnreadableFile:
    def __init__(self, tries: list[int]) -> None:
        self._tries = tries

    def read(self, offset: int, _: int) -> bytes:
        self._tries.append(offset)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def close(self) -> None: ...


def test_a_snapshot_that_cannot_be_read_is_not_read_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the leader step aside again, while the disk refuses to take another, too."""

    def refuse() -> Callable[[str], None]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    leader, behind = left_behind(cluster)
    cluster.crash(next(n for n in cluster.nodes if n not in (leader, behind)))
    tries: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(SnapshotStore, "open", lambda *_: UnreadableFile(tries))
        patch.setattr(cluster.machines[leader], "begin_dump", refuse)
        cluster.network.heal()
        cluster.until(lambda: tries)
        cluster.run(25)
    assert tries == [0]
    cluster.until(lambda: cluster.machines[behind].commands == cluster.machines[leader].commands)


def test_a_transfer_that_is_begun_anew_takes_the_newest_snapshot(cluster: Cluster) -> None:
    leader, _ = left_behind(cluster, size=10_000)
    sent: list[int] = []

    def spoil(_: str, __: str, message: dict[str, Any]) -> bool:
        if message["type"] == "snapshot_chunk" and message["data"]:
            sent.append(message["index"])
            message["data"] = b"?" + message["data"][1:]
        return False

    cluster.network.drop = spoil
    cluster.network.heal()
    cluster.until(lambda: sent)
    outcomes = cluster.propose(leader, b"after")
    cluster.until(lambda: len(outcomes) == 1)
    cluster.nodes[leader].request_snapshot()
    cluster.until(lambda: sent[-1] > sent[0])
    cluster.network.drop = lambda *_: False
    cluster.until(lambda: same(cluster))


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_snapshot_of_which_a_sync_failed_comes_again_from_its_beginning(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The kernel may have dropped what it could not write, and say yes the next time."""
    _, behind = left_behind(cluster, size)
    sent: list[int] = []
    refused: list[int] = []
    sync = RealFile.sync

    def watch(_: str, __: str, message: dict[str, Any]) -> bool:
        if message["type"] == "snapshot_chunk" and message["data"]:
            sent.append(message["offset"])
        return False

    def refuse_once(file: RealFile) -> None:
        path = os.readlink(f"/proc/self/fd/{file._descriptor}")
        if f"{behind}/incoming-" in path and not refused:
            refused.append(len(sent))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(file)

    monkeypatch.setattr(RealFile, "sync", refuse_once)
    cluster.network.drop = watch
    cluster.network.heal()
    cluster.until(lambda: same(cluster))
    assert sent[refused[0]] == 0


def test_p14_entries_after_a_snapshot_are_kept_at_boot(tmp_path: Path) -> None:
    log, machine = filled_log(20), ListMachine()
    store = store_with_snapshot(tmp_path, index=10)
    started = boot(log, store, machine, CLUSTER, None)
    assert (log.first_index, log.last_index) == (1, 20)
    assert started.applied_index == 10
    assert started.history.current == MEMBERS


def test_p14_a_log_that_is_not_the_snapshots_goes_on_after_it(tmp_path: Path) -> None:
    for log in (filled_log(5), filled_log(20, term=7)):
        store = store_with_snapshot(tmp_path, index=10)
        boot(log, store, ListMachine(), CLUSTER, None)
        assert (len(log), log.last_index, log.compacted) == (0, 10, (10, 1))


def test_what_does_not_belong_together_is_refused_at_boot(tmp_path: Path) -> None:
    ahead = ListMachine()
    ahead.applied_index = 21
    with pytest.raises(StateContradiction, match="ends at 20"):
        boot(filled_log(20), SnapshotStore(str(tmp_path / "none")), ahead, CLUSTER, None)
    log = filled_log(40)
    log.compact_to(30, 1, keep_trailing=5)
    with pytest.raises(StateContradiction, match="after the newest snapshot"):
        boot(log, store_with_snapshot(tmp_path, index=10), ListMachine(), CLUSTER, None)
    with pytest.raises(StateContradiction, match="no snapshot has the rest"):
        boot(log, SnapshotStore(str(tmp_path / "none")), ListMachine(), CLUSTER, None)


def filled_log(last: int, term: int = 1) -> MemoryLog:
    log = MemoryLog()
    for index in range(1, last + 1):
        log.add(b"\x00x", index, term)
    log.sync()
    return log


def store_with_snapshot(tmp_path: Path, *, index: int) -> SnapshotStore:
    store = SnapshotStore(str(tmp_path / "snapshots"))
    machine = ListMachine()
    machine.applied, machine.applied_index = [(index, b"x")], index
    path = store.scratch_path("made")
    machine.begin_dump()(path)
    store.install(path, store.describe(path, index, 1, index, MEMBERS))
    return store


def test_p35_stock_a_snapshot_is_valid_before_it_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: calls.append("fsync"))
    path = str(tmp_path / "dump")
    stock = Serializer(path, 1 << 16, False, None, None, None)
    stock.serialize(({}, (b"", 2, 1), (b"", 1, 1), []), 1)
    assert os.path.exists(path)
    assert calls == []


def test_p35_a_snapshot_is_durable_before_it_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    rename = os.rename

    def watched(sync: Callable[[int], None]) -> Callable[[int], None]:
        def synced(descriptor: int) -> None:
            calls.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}")
            sync(descriptor)

        return synced

    def renamed(source: str, target: str) -> None:
        calls.append(f"rename {os.path.basename(target)}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watched(os.fsync))
    monkeypatch.setattr(os, "fdatasync", watched(os.fdatasync))
    monkeypatch.setattr(os, "rename", renamed)
    store_with_snapshot(tmp_path, index=10)
    name = "snapshot-00000000000000000010"
    assert calls == [
        f"sync {tmp_path.name}",
        "sync made.part",
        "sync made.part",
        f"rename {name}.data",
        f"sync {name}.meta.part",
        "sync snapshots",
        f"rename {name}.meta",
        "sync snapshots",
    ]


def simulated_snapshot(disk: SimulatedDisk, *, index: int) -> SnapshotStore:
    store = SnapshotStore("snapshots", disk)
    path = store.scratch_path("made")
    store.open_scratch(path).write(0, b"%d" % index * 700)
    store.install(path, store.describe(path, index, 1, index, MEMBERS))
    store.drop_older()
    return store


@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_while_a_snapshot_is_installed_leaves_the_old_or_the_new_one(
    seed: int,
) -> None:
    rehearsal = SimulatedDisk()
    simulated_snapshot(rehearsal, index=10)
    begins = rehearsal.operations
    simulated_snapshot(rehearsal, index=20)
    for cut_at in range(begins + 1, rehearsal.operations + 1):
        disk = SimulatedDisk()
        simulated_snapshot(disk, index=10)
        disk.cut_at = cut_at
        with pytest.raises(PowerCut):
            simulated_snapshot(disk, index=20)
        disk.power_up(random.Random(f"{seed} {cut_at}"))
        store = SnapshotStore("snapshots", disk)
        assert store.latest is not None
        assert store.latest.index in (10, 20)
        store.load_into(lambda _: None, store.latest)


def test_a_damaged_snapshot_is_refused_with_its_file_and_the_ways_out(tmp_path: Path) -> None:
    store = store_with_snapshot(tmp_path, index=10)
    assert store.latest is not None
    data = store.data_path(store.latest)
    with open(data, "ab") as file:
        file.write(b"!")
    with pytest.raises(SnapshotDamaged, match=r"\.data is damaged.*backup"):
        store.load_into(ListMachine().load, store.latest)
    meta = data.replace(".data", ".meta")
    content = store.latest.encode()
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            Snapshot.decode(bytes(flipped))
    with open(meta, "wb") as file:
        file.write(content[:-1])
    with pytest.raises(SnapshotDamaged, match=r"\.meta is damaged"):
        SnapshotStore(str(tmp_path / "snapshots"))


def test_p36_the_tick_goes_on_while_a_snapshot_is_written(clock: Clock, tmp_path: Path) -> None:
    waiting: list[Any] = []
    cluster = Cluster(clock, str(tmp_path), aside=waiting.append, keep_trailing=0)
    leader = cluster.elect()
    first = cluster.propose(leader, b"in the snapshot")
    cluster.until(lambda: first)
    cluster.nodes[leader].request_snapshot()
    cluster.run(0.1)
    assert len(waiting) == 1
    second = cluster.propose(leader, b"after it")
    cluster.until(lambda: second)
    waiting.pop()()
    cluster.run(0.1)
    latest = SnapshotStore(f"{tmp_path}/{leader}").latest
    assert latest is not None
    assert latest.index == first[0].index
    assert cluster.logs[leader].first_index == latest.index + 1
    cluster.close()


def test_p38_a_follower_that_lags_a_little_needs_no_snapshot(clock: Clock, tmp_path: Path) -> None:
    cluster = Cluster(clock, str(tmp_path), snapshot_every=20, keep_trailing=100)
    leader = cluster.elect()
    behind = cluster.followers()[0]
    cluster.network.isolate(behind)
    outcomes = cluster.propose(leader, *[b"%d" % n for n in range(60)])
    cluster.until(lambda: len(outcomes) == 60)
    cluster.run(0.5)
    assert SnapshotStore(f"{tmp_path}/{leader}").latest is not None
    cluster.network.heal()
    cluster.until(lambda: same(cluster))
    assert not any(m["type"] == "snapshot_chunk" for _, _, m in cluster.network.sent)
    cluster.close()


def test_a_snapshot_answers_who_waited_for_what_it_covers(cluster: Cluster) -> None:
    leader = cluster.elect()
    cluster.run(0.5)
    cluster.network.isolate(leader)
    unknown = cluster.propose(leader, b"u")
    cluster.step()
    cluster.until(lambda: cluster.leader not in (None, leader))
    new = cluster.elect()
    kept = cluster.propose(new, *[b"%d" % n for n in range(20)])
    cluster.until(lambda: len(kept) == 20)
    cluster.nodes[new].request_snapshot()
    cluster.run(0.3)
    cluster.network.heal()
    cluster.until(lambda: same(cluster))
    assert [outcome.fate for outcome in unknown] == [Fate.UNKNOWN]
