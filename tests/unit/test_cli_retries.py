"""Retries: a write is applied once, whatever happens to its answers."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest
from cli_catalog import Fault, Node
from cli_node import running_node
from cli_run import pickbox_command
from ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def node() -> Iterator[Node]:
    with running_node() as node:
        yield node


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"content" * 100_000)
    return file


def keys(node: Node, method: str) -> list[str]:
    return [seen.headers["Idempotency-Key"] for seen in node.requests(method)]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_busy_node_is_asked_again_under_the_same_key(node: Node, file: Path, status: int) -> None:
    node.faults += [Fault("PUT", status)] * 2
    assert pickbox_command("put", file, "a", node=node).code == 0
    assert len(keys(node, "PUT")) == 3
    assert len(set(keys(node, "PUT"))) == 1
    assert node.applied == 1


def test_a_write_whose_answer_was_lost_is_not_applied_twice(node: Node, file: Path) -> None:
    node.faults.append(Fault("PUT", lose_answer=True))
    stored = pickbox_command("put", "--if-absent", "--json", file, "a", node=node)
    assert stored.code == 0
    assert stored.json["version"] == 1
    assert (len(node.requests("PUT")), node.applied) == (2, 1)


def test_an_upload_that_broke_off_is_sent_again_whole(node: Node, tmp_path: Path) -> None:
    content = os.urandom(20 << 20)
    (tmp_path / "large").write_bytes(content)
    node.faults += [Fault("PUT", break_upload=True)] * 2
    assert pickbox_command("put", tmp_path / "large", "a", node=node).code == 0
    assert node.entries[b"a"].content == content
    assert (len(node.requests("PUT")), node.applied) == (3, 1)


def test_a_directory_is_given_up_when_the_node_stays_busy(node: Node, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(50):
        (tmp_path / f"in/{number}").write_bytes(b"x")
    node.faults += [Fault("PUT", 503)] * 1000
    started = time.monotonic()
    refused = pickbox_command("--timeout", "1", "put", "-r", tmp_path / "in", "top", node=node)
    assert refused.code == 5
    assert time.monotonic() - started < 10


def test_stdin_is_sent_again_from_its_start(node: Node) -> None:
    node.faults += [Fault("PUT", 503), Fault("PUT", lose_answer=True)]
    assert pickbox_command("put", "-", "a", node=node, stdin=b"x" * 300_000).code == 0
    assert [seen.size for seen in node.requests("PUT")] == [300_000] * 3
    assert node.entries[b"a"].content == b"x" * 300_000


@pytest.mark.parametrize(
    ("method", "command"),
    [("DELETE", ("rm", "a")), ("POST", ("mv", "a", "b")), ("PUT", ("mkdir", "d"))],
)
def test_every_write_survives_a_lost_answer(
    node: Node, method: str, command: tuple[str, ...]
) -> None:
    node.store(b"a", b"x")
    node.faults += [Fault(method, lose_answer=True), Fault(method, 503)]
    assert pickbox_command(*command, node=node).code == 0
    assert node.applied == 1
    assert len(set(keys(node, method))) == 1


def test_a_key_can_be_given_so_that_a_script_may_repeat_itself(node: Node, file: Path) -> None:
    for _ in range(2):
        done = pickbox_command("put", "--idempotency-key", "job-7", file, "a", node=node)
        assert done.code == 0
    assert node.applied == 1


def test_an_upload_that_was_done_and_replaced_since_is_no_damage(node: Node, file: Path) -> None:
    """Of a version that is not there any more a node has no digest to tell."""
    pickbox_command("put", "--idempotency-key", "job-7", file, "a", node=node)
    node.receipts["job-7"]["digest"] = ""
    assert pickbox_command("put", "--idempotency-key", "job-7", file, "a", node=node).code == 0


def test_two_runs_have_two_keys(node: Node, file: Path) -> None:
    for _ in range(2):
        pickbox_command("put", file, "a", node=node)
    assert len(set(keys(node, "PUT"))) == 2


def test_a_node_that_stays_busy_ends_in_5_after_the_timeout(node: Node, file: Path) -> None:
    node.faults += [Fault("PUT", 503)] * 100
    refused = pickbox_command("--timeout", "4", "put", file, "a", node=node)
    assert refused.code == 5
    assert "No leader was there in time." in refused.stderr
    assert 2 <= len(node.requests("PUT")) <= 20


def test_a_write_names_its_key_when_its_outcome_is_unknown(node: Node, file: Path) -> None:
    fault = Fault("PUT", 504, "outcome-unknown", "The deadline passed.")
    node.faults += [fault] * 100
    unknown = pickbox_command("--timeout", "1", "put", file, "a", node=node)
    assert unknown.code == 5
    assert f"--idempotency-key {keys(node, 'PUT')[0]}" in unknown.stderr


def test_a_refusal_is_final(node: Node, file: Path) -> None:
    node.faults.append(Fault("PUT", 507, "disk-full", "The volume is full."))
    assert pickbox_command("put", file, "a", node=node).code == 1
    assert len(node.requests("PUT")) == 1


def test_the_next_url_is_tried_when_one_cannot_be_reached(node: Node, file: Path) -> None:
    urls = f"http://127.0.0.1:{free_ports(1)[0]},{node.url}"
    assert pickbox_command("--url", urls, "put", file, "a").code == 0
    assert pickbox_command("ls", "--url", urls).stdout == b"a\n"


def test_the_next_url_is_tried_when_one_is_not_ready(node: Node, file: Path) -> None:
    with running_node() as draining:
        draining.faults += [Fault("PUT", 503, "not-ready", "Draining.")] * 100
        done = pickbox_command("put", file, "a", "--url", draining.url, "--url", node.url)
    assert done.code == 0
    assert len(draining.requests("PUT")) == 1
    assert keys(draining, "PUT") == keys(node, "PUT")


def test_a_read_goes_on_while_the_content_is_under_way(node: Node) -> None:
    node.store(b"a", b"x")
    node.faults += [Fault("GET", 503, "content-pending", "On its way.")] * 2
    assert pickbox_command("get", "a", "-", node=node).stdout == b"x"


def test_nobody_there_is_69_at_once_for_reads_and_after_the_timeout_for_writes(
    file: Path,
) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    assert pickbox_command("--url", url, "ls").code == 69
    refused = pickbox_command("--url", url, "--timeout", "1", "put", file, "a")
    assert refused.code == 69
    assert f"{url} cannot be reached: connection refused." in refused.stderr


def test_a_node_that_is_silent_is_not_one_that_is_not_there(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        urls = f"http://127.0.0.1:{silent.getsockname()[1]},http://127.0.0.1:{free_ports(1)[0]}"
        refused = pickbox_command("--url", urls, "--timeout", "0.5", "put", file, "a")
    assert refused.code == 5
    assert "did not answer within 0.5 s" in refused.stderr
