"""The playbooks, run for real on a cluster of their own, in one home that is thrown away.

The tests of this module build on each other, in the order in which an operator would go: see what a
deployment would do, deploy, change something, prove the cluster, and take it down.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.pickbox.cluster.plugins.module_utils import supervisor
from ansible_collections.pickbox.cluster.plugins.modules.process_environment import variables_of
from cluster import wait_until
from deployed import NODES, SECRETS, Deployment
from ports import free_ports
from writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment.prepare(tmp_path_factory.mktemp("deployment"))
    yield made
    made.stop()


def test_a_check_on_a_fresh_machine_tells_changes_and_makes_none(deployment: Deployment) -> None:
    run = deployment.play("deploy", "--check", "--diff")
    assert run.code == 0, run.output
    assert all(run.changed[node] > 0 for node in NODES)
    assert not deployment.home.exists()


def test_what_a_machine_cannot_be_used_for_is_told_at_once_and_nothing_is_touched(
    deployment: Deployment,
) -> None:
    """A port in use, with its owner; and a socket with a path that is too long, and a space."""
    port, path = deployment.nodes["node2"]["pickbox_admin_port"], f"/tmp/a {'x' * 100}"
    with socket.create_server(("127.0.0.1", port)):
        run = deployment.play("deploy", f'--extra-vars={{"pickbox_supervisor_socket": "{path}"}}')
    assert run.code != 0
    told = " ".join(run.output.split())
    assert f"node2 cannot be deployed, and nothing was touched: port {port} (admin) is held" in told
    assert f"by pid {os.getpid()} (" in told
    assert f"{path} has a space in it" in told
    assert f"{path} is too long for a Unix socket" in told
    assert not deployment.home.exists()


def test_a_limit_that_hides_members_is_refused(deployment: Deployment) -> None:
    run = deployment.play("deploy", "--limit=node1")
    assert run.code != 0
    assert "a limit hides node2, node3" in " ".join(run.output.split())
    assert not deployment.home.exists()


def test_who_only_rolls_notes_the_release_as_deployed_too(deployment: Deployment) -> None:
    for playbook in ("deploy", "upgrade"):
        run = deployment.play(playbook, "--tags=roll", "--list-tasks")
        assert "Keep the last releases" in run.output


def test_a_limit_that_hides_a_balancer_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    balancers = tmp_path / "balancers.yml"
    balancers.write_text("pickbox_balancer: {hosts: {front: {ansible_connection: local}}}\n")
    run = deployment.play("deploy", f"--inventory={balancers}", "--limit=pickbox")
    assert run.code != 0
    assert "a limit hides front" in " ".join(run.output.split())
    assert not deployment.home.exists()


def test_an_inventory_that_can_make_no_cluster_is_refused(deployment: Deployment) -> None:
    """One that uses an address twice, and has a name that no node can have."""
    deployment.nodes["node2"]["pickbox_node_id"] = "node_2"
    run = deployment.play("deploy", "--extra-vars=pickbox_port=21999")
    del deployment.nodes["node2"]["pickbox_node_id"]
    assert run.code != 0
    told = " ".join(run.output.split())
    assert "127.0.0.1:21999 is wanted by node1 (raft) and node_2 (raft) and node3 (raft)" in told
    assert "the name node_2 is none for a node: 1 to 32 of a-z" in told
    assert not deployment.home.exists()


def test_a_deployment_shows_no_secret_and_no_warning(deployment: Deployment) -> None:
    run = deployment.play("deploy", "-vv", "--diff")
    assert run.code == 0, run.output
    assert "Pickbox runs: 3 nodes are ready." in run.output
    assert len(deployment.secrets()) == len(SECRETS), "`play` looks for them"
    assert not re.findall(r"\[(?:WARNING|DEPRECATION WARNING|ERROR)\].*", run.output)
    assert deployment.pids().keys() == set(NODES)


def test_secrets_are_generated_long_and_for_their_user_only(deployment: Deployment) -> None:
    assert len(set(deployment.secrets())) == len(SECRETS)
    assert all(len(secret) >= 32 for secret in deployment.secrets())
    for name in SECRETS:
        assert (deployment.home / "secrets" / name).stat().st_mode & 0o777 == 0o600


def test_another_token_than_the_nodes_take_is_refused(deployment: Deployment) -> None:
    before = deployment.secrets()
    run = deployment.play("deploy", f"--extra-vars=pickbox_admin_token={'x' * 40}", "--tags=plan")
    assert run.code != 0
    assert "Give it to rotate_tokens first" in " ".join(run.output.split())
    assert deployment.secrets() == before


def test_the_callers_settings_do_not_reach_the_nodes(deployment: Deployment) -> None:
    pids = deployment.pids()
    assert pids.keys() == set(NODES)
    for pid in pids.values():
        assert b"PICKBOX_LOG_LEVEL" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize("arguments", [[], ["--check", "--diff"]], ids=["run", "check"])
def test_a_second_run_changes_nothing(deployment: Deployment, arguments: list[str]) -> None:
    before = deployment.pids(), deployment.secrets(), deployment.certificates()
    run = deployment.play("deploy", *arguments)
    assert run.code == 0, run.output
    assert run.changed == dict.fromkeys(NODES, 0)
    assert (deployment.pids(), deployment.secrets(), deployment.certificates()) == before


@pytest.mark.parametrize(
    "playbook", ["upgrade", "restart", "rotate_certificates", "rotate_tokens", "verify"]
)
def test_a_check_of_what_a_running_cluster_is_changed_by_touches_nothing(
    deployment: Deployment, playbook: str
) -> None:
    before = deployment.pids(), deployment.secrets(), deployment.certificates()
    run = deployment.play(playbook, "--check", "--diff")
    assert run.code == 0, run.output
    assert (deployment.pids(), deployment.secrets(), deployment.certificates()) == before


def test_a_setting_of_one_node_restarts_that_node_only(deployment: Deployment) -> None:
    before = deployment.pids()
    deployment.nodes["node2"]["pickbox_settings"] = {"scan_interval": 200}
    run = deployment.play("deploy", "--tags=roll")
    assert run.code == 0, run.output
    after = deployment.pids()
    assert [node for node in NODES if after[node] != before[node]] == ["node2"]


def test_a_node_that_hangs_is_given_its_setting_too(deployment: Deployment) -> None:
    before = deployment.pids()
    deployment.nodes["node3"]["pickbox_settings"] = {"scan_interval": 200}
    os.kill(before["node3"], signal.SIGSTOP)
    run = deployment.play("deploy")
    assert run.code == 0, run.output
    after = deployment.pids()
    assert [node for node in NODES if after[node] != before[node]] == ["node3"]


def test_new_ports_reach_one_node_after_the_other(deployment: Deployment) -> None:
    before = deployment.pids()
    for variables, port in zip(deployment.nodes.values(), free_ports(3), strict=True):
        variables["pickbox_dashboard_port"] = port
    done, at_once = threading.Event(), [len(NODES)]

    def count() -> None:
        while not done.wait(0.1):
            with suppress(*supervisor.UNREACHABLE):  # that it is busy says nothing of the nodes
                infos = supervisor.connect(
                    str(deployment.home / "supervisor.sock")
                ).getAllProcessInfo()
                at_once.append(sum(info["statename"] == "RUNNING" for info in infos))

    counting = threading.Thread(target=count)
    counting.start()
    try:
        run = deployment.play("deploy")
    finally:
        done.set()
        counting.join()
    assert run.code == 0, run.output
    assert min(at_once) == len(NODES) - 1
    assert not set(deployment.pids().values()) & set(before.values())


def test_a_wrong_setting_is_refused_before_it_lands(deployment: Deployment) -> None:
    settings = [deployment.home / "nodes" / node / "node.toml" for node in NODES]
    before = deployment.pids(), [path.read_text() for path in settings]
    run = deployment.play("deploy", '--extra-vars={"pickbox_settings": {"scan_interval": 0}}')
    assert run.code != 0
    assert "PICKBOX_SCAN_INTERVAL" in run.output
    assert (deployment.pids(), [path.read_text() for path in settings]) == before


def change_release(deployment: Deployment, text: str) -> None:
    """Have the sources make another release; its nodes run what is appended when they start."""
    with (deployment.source / "node_service/pickbox/node.py").open("a") as module:
        module.write(text)


def running(deployment: Deployment) -> dict[str, str]:
    """The release that each node's process was started from."""
    return {
        node: variables_of(pid, "PICKBOX_")["PICKBOX_RELEASE"]
        for node, pid in deployment.pids().items()
    }


