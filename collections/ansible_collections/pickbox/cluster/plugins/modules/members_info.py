#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Asks the nodes who the members of the cluster are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: members_info
short_description: Ask the nodes who the members of the cluster are
version_added: 0.1.0
description:
  - Asks all nodes at once, and gives the latest list of members that one of them has. A node that
    was removed or is not added yet knows of none, or of an older list. Changes nothing.
options:
  nodes:
    description: Base URL of the admin port of each node, by the node's name.
    type: dict
    required: true
  required:
    description: Whether it is a failure when no node answers with members.
    type: bool
    default: true
  timeout:
    description: Seconds that a node may take to answer.
    type: int
    default: 5
extends_documentation_fragment:
  - pickbox.cluster.admin_api
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: See who is in the cluster
  pickbox.cluster.members_info:
    nodes:
      node1: http://127.0.0.1:9001
      node2: http://127.0.0.1:9002
    token: "{{ pickbox_admin_token }}"
  register: members
"""

RETURN = r"""
members:
  description: Address and role of each member, by its name; empty when no node answers with any.
  returned: success
  type: dict
  sample: {node1: {address: "10.0.0.1:8001", role: voter}}
voters:
  description: Names of the members that are counted.
  returned: success
  type: list
  elements: str
learners:
  description: Names of the members that get the log and are not counted.
  returned: success
  type: list
  elements: str
version:
  description: Version of the list, which grows with each change to it.
  returned: success
  type: int
source:
  description: Name of the node that has this list.
  returned: success
  type: str
silent:
  description: What happened instead of an answer, by the node's name.
  returned: success
  type: dict
"""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pickbox.cluster.plugins.module_utils import api

if TYPE_CHECKING:  # Python 3.9, which hosts may have, does not understand it
    Answer = dict[str, Any] | str


def ask(url: str, token: str, timeout: float, ca: str | None) -> Answer:
    """The members as the node at `url` has them, or why it gave none."""
    try:
        document: dict[str, Any] = api.ask(
            f"{url.rstrip('/')}/api/v1/members",
            timeout=timeout,
            headers={"Authorization": f"Bearer {token}"},
            ca=ca,
        )
    except api.Silent as silence:
        return silence.why
    except api.Failed as failure:
        return str(failure)
    return document


def latest(answers: dict[str, Answer]) -> dict[str, Any]:
    """One picture from the answers of all nodes: the list with the highest version counts."""
    lists = {name: answer for name, answer in answers.items() if isinstance(answer, dict)}
    known = {name: found for name, found in lists.items() if found.get("members")}
    source = max(known, key=lambda name: int(known[name]["version"]), default="")
    members = known[source]["members"] if source else []
    return {
        "members": {
            member["node_id"]: {"address": member["address"], "role": member["role"]}
            for member in members
        },
        "voters": [member["node_id"] for member in members if member["role"] == "voter"],
        "learners": [member["node_id"] for member in members if member["role"] != "voter"],
        "version": known[source]["version"] if source else 0,
        "source": source,
        "silent": {name: answer for name, answer in answers.items() if isinstance(answer, str)},
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "dict", "required": True},
            "token": {"required": True, "no_log": True},
            "ca": {"type": "path"},
            "required": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    nodes, token = module.params["nodes"], module.params["token"]
    if not nodes:
        module.fail_json(msg="nodes: found an empty list; give at least one node.")
    with ThreadPoolExecutor(len(nodes)) as pool:
        asked = {
            name: pool.submit(ask, str(url), token, module.params["timeout"], module.params["ca"])
            for name, url in nodes.items()
        }
        found = latest({name: future.result() for name, future in asked.items()})
    if module.params["required"] and not found["members"]:
        told = "; ".join(f"{name}: {why}" for name, why in found["silent"].items())
        module.fail_json(
            msg=f"No node says who the members are: {told or 'none of them is in a cluster'}."
        )
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
