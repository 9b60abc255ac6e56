#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Asks every node how it sees the cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_info
short_description: Ask every node how it sees the cluster
version_added: 0.1.0
description:
  - Asks C(/api/cluster) of every node at once, and says who leads, whether the nodes agree on it,
    and how each node sees itself. Changes nothing.
  - A node that does not answer is reported, and is no failure.
options:
  nodes:
    description: Base URL of the client port of each node, by the node's name.
    type: dict
    required: true
  timeout:
    description: Seconds that a node may take to answer.
    type: int
    default: 5
  wait:
    description: Seconds to wait until a majority is ready and all that answer name one leader.
    type: int
    default: 0
  other_than:
    description: With O(wait), the leader must be another node than this one.
    type: str
    default: ""
  settle:
    description: Seconds to wait until every node is ready and has caught up, and all that answer
      name one leader. Those that say nothing get six of them. It is no failure if they are not;
      RV(caught_up) says which are.
    type: int
    default: 0
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode, and waits for nothing.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: See who leads
  pickbox.cluster.cluster_info:
    nodes:
      node1: http://127.0.0.1:8080
      node2: http://127.0.0.1:8081
      node3: http://127.0.0.1:8082
  register: cluster
"""

RETURN = r"""
seconds:
  description: How long the waiting took.
  returned: success
  type: float
leader:
  description: Name of the leader, when all nodes that answer name the same one; empty otherwise.
  returned: success
  type: str
leaders:
  description: Whom each node that answers takes for the leader.
  returned: success
  type: dict
  sample: {node1: node2, node2: node2, node3: node2}
nodes:
  description: How each node that answers sees itself, by its name (role, term, indexes, lag,
    readiness, figures).
  returned: success
  type: dict
ready:
  description: Names of the nodes that are ready.
  returned: success
  type: list
  elements: str
caught_up:
  description: Names of the nodes that are ready, have applied all that was committed when this
    began, and lack no content.
  returned: success
  type: list
  elements: str
reached:
  description: Names of the nodes that answer, or are reached by one that does. They need not be
    among O(nodes).
  returned: success
  type: list
  elements: str
silent:
  description: What happened instead of an answer, by the node's name.
  returned: success
  type: dict
quorum:
  description: How many of the nodes make a majority.
  returned: success
  type: int
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pickbox.cluster.plugins.module_utils import cluster

# Seconds that a node may say nothing, as after a stall, before it counts as down.
_SILENT_AT_MOST = 6


def summarise(answers: dict[str, dict[str, Any] | str]) -> dict[str, Any]:
    """One picture from the answers of all nodes."""
    views = {name: answer for name, answer in answers.items() if isinstance(answer, dict)}
    leaders = {name: str(view.get("leader") or "") for name, view in views.items()}
    named = set(leaders.values())
    nodes = {name: cluster.view_of(view, name) for name, view in views.items()}
    known = [node for view in views.values() for node in view.get("nodes", [])]
    return {
        "leader": named.pop() if len(named) == 1 else "",
        "leaders": leaders,
        "nodes": nodes,
        "ready": [name for name, node in nodes.items() if node.get("ready") is True],
        "reached": sorted({node["node_id"] for node in known if node.get("reachable") is True}),
        "silent": {name: a for name, a in answers.items() if isinstance(a, str)},
        "quorum": len(answers) // 2 + 1,
    }


def look(nodes: dict[str, str], timeout: float) -> dict[str, Any]:
    """Ask all nodes at once."""
    with ThreadPoolExecutor(len(nodes)) as pool:
        asked = {name: pool.submit(cluster.ask, str(url), timeout) for name, url in nodes.items()}
        return summarise({name: future.result() for name, future in asked.items()})


def caught_up(seen: dict[str, Any], committed: int) -> list[str]:
    """The nodes that are ready, have applied the entry `committed`, and lack no content."""
    return [
        name
        for name in seen["ready"]
        if int(seen["nodes"][name]["applied_index"]) >= committed
        and int(seen["nodes"][name]["figures"]["pending"]) == 0
    ]


def committed_in(seen: dict[str, Any]) -> int:
    """The last entry that any node knows to be committed."""
    return max((int(node.get("commit_index", 0)) for node in seen["nodes"].values()), default=0)


def led(seen: dict[str, Any], other_than: str) -> bool:
    """Whether a majority is ready and all that answer name one leader, another than that."""
    return seen["leader"] not in ("", other_than) and len(seen["ready"]) >= seen["quorum"]


def in_words(seen: dict[str, Any]) -> str:
    """The picture as a sentence, for a failure."""
    ready, silent = ", ".join(seen["ready"]) or "none", ", ".join(seen["silent"]) or "none"
    return f"ready: {ready}; silent: {silent}; named as leader: {seen['leaders'] or 'none'}."


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "dict", "required": True},
            "timeout": {"type": "int", "default": 5},
            "wait": {"type": "int", "default": 0},
            "other_than": {"default": ""},
            "settle": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    nodes, wait = module.params["nodes"], module.params["wait"]
    if not nodes:
        module.fail_json(msg="nodes: found an empty list; give at least one node.")
    began = time.monotonic()
    seen = look(nodes, module.params["timeout"])
    while wait and not module.check_mode and not led(seen, module.params["other_than"]):
        if time.monotonic() - began > wait:
            module.fail_json(msg=f"No leader after {wait} s: {in_words(seen)}")
        time.sleep(0.1)
        seen = look(nodes, module.params["timeout"])
    committed, settle = committed_in(seen), 0 if module.check_mode else module.params["settle"]
    while len(caught_up(seen, committed)) < len(nodes) or not seen["leader"]:
        waited = time.monotonic() - began
        settled = len(caught_up(seen, committed)) == len(seen["nodes"]) and seen["leader"]
        if waited > (min(settle, _SILENT_AT_MOST) if settled else settle):
            break
        time.sleep(0.1)
        seen = look(nodes, module.params["timeout"])
    seen["caught_up"] = caught_up(seen, committed)
    module.exit_json(changed=False, seconds=round(time.monotonic() - began, 2), **seen)


if __name__ == "__main__":
    main()
