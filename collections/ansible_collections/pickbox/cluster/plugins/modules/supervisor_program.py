#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Makes one supervised program run exactly as its configuration file says."""

from __future__ import annotations

DOCUMENTATION = r"""
module: supervisor_program
short_description: Make a supervised program run as its configuration file says
version_added: 0.1.0
description:
  - Compares what supervisord runs with what the program's configuration file says, and starts,
    restarts or stops that one program. No other program is touched.
  - A program counts as up to date only when it runs and the running process was started from the
    configuration that is on the disk now, so a new release or configuration is never left
    unstarted.
options:
  name:
    description: Name of the program.
    type: str
    required: true
  socket:
    description: Path of supervisord's Unix socket.
    type: path
    required: true
  state:
    description:
      - C(started) starts it, or restarts it if it runs with another configuration.
      - C(stopped) stops it and leaves it known to supervisord.
      - C(absent) stops it and has supervisord forget it. Its configuration file must be gone.
      - C(queried) changes nothing, and says how it is.
    type: str
    choices: [started, stopped, absent, queried]
    default: started
  kill:
    description: With O(state=stopped), kill the process with SIGKILL instead of asking it to end.
    type: bool
    default: false
  log:
    description: The program's log. Its last lines are shown when the program does not start.
    type: path
attributes:
  check_mode:
    description: Says what would be done, and does nothing.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: Start node1, or restart it if its configuration has changed
  pickbox.cluster.supervisor_program:
    name: node1
    socket: /opt/pickbox/supervisor.sock
    log: /opt/pickbox/nodes/node1/node.log
"""

RETURN = r"""
known:
  description: Whether supervisord knows the program.
  returned: success
  type: bool
running:
  description: Whether the program runs, after what was done.
  returned: success
  type: bool
up_to_date:
  description: Whether the running process was started from the configuration that is on the disk.
  returned: success
  type: bool
pid:
  description: Process id; 0 when it does not run.
  returned: success
  type: int
action:
  description: What was done.
  returned: success
  type: str
  sample: restarted
"""

import os
import signal
import time
import xmlrpc.client
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pickbox.cluster.plugins.module_utils import supervisor

BAD_NAME = 10
ALREADY_STARTED = 60
NOT_RUNNING = 70


@dataclass(frozen=True)
class Program:
    """How supervisord sees the program.

    Attributes:
        known: supervisord has it among its running groups.
        stale: its configuration on the disk is not the one that supervisord runs.
    """

    known: bool = False
    stale: bool = False
    running: bool = False
    pid: int = 0

    @property
    def up_to_date(self) -> bool:
        """It runs, and from the configuration on the disk."""
        return self.running and not self.stale


def look(rpc: Any, name: str) -> Program:
    """Ask supervisord about the program `name`, having it read its configuration again."""
    (_added, changed, _removed) = rpc.reloadConfig()[0]
    try:
        info = rpc.getProcessInfo(name)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != BAD_NAME:
            raise
        return Program()
    running = info["statename"] in supervisor.RUNNING_STATES
    return Program(True, name in changed, running, info["pid"] if running else 0)


def start(module: AnsibleModule, rpc: Any, seen: Program) -> str:
    """Make the program run from the configuration on the disk; returns what was done."""
    name = module.params["name"]
    try:
        if seen.known and seen.stale:
            _stop(rpc, name)
            rpc.removeProcessGroup(name)
        if seen.stale or not seen.known:
            rpc.addProcessGroup(name)
        if not look(rpc, name).running:
            _start(rpc, name)
    except xmlrpc.client.Fault as fault:
        log = supervisor.tail(module.params["log"])
        module.fail_json(
            msg=f"{name} did not start: {fault.faultString}."
            + (f" The end of {module.params['log']}:\n{log}" if log else "")
        )
    return "restarted" if seen.running else "started"


def _start(rpc: Any, name: str) -> None:
    try:
        rpc.startProcess(name)
    except xmlrpc.client.Fault as fault:
        # supervisord is about to start it by itself, as after a try that failed.
        if fault.faultCode != ALREADY_STARTED:
            raise


def _stop(rpc: Any, name: str) -> None:
    try:
        rpc.stopProcess(name)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != NOT_RUNNING:
            raise


def kill(rpc: Any, name: str, pid: int) -> None:
    """Kill the process, and keep supervisord from starting it again."""
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while rpc.getProcessInfo(name)["statename"] != "STOPPED" and time.monotonic() < deadline:
        _stop(rpc, name)  # refused for the moment between its death and its restart
        time.sleep(0.05)


def act(module: AnsibleModule, rpc: Any, seen: Program) -> str:
    """Do what the state asks for; returns what was done, or would be in check mode."""
    name, state = module.params["name"], module.params["state"]
    if state == "started" and not seen.up_to_date:
        if module.check_mode:
            return "restarted" if seen.running else "started"
        return start(module, rpc, seen)
    if state == "stopped" and seen.running:
        if module.check_mode:
            return "stopped"
        if module.params["kill"]:
            kill(rpc, name, seen.pid)
            return "killed"
        _stop(rpc, name)
        return "stopped"
    if state == "absent" and seen.known:
        if not module.check_mode:
            forget(module, rpc, name)
        return "removed"
    return "none"


def forget(module: AnsibleModule, rpc: Any, name: str) -> None:
    """Stop the program, and have supervisord know it no more."""
    _stop(rpc, name)
    rpc.removeProcessGroup(name)
    if name in rpc.reloadConfig()[0][0]:
        module.fail_json(msg=f"{name} is configured still: remove its file first.")


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "name": {"required": True},
            "socket": {"type": "path", "required": True},
            "state": {"choices": ["started", "stopped", "absent", "queried"], "default": "started"},
            "kill": {"type": "bool", "default": False},
            "log": {"type": "path"},
        },
        supports_check_mode=True,
    )
    name, socket = module.params["name"], module.params["socket"]
    if not supervisor.answers(socket):
        wanted = module.params["state"] == "started"
        if wanted and not module.check_mode:
            module.fail_json(msg=f"No supervisord answers at {socket}, so {name} cannot start.")
        module.exit_json(
            changed=wanted,
            action="started" if wanted else "none",
            known=False,
            running=False,
            up_to_date=False,
            pid=0,
        )
    rpc = supervisor.connect(socket)
    action = act(module, rpc, look(rpc, name))
    now = look(rpc, name)
    module.exit_json(
        changed=action != "none",
        action=action,
        known=now.known,
        running=now.running,
        up_to_date=now.up_to_date,
        pid=now.pid,
    )


if __name__ == "__main__":
    main()
