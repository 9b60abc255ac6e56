"""A deployed cluster grows, loses a node, shrinks, and goes on, while clients write to it.

The tests of this module build on each other, on one cluster. It begins with one node, since a
playbook takes its time for each.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.pickbox.cluster.plugins.module_utils import supervisor
from asked import meanwhile, status_of, writing
from cluster import wait_until
from deployed import NODES, PORTS, Deployment
from ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

UNREACHABLE = {"ansible_connection": "ssh", "ansible_port": 1}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment.prepare(tmp_path_factory.mktemp("scaling"))
    for node in NODES[1:]:
        del made.nodes[node]
    made.watchers["watcher"] = {
        "pickbox_prometheus_runtime": "process",
        "pickbox_prometheus_port": free_ports(1)[0],
        "pickbox_prometheus_dir": str(made.directory / "prometheus"),
        "pickbox_prometheus_data_dir": str(made.directory / "prometheus-data"),
    }
    try:
        run = made.play("deploy")
        assert run.code == 0, run.output
        yield made
    finally:
        made.stop()


def add(deployment: Deployment, name: str) -> None:
    """Put another host into the inventory."""
    deployment.nodes[name] = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))


def members(deployment: Deployment, node: str) -> dict[str, str]:
    """The role of each member, as a node has it."""
    asked = deployment.admin_request(node, "/api/v1/members")
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return {m["node_id"]: m["role"] for m in json.load(answer)["members"]}


def watched(deployment: Deployment) -> list[str]:
    """The nodes that Prometheus is told to read."""
    targets = json.loads((deployment.directory / "prometheus/targets/pickbox.json").read_text())
    return sorted(target["labels"]["node"] for target in targets)


def settled(deployment: Deployment) -> int:
    """The term, once every node sees every one ready and has the same leader in it."""
    terms: list[int] = []

    def seen() -> bool:
        views = []
        for node in deployment.nodes:
            with urllib.request.urlopen(
                deployment.url(node, "dashboard", "/api/cluster"), timeout=10
            ) as answer:
                views.append(json.load(answer))
        terms[:] = {view["term"] for view in views}
        ready = all(node["ready"] for view in views for node in view["nodes"])
        return ready and len(terms) == len({view["leader"] for view in views}) == 1

    wait_until(seen, "every node sees every one ready, and the same leader", 60)
    return terms[0]


def told(run: Any) -> str:
    return " ".join(run.output.split())


def test_tokens_are_rotated_without_a_request_that_is_refused(deployment: Deployment) -> None:
    before, old = deployment.pids(), deployment.secrets()
    with meanwhile(
        lambda _: status_of(deployment.admin_request("node1", "/api/v1/leader"))
    ) as answers:
        run = deployment.play("rotate_tokens")
    assert run.code == 0, run.output
    assert len(answers) > 10
    assert set(answers) == {200}
    assert deployment.secrets() != old
    assert not [token for token in old if token in run.output]
    assert deployment.pids() == before
    headers = {"Authorization": f"Bearer {old[0]}"}
    place = deployment.url("node1", "admin", "/api/v1/leader")
    assert status_of(urllib.request.Request(place, headers=headers)) == 401


def test_a_token_that_is_there_already_changes_nothing(deployment: Deployment) -> None:
    given = deployment.directory / "token.yml"
    given.write_text(f"pickbox_admin_token: {deployment.secrets()[0]}\n")
    run = deployment.play("rotate_tokens", f"--extra-vars=@{given}")
    assert run.code == 0, run.output
    assert run.changed == {"node1": 0}


@pytest.mark.parametrize(
    ("playbook", "arguments", "said"),
    [
        ("scale_in", "pickbox_remove=node1", "one voter at least has to stay"),
        ("replace_node", "pickbox_dead=node1", "node1 is not dead, since it answers"),
        ("disaster_recovery", "pickbox_survivor=node1", "the cluster is there: node1 leads"),
    ],
)
def test_what_would_harm_a_cluster_that_runs_is_refused(
    deployment: Deployment, playbook: str, arguments: str, said: str
) -> None:
    before = deployment.pids()
    run = deployment.play(playbook, f"--extra-vars={arguments}")
    assert run.code != 0
    assert said in told(run)
    assert "othing was touched" in run.output
    assert deployment.pids() == before


def test_the_only_node_is_proved_and_goes_on_leading(deployment: Deployment) -> None:
    before = deployment.pids()
    run = deployment.play("verify")
    assert run.code == 0, run.output
    assert "No failover was tried: the others are no majority without node1" in told(run)
    assert deployment.pids() == before


def test_a_deployment_adds_no_host_to_a_cluster_that_runs(deployment: Deployment) -> None:
    add(deployment, "node2")
    add(deployment, "node3")
    run = deployment.play("deploy")
    assert run.code != 0
    assert "node2, node3 is in the inventory and no member: add it with scale_out" in told(run)
    assert deployment.pids().keys() == {"node1"}
    assert watched(deployment) == ["node1"]


def test_nodes_join_and_nobody_notices(deployment: Deployment) -> None:
    before = deployment.pids()
    with writing(deployment, "node1") as answers:
        run = deployment.play("scale_out", backups(deployment))
    assert run.code == 0, run.output
    assert set(answers) == {201}
    assert members(deployment, "node1") == dict.fromkeys(("node1", "node2", "node3"), "voter")
    assert before.items() <= deployment.pids().items(), "node1 was not restarted"
    assert watched(deployment) == ["node1", "node2", "node3"]


def test_who_joins_can_make_the_backup(deployment: Deployment) -> None:
    """All decide by the same list of nodes which of them makes it, so just one must."""
    scripts = [deployment.home / f"nodes/{node}/backup/pickbox-backup" for node in deployment.nodes]
    while True:
        term = settled(deployment)
        runs = [
            subprocess.run([script, "scheduled"], check=False, capture_output=True)
            for script in scripts
        ]
        if settled(deployment) == term:
            break  # all chose among the same followers
    assert [run.returncode for run in runs] == [0, 0, 0], runs
    made = [run for run in runs if b"snapshot" in run.stdout]
    assert len(made) == 1, runs


def test_a_limit_that_hides_a_member_is_named_as_what_it_is(deployment: Deployment) -> None:
    for playbook in ("scale_out", "scale_in"):
        run = deployment.play(playbook, "--limit=node1,node2", "--extra-vars=pickbox_remove=node2")
        assert run.code != 0
        assert "a limit hides node3. Run it without --limit." in told(run)


def test_the_status_names_a_host_that_cannot_be_asked_and_why(deployment: Deployment) -> None:
    kept = {name: dict(deployment.nodes[name]) for name in ("node1", "node2")}
    deployment.nodes["node1"] |= UNREACHABLE
    refused = {"ansible_become_exe": "/bin/false", "ansible_become_user": "nobody"}
    deployment.nodes["node2"] |= {"ansible_become": True, **refused}

    def all_answer() -> bool:
        run = deployment.play("status")
        assert run.code == 0, run.output
        assert "The host of node1 cannot be reached by Ansible." in told(run)
        assert "The host of node2 cannot be asked by Ansible: " in told(run)
        rows = re.findall(r"- (node\d) +(?:leader|follower) +yes ", run.output)
        return rows == ["node1", "node2", "node3"]

    try:
        wait_until(all_answer, "all nodes answer, whatever their hosts do", 120)
    finally:
        deployment.nodes.update(kept)


def test_no_second_cluster_is_made_because_hosts_cannot_be_reached(deployment: Deployment) -> None:
    before = deployment.pids()
    kept = {name: dict(deployment.nodes[name]) for name in ("node2", "node3")}
    for name in kept:
        deployment.nodes[name] |= UNREACHABLE
    run = deployment.play("disaster_recovery", "--extra-vars=pickbox_survivor=node1")
    deployment.nodes.update(kept)
    assert run.code != 0
    assert "Nothing was touched: the cluster is there" in told(run)
    assert deployment.pids() == before


def test_a_dead_node_is_replaced_though_its_host_and_prometheus_cannot_be_reached(
    deployment: Deployment,
) -> None:
    add(deployment, "node4")
    deployment.nodes["node1"] |= UNREACHABLE
    watcher = dict(deployment.watchers["watcher"])
    deployment.watchers["watcher"] |= UNREACHABLE
    kill(deployment, "node1")
    run = deployment.play("replace_node", "--extra-vars=pickbox_dead=node1", "--check")
    assert run.code == 0, run.output
    assert "node4 takes its place" in told(run)
    run = deployment.play("status")
    assert re.search(r"- node1 +unreachable +no ", run.output), run.output
    with writing(deployment, "node2", "node3") as answers:
        run = deployment.play("replace_node", "--extra-vars=pickbox_dead=node1")
    assert run.code == 0, run.output
    assert set(answers) == {201}
    assert members(deployment, "node2") == dict.fromkeys(("node2", "node3", "node4"), "voter")
    assert "watcher cannot be reached, and its Prometheus still watches" in told(run)
    deployment.watchers["watcher"] = watcher
    del deployment.nodes["node1"]


def test_a_node_goes_and_nobody_notices(deployment: Deployment) -> None:
    with writing(deployment, "node2", "node3") as answers:
        run = deployment.play("scale_in", "--extra-vars=pickbox_remove=node4")
    assert run.code == 0, run.output
    assert "Take out of the inventory: node4" in run.output
    assert set(answers) == {201}
    assert members(deployment, "node2") == dict.fromkeys(("node2", "node3"), "voter")
    assert "node4" not in deployment.pids()
    assert watched(deployment) == ["node2", "node3"]
    assert deployment.files("node4").exists()


def test_a_node_that_was_let_go_comes_back_without_what_it_had(deployment: Deployment) -> None:
    data = deployment.files("node4").parent
    (data / "files/of its former life").write_text("old")
    run = deployment.play("scale_out")
    assert run.code == 0, run.output
    assert members(deployment, "node2") == dict.fromkeys(("node2", "node3", "node4"), "voter")
    assert not (data / "files/of its former life").exists()
    (aside,) = data.parent.glob(f"{data.name}.*")
    assert (aside / "files/of its former life").read_text() == "old"


def test_a_survivor_goes_on_with_what_it_has_when_a_majority_is_lost(
    deployment: Deployment,
) -> None:
    kept = deployment.files("node2") / "kept"
    kept.write_text("of the old cluster")
    wait_until((deployment.files("node4") / "kept").exists, "all have it")
    kill(deployment, "node3")
    kill(deployment, "node4")
    for lost in ("node3", "node4"):
        deployment.nodes[lost] |= UNREACHABLE
    survivor = "--extra-vars=pickbox_survivor=node2"
    before = deployment.pids()
    run = deployment.play("disaster_recovery", survivor, "--tags=plan")
    assert run.code == 0, run.output
    assert deployment.pids() == before
    run = deployment.play("disaster_recovery", survivor)
    assert run.code == 0, run.output
    assert "WITH THEIR OLD DATA, or they may form a second cluster: node3, node4." in told(run)
    assert members(deployment, "node2") == {"node2": "voter"}
    assert kept.read_text() == "of the old cluster"
    with writing(deployment, "node2") as answers:
        wait_until(lambda: len(answers) > 3, "it takes writes")
    assert set(answers) == {201}


def backups(deployment: Deployment) -> str:
    """Variables with which backups are made."""
    repository, password = deployment.directory / "repository", deployment.directory / "password"
    return (
        f"--extra-vars=pickbox_backup_repository={repository} "
        f"pickbox_backup_password_file={password}"
    )


def kill(deployment: Deployment, node: str) -> None:
    """As a crash does, and without supervisord, which would start it again."""
    rpc = supervisor.connect(str(deployment.home / "supervisor.sock"))
    os.kill(deployment.pids()[node], signal.SIGKILL)

    def stays_down() -> bool:
        with contextlib.suppress(Exception):
            rpc.stopProcess(node)
        # In every other state of one that does not run, supervisord starts it again.
        return bool(rpc.getProcessInfo(node)["statename"] == "STOPPED")

    wait_until(stays_down, f"{node} is down", 30)
