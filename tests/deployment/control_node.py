"""What runs on the control node - tasks, lookups, inventories - run for real, as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = {
    "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    "ANSIBLE_INJECT_FACT_VARS": "false",
    "ANSIBLE_NOCOLOR": "1",
}


def command(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's commands in this clone."""
    return subprocess.run(
        [f"{os.path.dirname(sys.executable)}/{name}", *arguments],
        env={**os.environ, **SETTINGS, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def task(directory: Path, *options: str, **content: Any) -> dict[str, Any]:
    """Run one task on the control node; give its result, failed or not."""
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [content]}
    path = directory / "play.yml"
    path.write_text(yaml.safe_dump([play]))
    done = command("ansible-playbook", *options, str(path), ANSIBLE_INVENTORY=os.devnull)
    assert done.stdout, done.stderr
    (ran,) = json.loads(done.stdout[done.stdout.index("{") :])["plays"]
    result: dict[str, Any] = ran["tasks"][-1]["hosts"]["localhost"]
    return result


def rendered(directory: Path, expression: str, **variables: Any) -> Any:
    """What a template expression gives on the control node, or the task's words when it fails."""
    content = {"ansible.builtin.debug": {"msg": f"{{{{ {expression} }}}}"}, "vars": variables}
    return task(directory, **content)["msg"]


def inventory(directory: Path, **source: Any) -> dict[str, Any]:
    """What ansible-inventory makes of a source for our plugin."""
    done = ask_inventory(directory, **source)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    listed: dict[str, Any] = json.loads(done.stdout, object_hook=plain)
    return listed


def plain(value: dict[str, Any]) -> Any:
    """A text that is no template is marked as such; what it says."""
    return value.get("__ansible_unsafe", value)


def ask_inventory(
    directory: Path, name: str = "some.pickbox.yml", **source: Any
) -> subprocess.CompletedProcess[str]:
    """Run ansible-inventory on a source for our plugin."""
    path = directory / name
    path.write_text(yaml.safe_dump({"plugin": "pickbox.cluster.pickbox", **source}))
    return command(
        "ansible-inventory",
        f"--inventory={path}",
        "--list",
        ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="true",
        ANSIBLE_INVENTORY_ENABLED="pickbox.cluster.pickbox",
    )
