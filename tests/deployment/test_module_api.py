"""Nodes are asked in turn and again, until one answers or time runs out; failures are in words."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.pickbox.cluster.plugins.module_utils import api
from serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = "http://127.0.0.1:1"
NOT_NOW = (503, {"type": "urn:pickbox:problem:not-ready", "detail": "Draining: use another one."})
FINE = (200, {"leader": "node1"})


@contextmanager
def answering(*answers: tuple[int, Any], **headers: str) -> Iterator[tuple[str, list[Any]]]:
    """A server that gives these answers, the last one for ever; its URL, and what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = answers[min(len(asked), len(answers) - 1)]
            asked.append(self.headers)
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Keep quiet."""

    with serving(Handler) as url:
        yield url, asked


def nodes(*urls: str, seconds: float = 5.0) -> api.Nodes:
    return api.Nodes(urls, api.Deadline(seconds), "token")


def test_the_next_node_is_asked_and_then_preferred() -> None:
    with answering(NOT_NOW) as (busy, asked), answering(FINE) as (free, _):
        both = nodes(NOBODY, busy, free)
        assert both.json("GET", "/x") == both.json("GET", "/x") == FINE[1]
        assert both.url == free
        assert len(asked) == 1


def test_a_node_that_answers_not_now_is_asked_again() -> None:
    with answering(NOT_NOW, NOT_NOW, FINE) as (url, asked):
        assert nodes(url).json("GET", "/x") == FINE[1]
        assert len(asked) == 3


def test_a_node_that_hangs_leaves_time_for_the_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, answering(FINE) as (url, _):
        both = nodes(f"http://127.0.0.1:{silent.getsockname()[1]}", url, seconds=2)
        assert both.json("GET", "/x") == FINE[1]


def test_a_refusal_that_stays_is_told_at_once_and_asked_of_nobody_else() -> None:
    answer = {"type": "urn:pickbox:problem:change-refused", "detail": "It is the only voter."}
    with answering((409, answer)) as (url, _), answering(FINE) as (other, asked):
        with pytest.raises(api.Refused) as caught:
            nodes(url, other).json("GET", "/x")
        assert str(caught.value) == f"{url}/x answers 409 change-refused: It is the only voter"
        assert (caught.value.url, caught.value.document) == (f"{url}/x", answer)
        assert not asked


def test_when_time_runs_out_every_node_is_named_and_a_refusal_says_the_type() -> None:
    with answering(NOT_NOW) as (url, _):
        with pytest.raises(api.Failed) as caught:
            nodes(NOBODY, url, seconds=0.1).json("GET", "/x")
        assert f"{NOBODY}/x does not answer" in str(caught.value)
        assert f"{url}/x answers 503 not-ready: Draining: use another one" in str(caught.value)
        assert caught.value.type == "not-ready"


@pytest.mark.parametrize("content", [b"", b"<h1>Bad gateway</h1>", b"[]"])
def test_an_error_without_a_document_is_told_by_its_status(content: bytes) -> None:
    said = "answers 404: it gives no reason"
    with answering((404, content)) as (url, _), pytest.raises(api.Refused, match=said):
        nodes(url).json("GET", "/x")


def test_what_is_no_json_is_no_answer_of_a_node() -> None:
    with (
        answering((200, b"<h1>Welcome</h1>")) as (url, _),
        pytest.raises(api.Silent, match="not as a node does"),
    ):
        nodes(url, seconds=0.1).json("GET", "/x")


def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    with answering(FINE, Content_Length="1000") as (broken, _), answering(FINE) as (whole, _):
        assert nodes(broken, whole).json("GET", "/x") == FINE[1]


def test_the_token_is_sent_to_the_node_and_not_on_to_where_it_points() -> None:
    with answering(FINE) as (other, asked), answering((307, b""), Location=other) as (url, first):
        with pytest.raises(api.Refused, match="answers 307"):
            nodes(url).json("GET", "/x")
        assert first[0]["Authorization"] == "Bearer token"
        assert not asked


def test_no_proxy_of_the_environment_sees_the_token_or_answers_for_a_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with answering((403, b"")) as (proxy, seen), answering(FINE) as (url, _):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert nodes(url, seconds=0.1).json("GET", "/x") == FINE[1]
        assert not seen


def test_what_is_no_url_is_said() -> None:
    with pytest.raises(api.NoUrl, match="9001/x is not an address such as http:"):
        nodes("127.0.0.1:9001").json("GET", "/x")
