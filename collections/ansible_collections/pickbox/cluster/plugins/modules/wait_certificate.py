#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Waits until a node is ready and uses the certificate and the CAs that it was given."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wait_certificate
short_description: Wait until a node uses the certificate and the CAs that it was given
version_added: 0.1.0
description:
  - Asks C(/api/cluster) on the node's client port until the node is ready, shows the serial number
    and trusts exactly the CAs that are expected. A node loads changed files within some seconds.
  - When time runs out, fails with what the node uses instead.
options:
  node_id:
    description: Name of the node.
    type: str
    required: true
  url:
    description: Base URL of the node's client port.
    type: str
    required: true
  serial:
    description: Serial number that the certificate must have, in hex. Any one when empty.
    type: str
    default: ""
  authorities:
    description: SHA-256 of each CA that the node must trust, in hex. Any ones when empty.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait.
    type: int
    default: 30
  log:
    description: The node's log. Its last lines are shown when time runs out.
    type: path
attributes:
  check_mode:
    description: Waits for nothing, since nothing was replaced.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: Wait until node1 uses its new certificate
  pickbox.cluster.wait_certificate:
    node_id: node1
    url: http://127.0.0.1:8080
    serial: 5f0c1b
"""

RETURN = r"""
seconds:
  description: How long it took.
  returned: success
  type: float
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pickbox.cluster.plugins.module_utils import cluster, supervisor


def differences(node: dict[str, Any], serial: str, authorities: list[str]) -> list[str]:
    """One phrase for each thing in which the node's view of itself is not as expected."""
    shown = node.get("certificate_serial", "")
    if not shown:
        return ["it shows no certificate, so it runs with a release or settings from before TLS"]
    found = []
    if serial and shown != serial:
        found.append(f"it uses the certificate with serial {shown} and not {serial}")
    trusted = sorted(node.get("certificate_authorities", []))
    if authorities and trusted != sorted(authorities):
        short = ", ".join(digest[:16] for digest in trusted) or "none"
        wanted = ", ".join(digest[:16] for digest in sorted(authorities))
        found.append(f"it trusts the CAs {short} and not {wanted} (SHA-256)")
    if not node.get("ready"):
        found += node.get("reasons") or ["it is not ready and gives no reason"]
    return found


def look(params: dict[str, Any]) -> list[str]:
    """What is not as expected now."""
    answer = cluster.ask(params["url"], timeout=5)
    if isinstance(answer, str):
        return [f"it does not answer at {params['url']}: {answer}"]
    node = cluster.view_of(answer, params["node_id"])
    return differences(node, params["serial"], params["authorities"])


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "node_id": {"required": True},
            "url": {"required": True},
            "serial": {"default": ""},
            "authorities": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 30},
            "log": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    began = time.monotonic()
    while not module.check_mode and (wrong := look(params)):
        if time.monotonic() - began > params["timeout"]:
            log = supervisor.tail(params["log"])
            module.fail_json(
                msg=f"{params['node_id']} after {params['timeout']} s: {'; '.join(wrong)}."
                + (f" The end of {params['log']}:\n{log}" if log else "")
            )
        time.sleep(0.25)
    module.exit_json(changed=False, seconds=round(time.monotonic() - began, 2))


if __name__ == "__main__":
    main()
