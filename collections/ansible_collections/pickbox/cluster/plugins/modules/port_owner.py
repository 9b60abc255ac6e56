#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Says which process holds a TCP port."""

from __future__ import annotations

DOCUMENTATION = r"""
module: port_owner
short_description: Say which process holds a TCP port
version_added: 0.1.0
description:
  - Reads C(/proc/net/tcp), C(/proc/net/tcp6) and the open files in C(/proc) to find the listener
    of each port.
  - Changes nothing and opens no connection.
options:
  ports:
    description: Ports to look at. The key is what the port is for, the value its number.
    type: dict
    required: true
  address:
    description: Name or address at which the ports are to be listened at. Who listens at other
      addresses of the machine only is left out. Empty to take any.
    type: str
    default: ""
  expected_pid:
    description: A port that this process holds is no conflict. V(0) when none is expected. Where
      processes of its user cannot be looked at, its user counts.
    type: int
    default: 0
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
notes:
  - The process of another user is named only when the module runs as root; otherwise its user is.
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: See who holds the ports of a node
  pickbox.cluster.port_owner:
    ports:
      raft: 8001
      admin: 9001
  register: ports
"""

RETURN = r"""
owners:
  description: The listeners of the ports, those of the expected process too.
  returned: success
  type: list
  elements: dict
  sample: [{purpose: raft, port: 8001, pid: 4711, command: nc -l 8001, user: root}]
conflicts:
  description: One sentence for each port that something else holds.
  returned: success
  type: list
  elements: str
  sample: ["port 8001 (raft) is held by pid 4711 (nc -l 8001) of user root"]
"""

import contextlib
import glob
import ipaddress
import os
import pwd
import socket
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Set

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LISTEN = "0A"


@dataclass(frozen=True)
class Owner:
    """A listener. `pid` is None and `command` empty when /proc does not let us see it."""

    purpose: str
    port: int
    pid: int | None
    command: str
    user: str

    def sentence(self) -> str:
        """Who it is, in words."""
        held = f"port {self.port} ({self.purpose}) is held by"
        if self.pid is None:
            return f"{held} a process of user {self.user}, which only that user and root can see"
        return f"{held} pid {self.pid} ({self.command}) of user {self.user}"


def addresses_of(host: str) -> set[Address]:
    """The addresses of a host; empty when there is none, or no such host."""
    if not host:
        return set()
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found}


def address_in(text: str) -> Address:
    """An address of /proc/net: words of 32 bits in the machine's order of bytes."""
    words = [text[start : start + 8] for start in range(0, len(text), 8)]
    bytes_ = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    found = ipaddress.ip_address(bytes_)
    return getattr(found, "ipv4_mapped", None) or found


def is_in_the_way(listener: Address, wanted: Set[Address]) -> bool:
    """Whether who listens there leaves no room at one of the wanted addresses, or at any."""
    if not wanted or listener.is_unspecified:
        return True
    return any(address == listener or address.is_unspecified for address in wanted)


def listeners(
    proc: str = "/proc", wanted: Set[Address] = frozenset()
) -> dict[int, list[tuple[str, int]]]:
    """Inode and user id of every TCP listener at the wanted addresses, or at any, by port."""
    found: dict[int, list[tuple[str, int]]] = {}
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"{proc}/net/{table}") as lines:
            next(lines)
            for line in lines:
                fields = line.split()
                address, _, port = fields[1].rpartition(":")
                if fields[3] == LISTEN and is_in_the_way(address_in(address), wanted):
                    found.setdefault(int(port, 16), []).append((fields[9], int(fields[7])))
    return found


def process_of(inode: str, proc: str = "/proc") -> int | None:
    """The process that has the socket `inode` open; None when it cannot be seen."""
    target = f"socket:[{inode}]"
    for link in glob.iglob(f"{proc}/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # the process ended, or is another user's
            if os.readlink(link) == target:
                return int(link[len(proc) :].split("/")[1])
    return None


def command_of(pid: int | None, proc: str = "/proc") -> str:
    """The command line of a process; "" when it is gone."""
    if pid is None:
        return ""
    try:
        with open(f"{proc}/{pid}/cmdline", "rb") as line:
            return line.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def user_name(uid: int) -> str:
    """The name of a user, or its number when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def find_owners(ports: dict[str, int], proc: str = "/proc", address: str = "") -> list[Owner]:
    """The listeners of `ports` at `address`, or at any, in the order of `ports`."""
    table = listeners(proc, addresses_of(address))
    owners = []
    for purpose, port in ports.items():
        for inode, uid in table.get(port, []):
            pid = process_of(inode, proc)
            owner = Owner(purpose, port, pid, command_of(pid, proc), user_name(uid))
            if owner not in owners:  # one process may listen on IPv4 and IPv6
                owners.append(owner)
    return owners


def is_expected(owner: Owner, pid: int | None, proc: str = "/proc") -> bool:
    """Whether it is the process `pid`, or of its user if it cannot be seen which one it is."""
    if pid is None or owner.pid is not None:
        return pid is not None and owner.pid == pid
    try:
        return owner.user == user_name(os.stat(f"{proc}/{pid}").st_uid)
    except FileNotFoundError:
        return False


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "dict", "required": True},
            "address": {"default": ""},
            "expected_pid": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    try:
        ports = {purpose: int(port) for purpose, port in module.params["ports"].items()}
    except (TypeError, ValueError):
        module.fail_json(msg=f"ports: found {module.params['ports']}; the values must be numbers.")
    owners = find_owners(ports, address=module.params["address"])
    expected = module.params["expected_pid"] or None
    module.exit_json(
        changed=False,
        owners=[asdict(owner) for owner in owners],
        conflicts=[owner.sentence() for owner in owners if not is_expected(owner, expected)],
    )


if __name__ == "__main__":
    main()
