"""A member of a cluster that is nothing but the consensus layer, for `consensus.py` to measure.

The core, its durable log and snapshots, mutual TLS, and a state machine that keeps a digest of
what it was given. Clients speak `member_wire` on a port of their own.
"""

from __future__ import annotations

import argparse
import functools
import gc
import hashlib
import json
import os
import random
import signal
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from member_wire import ANSWER, REQUEST, Verdict
from pickbox.consensus.configuration import Configuration, Participant
from pickbox.consensus.core import SafeSyncObj
from pickbox.consensus.library import Identity
from pickbox.consensus.log import DurableLog, RealDisk
from pickbox.consensus.messages import MESSAGE_TYPES
from pickbox.consensus.options import Hooks, Options
from pickbox.consensus.proposals import Fate, Outcome
from pickbox.consensus.snapshot_store import SnapshotStore
from pickbox.consensus.transport import TlsTransport, TransportOptions
from pickbox.observability import logs
from pickbox.tls import Credentials, CredentialsFiles, NodeIdentity

if TYPE_CHECKING:
    from collections.abc import Callable

_TICK_SECONDS = 0.05
_READ = 64 << 10


class DigestMachine:
    """Keeps what it was given as one digest; in memory, since log and snapshots bring it back."""

    def __init__(self) -> None:
        self.applied_index = 0
        self._digest = bytes(32)

    def apply(self, index: int, command: bytes) -> object:
        self._digest = hashlib.sha256(self._digest + command).digest()
        self.applied_index = index
        return None

    def state_hash(self) -> bytes:
        return self._digest

    def begin_dump(self) -> Callable[[str], None]:
        content = self.applied_index.to_bytes(8) + self._digest

        def write(path: str) -> None:
            Path(path).write_bytes(content)

        return write

    def load(self, path: str) -> None:
        content = Path(path).read_bytes()
        self.applied_index, self._digest = int.from_bytes(content[:8]), content[8:]


class Port:
    """Where clients connect. Their answers leave at the end of a tick, those of one together."""

    def __init__(self) -> None:
        self._unsent: list[Client] = []

    def open(self, address: str, core: SafeSyncObj) -> None:
        """Listen, and serve each client on a thread of its own."""
        host, _, port = address.rpartition(":")
        listening = socket.create_server((host, int(port)))

        def accept() -> None:
            while True:
                connected, _ = listening.accept()
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _on_a_thread(Client(connected, core, self._unsent).serve)

        _on_a_thread(accept)

    def flush(self, _seconds: float) -> None:
        """Send what the tick has settled."""
        while self._unsent:
            self._unsent.pop().flush()


class Client:
    """One connection.

    So few puts are outstanding that the core's queue is never full: it calls back on the tick
    thread alone.

    Args:
        unsent: where it puts itself when it has answers to send.
    """

    def __init__(self, connected: socket.socket, core: SafeSyncObj, unsent: list[Client]) -> None:
        self._socket = connected
        self._core = core
        self._unsent = unsent
        self._answers: list[bytes] = []

    def serve(self) -> None:
        """Read requests until the client is gone."""
        rest = b""
        while data := self._receive():
            data = rest + data
            at = 0
            while len(data) - at >= REQUEST.size:
                length, number = REQUEST.unpack_from(data, at)
                end = at + REQUEST.size + length
                if end > len(data):
                    break
                self._take(number, data[at + REQUEST.size : end])
                at = end
            rest = data[at:]
        self._socket.close()

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_READ)
        except OSError:
            return b""

    def _take(self, number: int, value: bytes) -> None:
        if value:
            self._core.propose(value, functools.partial(self._settled, number))
        else:
            self._core.post(functools.partial(self._tell_role, number))

    def _settled(self, number: int, outcome: Outcome) -> None:
        committed = outcome.fate is Fate.COMMITTED
        verdict = Verdict.COMMITTED if committed else Verdict.NOT_COMMITTED
        self._answer(number, verdict, outcome.index)

    def _tell_role(self, number: int) -> None:
        verdict = Verdict.LEADS if self._core.leads else Verdict.FOLLOWS
        self._answer(number, verdict, self._core.applied_index)

    def _answer(self, number: int, verdict: Verdict, index: int) -> None:
        if not self._answers:
            self._unsent.append(self)
        self._answers.append(ANSWER.pack(number, verdict, index))

    def flush(self) -> None:
        """Send all answers."""
        answers, self._answers = self._answers, []
        try:
            self._socket.sendall(b"".join(answers))
        except OSError:
            return  # the client is gone, which `serve` sees


@dataclass(frozen=True)
class Place:
    """Where a member is: its directory, and for each member of the cluster its node port."""

    node_id: str
    directory: Path
    members: dict[str, str]
    credentials: CredentialsFiles


def compose(place: Place, on_tick: Callable[[float], None]) -> SafeSyncObj:
    """The core with everything under it."""
    name = NodeIdentity("test", place.node_id)
    host, _, port = place.members[place.node_id].rpartition(":")
    transport = TransportOptions(
        Credentials(place.credentials, name), host, int(port), MESSAGE_TYPES
    )
    return SafeSyncObj(
        Identity(place.node_id, _incarnation(place.directory), name.cluster),
        DurableLog.open(RealDisk(), str(place.directory / "log")),
        DigestMachine(),
        SnapshotStore(str(place.directory / "snapshots")),
        TlsTransport.with_options(transport),
        rng=random.Random(),
        bootstrap=Configuration(
            1, name.cluster, {n: Participant(address) for n, address in place.members.items()}
        ),
        options=Options(aside=_on_a_thread),
        hooks=Hooks(on_tick=on_tick),
    )


def _incarnation(directory: Path) -> bytes:
    """The random tag of the data directory, made with it."""
    path = directory / "incarnation"
    if not path.exists():
        path.write_bytes(os.urandom(16))
    return path.read_bytes()


def _on_a_thread(call: Callable[[], None]) -> None:
    threading.Thread(target=call, daemon=True).start()


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("node_id")
    parser.add_argument("directory", type=Path)
    parser.add_argument("members", type=json.loads, help="JSON: node id -> host:port")
    parser.add_argument("client_address", help="host:port for clients")
    parser.add_argument("ca", type=Path)
    parser.add_argument("certificate", type=Path)
    parser.add_argument("key", type=Path)
    args = parser.parse_args()
    logs.configure("info", args.node_id)
    files = CredentialsFiles(args.ca, args.certificate, args.key)
    args.directory.mkdir(parents=True, exist_ok=True)
    port = Port()
    core = compose(Place(args.node_id, args.directory, args.members, files), port.flush)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    port.open(args.client_address, core)
    gc.freeze()  # what is there now stays; and entries come in thousands, none of them in a cycle
    gc.set_threshold(10_000, 20, 20)
    while not stop.is_set():
        core.doTick(_TICK_SECONDS)
    core.close()


if __name__ == "__main__":
    main()
