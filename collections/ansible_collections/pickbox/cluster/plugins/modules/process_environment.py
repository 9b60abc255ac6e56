#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Says which environment variables a process was started with."""

from __future__ import annotations

DOCUMENTATION = r"""
module: process_environment
short_description: Say which environment variables a process was started with
version_added: 0.1.0
description:
  - Reads C(/proc/PID/environ), which has what the process was started with, whatever it or others
    have changed since. Changes nothing.
  - A process that is gone has none.
  - Where even root may not look at the processes of others, as in a container, it looks as the user
    of the process.
options:
  pid:
    description: The process. V(0) when there is none.
    type: int
    required: true
  prefix:
    description: How the names of the variables begin. Others are not told, for they may be secret.
    type: str
    required: true
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: See which release a node was started from
  pickbox.cluster.process_environment:
    pid: 4711
    prefix: PICKBOX_
  register: started_with
"""

RETURN = r"""
variables:
  description: The variables and their values.
  returned: success
  type: dict
  sample: {PICKBOX_RELEASE: 0.1.0-1f2e3d4c5b6a}
"""

import os
import subprocess

from ansible.module_utils.basic import AnsibleModule


def content_of(path: str) -> bytes:
    """A file of a process, read as the user of the process if root may not."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except PermissionError:
        if os.geteuid() != 0:
            raise
        owner = os.stat(os.path.dirname(path))
        command = ["/bin/cat", path]
        reader = subprocess.run(  # noqa: S603 - no shell, and the path is of /proc
            command,
            user=owner.st_uid,
            group=owner.st_gid,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
        if reader.returncode != 0:
            raise
        return reader.stdout


def variables_of(pid: int, prefix: str, proc: str = "/proc") -> dict[str, str]:
    """What the process `pid` was started with, as far as the names begin with `prefix`."""
    if not pid:
        return {}
    try:
        lines = content_of(f"{proc}/{pid}/environ").decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    pairs = (line.partition("=") for line in lines if line.startswith(prefix))
    return {name: value for name, _, value in pairs}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "pid": {"type": "int", "required": True},
            "prefix": {"required": True},
        },
        supports_check_mode=True,
    )
    try:
        variables = variables_of(module.params["pid"], module.params["prefix"])
    except OSError as error:
        module.fail_json(msg=f"The environment of a process cannot be read: {error}.")
    module.exit_json(changed=False, variables=variables)


if __name__ == "__main__":
    main()
