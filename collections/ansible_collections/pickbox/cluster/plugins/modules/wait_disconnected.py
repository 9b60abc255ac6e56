#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Waits until this machine has no connection to an address any more."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wait_disconnected
short_description: Wait until this machine has no connection to an address any more
version_added: 0.1.0
description:
  - Looks in Linux' table of connections for those of this machine to an address, until there are
    none or time runs out. That is no failure.
  - Needs no privileges, and no program such as C(ss).
options:
  host:
    description: Name or address of the other side.
    type: str
    required: true
  port:
    description: Port of the other side.
    type: int
    required: true
  timeout:
    description: Seconds to wait.
    type: int
    default: 30
attributes:
  check_mode:
    description: Waits for nothing, since nothing was changed.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: Wait until the balancer has no connection to node1
  pickbox.cluster.wait_disconnected:
    host: 192.0.2.11
    port: 8080
"""

RETURN = r"""
connections:
  description: How many are left.
  returned: success
  type: int
seconds:
  description: How long it took.
  returned: success
  type: float
"""

import ipaddress
import socket
import struct
import time

from ansible.module_utils.basic import AnsibleModule

# States of the kernel's table in which the other side may still be sent to, or may still answer.
OPEN = {"01", "02", "04", "05", "08"}  # ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT


def addresses_of(host: str) -> set[str]:
    """The addresses of a host as text; IPv4 in the plain form only."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return {_plain(str(entry[4][0]).partition("%")[0]) for entry in found}


def _plain(address: str) -> str:
    parsed = ipaddress.ip_address(address)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def address_in(field: str) -> tuple[str, int]:
    """Address and port of a field of the table, where each 32 bits are in the machine's order."""
    words, _, port = field.partition(":")
    raw = b"".join(
        struct.pack("=I", int(words[start : start + 8], 16)) for start in range(0, len(words), 8)
    )
    return _plain(str(ipaddress.ip_address(raw))), int(port, 16)


def count(addresses: set[str], port: int, proc: str = "/proc") -> int:
    """How many connections to `port` of one of `addresses` are open."""
    found = 0
    for table in ("tcp", "tcp6"):
        try:
            with open(f"{proc}/net/{table}", encoding="ascii") as lines:
                next(lines)
                rows = [line.split() for line in lines]
        except FileNotFoundError:  # IPv6 may be switched off
            continue
        for row in rows:
            if row[3] in OPEN and int(row[2].rpartition(":")[2], 16) == port:
                found += address_in(row[2])[0] in addresses
    return found


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "host": {"required": True},
            "port": {"type": "int", "required": True},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    params = module.params
    began = time.monotonic()
    try:
        addresses = addresses_of(params["host"])
    except OSError as error:
        module.fail_json(msg=f"{params['host']} is no known host here: {error.strerror}.")
    left = count(addresses, params["port"])
    while left and not module.check_mode and time.monotonic() - began < params["timeout"]:
        time.sleep(0.1)
        left = count(addresses, params["port"])
    module.exit_json(changed=False, connections=left, seconds=round(time.monotonic() - began, 2))


if __name__ == "__main__":
    main()
