#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Starts or stops the supervisord that runs a machine's nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supervisord
short_description: Start or stop the supervisord that runs a machine's nodes
version_added: 0.1.0
description:
  - Starts supervisord as the calling user, with a clean environment, and waits until it answers at
    its socket.
  - The environment is clean so that C(PICKBOX_*) variables of the caller's shell do not reach the
    nodes, where they would win over C(node.toml).
options:
  state:
    description: Whether the daemon runs. When it is stopped, its programs are stopped first.
    type: str
    choices: [started, stopped]
    default: started
  executable:
    description: Path of the C(supervisord) command. Needed to start it.
    type: path
  config:
    description: Path of its configuration. Needed to start it.
    type: path
  socket:
    description: Path of the Unix socket that it listens at.
    type: path
    required: true
  identity:
    description:
      - The C(identifier) that its configuration gives it. A running supervisord of another
        identity is stopped, with its programs, and started again. Empty to take any.
    type: str
    default: ""
  timeout:
    description: Seconds that starting or stopping may take.
    type: int
    default: 60
attributes:
  check_mode:
    description: Says what would be done, and does nothing.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: Start supervisord
  pickbox.cluster.supervisord:
    executable: /opt/pickbox/supervisor/bin/supervisord
    config: /opt/pickbox/supervisord.conf
    socket: /opt/pickbox/supervisor.sock
"""

RETURN = r"""
version:
  description: Version of the running supervisord; empty when none runs.
  returned: success
  type: str
  sample: 4.3.0
"""

import os
import pwd
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pickbox.cluster.plugins.module_utils import supervisor


def clean_environment() -> dict[str, str]:
    """What supervisord, and through it every node, gets to see."""
    user = pwd.getpwuid(os.getuid())
    return {
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }


def start(module: AnsibleModule) -> None:
    """Start the daemon, which puts itself into the background, and wait for its socket."""
    command = [module.params["executable"], "-c", module.params["config"]]
    done = subprocess.run(  # noqa: S603 - the command is the role's own
        command,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=module.params["timeout"],
    )
    if done.returncode != 0:
        module.fail_json(msg=f"supervisord did not start: {(done.stderr or done.stdout).strip()}")
    if not _wait(module, running=True):
        module.fail_json(
            msg=f"supervisord was started but does not answer at {module.params['socket']}."
        )


def stop(module: AnsibleModule) -> None:
    """Have the daemon stop its programs and itself, and wait until it is gone."""
    rpc = supervisor.connect(module.params["socket"])
    pid = rpc.getPID()
    rpc.shutdown()
    deadline = time.monotonic() + module.params["timeout"]
    while os.path.exists(f"/proc/{pid}"):
        if time.monotonic() > deadline:
            module.fail_json(msg=f"supervisord (pid {pid}) has not stopped in time.")
        time.sleep(0.1)


def _wait(module: AnsibleModule, *, running: bool) -> bool:
    deadline = time.monotonic() + module.params["timeout"]
    while supervisor.answers(module.params["socket"]) is not running:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {"choices": ["started", "stopped"], "default": "started"},
            "executable": {"type": "path"},
            "config": {"type": "path"},
            "socket": {"type": "path", "required": True},
            "identity": {"default": ""},
            "timeout": {"type": "int", "default": 60},
        },
        required_if=[("state", "started", ("executable", "config"))],
        supports_check_mode=True,
    )
    socket, identity = module.params["socket"], module.params["identity"]
    wanted = module.params["state"] == "started"
    running = supervisor.answers(socket)
    other = running and identity not in ("", supervisor.connect(socket).getIdentification())
    must_stop = running and (other or not wanted)
    must_start = wanted and (other or not running)
    if not module.check_mode:
        if must_stop:
            stop(module)
        if must_start:
            start(module)
    version = (
        supervisor.connect(socket).getSupervisorVersion() if supervisor.answers(socket) else ""
    )
    module.exit_json(changed=must_stop or must_start, version=version)


if __name__ == "__main__":
    main()
