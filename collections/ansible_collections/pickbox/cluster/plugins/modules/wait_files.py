#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Waits until a directory has certain files, byte for byte."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wait_files
short_description: Wait until a directory has certain files, byte for byte
version_added: 0.1.0
description:
  - Looks at the files until each has the content that is expected, or until the directory is gone.
  - When time runs out, fails with what is missing and what differs.
options:
  directory:
    description: The directory to look in.
    type: path
    required: true
  files:
    description: Expected text of each file, by its name in O(directory).
    type: dict
    default: {}
  state:
    description: V(absent) waits until O(directory) is gone instead.
    type: str
    choices: [present, absent]
    default: present
  timeout:
    description: Seconds to wait.
    type: int
    default: 60
attributes:
  check_mode:
    description: Waits for nothing, since nothing was written.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: Wait until the greeting has arrived
  pickbox.cluster.wait_files:
    directory: /srv/pickbox/files
    files:
      greeting.txt: "hello\n"
"""

RETURN = r"""
seconds:
  description: How long it took.
  returned: success
  type: float
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule


def differences(directory: str, files: dict[str, str]) -> list[str]:
    """One phrase for each file that is not as expected."""
    found = []
    for name, text in files.items():
        try:
            with open(os.path.join(directory, name), "rb") as file:
                if file.read() != str(text).encode():
                    found.append(f"{name} has other content")
        except FileNotFoundError:
            found.append(f"{name} is missing")
    return found


def remains(directory: str) -> list[str]:
    """One phrase if the directory is still there."""
    return [f"{directory} is still there"] if os.path.lexists(directory) else []


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "files": {"type": "dict", "default": {}},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    directory, timeout = module.params["directory"], module.params["timeout"]
    began = time.monotonic()
    while not module.check_mode:
        if module.params["state"] == "absent":
            problems = remains(directory)
        else:
            problems = differences(directory, module.params["files"])
        if not problems:
            break
        if time.monotonic() - began > timeout:
            module.fail_json(msg=f"After {timeout} s, in {directory}: {'; '.join(problems)}.")
        time.sleep(0.1)
    module.exit_json(changed=False, seconds=round(time.monotonic() - began, 2))


if __name__ == "__main__":
    main()
