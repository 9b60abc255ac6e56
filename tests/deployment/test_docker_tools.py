"""The tools around Docker start what is missing, end what they started, and say why they cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAEMON = "trap 'rm up; touch ended; exit' TERM; touch up; while :; do sleep 0.05; done"


@pytest.fixture
def tool(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a tool with the named commands replaced by scripts, which run in `tmp_path`."""

    def run(*command: str, **scripts: str) -> subprocess.CompletedProcess[str]:
        for name, script in scripts.items():
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
            path.chmod(0o755)
        search = f"{tmp_path}:{os.environ['PATH']}"
        return subprocess.run(
            command,
            env={**os.environ, "PATH": search},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_a_daemon_that_answers_is_used(
    tool: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = tool("tools/with-dockerd", "sh", "-c", "exit 7", docker="exit 0", dockerd=DAEMON)
    assert done.returncode == 7
    assert not (tmp_path / "ended").exists()


def test_where_none_answers_one_is_started_and_ended(
    tool: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    during = f"test -e {tmp_path}/up && exit 7"
    done = tool("tools/with-dockerd", "sh", "-c", during, docker="test -e up", dockerd=DAEMON)
    assert done.returncode == 7
    assert (tmp_path / "ended").exists()


def test_a_daemon_that_does_not_start_is_told_with_what_it_said(
    tool: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = tool("tools/with-dockerd", "true", docker="exit 1", dockerd="echo no luck; exit 1")
    assert done.returncode == 1
    assert "did not come up" in done.stderr
    assert "no luck" in done.stderr


def test_an_image_that_is_there_is_only_named(
    tool: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = tool("tools/hosts-image", docker='[ "$1 $2" = "image inspect" ]')
    assert done.returncode == 0
    assert done.stdout.startswith("pickbox-host:")
    assert done.stderr == ""


def test_a_base_that_can_neither_be_pulled_nor_made_is_told(
    tool: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = tool("tools/hosts-image", docker="exit 1", debootstrap="echo no mirror; exit 1")
    assert done.returncode == 1
    assert "cannot be pulled" in done.stderr
    assert "no mirror" in done.stderr


def test_a_host_is_known_by_the_key_that_it_has_now(tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("10.0.0.2 ssh-ed25519 old\n10.0.0.20 ssh-ed25519 other\n")
    script = (
        "import sys, pathlib; sys.path.insert(0, 'molecule/hosts'); import containers; "
        f"containers.know(pathlib.Path({json.dumps(str(known))}), '10.0.0.2', 'ssh-ed25519 new')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert known.read_text() == "10.0.0.20 ssh-ed25519 other\n10.0.0.2 ssh-ed25519 new\n"
