# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Asks a node how it sees the cluster (standard library only)."""

from __future__ import annotations

import json
import urllib.request
from typing import Any


def ask(url: str, timeout: float) -> dict[str, Any] | str:
    """What ``/api/cluster`` of the node at `url` says, or why it said nothing."""
    try:
        address = f"{url.rstrip('/')}/api/cluster"
        with urllib.request.urlopen(address, timeout=timeout) as answer:  # noqa: S310 - role's own
            document: dict[str, Any] = json.load(answer)
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return document


def view_of(document: dict[str, Any], node_id: str) -> dict[str, Any]:
    """How the node `node_id` is seen in what ``/api/cluster`` says; empty when it is not in it."""
    nodes: list[dict[str, Any]] = document.get("nodes", [])
    return next((node for node in nodes if node.get("node_id") == node_id), {})
