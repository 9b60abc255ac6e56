# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Reads files of a cluster over HTTP."""

from __future__ import annotations

DOCUMENTATION = r"""
name: file_content
short_description: Content of files in a Pickbox cluster
version_added: 0.1.0
description:
  - Gives the content of each file as text, or its bytes as base64. They are read on the control
    node, from the first node that answers.
options:
  _terms:
    description: Paths in the folder, without a slash at their begin.
    type: list
    elements: str
    required: true
  urls:
    description: Base URLs of the client ports of some nodes, or of a load balancer before them.
      When one does not answer, or not now, the next one is asked.
    type: list
    elements: str
    required: true
    vars:
      - name: pickbox_lookup_urls
  encoding:
    description:
      - V(utf-8) gives text, and fails when the content is none.
      - V(base64) gives the bytes, encoded so.
    type: str
    choices: [utf-8, base64]
    default: utf-8
  consistency:
    description:
      - V(linearizable) gives what the whole cluster agrees on at this moment, and needs a majority.
      - V(local) gives what the node that is asked has, which may be a moment behind.
    type: str
    choices: [linearizable, local]
    default: linearizable
  default:
    description: What to give in place of a file that is not there. Without it, that is an error.
    type: raw
  timeout:
    description: Seconds to wait.
    type: int
    default: 30
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: Show the settings of an application that are in the folder
  ansible.builtin.debug:
    msg: "{{ lookup('pickbox.cluster.file_content', 'application/settings.ini') }}"
  vars:
    pickbox_lookup_urls: ["http://10.0.0.1:8080", "http://10.0.0.2:8080"]

- name: Put a key of the folder on this machine
  ansible.builtin.copy:
    content: "{{ lookup('pickbox.cluster.file_content', 'key', encoding='base64') | b64decode }}"
    dest: /etc/application/key
    mode: "0600"
  diff: false
  vars:
    pickbox_lookup_urls: ["http://10.0.0.1:8080"]
"""

RETURN = r"""
_raw:
  description: The content of each file, in the order of the paths.
  type: list
  elements: raw
"""

import base64
from typing import Any

from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.pickbox.cluster.plugins.module_utils import api, files


class LookupModule(LookupBase):  # type: ignore[misc]
    """What Ansible asks for."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[Any]:
        """The content of each file."""
        self.set_options(var_options=variables, direct=kwargs)
        deadline = api.Deadline(self.get_option("timeout"))
        urls = self.get_option("urls")
        if not urls:
            raise AnsibleError("urls: found an empty list; give the client port of a node.")
        nodes = api.Nodes(urls, deadline)
        return [self._content(nodes, term) for term in terms]

    def _content(self, nodes: api.Nodes, path: str) -> Any:
        target = files.address(path)
        if self.get_option("consistency") == "linearizable":
            target += "?consistency=linearizable"
        try:
            content: bytes = nodes.ask("GET", target, take=lambda answer: answer.read())
        except api.Failed as failed:
            if isinstance(failed, api.Refused) and files.absent(failed):
                return self._instead(path, failed)
            silent = isinstance(failed, api.Silent)
            advice = api.NO_ANSWER if silent else api.ADVICE.get(failed.type, "")
            raise AnsibleLookupError(f"{path} was not read: {failed}. {advice}".rstrip()) from None
        return self._encoded(path, content)

    def _instead(self, path: str, refusal: api.Refused) -> Any:
        instead = self.get_option("default")
        if instead is None:
            raise AnsibleLookupError(
                f"{path} is not in the cluster: {refusal}. See what is there with `pickbox ls`, or "
                "give a default."
            )
        return instead

    def _encoded(self, path: str, content: bytes) -> str:
        if self.get_option("encoding") == "base64":
            return base64.b64encode(content).decode()
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise AnsibleLookupError(
                f"{path} is no UTF-8 text (byte {error.start}): read it with encoding='base64'."
            ) from None
