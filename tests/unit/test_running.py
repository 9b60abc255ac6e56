"""A node as a process."""

from __future__ import annotations

import subprocess
import sys

from cli_run import environment

FEW_AT_FIRST = """
import resource
from pickbox.running import use_all_descriptors

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
use_all_descriptors()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most))
"""


def test_a_node_opens_as_many_files_as_it_may_and_not_only_those_it_was_given_at_first() -> None:
    command = [sys.executable, "-c", FEW_AT_FIRST]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
