# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""What modules that use the admin API have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of the admin API."""

    DOCUMENTATION = r"""
options:
  token:
    description: Admin token of the cluster.
    type: str
    required: true
  ca:
    description: PEM file of the CAs whose certificates nodes at C(https://) addresses must show, on
      the machine where the module runs. The system's CAs, if it is not given.
    type: path
author:
  - The Pickbox developers (@pickbox)
"""

    URLS = r"""
options:
  urls:
    description: Base URLs of the admin ports of some nodes. When one does not answer, or not now,
      the next one is asked.
    type: list
    elements: str
    required: true
"""
