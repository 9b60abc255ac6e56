"""Every node is asked how it sees the cluster, and the answers become one picture."""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import module_runs
import pytest
from ansible_collections.pickbox.cluster.plugins.module_utils import api, cluster
from ansible_collections.pickbox.cluster.plugins.modules import cluster_info, wait_ready
from ports import free_ports
from serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def answering(code: int, document: Any) -> Iterator[str]:
    """A server that answers every GET with that; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *arguments: object) -> None:
            """Keep quiet."""

    with serving(Handler) as url:
        yield url


def view(leader: str | None, **ready: bool) -> dict[str, Any]:
    return {
        "leader": leader,
        "nodes": [{"node_id": name, "ready": is_ready} for name, is_ready in ready.items()],
    }


def test_nodes_that_agree_have_a_leader() -> None:
    with answering(200, view("node1", node1=True, node2=False)) as url:
        seen = cluster_info.look({"node1": url, "node2": url}, timeout=5)
    assert seen["leader"] == "node1"
    assert seen["ready"] == ["node1"]
    assert seen["quorum"] == 2


def test_a_silent_node_is_reported_and_takes_no_part() -> None:
    with answering(200, view("node1", node1=True)) as url:
        seen = cluster_info.look({"node1": url, "node2": "http://127.0.0.1:1"}, timeout=5)
    assert seen["leader"] == "node1"
    assert "refused" in seen["silent"]["node2"]


@pytest.mark.parametrize("other", ["node2", None])
def test_nodes_that_disagree_have_no_leader(other: str | None) -> None:
    seen = cluster_info.summarise({"node1": view("node1"), "node2": view(other)})
    assert seen["leader"] == ""


def test_each_node_is_shown_as_it_sees_itself() -> None:
    seen = cluster_info.summarise(
        {"node1": view("node1", node1=True, node2=True), "node2": view("node1", node2=False)}
    )
    assert seen["ready"] == ["node1"]


def test_without_a_majority_nobody_leads() -> None:
    seen = cluster_info.summarise({"node1": view("node1", node1=True), "node2": "x", "node3": "x"})
    assert not cluster_info.led(seen, "")
    assert cluster_info.in_words(seen).startswith("ready: node1; silent: node2, node3;")


def test_what_is_no_json_is_no_answer() -> None:
    assert isinstance(cluster.ask("http://127.0.0.1:1", 1), str)


def test_a_node_that_answers_200_is_ready() -> None:
    with answering(200, {}) as url:
        assert wait_ready.ask(url) == []


def test_a_node_that_is_not_ready_gives_its_reasons() -> None:
    with answering(503, {"reasons": ["No leader is known."]}) as url:
        assert wait_ready.ask(url) == ["No leader is known."]


def test_a_node_that_gives_no_reason_is_not_ready_either() -> None:
    with answering(500, "broken") as url:
        assert wait_ready.ask(url) == ["it answers 500 and gives no reason"]


def test_a_node_that_does_not_answer_is_silent() -> None:
    with pytest.raises(api.Silent, match="refused"):
        wait_ready.ask("http://127.0.0.1:1")


def node_view(name: str, applied: int, *, pending: int = 0, ready: bool = True) -> dict[str, Any]:
    node = {
        "node_id": name,
        "ready": ready,
        "version": "1.2",
        "commit_index": 7,
        "applied_index": applied,
        "figures": {"pending": pending},
    }
    return {"leader": "node1", "nodes": [node]}


def test_a_node_has_caught_up_when_it_is_ready_and_lacks_neither_entries_nor_content() -> None:
    seen = cluster_info.summarise(
        {
            "node1": node_view("node1", 7),
            "node2": node_view("node2", 6),
            "node3": node_view("node3", 7, pending=1),
            "node4": node_view("node4", 7, ready=False),
            "node5": "silent",
        }
    )
    assert cluster_info.caught_up(seen, cluster_info.committed_in(seen)) == ["node1"]


def test_where_nobody_answers_nobody_has_caught_up() -> None:
    seen = cluster_info.summarise({"node1": "silent"})
    assert cluster_info.caught_up(seen, cluster_info.committed_in(seen)) == []


def lacking(applied_index: int, document: Any, version: str = "") -> list[str]:
    with answering(200, document) as url:
        wanted = {"applied_index": applied_index, "version": version}
        return wait_ready.behind({"client_url": url, "node_id": "node1", **wanted})


def test_a_node_that_was_not_to_catch_up_lacks_nothing() -> None:
    assert wait_ready.behind({"client_url": None}) == []


def test_a_node_that_has_caught_up_lacks_nothing() -> None:
    assert lacking(7, node_view("node1", 7), version="1.2") == []


def test_a_node_that_is_behind_says_by_what() -> None:
    assert lacking(9, node_view("node1", 7, pending=2)) == [
        "it has applied entry 7 and not yet 9",
        "it lacks the content of 2 files",
    ]


def test_a_node_that_does_not_tell_of_itself_has_not_caught_up() -> None:
    (said,) = lacking(0, node_view("node2", 7))
    assert said.endswith("does not say how node1 is")


def test_a_node_of_another_version_is_not_waited_for() -> None:
    with pytest.raises(wait_ready.OtherVersion, match=r"runs version 1\.2 and not 1\.3"):
        lacking(7, node_view("node1", 7), version="1.3")


def test_a_check_waits_for_no_node() -> None:
    nobody = {"node1": f"http://127.0.0.1:{free_ports(1)[0]}"}
    answer = module_runs.run("cluster_info", check=True, nodes=nobody, settle=60)
    assert set(answer["silent"]) == {"node1"}
    assert answer["seconds"] < 30
