"""The commands about the cluster, the global options, and the exit codes."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli_catalog import Fault, Node
from cli_node import running_node
from cli_run import TOKEN, environment, pickbox_command

import pickbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def node() -> Iterator[Node]:
    with running_node() as node:
        yield node


def test_status_shows_a_line_a_node(node: Node) -> None:
    shown = pickbox_command("status", node=node)
    assert shown.code == 0
    lines = shown.stdout.decode().splitlines()
    assert lines[0].startswith("cluster pickbox: leader node1, term 7, 3 of 3 nodes up, quorum")
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["node1", "leader", "ready"],
        ["node2", "follower", "ready"],
        ["node3", "follower", "ready"],
    ]


def test_status_in_json_is_what_the_node_said(node: Node) -> None:
    assert pickbox_command("status", "--json", node=node).json == node.cluster()


def test_status_without_a_leader_is_shown_and_exits_with_5(node: Node) -> None:
    node.leader = None
    shown = pickbox_command("status", node=node)
    assert shown.code == 5
    assert b"leader none" in shown.stdout
    assert b"No leader is known." in shown.stdout


def test_leader_prints_its_name_or_exits_with_5(node: Node) -> None:
    assert pickbox_command("leader", node=node).stdout == b"node1\n"
    assert pickbox_command("leader", "--json", node=node).json == {"leader": "node1", "term": 7}
    node.leader = None
    assert pickbox_command("leader", node=node).code == 5


def test_leadership_is_handed_over(node: Node) -> None:
    assert pickbox_command("leader", "--transfer-to", "node3", node=node).stdout == b"node3\n"
    assert node.leader == "node3"
    assert pickbox_command("leader", "--transfer", node=node).stdout == b"node2\n"
    assert pickbox_command("leader", "--transfer-to", "nobody", node=node).code == 3


def test_drain_and_its_undoing(node: Node) -> None:
    assert pickbox_command("drain", node=node).code == 0
    assert node.draining
    assert pickbox_command("drain", "--undo", "--json", node=node).json == {"draining": False}
    assert not node.draining


def test_members_are_listed(node: Node) -> None:
    members = pickbox_command("members", "--json", node=node).json["members"]
    assert [member["node_id"] for member in members] == ["node1", "node2", "node3"]
    assert b"node2" in pickbox_command("members", node=node).stdout


def test_a_member_that_an_earlier_try_removed_is_removed(node: Node) -> None:
    node.faults += [Fault("DELETE", 504, "outcome-unknown", applied=True)]
    removed = pickbox_command("members", "remove", "node3", "--json", node=node)
    assert removed.code == 0
    assert [member["node_id"] for member in removed.json["members"]] == ["node1", "node2"]
    assert len(node.requests("DELETE")) == 2


def test_nobody_is_removed_who_is_not_a_member(node: Node) -> None:
    assert pickbox_command("members", "remove", "node9", node=node).code == 3
    assert node.members == ["node1", "node2", "node3"]


def test_held_deletes_are_shown_and_released(node: Node) -> None:
    assert pickbox_command("deletes", node=node).stdout == b"No deletes are held.\n"
    node.held = 2
    shown = pickbox_command("deletes", "show", node=node).stdout.decode()
    assert shown.startswith("2 of 10 files are missing")
    assert pickbox_command("deletes", "--json", node=node).json["count"] == 2
    assert pickbox_command("deletes", "approve", "--json", node=node).json == {"count": 2}
    assert [seen.method for seen in node.seen if "deletes" in seen.path][-1] == "POST"
    assert pickbox_command("deletes", "restore", node=node).code == 0
    assert node.seen[-1].method == "DELETE"


@pytest.mark.parametrize("token", ["", "not-the-token"])
def test_a_wrong_token_exits_with_6_and_says_where_to_give_one(node: Node, token: str) -> None:
    refused = pickbox_command("members", node=node, env={"PICKBOX_ADMIN_TOKEN": token})
    assert refused.code == 6
    assert "PICKBOX_ADMIN_TOKEN_FILE" in refused.stderr


def test_the_token_may_be_in_a_file(node: Node, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    variables = {"PICKBOX_ADMIN_TOKEN": "", "PICKBOX_ADMIN_TOKEN_FILE": str(tmp_path / "token")}
    assert pickbox_command("members", node=node, env=variables).code == 0
    missing = pickbox_command(
        "members", "--token-file", tmp_path / "no", node=node, env={"PICKBOX_ADMIN_TOKEN": ""}
    )
    assert missing.code == 6
    assert "cannot be read: No such file" in missing.stderr


def test_options_stand_before_or_after_the_command_and_win_over_the_environment(
    node: Node,
) -> None:
    elsewhere = {"PICKBOX_URL": "http://127.0.0.1:1"}
    for arguments in (("--url", node.url, "leader"), ("leader", "--url", node.url)):
        assert pickbox_command(*arguments, env=elsewhere).stdout == b"node1\n"
    bare = node.url.removeprefix("http://")
    assert pickbox_command("leader", "--url", bare).stdout == b"node1\n"
    both = pickbox_command("--url", "http://127.0.0.1:1", "leader", "--url", node.url)
    assert both.stdout == b"node1\n"


def test_a_failure_in_json_is_the_problem_document_with_exit_code_and_advice(node: Node) -> None:
    failed = pickbox_command("get", "nowhere", "--json", node=node)
    assert failed.code == 3
    problem = failed.json
    assert problem["type"] == "urn:pickbox:problem:not-found"
    assert (problem["status"], problem["exit_code"]) == (404, 3)
    assert problem["detail"] in failed.stderr


def test_an_answer_that_is_no_problem_document_is_told_with_its_status(node: Node) -> None:
    assert pickbox_command("status", "--url", node.url + "/elsewhere").code == 3
    node.faults.append(Fault("GET", status=500, type="internal", detail=""))
    failed = pickbox_command("status", node=node)
    assert failed.code == 1
    assert "HTTP status 500" in failed.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("put", "only-one"),
        ("get", ""),
        ("rm", ""),
        ("status", "--url", "ftp://x"),
        ("leader", "--transfer", "--transfer-to", "node1"),
        ("put", "a", "b", "--if-absent", "--if-version", "3"),
        ("get", "--json", "a", "-"),
    ],
)
def test_wrong_usage_exits_with_2(node: Node, arguments: tuple[str, ...]) -> None:
    assert pickbox_command(*arguments, node=node).code == 2
    assert node.seen == []


def test_help_lists_every_command_and_every_exit_code() -> None:
    shown = pickbox_command("--help").stdout.decode()
    for code in (0, 1, 2, 3, 4, 5, 6, 69, 78):
        assert re.search(rf"^\s+{code}  \w", shown, re.MULTILINE)
    for command in ("serve", "status", "ls", "put", "get", "rm", "mv", "mkdir", "doctor"):
        assert re.search(rf"^  {command} +\w", shown, re.MULTILINE)


def test_version_is_printed() -> None:
    assert pickbox_command("--version").stdout.decode().split()[-1] == pickbox.__version__


def test_a_progress_bar_is_drawn_only_on_a_terminal(node: Node, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(20 << 20))
    quiet = pickbox_command("put", tmp_path / "big", "big", node=node)
    assert quiet.stderr == ""
    assert "MiB" in _on_a_terminal(["put", str(tmp_path / "big"), "big"], node)


def _on_a_terminal(arguments: list[str], node: Node) -> str:
    """What the command writes to stderr when that is a terminal."""
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "pickbox", *arguments]
    variables = {**environment(node), "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stderr=terminal, env=variables) as process:
        os.close(terminal)
        shown = b""
        try:
            while chunk := os.read(controller, 65536):
                shown += chunk
        except OSError:  # how Linux says that the other side of a terminal has gone
            pass
        assert process.wait(30) == 0
    os.close(controller)
    return shown.decode()


def test_status_says_that_an_upgrade_is_to_be_finished(node: Node) -> None:
    assert b"upgrade" not in pickbox_command("status", node=node).stdout
    node.levels = (2, 2, 1)
    assert b"pickbox upgrade finish" in pickbox_command("status", node=node).stdout


def test_upgrade_shows_what_every_member_understands_and_finishes(node: Node) -> None:
    node.levels, node.node_versions = (2, 2, 1), ("0.2.0", "0.2.0", "0.1.0")
    shown = pickbox_command("upgrade", node=node).stdout.decode().splitlines()
    assert [line.split() for line in shown[1:4]] == [
        ["node1", "0.2.0", "2"],
        ["node2", "0.2.0", "2"],
        ["node3", "0.1.0", "1"],
    ]
    assert "pickbox upgrade finish" in shown[4]
    refused = pickbox_command("upgrade", "finish", node=node)
    assert (refused.code, refused.stdout) == (4, b"")
    assert "node3 runs release 0.1.0" in refused.stderr
    node.levels = (2, 2, 2)
    for _ in range(2):
        finished = pickbox_command("upgrade", "finish", "--json", node=node)
        assert (finished.code, finished.json["level"], finished.json["finished"]) == (0, 2, True)
