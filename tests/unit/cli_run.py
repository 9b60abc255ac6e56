"""Running the real command, and what it left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pickbox

if TYPE_CHECKING:
    from cli_catalog import Node

TOKEN = "a-token-for-tests-only"
PACKAGE = Path(pickbox.__file__).parents[1]


@dataclass(frozen=True)
class Ran:
    """What a run of the command left."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def environment(node: Node | None = None) -> dict[str, str]:
    """An environment with nothing of Pickbox's but what leads to `node`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PICKBOX_")}
    kept["PYTHONPATH"] = str(PACKAGE)
    if node is not None:
        kept["PICKBOX_URL"] = node.url
        kept["PICKBOX_ADMIN_URL"] = node.admin_url
        kept["PICKBOX_MONITOR_URL"] = node.monitor_url
        kept["PICKBOX_ADMIN_TOKEN"] = TOKEN
    return kept


def pickbox_command(
    *arguments: str | bytes | Path,
    node: Node | None = None,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> Ran:
    """Run the real command against `node`."""
    run = subprocess.run(
        [sys.executable, "-m", "pickbox", *arguments],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env={**environment(node), **(env or {})},
        timeout=60,
        check=False,
    )
    return Ran(run.returncode, run.stdout, run.stderr.decode())
