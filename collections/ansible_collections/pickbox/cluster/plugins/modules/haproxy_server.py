#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Takes a server out of HAProxy, or puts it back, in a way that outlives a restart of HAProxy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_server
short_description: Take a server out of HAProxy, or put it back
version_added: 0.1.0
description:
  - Tells a running HAProxy over its socket, and waits until the requests to the server have ended,
    or until HAProxy finds the server ready.
  - Notes servers that are taken out in the file from which HAProxy loads states, so that they are
    still out after it was reloaded or restarted.
  - An HAProxy that does not run sends to nobody, so nothing is done then.
  - Unlike C(community.general.haproxy), it has a check mode and outlives a reload of HAProxy.
options:
  socket:
    description: HAProxy's socket, at level C(admin).
    type: path
    required: true
  backend:
    description: Name of the backend.
    type: str
    default: nodes
  server:
    description: Name of the server in O(backend).
    type: str
    required: true
  state:
    description: V(drain) sends it nothing new; V(ready) sends to it again.
    type: str
    choices: [drain, ready]
    required: true
  state_file:
    description: The file that HAProxy's C(server-state-file) names.
    type: path
    required: true
  timeout:
    description: Seconds to wait. V(0) waits for nothing.
    type: int
    default: 30
attributes:
  check_mode:
    description: Says whether something would change, changes nothing and waits for nothing.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: Send nothing more to node1
  pickbox.cluster.haproxy_server:
    socket: /run/haproxy/admin.sock
    state_file: /var/lib/pickbox-balancer/servers
    server: node1
    state: drain
"""

RETURN = r"""
requests:
  description: How many requests to the server still go on.
  returned: success
  type: int
running:
  description: Whether HAProxy runs.
  returned: success
  type: bool
status:
  description: The server's state in HAProxy's words; empty when there is no such server.
  returned: success
  type: str
  sample: UP
"""

import csv
import io
import os
import socket
import tempfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

FORCED_DRAIN = 0x08  # in the column srv_admin_state: somebody asked for it


class Refused(Exception):
    """HAProxy did not do what it was asked; the text is its answer."""


def ask(path: str, command: str) -> str:
    """HAProxy's answer to a command.

    Raises:
        OSError: it does not run, or does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(f"{command}\n".encode())
        with connection.makefile("rb") as answer:
            return answer.read().decode(errors="replace").strip()


def row_of(statistics: str, backend: str, server: str) -> dict[str, str] | None:
    """What HAProxy's statistics say of a server; None when it has none of the name."""
    for row in csv.DictReader(io.StringIO(statistics.lstrip("# "))):
        if row["pxname"] == backend and row["svname"] == server:
            return row
    return None


def requests_of(row: dict[str, str] | None) -> int:
    """How many requests a server has, or has waiting."""
    return int(row["scur"]) + int(row["qcur"]) if row else 0


def is_ready(row: dict[str, str] | None) -> bool:
    """Whether HAProxy sends to a server: "UP", "UP 1/2" after a failed check, or unchecked."""
    return row is not None and row["status"].startswith(("UP", "no check"))


def taken_out(states: str) -> str:
    """Of HAProxy's list of server states, what is about servers that somebody took out."""
    kept = []
    for line in states.splitlines():
        fields = line.split()
        is_head = len(fields) == 1 or line.startswith("#")
        if fields and (is_head or int(fields[6]) & FORCED_DRAIN):
            kept.append(line)
    return "\n".join(kept) + "\n"


def write(path: str, text: str) -> None:
    """Replace a file in one step."""
    descriptor, name = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, 0o644)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    os.replace(name, path)


class Server:
    """One server of a running HAProxy."""

    def __init__(self, params: dict[str, Any]) -> None:
        self._params = params
        self.name = f"{params['backend']}/{params['server']}"

    def look(self) -> dict[str, str] | None:
        """Its row of the statistics."""
        statistics = ask(self._params["socket"], "show stat")
        return row_of(statistics, self._params["backend"], self._params["server"])

    def is_as_wanted(self) -> bool:
        """Whether somebody took it out, as wanted, or nobody did."""
        states = ask(self._params["socket"], f"show servers state {self._params['backend']}")
        out = any(
            line.split()[3:4] == [self._params["server"]] for line in taken_out(states).splitlines()
        )
        return out is (self._params["state"] == "drain")

    def change(self) -> None:
        """Give it the state that is wanted, and note who is out.

        Raises:
            Refused: HAProxy did not do it.
        """
        answer = ask(
            self._params["socket"], f"set server {self.name} state {self._params['state']}"
        )
        if answer:
            raise Refused(answer)
        states = ask(self._params["socket"], f"show servers state {self._params['backend']}")
        write(self._params["state_file"], taken_out(states))

    def wait(self) -> dict[str, str] | None:
        """Wait until its requests have ended, or until it is ready; returns its row."""
        deadline = time.monotonic() + self._params["timeout"]
        while True:
            row = self.look()
            draining = self._params["state"] == "drain"
            done = not requests_of(row) if draining else is_ready(row)
            if done or time.monotonic() >= deadline:
                return row
            time.sleep(0.1)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "path", "required": True},
            "backend": {"default": "nodes"},
            "server": {"required": True},
            "state": {"choices": ["drain", "ready"], "required": True},
            "state_file": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    server = Server(module.params)
    try:
        row = server.look()
    except (FileNotFoundError, ConnectionRefusedError):
        module.exit_json(changed=False, running=False, requests=0, status="")
    except OSError as error:
        module.fail_json(msg=f"HAProxy cannot be asked at {module.params['socket']}: {error}.")
    try:
        changed = row is not None and not server.is_as_wanted()
        if changed and not module.check_mode:
            server.change()
        if row is not None and not module.check_mode:
            row = server.wait()
    except Refused as refusal:
        module.fail_json(msg=f"HAProxy refuses to change {server.name}: {refusal}.")
    except OSError as error:
        module.fail_json(msg=f"{server.name} could not be changed: {error}.")
    status = row["status"] if row else ""
    waited = row is not None and module.params["timeout"] > 0 and not module.check_mode
    if module.params["state"] == "ready" and waited and not is_ready(row):
        module.fail_json(
            msg=f"After {module.params['timeout']} s HAProxy still finds {server.name} {status}."
        )
    module.exit_json(changed=changed, running=True, requests=requests_of(row), status=status)


if __name__ == "__main__":
    main()
