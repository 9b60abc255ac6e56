"""Playbooks of this clone, run for real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Run:
    """A finished run of a playbook."""

    code: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """How many tasks changed something, by node, as the recap says."""
        found = re.findall(r"^(\w+)\s+: ok=\d+\s+changed=(\d+)", self.output, re.MULTILINE)
        return {node: int(count) for node, count in found}


def run_playbook(inventory: Path, *arguments: str) -> Run:
    """Run ansible-playbook of this clone on an inventory; the playbook is among the arguments."""
    done = subprocess.run(
        [
            f"{os.path.dirname(sys.executable)}/ansible-playbook",
            f"--inventory={inventory}",
            *arguments,
        ],
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_INJECT_FACT_VARS": "false"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Run(done.returncode, done.stdout + done.stderr)
