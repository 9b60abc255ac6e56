# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Asks a node how it sees the cluster."""

from __future__ import annotations

from typing import Any

from ansible_collections.pickbox.cluster.plugins.module_utils import api


def ask(url: str, timeout: float) -> dict[str, Any] | str:
    """What ``/api/cluster`` of the node at `url` says, or why it said nothing."""
    try:
        document: dict[str, Any] = api.ask(f"{url.rstrip('/')}/api/cluster", timeout=timeout)
    except api.Silent as silence:
        return silence.why
    except api.Refused as refusal:
        return f"it answers {refusal.status}: {refusal.detail}"
    except api.Failed as failure:
        return str(failure)
    return document


def view_of(document: dict[str, Any], node_id: str) -> dict[str, Any]:
    """How the node `node_id` is seen in what ``/api/cluster`` says; empty when it is not in it."""
    nodes: list[dict[str, Any]] = document.get("nodes", [])
    return next((node for node in nodes if node.get("node_id") == node_id), {})
