"""What years of production taught users of pysyncobj, on the core.

`docs/reference/pysyncobj-findings.md` says who met what.
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest
from consensus_cluster import Clock, Cluster, ListMachine, fake_clock
from hypothesis import given
from hypothesis import strategies as st

from pickbox.consensus.library import _settings
from pickbox.consensus.proposals import Fate
from pickbox.consensus.snapshot_store import SnapshotStore
from pickbox.consensus.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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


def commit(cluster: Cluster, *commands: bytes) -> str:
    leader = cluster.elect()
    outcomes = cluster.propose(leader, *commands)
    cluster.until(lambda: len(outcomes) == len(commands))
    assert {outcome.fate for outcome in outcomes} == {Fate.COMMITTED}
    return leader


def change(cluster: Cluster, kind: str, *arguments: str) -> Outcome:
    node = cluster.nodes[cluster.elect()]
    cluster.until(lambda: node.own_term_is_committed and node.configuration_is_committed)
    outcomes: list[Outcome] = []
    getattr(node.membership, kind)(*arguments, node.configuration.version, outcomes.append)
    cluster.until(lambda: outcomes)
    return outcomes[0]


def places(cluster: Cluster, node_id: str) -> dict[str, tuple[str, ...]]:
    return {node.id: node.places for node in cluster.nodes[node_id].otherNodes}


# -- members whose address changes ----------------------------------------------------------------


def test_a_member_at_another_address_is_the_same_member(cluster: Cluster) -> None:
    commit(cluster, b"x")
    moved = cluster.followers()[0]
    cluster.crash(moved)
    cluster.start(moved, contacts={moved: "elsewhere:2"})
    cluster.network.heal()
    leader = commit(cluster, b"y")
    voters = cluster.nodes[leader].configuration.voters
    assert set(voters) == set("ABC"), "no second one, and no ghost of the first"
    assert cluster.nodes[leader].configuration.majority == 2


def test_a_cluster_whose_addresses_have_all_changed_finds_itself_by_its_settings(
    cluster: Cluster,
) -> None:
    commit(cluster, b"x")
    settings = {node_id: f"{node_id}.new:2" for node_id in "ABC"}
    for node_id in "ABC":
        cluster.crash(node_id)
        cluster.start(node_id, contacts=settings)
        others = set("ABC") - {node_id}
        assert places(cluster, node_id) == {n: (settings[n], f"{n}:1") for n in others}
    cluster.network.heal()
    commit(cluster, b"y")


def test_an_address_that_the_log_changes_counts_more_than_the_settings(cluster: Cluster) -> None:
    commit(cluster, b"x")
    settings = {node_id: f"{node_id}:1" for node_id in "ABC"}
    for node_id in "ABC":
        cluster.crash(node_id)
        cluster.start(node_id, contacts=settings)
    cluster.network.heal()
    leader = cluster.elect()
    moved, other = cluster.followers()
    assert change(cluster, "move", moved, "elsewhere:2").fate is Fate.COMMITTED
    cluster.run(0.5)
    for node_id in (leader, other):
        assert places(cluster, node_id)[moved] == ("elsewhere:2",)


def test_a_member_that_moved_before_the_start_is_looked_for_where_settings_and_log_say(
    cluster: Cluster,
) -> None:
    cluster.elect()
    moved, other = cluster.followers()
    assert change(cluster, "move", moved, "elsewhere:2").fate is Fate.COMMITTED
    cluster.run(0.5)
    cluster.crash(other)
    cluster.start(other, contacts={node_id: f"{node_id}:1" for node_id in "ABC"})
    assert places(cluster, other)[moved] == (f"{moved}:1", "elsewhere:2")


def test_a_node_that_joins_looks_where_the_log_says_whatever_its_settings_say(
    cluster: Cluster,
) -> None:
    """Found by the simulation, seed 493412324: a member that had moved was looked for in vain."""
    commit(cluster, b"x")
    moved = cluster.followers()[0]
    assert change(cluster, "move", moved, "elsewhere:2").fate is Fate.COMMITTED
    settings = {node_id: f"{node_id}:1" for node_id in "ABCD"}
    cluster.start("D", joining=True, contacts=settings)
    assert places(cluster, "D")[moved] == (f"{moved}:1",)
    cluster.network.heal()
    assert change(cluster, "add_learner", "D", "D:1").fate is Fate.COMMITTED
    cluster.until(lambda: places(cluster, "D")[moved] == ("elsewhere:2",))


def test_settings_that_name_the_node_itself_make_no_link_to_it(cluster: Cluster) -> None:
    cluster.crash("A")
    cluster.start("A", contacts={node_id: f"{node_id}:1" for node_id in "ABC"})
    assert set(places(cluster, "A")) == {"B", "C"}
    cluster.start("D", joining=True, contacts={node_id: f"{node_id}:1" for node_id in "ABCD"})
    assert set(places(cluster, "D")) == {"A", "B", "C"}


# -- starts ----------------------------------------------------------------------------------------


def test_a_node_that_starts_alone_has_what_it_knew_to_be_committed(cluster: Cluster) -> None:
    leader = commit(cluster, b"x", b"y", b"z")
    follower, other = cluster.followers()
    cluster.run(0.5)
    cluster.network.isolate(other)
    cluster.network.isolate(follower)
    cluster.network.connect(leader, follower)
    cluster.network.held.add((follower, leader))
    unknown = cluster.propose(leader, b"not committed")
    cluster.until(lambda: cluster.nodes[follower].last_index > cluster.nodes[leader].commit_index)
    cluster.run(0.05)
    assert unknown == []
    cluster.network.isolate(follower)
    cluster.nodes.pop(follower).close()  # as a node ends that is told to
    del cluster.network.transports[follower]
    cluster.machines[follower] = ListMachine()
    node = cluster.start(follower)
    node.doTick(0.0)
    assert cluster.machines[follower].commands == [b"x", b"y", b"z"]
    assert node.leader_id is None
    refused = cluster.propose(follower, b"nobody leads")
    node.doTick(0.0)
    assert [outcome.fate for outcome in refused] == [Fate.NOT_APPENDED]


ORDERS = list(itertools.permutations("ABC"))


@pytest.mark.parametrize("seed", range(34))
def test_a_cold_start_in_any_order_loses_nothing(clock: Clock, tmp_path: Path, seed: int) -> None:
    """Three times the machine room loses its power while commands are written, and comes back."""
    rng = random.Random(seed)
    cluster = Cluster(clock, str(tmp_path), seed=seed, snapshot_every=20, keep_trailing=5)
    acknowledged: list[bytes] = []
    for life in range(3):
        leader = cluster.elect()
        for n in range(rng.randint(1, 60)):
            command = b"%d/%d" % (life, n)
            cluster.nodes[leader].propose(
                command,
                lambda outcome, c=command: (
                    acknowledged.append(c) if outcome.fate is Fate.COMMITTED else None
                ),
            )
        cluster.run(rng.uniform(0.0, 0.2))
        for node_id in rng.sample("ABC", 3):
            cluster.crash(node_id)
        for node_id in rng.choice(ORDERS):
            cluster.start(node_id)
            for other in cluster.nodes:
                if other != node_id and rng.random() < 0.8:
                    cluster.network.connect(node_id, other)
            cluster.run(rng.uniform(0.0, 1.5))
        cluster.network.heal()
    commit(cluster, b"the end")
    cluster.until(lambda: len({tuple(m.commands) for m in cluster.machines.values()}) == 1)
    applied = cluster.machines["A"].commands
    assert [command for command in applied if command in set(acknowledged)] == acknowledged
    cluster.close()


# -- timeouts --------------------------------------------------------------------------------------

seconds = st.floats(0.001, 100.0)


@given(seconds, seconds, seconds)
def test_timeouts_that_are_accepted_fit_the_library_too(
    heartbeat: float, shortest: float, longest: float
) -> None:
    try:
        timing = Timing(heartbeat, shortest, longest)
    except ValueError:
        return
    _settings(timing).validate()
    assert timing.step_down > timing.election_min > 2 * timing.heartbeat


# -- nodes and disks that fail ---------------------------------------------------------------------


def test_a_follower_whose_machine_vanishes_holds_up_nobody(cluster: Cluster) -> None:
    leader = cluster.elect()
    cluster.run(0.5)
    gone, other = cluster.followers()
    for peer in (leader, other):  # no reset comes: what is sent to it goes nowhere
        cluster.network.held |= {(gone, peer), (peer, gone)}
    term = cluster.nodes[leader].term
    for n in range(20):
        assert commit(cluster, b"%d" % n) == leader
        cluster.run(1)
    assert cluster.nodes[leader].term == term


def test_a_leader_whose_disk_is_full_gives_way(cluster: Cluster) -> None:
    leader = commit(cluster, b"x")
    cluster.run(0.5)
    cluster.logs[leader].fail_next_sync = OSError(28, "No space left on device")
    cluster.propose(leader, b"y")
    with pytest.raises(OSError, match="No space left"):
        cluster.run(0.5)
    cluster.crash(leader)  # the process ends
    assert commit(cluster, b"z") != leader


@pytest.mark.parametrize("when", ["begun", "written", "installed"])
def test_a_snapshot_that_fails_is_told_and_tried_again_in_a_while(
    clock: Clock, tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(clock, str(tmp_path), snapshot_every=20, keep_trailing=5)
    leader = cluster.elect()
    attempts = 0

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def begin() -> Callable[[str], None]:
        nonlocal attempts
        attempts += 1
        if full and when == "begun":
            fail()
        return fail if full and when == "written" else ListMachine.begin_dump(machine)

    full, machine = True, cluster.machines[leader]
    monkeypatch.setattr(machine, "begin_dump", begin)
    store = cluster.nodes[leader]._store
    with monkeypatch.context() as patch:
        if when == "installed":
            patch.setattr(store, "install", fail)
        commit(cluster, *[b"%d" % n for n in range(40)])
        cluster.run(5)
        assert attempts == 1, "a full disk is not written to in every tick"
        assert cluster.leader == leader
    full = False
    cluster.run(10)
    assert attempts == 2
    assert SnapshotStore(f"{tmp_path}/{leader}").latest is not None
    cluster.close()


def test_a_snapshot_that_was_asked_for_is_made_when_nothing_keeps_it_from_that(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log grew by bytes, say, which asks once."""
    leader = commit(cluster, b"x")
    machine, store = cluster.machines[leader], cluster.nodes[leader]._store
    with monkeypatch.context() as patch:
        patch.setattr(machine, "begin_dump", lambda: refuse)
        cluster.nodes[leader].request_snapshot()
        cluster.run(5)
    assert store.latest is None
    cluster.run(10)
    assert store.latest is not None