def test_a_plan_tells_who_is_upgraded_in_which_order_and_changes_nothing(
    deployment: Deployment,
) -> None:
    before, old = deployment.pids(), running(deployment)["node1"]
    change_release(deployment, "# another release\n")
    run = deployment.play("upgrade", "--tags=plan")
    assert run.code == 0, run.output
    rows = re.findall(
        rf"- (node\d) +(leader|follower) +{re.escape(old)} +(\S+) +other release", run.output
    )
    assert [role for _, role, _ in rows] == ["follower", "follower", "leader"]
    assert "3 of 3 nodes are ready, and 2 are needed: 1 can be spared" in run.output
    assert run.changed == dict.fromkeys(NODES, 0)
    assert deployment.pids() == before


def test_an_upgrade_takes_one_node_after_the_other_and_loses_no_write(
    deployment: Deployment,
) -> None:
    before = running(deployment)
    with Writer(deployment) as writer:
        run = deployment.play("upgrade")
    assert run.code == 0, run.output
    after = running(deployment)
    assert after.keys() == before.keys()
    assert len(set(after.values())) == 1
    assert not set(after.values()) & set(before.values())
    assert writer.acknowledged
    for node in NODES:
        folder = deployment.files(node)
        wait_until(lambda folder=folder: not writer.missing_in(folder), f"{node} has all of it")


