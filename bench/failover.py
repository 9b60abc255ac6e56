"""How long a cluster takes no writes after its leader was killed."""

from __future__ import annotations

import selectors
import time
from typing import TYPE_CHECKING

from load import WIRES, Wire, dial

if TYPE_CHECKING:
    import socket

    from clusters import Cluster

_PERIOD = 0.01
_PATIENCE = 30.0


def fail_over(cluster: Cluster) -> float:
    """Kill the leader (-9); return the seconds until a write is acknowledged that was sent after.

    A write goes to both members that are left, every 10 ms, whoever leads. Then the killed member
    is started again, and the cluster is level when this returns.
    """
    leader = cluster.leader()
    assert leader is not None, "the cluster was level, so somebody leads"
    survivors = [address for node, address in cluster.clients.items() if node != leader]
    connections: list[tuple[socket.socket, Wire]] = [
        (dial(address), WIRES[cluster.system]()) for address in survivors
    ]
    try:
        killed = cluster.kill(leader)
        seconds = _until_acknowledged(connections) - killed
    finally:
        for connected, _ in connections:
            connected.close()
    cluster.start(leader)
    return seconds


def _until_acknowledged(connections: list[tuple[socket.socket, Wire]]) -> float:
    """Write to all until one acknowledges; return when it did."""
    with selectors.DefaultSelector() as selector:
        for connected, wire in connections:
            selector.register(connected, selectors.EVENT_READ, (connected, wire))
        deadline = time.monotonic() + _PATIENCE
        due = time.monotonic()
        while time.monotonic() < deadline:
            if time.monotonic() >= due:
                due += _PERIOD
                for connected, wire in connections:
                    wire.put(b"after")
                    connected.sendall(wire.outgoing())
            for key, _ in selector.select(max(0.0, due - time.monotonic())):
                connected, wire = key.data
                committed, _ = wire.feed(connected.recv(1 << 16))
                if committed:
                    return time.monotonic()
    raise SystemExit(f"no write was acknowledged for {_PATIENCE:g} s after the leader was killed")
