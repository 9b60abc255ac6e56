"""The plugins of the control node at a real cluster: its inventory, its files, templates in it."""

from __future__ import annotations

import base64
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cluster import TOKEN, wait_until
from control_node import ask_inventory, command, inventory, rendered, task
from module_runs import failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cluster import Cluster

pytestmark = pytest.mark.cluster

NOBODY = "http://127.0.0.1:1"


def settled(cluster: Cluster) -> str:
    """Name of the leader, once every node sees every other one as ready and names it."""
    leaders: set[str] = set()

    def seen() -> bool:
        views = [node.request("GET", "/api/cluster").json() for node in cluster]
        leaders.clear()
        leaders.update(str(node["leader"]) for view in views for node in [view, *view["nodes"]])
        ready = all(node["ready"] for view in views for node in view["nodes"])
        return ready and len(leaders) == 1

    wait_until(seen, "every node sees every other one as ready, and names one leader", 60)
    return leaders.pop()


def told_under_one_leader(
    cluster: Cluster, ask: Callable[[], dict[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """What is told, and who led before and after: it is asked again if that was not the same."""
    while True:
        leader = settled(cluster)
        told = ask()
        if settled(cluster) == leader:
            return leader, told


def test_the_nodes_are_hosts_in_groups_with_what_the_playbooks_want(
    cluster: Cluster, tmp_path: Path
) -> None:
    leader, told = told_under_one_leader(
        cluster,
        lambda: inventory(
            tmp_path,
            urls=[NOBODY, cluster["node2"].client],
            admin_urls=[cluster["node1"].admin],
            token=TOKEN,
            compose={"title": "pickbox_node.role ~ ' ' ~ pickbox_node_id"},
            groups={"well": "pickbox_node.ready"},
            keyed_groups=[{"key": "pickbox_node.version", "prefix": "release"}],
            strict=True,
        ),
    )
    names = sorted(cluster.nodes)
    assert told["pickbox_leader"]["hosts"] == [leader]
    assert sorted(told["pickbox_followers"]["hosts"]) == sorted(set(names) - {leader})
    assert sorted(told["well"]["hosts"]) == names
    (release,) = [group for group in told if group.startswith("release_")]
    assert sorted(told[release]["hosts"]) == names
    for name, variables in told["_meta"]["hostvars"].items():
        ports = ("port", "admin_port", "monitor_port", "dashboard_port")
        assert tuple(variables[f"pickbox_{port}"] for port in ports) == cluster[name].ports
        assert variables["ansible_host"] == variables["pickbox_host"] == "127.0.0.1"
        assert variables["pickbox_node"]["client_url"] == cluster[name].client
        assert variables["title"].endswith(f" {name}")


def test_playbooks_run_on_the_nodes_that_were_found(cluster: Cluster, tmp_path: Path) -> None:
    settled(cluster)
    source = {
        "plugin": "pickbox.cluster.pickbox",
        "urls": [cluster["node3"].client],
        "admin_urls": [cluster["node3"].admin],
        "compose": {
            "ansible_connection": "'local'",
            "ansible_python_interpreter": repr(sys.executable),
            "pickbox_home": "'/nowhere'",
        },
    }
    path = tmp_path / "found.pickbox.yml"
    path.write_text(yaml.safe_dump(source))
    done = command(
        "ansible-playbook",
        f"--inventory={path}",
        "pickbox.cluster.status",
        ANSIBLE_STDOUT_CALLBACK="default",
        PICKBOX_ADMIN_TOKEN=TOKEN,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for node in cluster:
        assert f"- {node.node_id}  " in done.stdout
        assert node.client in done.stdout


def test_a_node_that_is_down_is_still_a_member(cluster: Cluster, tmp_path: Path) -> None:
    settled(cluster)
    down, other = cluster.followers()
    down.kill()

    def noticed() -> bool:
        nodes = other.request("GET", "/api/cluster").json()["nodes"]
        return [node["node_id"] for node in nodes if not node["reachable"]] == [down.node_id]

    wait_until(noticed, "the node that is down is seen to be")
    urls = [down.client, other.client]
    told: dict[str, Any] = {}

    def is_told() -> bool:
        told.clear()
        told.update(inventory(tmp_path, urls=urls, admin_urls=[other.admin], token=TOKEN))
        return bool(told["pickbox_unreachable"]["hosts"] == [down.node_id])

    wait_until(is_told, "it alone is unreachable", 60)
    assert set(told["_meta"]["hostvars"]) == set(cluster.nodes)
    assert told["_meta"]["hostvars"][down.node_id]["pickbox_port"] == down.ports[0]


def test_what_was_told_is_kept_in_the_cache_without_the_token(
    cluster: Cluster, tmp_path: Path
) -> None:
    kept = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile"}
    source = {
        "admin_urls": [cluster["node1"].admin],
        "token": TOKEN,
        "cache_connection": str(tmp_path / "cache"),
        **kept,
    }

    def ask() -> dict[str, Any]:
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        return inventory(tmp_path, urls=[cluster["node1"].client], **source)

    leader, first = told_under_one_leader(cluster, ask)
    assert first["pickbox_leader"]["hosts"] == [leader]
    (file,) = (tmp_path / "cache").iterdir()
    assert TOKEN not in file.read_text()
    assert inventory(tmp_path, urls=[NOBODY], **source) == first


def test_a_wrong_token_is_told_as_the_cluster_told_it(cluster: Cluster, tmp_path: Path) -> None:
    urls, admin_urls = [cluster["node1"].client], [cluster["node1"].admin]
    told = ask_inventory(tmp_path, urls=urls, admin_urls=admin_urls, token="wrong")
    assert told.returncode != 0
    said = " ".join(told.stderr.split())
    assert "The members are not known" in said
    assert "answers 401 unauthorized" in said


def look_up(cluster: Cluster, directory: Path, terms: str, **options: Any) -> Any:
    options = {"urls": [NOBODY, cluster["node2"].client], "timeout": 10, **options}
    expression = f"query('pickbox.cluster.file_content', {terms}, **options)"
    return rendered(directory, expression, options=options)


def test_files_are_read_in_the_order_of_their_paths(cluster: Cluster, tmp_path: Path) -> None:
    cluster["node1"].put("read/a%3F", "ä\n".encode())
    cluster["node1"].put("read/b", b"{{ no_template }}")
    found = look_up(cluster, tmp_path, "'read/b', 'read/a?'")
    assert found == ["{{ no_template }}", "ä\n"]


def test_bytes_are_read_as_base64_and_refused_as_text(cluster: Cluster, tmp_path: Path) -> None:
    content = bytes(range(256))
    assert cluster["node2"].put("read/bytes", content).status == 201
    (found,) = look_up(cluster, tmp_path, "'read/bytes'", encoding="base64", consistency="local")
    assert base64.b64decode(found) == content
    said = look_up(cluster, tmp_path, "'read/bytes'")
    assert "read/bytes is no UTF-8 text (byte 128): read it with encoding='base64'" in said


def test_what_is_absent_is_an_error_or_the_default(cluster: Cluster, tmp_path: Path) -> None:
    said = look_up(cluster, tmp_path, "'read/nothing'")
    assert "read/nothing is not in the cluster: " in said
    assert "answers 404 not-found" in said
    assert look_up(cluster, tmp_path, "'read/nothing'", default="") == [""]


def test_what_is_refused_or_silent_is_no_absence(cluster: Cluster, tmp_path: Path) -> None:
    said = look_up(cluster, tmp_path, "'../x'", default="")
    assert "../x was not read: " in said
    assert "answers 400" in said
    said = look_up(cluster, tmp_path, "'x'", default="", urls=[NOBODY], timeout=1)
    assert f"x was not read: {NOBODY}" in said
    assert "See that the node runs" in said


def test_a_template_is_rendered_and_kept_with_a_diff(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    template = tmp_path / "templates/settings.ini.j2"
    template.write_text("{% for name in names %}\n{{ name }}\n{% endfor %}\n")
    options = {
        "urls": [cluster["node1"].client],
        "path": "read/settings.ini",
        "template": template.name,
    }
    content: dict[str, Any] = {
        "pickbox.cluster.file": options,
        "vars": {"names": ["{{ 'a' }}", "b"]},
    }
    told = task(tmp_path, "--check", "--diff", **content)
    assert told["changed"]
    assert told["diff"][1]["after"] == "a\nb\n"
    assert cluster["node1"].get("read/settings.ini").status == 404
    assert task(tmp_path, **content)["changed"]
    assert cluster["node1"].get("read/settings.ini").data == b"a\nb\n"
    assert not task(tmp_path, **content)["changed"]


def test_a_template_that_fails_or_contradicts_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "wrong.j2").write_text("{{ unheard_of }}")
    options = {"urls": [cluster["node1"].client], "path": "read/wrong", "template": "wrong.j2"}
    assert "unheard_of" in str(task(tmp_path, **{"pickbox.cluster.file": options}))
    said = task(tmp_path, **{"pickbox.cluster.file": {**options, "content": "x"}})["msg"]
    assert said == "parameters are mutually exclusive: content|template|src"
    assert "rendered on the control node" in failure("file", **options)
