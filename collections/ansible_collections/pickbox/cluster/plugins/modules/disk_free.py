#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Says how much space is free where paths are, or will be."""

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_free
short_description: Say how much space is free where paths are or will be
version_added: 0.1.0
description:
  - Looks at the volume that holds each path, or its nearest existing parent. Changes nothing.
options:
  paths:
    description: The paths. They need not exist yet.
    type: list
    elements: path
    required: true
attributes:
  check_mode:
    description: Reads only, so it does the same in check mode.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: See how much space the data will have
  pickbox.cluster.disk_free:
    paths: [/srv/pickbox]
  register: volumes
"""

RETURN = r"""
volumes:
  description: What was found for each path, in the order of O(paths).
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The path that was asked for.
      type: str
    directory:
      description: The existing directory that was looked at.
      type: str
    bytes:
      description: Bytes that the calling user may still write there.
      type: int
    writable:
      description: Whether the calling user may make files in that directory.
      type: bool
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def nearest_directory(path: str) -> str:
    """`path`, or the nearest of its parents that exists."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def look(path: str) -> dict[str, Any]:
    """What there is for `path`."""
    directory = nearest_directory(path)
    volume = os.statvfs(directory)
    return {
        "path": path,
        "directory": directory,
        "bytes": volume.f_bavail * volume.f_frsize,
        "writable": os.access(directory, os.W_OK | os.X_OK),
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={"paths": {"type": "list", "elements": "path", "required": True}},
        supports_check_mode=True,
    )
    module.exit_json(changed=False, volumes=[look(path) for path in module.params["paths"]])


if __name__ == "__main__":
    main()
