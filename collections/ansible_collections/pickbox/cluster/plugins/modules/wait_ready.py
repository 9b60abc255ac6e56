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
"""

RETURN = r"""
seconds:
  description: How long it took.
  returned: success
  type: float
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pickbox.cluster.plugins.module_utils import api, supervisor


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


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "url": {"required": True},
            "timeout": {"type": "int", "default": 60},
            "log": {"type": "path"},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, seconds=0.0)
    url, timeout = module.params["url"].rstrip("/"), module.params["timeout"]
    began = time.monotonic()
    while True:
        try:
            why = ask(url)
            if not why:
                module.exit_json(changed=False, seconds=round(time.monotonic() - began, 2))
            problem = f"The node at {url} is not ready after {timeout} s: {'; '.join(why)}."
        except api.Silent as silence:
            log = supervisor.tail(module.params["log"])
            problem = f"The node at {url} does not answer after {timeout} s: {silence.why}."
            problem += f" The end of {module.params['log']}:\n{log}" if log else ""
        if time.monotonic() - began > timeout:
            module.fail_json(msg=problem)
        time.sleep(0.25)


if __name__ == "__main__":
    main()
