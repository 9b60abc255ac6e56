#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Waits until a node says that it is ready."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wait_ready
short_description: Wait until a node says that it is ready
version_added: 0.1.0
description:
  - Asks C(/ready) on the node's monitoring port until it answers 200, which it does when the node
    has a leader, has applied what it knows of, and is not draining.
  - With O(client_url), waits also until the node has applied what it is to have applied and lacks
    no content, and fails at once if it runs another version than it should.
  - When time runs out, fails with the reasons that the node itself gives.
options:
  url:
    description: Base URL of the node's monitoring port.
    type: str
    required: true
  timeout:
    description: Seconds to wait.
    type: int
    default: 60
  log:
    description: The node's log. Its last lines are shown when the node does not answer at all.
    type: path
  client_url:
    description: Base URL of the node's client port. Needed for the options below.
    type: str
  node_id:
    description: Name of the node, by which it tells how it is.
    type: str
  applied_index:
    description: Entry of the log that the node has to have applied.
    type: int
    default: 0
  version:
    description: Version of Pickbox that the node has to run. Empty to take any.
    type: str
    default: ""
attributes:
  check_mode:
    description: Waits for nothing, since nothing was started.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: Wait until node1 is ready
  pickbox.cluster.wait_ready:
    url: http://127.0.0.1:6001
    timeout: 30

- name: Wait until it has caught up, too
  pickbox.cluster.wait_ready:
    url: http://127.0.0.1:6001
    client_url: http://127.0.0.1:8080
    node_id: node1
    applied_index: 4711
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
from ansible_collections.pickbox.cluster.plugins.module_utils import api, cluster, supervisor


class OtherVersion(Exception):
    """The node runs another version than it should; no waiting will change that."""


def ask(url: str) -> list[str]:
    """The reasons why the node is not ready; empty when it is.

    Raises:
        api.Silent: nobody answered.
    """
    try:
        api.ask(f"{url}/ready", timeout=5)
    except api.Refused as refusal:
        found = refusal.document.get("reasons") or [
            f"it answers {refusal.status} and gives no reason"
        ]
        return [str(reason) for reason in found]
    return []


def behind(params: dict[str, Any]) -> list[str]:
    """What the node still lacks, in words; empty when it has caught up, or need not.

    Raises:
        OtherVersion: it runs another version than it should.
    """
    if not params["client_url"]:
        return []
    document = cluster.ask(params["client_url"], 5)
    node = {} if isinstance(document, str) else cluster.view_of(document, params["node_id"])
    if not node:
        return [f"{params['client_url']} does not say how {params['node_id']} is"]
    if params["version"] not in ("", node["version"]):
        raise OtherVersion(
            f"{params['node_id']} runs version {node['version']} and not {params['version']}."
        )
    applied, pending = int(node["applied_index"]), int(node["figures"]["pending"])
    lacking = []
    if applied < params["applied_index"]:
        lacking.append(f"it has applied entry {applied} and not yet {params['applied_index']}")
    if pending:
        lacking.append(f"it lacks the content of {pending} files")
    return lacking


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "url": {"required": True},
            "timeout": {"type": "int", "default": 60},
            "log": {"type": "path"},
            "client_url": {},
            "node_id": {},
            "applied_index": {"type": "int", "default": 0},
            "version": {"default": ""},
        },
        required_by={"client_url": ["node_id"]},
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, seconds=0.0)
    url, timeout = module.params["url"].rstrip("/"), module.params["timeout"]
    began = time.monotonic()
    while True:
        try:
            why = ask(url) or behind(module.params)
            if not why:
                module.exit_json(changed=False, seconds=round(time.monotonic() - began, 2))
            problem = f"The node at {url} is not ready after {timeout} s: {'; '.join(why)}."
        except OtherVersion as other:
            module.fail_json(msg=str(other))
        except api.Silent as silence:
            log = supervisor.tail(module.params["log"])
            problem = f"The node at {url} does not answer after {timeout} s: {silence.why}."
            problem += f" The end of {module.params['log']}:\n{log}" if log else ""
        if time.monotonic() - began > timeout:
            module.fail_json(msg=problem)
        time.sleep(0.25)


if __name__ == "__main__":
    main()
