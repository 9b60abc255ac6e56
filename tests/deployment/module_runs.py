"""Modules of the collection, run for real: a process each, as Ansible runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from cluster import TOKEN

MODULES = "ansible_collections.pickbox.cluster.plugins.modules"


def run(name: str, /, *, check: bool = False, **parameters: Any) -> dict[str, Any]:
    """What the module answers; it never shows the admin token, and never breaks."""
    flags = {"_ansible_check_mode": check, "_ansible_diff": True}
    done = subprocess.run(
        [sys.executable, "-m", f"{MODULES}.{name}"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**parameters, **flags}}),
        env={**os.environ, "PYTHONPATH": os.path.abspath("collections")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert TOKEN not in done.stdout
    assert not done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def failure(name: str, /, **parameters: Any) -> str:
    """What the module says when it fails."""
    answer = run(name, **parameters)
    assert answer.get("failed"), answer
    return str(answer["msg"])
