"""The dashboards of Grafana, as code: a module each, of which tools/generate.py makes the JSON.

They are what the role pickbox.cluster.grafana provisions (roles/grafana/files/dashboards).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import alerts, consensus, node, overview, replication

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = (overview, replication, consensus, node, alerts)


def documents() -> Iterator[tuple[str, str]]:
    """The name of each dashboard's file, and its text."""
    for module in MODULES:
        dashboard = module.dashboard().build()
        for number, panel in enumerate(dashboard.panels or (), start=1):
            panel.id_val = number  # links to a panel name it
        text = json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True)
        yield f"{dashboard.uid}.json", f"{text}\n"
