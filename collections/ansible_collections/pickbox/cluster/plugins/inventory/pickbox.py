# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Makes an inventory of the nodes that a running cluster says it has."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pickbox
short_description: The nodes of a running Pickbox cluster
version_added: 0.1.0
description:
  - Asks a node who takes part in its cluster, and makes a host of each member. All are in the group
    C(pickbox), so the playbooks of this collection can be run on what was found.
  - The leader is in C(pickbox_leader), voters that follow it in C(pickbox_followers), learners in
    C(pickbox_learners), and members that do not answer the node in C(pickbox_unreachable). These
    groups are there when they are empty, too.
  - A host has C(ansible_host), C(pickbox_node_id), C(pickbox_host), C(pickbox_dashboard_port),
    C(pickbox_admin_port) and C(pickbox_monitor_port), as far as the cluster knows them, and
    C(pickbox_node), which says how it was - C(version), C(role), C(ready),
    C(draining), C(reachable), C(reasons), C(error), C(client_url), C(admin_url), C(monitor_url).
  - The source is a YAML file whose name ends in C(pickbox.yml) or C(pickbox.yaml).
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description: Says that the file is meant for this plugin.
    type: str
    required: true
    choices: [pickbox.cluster.pickbox]
  urls:
    description: Base URLs of the client ports of some nodes. They are asked in this order; the
      first that sees a majority of its cluster is believed.
    type: list
    elements: str
    required: true
  admin_urls:
    description: Base URLs of the admin ports of some nodes. With them and O(token) it is known
      which members are learners, and C(pickbox_port) of each.
    type: list
    elements: str
    default: []
  token:
    description: Admin token of the cluster. Needed with O(admin_urls).
    type: str
    env:
      - name: PICKBOX_ADMIN_TOKEN
  ca:
    description: PEM file of the CAs whose certificates nodes at HTTPS O(admin_urls) must show.
      The system's CAs, if it is not given.
    type: path
  timeout:
    description: Seconds that a node may take to answer.
    type: int
    default: 5
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
# production.pickbox.yml
plugin: pickbox.cluster.pickbox
urls:
  - http://10.0.0.1:8080
  - http://10.0.0.2:8080
compose:
  ansible_user: "'operator'"
groups:
  pickbox_not_ready: not pickbox_node.ready
keyed_groups:
  - key: pickbox_node.version
    prefix: pickbox_release