def test_a_release_that_does_not_start_is_taken_back_from_the_first_node(
    deployment: Deployment,
) -> None:
    before, pids = running(deployment), deployment.pids()
    change_release(deployment, 'raise RuntimeError("broken on purpose")\n')
    # So long may the old release take too when it is started again.
    run = deployment.play("upgrade", "--extra-vars=pickbox_ready_timeout=45")
    assert run.code != 0
    told = " ".join(run.output.split())
    found = re.search(r"msg: .*?(node\d) failed at .* It has its old release (\S+) and its", told)
    assert found, run.output
    assert found[2] == before[found[1]]
    evidence = re.search(r"What may tell why is in (\S+) on the control node", told)
    assert evidence
    assert "broken on purpose" in (Path(evidence[1]) / "node.log").read_text()
    assert running(deployment) == before
    after = deployment.pids()
    assert [node for node in NODES if after[node] != pids[node]] == [found[1]]


def test_a_rollback_goes_to_the_release_before_without_any_wheels(deployment: Deployment) -> None:
    before = running(deployment)
    shutil.rmtree(deployment.home / "wheels")
    run = deployment.play("rollback", "--extra-vars=pickbox_source=/nowhere")
    assert run.code == 0, run.output
    after = running(deployment)
    assert len(set(after.values())) == 1
    assert not set(after.values()) & set(before.values())


def test_a_rollback_to_what_is_not_there_is_refused(deployment: Deployment) -> None:
    before = deployment.pids()
    run = deployment.play("rollback", "--extra-vars=pickbox_release=9.9.9-000000000000")
    assert run.code != 0
    told = " ".join(run.output.split())
    lacking = "9.9.9-000000000000 is not on the machine of node1, node2, node3."
    assert f"Nothing was touched: {lacking} Kept are: " in told
    assert deployment.pids() == before


def test_nothing_is_restarted_while_a_node_is_down(deployment: Deployment) -> None:
    before = deployment.pids()
    supervisor.connect(str(deployment.home / "supervisor.sock")).stopProcess("node2")
    run = deployment.play("restart")
    assert run.code != 0
    assert "Nothing was touched" in run.output
    supervisor.connect(str(deployment.home / "supervisor.sock")).startProcess("node2")
    wait_until(lambda: deployment.is_ready("node2"), "node2 is back")
    assert {node: deployment.pids()[node] for node in ("node1", "node3")} == {
        node: before[node] for node in ("node1", "node3")
    }


def test_the_status_is_a_table_of_the_nodes(deployment: Deployment) -> None:
    def is_shown() -> bool:
        run = deployment.play("status")
        assert run.code == 0, run.output
        rows = re.findall(r"- (node\d) +(leader|follower) +yes +\d+ +\d+ +0 ", run.output)
        one_leads = [role for _, role in rows].count("leader") == 1
        return one_leads and [node for node, _ in rows] == list(NODES)

    wait_until(is_shown, "it has a row of each node, which are all well", 120)


