"""Every node is asked how it sees the cluster, and the answers become one picture."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.pickbox.cluster.plugins.module_utils import api, cluster
from ansible_collections.pickbox.cluster.plugins.modules import cluster_info, wait_ready

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

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


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
