"""Three logs on real sockets in one process, each driving a real catalog."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from authority import CLUSTER, Authority, tls_settings
from blake3 import blake3
from ports import free_ports

from pickbox.changes import Kind, Put, Receipt, Status, Submission
from pickbox.codec import encode_command
from pickbox.consensus import LogUnusable, RaftConsensus
from pickbox.consensus.identity import WrongIdentity, accept_copy, claim_identity
from pickbox.consensus.log import LogStopped
from pickbox.consensus.log.segment import segment_name
from pickbox.consensus.options import Options
from pickbox.errors import ChangeRefused, ChangeTooEarly, NoLeader, OutcomeUnknown
from pickbox.members import MemberChange
from pickbox.observability.metrics import Metrics
from pickbox.replication.inline import InlineContent
from pickbox.replication.state_machine import StateMachine
from pickbox.settings import Settings
from pickbox.storage.catalog import Catalog
from pickbox.storage.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster
IDS = ("node1", "node2", "node3")
HASH_EVERY = Options().hash_every


class Member:
    """A log with its catalog, which can be stopped and started again."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.fatal: list[str] = []
        self.loaded = threading.Event()
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        directory = self.settings.data_dir
        self.catalog = Catalog(str(directory / "catalog.db"))
        machine = StateMachine(
            self.catalog,
            InlineContent(Staging(bytes(directory / "staging"))),
            in_folder=lambda submission, put: False,
            on_applied=lambda index, touched, submissions: None,
            on_loaded=self.loaded.set,
            before_snapshot=lambda: None,
            on_recalled=lambda index, submissions: None,
        )
        self.log = RaftConsensus(
            self.settings,
            self.settings.credentials(),
            machine,
            Metrics(self.settings.node_id),
            hand_over=None,
            on_members=lambda members: None,
            on_fatal=self.fatal.append,
        )
        self.log.start()

    @property
    def address(self) -> str:
        return self.settings.peers[self.settings.node_id].address

    def stop(self) -> None:
        self.log.stop()
        self.catalog.close()


class Trio:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory / "tls")
        ports = dict(zip(IDS, free_ports(3), strict=True))
        self.peers = ",".join(f"{node}=127.0.0.1:{port}" for node, port in ports.items())
        self.members = {
            node: Member(self.settings(node, port, self.peers)) for node, port in ports.items()
        }

    def settings(self, node: str, port: int, peers: str, *, bootstrap: bool = True) -> Settings:
        return Settings(
            node_id=node,
            data_dir=self.directory / node,
            cluster_name=CLUSTER,
            peers=peers,  # type: ignore[arg-type]  # read by its validator
            port=port,
            bootstrap=bootstrap,
            compact_entries=30,
            compact_keep=0,
            compact_bytes=1 << 20,
            **tls_settings(self.authority.issue(node)),
        )

    def join(self, node: str) -> Member:
        """Start a node that waits to be added."""
        (port,) = free_ports(1)
        peers = f"{self.peers},{node}=127.0.0.1:{port}"
        self.members[node] = Member(self.settings(node, port, peers, bootstrap=False))
        return self.members[node]

    def leader(self, among: tuple[str, ...] = IDS) -> Member:
        found: list[Member] = []

        def one_leads() -> bool:
            leaders = [
                member
                for node, member in self.members.items()
                if node in among and member.log.status().role == "leader"
            ]
            found[:] = leaders
            return len(leaders) == 1 and all(
                self.members[node].log.status().leader == leaders[0].settings.node_id
                for node in among
            )

        wait_until(one_leads)
        return found[0]

    def stop(self) -> None:
        for member in self.members.values():
            member.stop()

    def change(self, change: MemberChange, node: str) -> None:
        """Have the leader change the members, as soon as it may."""

        def changed() -> bool:
            log, address = self.leader().log, self.members[node].address
            version = log.members().version
            try:
                log.change_members(change, node, address=address, version=version, timeout=5.0)
            except (ChangeTooEarly, NoLeader):
                return False
            return True

        wait_until(changed)


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.01)


def command(name: str, content: bytes = b"content") -> bytes:
    put = Put(
        name.encode(),
        Kind.FILE,
        len(content),
        0o644,
        1,
        blake3(content).digest(),
        inline=content,
    )
    return encode_command([Submission(name, "node1", 1, (put,))])


def commit(
    trio: Trio, name: str, among: tuple[str, ...] = IDS, content: bytes = b"content"
) -> Receipt:
    """Propose with retries, as the proposer does."""
    deadline = time.monotonic() + 20.0
    while True:
        try:
            return trio.leader(among).log.propose(command(name, content), 5.0)[0]
        except (NoLeader, OutcomeUnknown):
            assert time.monotonic() < deadline


@pytest.fixture
def trio(tmp_path: Path) -> Iterator[Trio]:
    trio = Trio(tmp_path)
    yield trio
    trio.stop()


def has(member: Member, name: str) -> bool:
    return member.catalog.get(name.encode()) is not None


