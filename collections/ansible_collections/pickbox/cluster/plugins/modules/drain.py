#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Takes a node out of service, or puts it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drain
short_description: Take a node out of service, or put it back
version_added: 0.1.0
description:
  - A node that is drained says that it is not ready, so that load balancers leave it alone, takes
    no more writes over HTTP, and leads no more. It answers reads, goes on replicating, and is
    counted.
  - Waits until another node leads. A node that is the only voter goes on leading.
  - A node that is restarted is in service again.
options:
  url:
    description: Base URL of the node's admin port.
    type: str
    required: true
  state:
    description: V(drained) takes the node out of service, V(active) puts it back.
    type: str
    choices: [drained, active]
    default: drained
  timeout:
    description: Seconds to wait.
    type: int
    default: 30
extends_documentation_fragment:
  - pickbox.cluster.admin_api
attributes:
  check_mode:
    description: Says whether the node would be taken out of service or put back.
    support: full
  diff_mode:
    description: Shows the state of the node.
    support: full
"""

EXAMPLES = r"""
- name: Take node1 out of service
  pickbox.cluster.drain:
    url: http://127.0.0.1:9001
    token: "{{ pickbox_admin_token }}"

- name: Put node1 back
  pickbox.cluster.drain:
    url: http://127.0.0.1:9001
    token: "{{ pickbox_admin_token }}"
    state: active
"""

RETURN = r"""
node_id:
  description: Name of the node at O(url).
  returned: success
  type: str
leader:
  description: Who leads; empty when the node knows of nobody.
  returned: success
  type: str
seconds:
  description: How long it took.
  returned: success
  type: float
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pickbox.cluster.plugins.module_utils import api


def another_leads(node: api.Nodes, node_id: str, leader: str | None) -> bool:
    """Whether another node leads, or there is none that could."""
    if leader not in (None, node_id):
        return True
    members = node.json("GET", "/api/v1/members")["members"]
    return len([member for member in members if member["role"] == "voter"]) < 2


def drain(node: api.Nodes, node_id: str) -> str | None:
    """Ask for it until it is so; give who leads.

    Raises:
        api.Failed: it is not so in time.
    """
    while True:
        node.json("POST", "/api/v1/drain")  # asked again, a node that still leads tries again
        leader: str | None = node.json("GET", "/api/v1/leader")["leader"]
        if another_leads(node, node_id, leader):
            return leader
        if not node.deadline.pause():
            raise api.Failed(node.url, f"{node.url} is draining, and no other node leads")


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "url": {"required": True},
            "token": {"required": True, "no_log": True},
            "ca": {"type": "path"},
            "state": {"choices": ["drained", "active"], "default": "drained"},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    state, drained = module.params["state"], module.params["state"] == "drained"
    deadline = api.Deadline(module.params["timeout"])
    node = api.Nodes([module.params["url"]], deadline, module.params["token"], module.params["ca"])
    try:
        status = node.json("GET", "/api/v1/status")["node"]
        node_id, leader, draining = status["node_id"], status["leader"], status["draining"]
        changed = draining != drained or (drained and not another_leads(node, node_id, leader))
        if changed and not module.check_mode:
            if drained:
                leader = drain(node, node_id)
            else:
                node.json("DELETE", "/api/v1/drain")
    except api.Failed as failed:
        api.explain(module, failed, f"Making the node {state}", deadline)
    module.exit_json(
        changed=changed,
        node_id=node_id,
        leader=leader or "",
        seconds=deadline.spent,
        diff={
            "before": f"state: {'drained' if draining else 'active'}\n",
            "after": f"state: {state}\n",
        },
    )


if __name__ == "__main__":
    main()
