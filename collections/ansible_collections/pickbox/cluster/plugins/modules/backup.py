#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Makes a backup point on a node, removes it, or lists what is there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Make, remove or list backup points of a node
version_added: 0.1.0
description:
  - A point is a directory on the node's volume that has the folder as it was at one index of the
    log, each content proved by its digest. A backup program reads it, and then it is removed.
  - Where the file system shares blocks (Btrfs, XFS), a point takes next to no room; elsewhere it
    takes as much as the folder.
  - The node removes its points when it is started. They are no backups, only what a backup is
    made from.
options:
  url:
    description: Base URL of the node's admin port. A follower is disturbed least.
    type: str
    required: true
  name:
    description: Name of the point, 1 to 64 letters, digits, C(.), C(_) or C(-). Not needed with
      O(state=listed).
    type: str
  state:
    description: V(present) has the point on the node, V(absent) has it no more, V(listed) changes
      nothing.
    type: str
    choices: [present, absent, listed]
    default: present
  wait:
    description: Seconds to wait for content that is still on its way to the node, after which the
      point is refused.
    type: int
    default: 60
  timeout:
    description: Seconds to wait for the whole.
    type: int
    default: 3600
extends_documentation_fragment:
  - pickbox.cluster.admin_api
attributes:
  check_mode:
    description: Says whether a point would be made or removed.
    support: full
  diff_mode:
    description: Shows whether the point is there.
    support: full
"""

EXAMPLES = r"""
- name: Make a point for a backup program
  pickbox.cluster.backup:
    url: http://10.0.0.2:9001
    token: "{{ pickbox_admin_token }}"
    name: nightly
  register: point

- name: Have the backup program read it
  ansible.builtin.command:
    argv: [rsync, --archive, "{{ point.directory }}/", "backup.example.org:pickbox/"]
  changed_when: true

- name: Remove it
  pickbox.cluster.backup:
    url: http://10.0.0.2:9001
    token: "{{ pickbox_admin_token }}"
    name: nightly
    state: absent
"""

RETURN = r"""
backups:
  description: The points of the node after what was done, with what RV(point) says of each.
  returned: success
  type: list
  elements: dict
point:
  description: The point itself (index, version, files, directories, symlinks, bytes, release,
    cluster); empty when it is not there.
  returned: success
  type: dict
directory:
  description: Where the point is, on the node's machine; with O(state=listed), where points are.
  returned: success
  type: str
seconds:
  description: How long it took.
  returned: success
  type: float
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pickbox.cluster.plugins.module_utils import api

BACKUPS = "/api/v1/backups"


def make(node: api.Nodes, name: str, wait: int) -> None:
    """Have the node make the point; return once it is there.

    Raises:
        api.Failed: it could not, or is not done in time.
    """
    document = node.json("POST", BACKUPS, {"name": name, "wait": wait})
    while document["state"] == "running":
        if not node.deadline.pause():
            raise api.Failed(node.url, f"{node.url} is still making it; run this again to go on")
        document = node.json("GET", f"{BACKUPS}/{name}")


def remove(node: api.Nodes, name: str) -> None:
    """Have the node remove the point; it may be gone by an earlier try whose answer was lost.

    Raises:
        api.Failed: it could not.
    """
    try:
        node.json("DELETE", f"{BACKUPS}/{name}")
    except api.Refused as refusal:
        if refusal.type != "not-found":
            raise


def ready(listed: dict[str, Any], name: str | None) -> dict[str, Any]:
    """The point of that name, if it is there and whole."""
    found = [p for p in listed["backups"] if p["name"] == name and p["state"] == "ready"]
    return found[0] if found else {}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "url": {"required": True},
            "token": {"required": True, "no_log": True},
            "ca": {"type": "path"},
            "name": {},
            "state": {"choices": ["present", "absent", "listed"], "default": "present"},
            "wait": {"type": "int", "default": 60},
            "timeout": {"type": "int", "default": 3600},
        },
        required_if=[("state", "present", ["name"]), ("state", "absent", ["name"])],
        supports_check_mode=True,
    )
    name, state = module.params["name"], module.params["state"]
    deadline = api.Deadline(module.params["timeout"])
    node = api.Nodes([module.params["url"]], deadline, module.params["token"], module.params["ca"])
    aim = "Listing the backup points" if state == "listed" else f"Making the point {name} {state}"
    try:
        listed = node.json("GET", BACKUPS)
        before = ready(listed, name)
        changed = state != "listed" and bool(before) != (state == "present")
        if changed and not module.check_mode:
            if state == "present":
                make(node, name, module.params["wait"])
            else:
                remove(node, name)
            listed = node.json("GET", BACKUPS)
    except api.Failed as failed:
        api.explain(module, failed, aim, deadline)
    point = {} if state == "listed" else ready(listed, name)
    words = {True: "present", False: "absent"}
    module.exit_json(
        changed=changed,
        backups=listed["backups"],
        point=point,
        directory=point.get("directory", listed["directory"]),
        seconds=deadline.spent,
        diff={
            "before": f"state: {words[bool(before)]}\n",
            "after": f"state: {words[bool(before) != changed]}\n",
        },
    )


if __name__ == "__main__":
    main()
