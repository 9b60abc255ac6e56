#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Adds a node to a running cluster, or lets one go."""

from __future__ import annotations

DOCUMENTATION = r"""
module: member
short_description: Add a node to a running cluster, or let one go
version_added: 0.1.0
description:
  - Adds a node and waits until it has caught up and is a voter, or lets one go, once a majority of
    the others has all content.
  - A node that is added is to run already, with an empty data directory, C(PICKBOX_BOOTSTRAP=false)
    and the members in C(PICKBOX_PEERS).
  - When time runs out, what was reached is kept; run again, it goes on from there.
options:
  node_id:
    description: Name of the node.
    type: str
    required: true
  address:
    description: Host and port of the node's log, such as V(10.0.0.4:8001), as the others reach it.
      Required unless the node is to go.
    type: str
  state:
    description:
      - V(present) makes the node a voter, V(absent) removes it.
      - V(learner) adds it as one that gets the log and is not counted. A voter is not made a
        learner again.
    type: str
    choices: [present, absent, learner]
    default: present
  force:
    description: With O(state=absent), do not wait for the others. What only that node has is lost.
    type: bool
    default: false
  timeout:
    description: Seconds to wait.
    type: int
    default: 120
extends_documentation_fragment:
  - pickbox.cluster.admin_api
  - pickbox.cluster.admin_api.urls
attributes:
  check_mode:
    description: Says who the members would be. Whether a node may go only the cluster can say, when
      it is asked in earnest.
    support: full
  diff_mode:
    description: Shows the members.
    support: full
"""

EXAMPLES = r"""
- name: Make node4 a voter
  pickbox.cluster.member:
    urls: ["http://10.0.0.1:9001", "http://10.0.0.2:9001"]
    token: "{{ pickbox_admin_token }}"
    node_id: node4
    address: 10.0.0.4:8001

- name: Let node4 go
  pickbox.cluster.member:
    urls: ["http://10.0.0.1:9001", "http://10.0.0.2:9001"]
    token: "{{ pickbox_admin_token }}"
    node_id: node4
    state: absent
"""

RETURN = r"""
members:
  description: The members after what was done; in check mode, who they would be.
  returned: success
  type: list
  elements: dict
  sample: [{node_id: node1, address: "10.0.0.1:8001", role: voter}]
version:
  description: Version of the list of members, which grows with each change to it.
  returned: success
  type: int
seconds:
  description: How long it took.
  returned: success
  type: float
"""

from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pickbox.cluster.plugins.module_utils import api

if TYPE_CHECKING:
    from collections.abc import Callable

MEMBERS = "/api/v1/members"
ROLES = {"present": "voter", "absent": "", "learner": "learner"}
TOO_EARLY = "change-too-early"


class Impossible(Exception):
    """The members cannot be made so; the text says why, and what to do."""


def by_id(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The members in an answer, by their names."""
    return {member["node_id"]: member for member in document["members"]}


def planned(
    members: dict[str, dict[str, str]], node_id: str, address: str, role: str
) -> dict[str, dict[str, str]]:
    """The members as they are to be, without a role for the node if it is to go.

    Raises:
        Impossible: no single change leads there.
    """
    if not role:
        return {name: member for name, member in members.items() if name != node_id}
    known = members.get(node_id)
    again = "remove it first (state: absent), and add it again"
    if known is not None and known["address"] != address:
        raise Impossible(f"{node_id} is a member at {known['address']}, not at {address}: {again}.")
    if known is not None and known["role"] == "voter" and role == "learner":
        raise Impossible(f"{node_id} is a voter, which is not made a learner again: {again}.")
    return {**members, node_id: {"node_id": node_id, "address": address, "role": role}}


def until_it_may_be(nodes: api.Nodes, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Ask again for as long as the cluster says that it is too early.

    Raises:
        api.Failed: it still is when time runs out, or there is another reason.
    """
    while True:
        try:
            return ask()
        except api.Refused as refusal:
            if refusal.type != TOO_EARLY or not nodes.deadline.pause():
                raise


def add(nodes: api.Nodes, node_id: str, address: str, role: str) -> dict[str, Any]:
    """Make the node a learner, and a voter if it is to be one; give the members."""
    new = {"node_id": node_id, "address": address}
    document = until_it_may_be(nodes, lambda: nodes.json("POST", MEMBERS, new))
    if role == "voter":
        promote = f"{MEMBERS}/{node_id}/promote"
        document = until_it_may_be(nodes, lambda: nodes.json("POST", promote))
    return document


def remove(nodes: api.Nodes, node_id: str, *, force: bool) -> dict[str, Any]:
    """Let the node go; give the members."""
    path = f"{MEMBERS}/{node_id}" + ("?force=true" if force else "")
    try:
        return until_it_may_be(nodes, lambda: nodes.json("DELETE", path))
    except api.Refused as refusal:
        if refusal.type != "not-found":
            raise
        return nodes.json("GET", MEMBERS)  # gone: the answer to an earlier try was lost


def as_text(members: dict[str, dict[str, str]]) -> str:
    """The members for a diff, one a line."""
    rows = (f"{m['node_id']} {m['role']} at {m['address']}\n" for m in members.values())
    return "".join(sorted(rows))


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "urls": {"type": "list", "elements": "str", "required": True},
            "token": {"required": True, "no_log": True},
            "ca": {"type": "path"},
            "node_id": {"required": True},
            "address": {},
            "state": {"choices": list(ROLES), "default": "present"},
            "force": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 120},
        },
        required_if=[("state", "present", ["address"]), ("state", "learner", ["address"])],
        supports_check_mode=True,
    )
    node_id, address = module.params["node_id"], module.params["address"]
    role = ROLES[module.params["state"]]
    deadline = api.Deadline(module.params["timeout"])
    nodes = api.Nodes(module.params["urls"], deadline, module.params["token"], module.params["ca"])
    aim = f"Making {node_id} a {role}" if role else f"Removing {node_id}"
    try:
        document = nodes.json("GET", MEMBERS)
        before = by_id(document)
        after = planned(before, node_id, address, role)
        changed = after != before
        if changed and not module.check_mode:
            if role:
                document = add(nodes, node_id, address, role)
            else:
                document = remove(nodes, node_id, force=module.params["force"])
            after = by_id(document)
    except Impossible as reason:
        module.fail_json(msg=f"{aim} is not possible: {reason}")
    except api.Failed as failed:
        api.explain(module, failed, aim, deadline)
    module.exit_json(
        changed=changed,
        members=list(after.values()),
        version=document["version"],
        seconds=deadline.spent,
        diff={"before": as_text(before), "after": as_text(after)},
    )


if __name__ == "__main__":
    main()
