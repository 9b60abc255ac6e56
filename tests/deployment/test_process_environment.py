"""What a process was started with is known, and nothing else of its environment."""

from __future__ import annotations

import subprocess
import sys

from ansible_collections.pickbox.cluster.plugins.modules.process_environment import variables_of


def test_the_variables_with_the_prefix_are_told_and_no_others() -> None:
    environment = {"PICKBOX_RELEASE": "1.2-a=b", "SECRET": "x"}
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert variables_of(process.pid, "PICKBOX_") == {"PICKBOX_RELEASE": "1.2-a=b"}
        process.communicate(b"\n")
    assert variables_of(process.pid, "PICKBOX_") == {}


def test_no_process_has_none() -> None:
    assert variables_of(0, "PICKBOX_") == {}