def test_a_committed_command_is_applied_on_every_node(trio: Trio) -> None:
    receipt = commit(trio, "first")
    assert receipt.outcomes[0].status is Status.APPLIED
    for member in trio.members.values():
        assert member.log.wait_applied(receipt.index, 5.0)
        assert has(member, "first")


def test_who_waits_for_an_entry_is_woken_before_the_log_waits_again(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an answer at a follower waits for the next heartbeat."""
    leader = trio.leader()
    follower = next(member for member in trio.members.values() if member is not leader)
    core = follower.log._core()
    index, woken, waits = leader.log.status().last_index + 1, threading.Event(), core.wait
    in_time: list[bool] = []

    def wait_for_the_reader_first(seconds: float) -> None:
        if core.applied_index >= index and not in_time:
            in_time.append(woken.wait(5.0))
        waits(seconds)

    def read() -> None:
        if follower.log.wait_applied(index, 30.0):
            woken.set()

    monkeypatch.setattr(core, "wait", wait_for_the_reader_first)
    threading.Thread(target=read).start()
    leader.log.propose(command("a"), 5.0)
    wait_until(lambda: bool(in_time))
    assert in_time == [True]


def test_a_follower_refuses_to_propose_and_nothing_is_appended(trio: Trio) -> None:
    leader = trio.leader()
    before = leader.log.status().last_index
    follower = next(m for m in trio.members.values() if m is not leader)
    with pytest.raises(NoLeader):
        follower.log.propose(command("refused"), 1.0)
    assert leader.log.status().last_index == before


def test_another_node_leads_when_the_leader_is_gone_and_nothing_is_lost(trio: Trio) -> None:
    names = [f"before-{n}" for n in range(20)]
    for name in names:
        commit(trio, name)
    gone = trio.leader()
    gone.stop()
    rest = tuple(node for node in IDS if node != gone.settings.node_id)
    commit(trio, "after", rest)
    for node in rest:
        wait_until(lambda node=node: has(trio.members[node], "after"))  # type: ignore[misc]
        assert all(has(trio.members[node], name) for name in names)
    gone.start()
    wait_until(lambda: has(gone, "after"))


def test_a_disk_that_refuses_the_log_ends_the_node_and_is_no_surprise(
    trio: Trio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commit(trio, "before")
    leader = trio.leader()
    assert leader.log._assembled is not None

    def refuse() -> None:
        raise LogStopped("the disk refused the log")

    monkeypatch.setattr(leader.log._assembled.log, "sync", refuse)
    with pytest.raises((NoLeader, OutcomeUnknown)):
        leader.log.propose(command("refused"), 1.0)
    wait_until(lambda: leader.fatal == ["the log stopped: the disk refused the log"])
    assert "tick_failed" not in caplog.messages


def test_leadership_moves_to_the_node_that_was_named(trio: Trio) -> None:
    commit(trio, "something")
    leader = trio.leader()
    target = next(node for node in IDS if node != leader.settings.node_id)
    assert leader.log.transfer_leadership(target, 5.0) == target
    wait_until(lambda: trio.members[target].log.status().role == "leader")


def test_a_node_that_missed_the_log_catches_up_from_a_snapshot(trio: Trio) -> None:
    leader = trio.leader()
    late = next(m for m in trio.members.values() if m is not leader)
    late.stop()
    rest = tuple(node for node in IDS if node != late.settings.node_id)
    for n in range(50):
        commit(trio, f"missed-{n}", rest, os.urandom(100_000))
    for node in rest:
        log = trio.members[node].settings.data_dir / "raft/log"
        wait_until(lambda at=log: not (at / segment_name(1)).exists())  # type: ignore[misc]
    late.loaded.clear()
    late.start()
    wait_until(lambda: has(late, "missed-49"))
    assert late.loaded.is_set()
    assert late.fatal == []


def test_a_restart_repeats_no_entry(trio: Trio) -> None:
    commit(trio, "once")
    versions = {node: m.catalog.get(b"once") for node, m in trio.members.items()}
    trio.stop()
    for member in trio.members.values():
        member.start()
    commit(trio, "twice")
    for node, member in trio.members.items():
        wait_until(lambda member=member: has(member, "twice"))  # type: ignore[misc]
        assert member.catalog.get(b"once") == versions[node] or versions[node] is None


def test_a_barrier_covers_what_was_committed_before(trio: Trio) -> None:
    receipt = commit(trio, "before")
    assert trio.leader().log.barrier(5.0) >= receipt.index


def test_an_idle_log_does_not_grow(trio: Trio) -> None:
    receipt = commit(trio, "last")
    for _ in range(5):
        leader = trio.leader()
        wait_until(lambda: leader.log.status().last_index >= receipt.index)  # noqa: B023
        before = leader.log.status()
        # A fixed time is what is promised here: nothing is to happen in it.
        time.sleep(3.0)
        after = leader.log.status()
        if after.term == before.term:
            break  # an election writes to the log: after one there is another look
    assert (after.last_index, after.term) == (before.last_index, before.term)


def test_a_catalog_ahead_of_the_log_is_refused(trio: Trio) -> None:
    commit(trio, "kept")
    leader = trio.leader()
    leader.stop()
    shutil.rmtree(leader.settings.data_dir / "raft")
    with pytest.raises(LogUnusable, match="the log was lost or replaced"):
        leader.start()


def test_a_node_is_added_caught_up_counted_and_removed_again(trio: Trio) -> None:
    commit(trio, "before")
    joined = trio.join("node4")
    wait_until(lambda: "is not a member" in joined.log.trouble)
    trio.change(MemberChange.ADD, "node4")
    wait_until(lambda: has(joined, "before"))
    assert joined.log.members().voters == IDS
    trio.change(MemberChange.PROMOTE, "node4")
    wait_until(lambda: joined.log.members().voters == (*IDS, "node4"))
    commit(trio, "with four")
    wait_until(lambda: has(joined, "with four"))
    assert joined.log.trouble == ""

    if trio.leader((*IDS, "node4")) is joined:
        joined.log.transfer_leadership("node1", 5.0)
    trio.change(MemberChange.DEMOTE, "node4")
    trio.change(MemberChange.REMOVE, "node4")
    wait_until(lambda: "was removed" in joined.log.standing)
    commit(trio, "without it")
    assert not has(joined, "without it")


def test_the_members_are_changed_from_the_version_that_was_seen(trio: Trio) -> None:
    commit(trio, "something")
    log = trio.leader().log
    wait_until(lambda: log.members().version == 2)  # the first leader records the data directories
    with pytest.raises(ChangeTooEarly, match="look at the members"):
        log.change_members(MemberChange.REMOVE, "node3", address="", version=1, timeout=5.0)
    with pytest.raises(ChangeRefused, match="node9 is not a member"):
        log.change_members(MemberChange.REMOVE, "node9", address="", version=2, timeout=5.0)
    assert log.members().voters == IDS


def test_a_wiped_node_is_not_counted_under_its_old_identity(trio: Trio) -> None:
    commit(trio, "before")
    leader = trio.leader()
    wiped = next(m for m in trio.members.values() if m is not leader)
    wiped.stop()
    shutil.rmtree(wiped.settings.data_dir)
    wiped.settings.data_dir.mkdir()
    wiped.start()
    wait_until(lambda: "another data directory" in wiped.log.standing)
    commit(trio, "after", tuple(n for n in IDS if n != wiped.settings.node_id))
    assert wiped.log.status().commit_index == 0


def test_the_data_directory_of_another_is_refused(tmp_path: Path) -> None:
    claim_identity(tmp_path, "node1", "test")
    with pytest.raises(WrongIdentity, match=r"PICKBOX_NODE_ID: found 'node2', but .* is node1's"):
        claim_identity(tmp_path, "node2", "test")
    with pytest.raises(WrongIdentity, match="PICKBOX_CLUSTER_NAME: found 'other'"):
        claim_identity(tmp_path, "node1", "other")


def test_a_copied_data_directory_is_refused_until_it_is_accepted(tmp_path: Path) -> None:
    directory = tmp_path / "original"
    directory.mkdir()
    original = claim_identity(directory, "node1", "test")
    assert claim_identity(directory, "node1", "test") == original
    shutil.copytree(directory, tmp_path / "copy")
    with pytest.raises(WrongIdentity, match="the data directory is a copy"):
        claim_identity(tmp_path / "copy", "node1", "test")
    accept_copy(tmp_path / "copy")
    assert claim_identity(tmp_path / "copy", "node1", "test") == original


def test_a_taken_port_is_named_with_what_to_do(trio: Trio) -> None:
    member = trio.members["node1"]
    member.stop()
    address = (member.settings.host, member.settings.port)
    with (
        socket.create_server(address),
        pytest.raises(OSError, match=r"PICKBOX_PORT: port .* in use"),
    ):
        member.start()
    member.start()


def test_two_processes_never_use_one_log(trio: Trio) -> None:
    with pytest.raises(LogUnusable, match="is in use by another process"):
        Member(trio.members["node1"].settings)


def test_a_node_whose_catalog_differs_stops_serving_and_stays_so(trio: Trio) -> None:
    commit(trio, "before")
    leader = trio.leader()
    odd = next(m for m in trio.members.values() if m is not leader)
    wait_until(lambda: has(odd, "before"))
    odd.stop()
    with closing(sqlite3.connect(odd.settings.data_dir / "catalog.db")) as catalog, catalog:
        catalog.execute("UPDATE meta SET value = value + 7 WHERE name = 'version'")
    odd.start()
    for n in range(HASH_EVERY):
        if odd.log.standing:
            break
        commit(trio, f"entry-{n}")
    wait_until(lambda: "differs from the majority's" in odd.log.standing)
    odd.stop()
    with pytest.raises(LogUnusable, match="not what the majority has"):
        odd.start()
    assert not any(m.log.standing for m in trio.members.values() if m is not odd)