def refuse(_: str) -> None:
    raise OSError("the folder is in doubt")


# -- members that go -------------------------------------------------------------------------------


@pytest.mark.parametrize("last", "ABC")
def test_three_members_shrink_to_any_one_that_leads_alone(cluster: Cluster, last: str) -> None:
    commit(cluster, b"x")
    for node_id in set("ABC") - {last}:
        assert change(cluster, "remove", node_id).fate is Fate.COMMITTED
        cluster.run(2)
        cluster.crash(node_id)
    assert commit(cluster, b"y") == last
    assert set(cluster.nodes[last].configuration.voters) == {last}


def test_a_dead_member_is_replaced_and_the_next_loss_is_borne(cluster: Cluster) -> None:
    commit(cluster, b"x")
    dead = cluster.followers()[0]
    cluster.crash(dead)
    assert change(cluster, "remove", dead).fate is Fate.COMMITTED
    assert change(cluster, "add_learner", "D", "D:1").fate is Fate.COMMITTED
    cluster.start("D", joining=True)
    cluster.network.heal()
    cluster.run(1)
    assert change(cluster, "promote", "D").fate is Fate.COMMITTED
    leader = commit(cluster, b"y")
    cluster.crash(leader)
    commit(cluster, b"z")
    cluster.run(0.5)
    assert cluster.machines["D"].commands == [b"x", b"y", b"z"]