"""

from typing import Any
from urllib.parse import urlsplit

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible_collections.pickbox.cluster.plugins.module_utils import api, cluster

GROUPS = ("pickbox_leader", "pickbox_followers", "pickbox_learners", "pickbox_unreachable")
TOLD = (
    "version",
    "role",
    "ready",
    "draining",
    "reachable",
    "reasons",
    "error",
    "client_url",
    "admin_url",
    "monitor_url",
)
PORTS = {
    "client_url": "pickbox_dashboard_port",
    "admin_url": "pickbox_admin_port",
    "monitor_url": "pickbox_monitor_port",
}


def view(urls: list[str], timeout: float) -> dict[str, Any]:
    """What the first node says that sees a majority, or else the first that answers.

    Raises:
        AnsibleParserError: no node answers.
    """
    told, found = [], None
    for url in urls:
        answer = cluster.ask(url, timeout)
        if isinstance(answer, dict) and isinstance(answer.get("nodes"), list):
            if answer.get("has_quorum"):
                return answer
            found = found or answer
        else:
            why = answer if isinstance(answer, str) else "it answers, but not as a node does"
            told.append(f"{url}: {why}")
    if found is None:
        raise AnsibleParserError(
            f"No node says who is in the cluster. {'; '.join(told) or 'urls is empty'}. "
            "Give in urls the client ports of nodes that run (8080, unless set otherwise)."
        )
    return found


def members(
    urls: list[str], token: str | None, timeout: float, ca: str | None = None
) -> list[dict[str, str]]:
    """Who is a member in which role, from the admin API; nothing when it is not to be asked.

    Raises:
        AnsibleParserError: the admin API does not say.
    """
    if not urls:
        return []
    if not token:
        raise AnsibleParserError(
            "admin_urls: found without a token. Give the admin token in the environment variable "
            "PICKBOX_ADMIN_TOKEN, or as token, encrypted with ansible-vault."
        )
    try:
        answer = api.Nodes(urls, api.Deadline(timeout), token, ca).json("GET", "/api/v1/members")
    except api.Failed as failed:
        advice = api.ADVICE.get(failed.type, "")
        raise AnsibleParserError(
            f"The members are not known: {failed}. {advice}".rstrip()
        ) from None
    found: list[dict[str, str]] = answer["members"]
    return found


def group_of(node: dict[str, Any], leader: str | None, learners: set[str]) -> str:
    """The one group, beside ``pickbox``, that a member belongs to."""
    if not node["reachable"]:
        return "pickbox_unreachable"
    if node["node_id"] == leader:
        return "pickbox_leader"
    return "pickbox_learners" if node["node_id"] in learners else "pickbox_followers"


def variables_of(node: dict[str, Any], cluster_name: str, address: str) -> dict[str, Any]:
    """What is known of a member, as variables of its host. `address` is host:port of its log."""
    variables: dict[str, Any] = {
        "pickbox_node_id": node["node_id"],
        "pickbox_cluster_name": cluster_name,
        "pickbox_node": {name: node.get(name) for name in TOLD},
    }
    host, _, port = address.rpartition(":")
    if port:
        variables["pickbox_port"] = int(port)
    for name, variable in PORTS.items():
        parts = urlsplit(node.get(name) or "")
        if parts.hostname and parts.port:
            host = parts.hostname
            variables[variable] = parts.port
    if host:
        variables.update(ansible_host=host.strip("[]"), pickbox_host=host.strip("[]"))
    return variables


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]
    """What Ansible asks for."""

    NAME = "pickbox.cluster.pickbox"

    def verify_file(self, path: str) -> bool:
        """Whether the file may be one of ours, by its name."""
        return bool(super().verify_file(path)) and path.endswith(("pickbox.yml", "pickbox.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill the inventory from the cluster, or from what it said last."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        key = self.get_cache_key(path)
        kept = self.get_option("cache")
        found = self._cache.get(key) if kept and cache else None
        if found is None:
            found = self._asked()
            if kept:
                self._cache[key] = found
        self._fill(found)

    def _asked(self) -> dict[str, Any]:
        timeout = self.get_option("timeout")
        seen = view(self.get_option("urls"), timeout)
        urls, token, ca = (self.get_option(name) for name in ("admin_urls", "token", "ca"))
        named = members(urls, token, timeout, ca)
        if not seen.get("has_quorum"):
            self.display.warning(
                f"{seen.get('node_id')} sees no majority of its cluster: who leads is not known, "
                "and the others may be well."
            )
        return {"cluster": seen, "members": named}

    def _fill(self, found: dict[str, Any]) -> None:
        seen, named = found["cluster"], {member["node_id"]: member for member in found["members"]}
        learners = {name for name, member in named.items() if member["role"] == "learner"}
        self.inventory.add_group("pickbox")
        for group in GROUPS:
            self.inventory.add_group(group)
            self.inventory.add_child("pickbox", group)
        for node in seen["nodes"]:
            name = node["node_id"]
            self.inventory.add_host(name, group="pickbox")
            self.inventory.add_host(name, group=group_of(node, seen["leader"], learners))
            address = named.get(name, {}).get("address", "")
            variables = variables_of(node, seen["cluster_name"], address)
            for variable, value in variables.items():
                self.inventory.set_variable(name, variable, value)
            self._construct(name, variables)

    def _construct(self, name: str, variables: dict[str, Any]) -> None:
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict)
