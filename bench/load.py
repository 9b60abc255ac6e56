"""The load: a closed loop with a fixed number of puts outstanding, in a process of its own.

``load.py SYSTEM HOST:PORT`` prints one line of JSON. One thread, plain sockets: what the client
itself costs is in the line too (`cpu_share`, of one core), since it runs on the cores of those it
measures.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Protocol

from etcd_wire import EtcdWire
from member_wire import MemberWire

_READ = 256 << 10


class Wire(Protocol):
    """The protocol of a system on one connection, without the socket."""

    def put(self, value: bytes) -> int: ...

    def outgoing(self) -> bytes: ...

    def feed(self, data: bytes) -> tuple[list[int], list[int]]: ...


WIRES: dict[str, type[MemberWire | EtcdWire]] = {"pickbox": MemberWire, "etcd": EtcdWire}


@dataclass(frozen=True)
class Figures:
    """What one run gave. `cpu_share` is the client's, in cores."""

    commits_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    commits: int
    seconds: float
    cpu_share: float


class Connection:
    """Keeps `outstanding` puts on their way and notes how long each took."""

    def __init__(self, address: str, wire: Wire, value: bytes, outstanding: int) -> None:
        self.socket = dial(address)
        self.seconds: list[float] = []
        self._wire = wire
        self._value = value
        self._outstanding = outstanding
        self._sent_at: dict[int, float] = {}

    def start(self) -> None:
        """Send the first puts."""
        self._put(self._outstanding)

    def turn(self) -> None:
        """Take in answers, and put anew for each."""
        data = self.socket.recv(_READ)
        if not data:
            raise SystemExit("the member closed the connection")
        now = time.perf_counter()
        committed, refused = self._wire.feed(data)
        if refused:
            raise SystemExit(f"{len(refused)} puts were refused: is this the leader?")
        for number in committed:
            self.seconds.append(now - self._sent_at.pop(number))
        self._put(len(committed))

    def _put(self, count: int) -> None:
        now = time.perf_counter()
        for _ in range(count):
            self._sent_at[self._wire.put(self._value)] = now
        if out := self._wire.outgoing():
            self.socket.sendall(out)


def dial(address: str) -> socket.socket:
    """A connection to ``host:port``; it blocks."""
    host, _, port = address.rpartition(":")
    connected = socket.create_connection((host, int(port)), timeout=30)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def drive(connections: list[Connection], warm_up: float, seconds: float) -> Figures:
    """Run for `warm_up` seconds, then measure for `seconds`."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.start()
        _turn_for(selector, warm_up)
        for connection in connections:
            connection.seconds.clear()
        began, busy = time.perf_counter(), time.process_time()
        _turn_for(selector, seconds)
        took, busy = time.perf_counter() - began, time.process_time() - busy
    times = [x for connection in connections for x in connection.seconds]
    cuts = statistics.quantiles(times, n=100)
    return Figures(
        commits_per_s=len(times) / took,
        p50_ms=cuts[49] * 1000,
        p99_ms=cuts[98] * 1000,
        max_ms=max(times) * 1000,
        commits=len(times),
        seconds=took,
        cpu_share=busy / took,
    )


def _turn_for(selector: selectors.BaseSelector, seconds: float) -> None:
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        ready = selector.select(30)
        if not ready:
            raise SystemExit("nothing was answered for 30 s")
        for key, _ in ready:
            key.data.turn()


def main() -> None:
    """Run one load and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=WIRES)
    parser.add_argument("address", help="host:port of the leader")
    parser.add_argument("--outstanding", type=int, default=64)
    parser.add_argument("--size", type=int, default=100, help="bytes of a value")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds")
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    share = [args.outstanding // args.connections] * args.connections
    share[0] += args.outstanding % args.connections
    connections = [
        Connection(args.address, WIRES[args.system](), b"v" * args.size, count) for count in share
    ]
    figures = drive(connections, args.warm_up, args.seconds)
    print(json.dumps(asdict(figures)))  # noqa: T201 - the program's output


if __name__ == "__main__":
    main()
