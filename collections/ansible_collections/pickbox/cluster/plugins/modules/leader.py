#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Hands leadership over, and waits until another node leads."""

from __future__ import annotations

DOCUMENTATION = r"""
module: leader
short_description: Hand leadership over to another node
version_added: 0.1.0
description:
  - Has a certain node lead, or any but a certain one, and waits until it does.
  - Changes nothing when it is so already. Leadership moves for other reasons too, so a node may
    lead again later.
options:
  target:
    description: The node that is to lead, which must be a voter.
    type: str
  not_on:
    description: The node that is not to lead. The leader hands over to the follower that has most
      of the log.
    type: str
  timeout:
    description: Seconds to wait.
    type: int
    default: 30
extends_documentation_fragment:
  - pickbox.cluster.admin_api
  - pickbox.cluster.admin_api.urls
attributes:
  check_mode:
    description: Says whether leadership would be handed over.
    support: full
  diff_mode:
    description: Shows who led and who leads.
    support: full
"""

EXAMPLES = r"""
- name: Have another node lead before node1 is restarted
  pickbox.cluster.leader:
    urls: ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]
    token: "{{ pickbox_admin_token }}"
    not_on: node1

- name: Have node2 lead
  pickbox.cluster.leader:
    urls: ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]
    token: "{{ pickbox_admin_token }}"
    target: node2
"""

RETURN = r"""
before:
  description: Who led.
  returned: success
  type: str
  sample: node1
after:
  description: Who leads; in check mode, who would, and empty when that is not known.
  returned: success
  type: str
  sample: node2
seconds:
  description: How long it took.
  returned: success
  type: float
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pickbox.cluster.plugins.module_utils import api


class Nobody(Exception):
    """No voter can lead as it is wanted; the text says why."""


def leader_of(nodes: api.Nodes) -> str:
    """Who leads, as soon as a node that is asked knows of a leader.

    Raises:
        api.Failed: none does in time.
    """
    while not (leader := nodes.json("GET", "/api/v1/leader")["leader"]):
        if not nodes.deadline.pause():
            raise api.Failed(nodes.url, f"{nodes.url} knows of no leader to hand over from")
    return str(leader)


def wanted(leader: str, target: str | None, not_on: str | None) -> bool:
    """Whether it is this leader who is to lead."""
    return leader == target if target else leader != not_on


def refuse_what_cannot_be(nodes: api.Nodes, target: str | None, not_on: str | None) -> None:
    """See that there is a voter who can lead.

    Raises:
        Nobody: there is none.
    """
    members = nodes.json("GET", "/api/v1/members")["members"]
    voters = [member["node_id"] for member in members if member["role"] == "voter"]
    if target and target not in voters:
        raise Nobody(
            f"{target} cannot lead: by {nodes.url} it is not a voter; voters are "
            f"{', '.join(voters)}. Add it first (pickbox.cluster.member)."
        )
    if voters == [not_on]:
        raise Nobody(f"By {nodes.url}, {not_on} is the only voter, so no other node can lead.")


def hand_over(nodes: api.Nodes, target: str | None, not_on: str | None) -> str:
    """Ask for it until it is so; give the new leader.

    Who leads is looked at before each try, and once it was handed over nothing is asked for any
    more: a request without a target would be for handing over again, and perhaps back.

    Raises:
        api.Failed: it is not so in time.
    """
    done, refused = False, None
    while True:
        leader = leader_of(nodes)
        if wanted(leader, target, not_on):
            return leader
        try:
            if not done:
                new = nodes.once("POST", "/api/v1/leader", {"target": target})["leader"]
                done = wanted(str(new), target, not_on)
        except api.Failed as failure:
            if not failure.may_pass:
                raise
            # What the cluster has said tells more than that it was cut short when time ran out.
            if isinstance(failure, api.Refused) or refused is None:
                refused = failure
        if not nodes.deadline.pause():
            raise refused or api.Failed(nodes.url, f"{nodes.url} still says that {leader} leads")


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "urls": {"type": "list", "elements": "str", "required": True},
            "token": {"required": True, "no_log": True},
            "ca": {"type": "path"},
            "target": {},
            "not_on": {},
            "timeout": {"type": "int", "default": 30},
        },
        mutually_exclusive=[("target", "not_on")],
        required_one_of=[("target", "not_on")],
        supports_check_mode=True,
    )
    target, not_on = module.params["target"], module.params["not_on"]
    deadline = api.Deadline(module.params["timeout"])
    nodes = api.Nodes(module.params["urls"], deadline, module.params["token"], module.params["ca"])
    try:
        before = after = leader_of(nodes)
        changed = not wanted(before, target, not_on)
        if changed:
            refuse_what_cannot_be(nodes, target, not_on)
            after = target or "" if module.check_mode else hand_over(nodes, target, not_on)
    except Nobody as reason:
        module.fail_json(msg=str(reason))
    except api.Failed as failed:
        api.explain(module, failed, f"Having {target or f'another than {not_on}'} lead", deadline)
    module.exit_json(
        changed=changed,
        before=before,
        after=after,
        seconds=deadline.spent,
        diff={"before": f"leader: {before}\n", "after": f"leader: {after or 'another'}\n"},
    )


if __name__ == "__main__":
    main()
