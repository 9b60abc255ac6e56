"""The question of a container's health check, which each node is asked every few seconds for ever.

So this imports nothing that takes long: no command line, no other package, and not the settings,
of which it needs two. They were checked when the node was started.
"""

from __future__ import annotations

import os
import tomllib
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

PROBE_TIMEOUT: Final = 5.0
"""Seconds; a health check must not pile up behind a node that hangs."""

_HOST: Final = "127.0.0.1"
_MONITOR_PORT: Final = 6001
"""What holds when neither the environment nor the file says anything, as in `pickbox.settings`."""


def node_is_ready(config: str | os.PathLike[str], timeout: float = PROBE_TIMEOUT) -> bool:
    """Whether the node of the settings in the file `config` runs here, and says that it is ready.

    False, too, when the file cannot be read: without it no node runs.
    """
    try:
        host, port = _monitor_address(config)
        connection = HTTPConnection(host, port, timeout=timeout)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        finally:
            connection.close()
    except (OSError, ValueError, HTTPException):  # a ValueError: of the file, or of the port
        return False


def reachable_host(host: str) -> str:
    """Where a node is found on its own machine that listens at `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - binds nothing


def _monitor_address(config: str | os.PathLike[str]) -> tuple[str, int]:
    with open(config, "rb") as file:
        values: dict[str, Any] = tomllib.load(file)
    # The environment wins, and the case of its names is of no importance, as in the settings.
    environment = {name.upper(): value for name, value in os.environ.items()}
    host = environment.get("PICKBOX_HOST", values.get("host", _HOST))
    port = environment.get("PICKBOX_MONITOR_PORT", values.get("monitor_port", _MONITOR_PORT))
    return reachable_host(str(host)), int(str(port))