def test_the_cluster_is_proved_and_left_as_it_was(deployment: Deployment) -> None:
    run = deployment.play("verify")
    assert run.code == 0, run.output
    assert re.search(r"node\d led and was killed, and node\d took over", run.output)
    assert deployment.pids().keys() == set(NODES)
    assert not [*deployment.files("node1").glob("pickbox-verify-*")]


def backup_variables(deployment: Deployment) -> str:
    repository, password = deployment.directory / "repository", deployment.directory / "password"
    return (
        f"--extra-vars=pickbox_backup_repository={repository} "
        f"pickbox_backup_password_file={password}"
    )


def test_a_backup_is_made_by_a_follower_and_its_password_is_kept(deployment: Deployment) -> None:
    folder = deployment.files("node1") / "docs"
    folder.mkdir()
    (folder / "kept").write_text("as it was")
    run = deployment.play("backup", backup_variables(deployment))
    assert run.code == 0, run.output
    told = " ".join(run.output.split())
    assert re.search(r"Snapshot [0-9a-f]{8} in \S+/repository, made by node\d", told)
    password = (deployment.directory / "password").read_text().strip()
    assert len(password) == 48
    assert password not in run.output
    for node in NODES:
        kept = deployment.home / "nodes" / node / "backup/password"
        assert (kept.read_text().strip(), kept.stat().st_mode & 0o777) == (password, 0o600)
        assert not [*(deployment.files(node).parent / "backups").iterdir()]


def test_a_restore_puts_a_folder_back_and_everything_only_over_nothing(
    deployment: Deployment,
) -> None:
    variables = backup_variables(deployment)
    kept = deployment.files("node2") / "docs/kept"
    kept.write_text("overwritten")
    refused = deployment.play("restore", variables, "--extra-vars=confirm=yes")
    assert refused.code != 0
    assert "Nothing was touched: the cluster has" in " ".join(refused.output.split())
    run = deployment.play(
        "restore", variables, "--extra-vars=confirm=yes pickbox_restore_path=docs/"
    )
    assert run.code == 0, run.output
    assert "Every node has all of it." in run.output
    for node in NODES:
        assert (deployment.files(node) / "docs/kept").read_text() == "as it was"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("backup", "would make a backup of about"),
        ("restore", "would restore everything of the snapshot latest"),
        ("rotate_certificates", "The nodes get new certificates one after the other"),
        ("teardown", "The nodes node1, node2, node3, and of them"),
    ],
)
def test_a_plan_is_told_without_a_question_and_changes_nothing(
    deployment: Deployment, name: str, told: str
) -> None:
    before = deployment.pids(), deployment.certificates()
    over = "--extra-vars=pickbox_restore_over=true"
    run = deployment.play(name, "--tags=plan", over, backup_variables(deployment))
    assert run.code == 0, run.output
    assert told in " ".join(run.output.split())
    assert run.changed == dict.fromkeys(NODES, 0)
    assert (deployment.pids(), deployment.certificates()) == before


def test_a_teardown_that_is_not_confirmed_touches_nothing(deployment: Deployment) -> None:
    before = deployment.pids()
    run = deployment.play("teardown")
    assert run.code != 0
    assert "Nothing was touched" in run.output
    assert deployment.pids() == before


def test_a_check_of_a_teardown_tells_changes_and_makes_none(deployment: Deployment) -> None:
    before = deployment.pids()
    run = deployment.play("teardown", "--check", "--diff", "--extra-vars=confirm=yes")
    assert run.code == 0, run.output
    assert all(run.changed[node] > 0 for node in NODES)
    assert deployment.pids() == before
    assert (deployment.home / "current/bin/pickbox").exists()


def test_a_teardown_keeps_the_files(deployment: Deployment) -> None:
    (deployment.files("node1") / "precious").write_text("mine")
    assert deployment.play("teardown", "--extra-vars=confirm=yes").code == 0
    assert deployment.pids() == {}
    assert (deployment.files("node1") / "precious").read_text() == "mine"
    assert not (deployment.home / "releases").exists()
    assert not (deployment.home / "nodes/node1/current").is_symlink()


def test_a_purge_leaves_nothing_of_ours(deployment: Deployment) -> None:
    purge = "--extra-vars=confirm=yes pickbox_purge_data=true"
    assert deployment.play("teardown", purge).code == 0
    assert [path for path in deployment.home.rglob("*") if not path.is_dir()] == []
