"""The two clusters that are compared: three processes each, on loopback and on one disk."""

from __future__ import annotations

import abc
import contextlib
import datetime as dt
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil

from load import dial
from member_wire import ANSWER, REQUEST, Verdict

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "integration"))

from authority import Authority  # noqa: E402
from cluster import wait_until  # noqa: E402 - found by the line above
from ports import free_ports  # noqa: E402

NODES = ("node1", "node2", "node3")
_LIFE = dt.timedelta(days=7)


@dataclass(frozen=True)
class Standing:
    """What a member says of itself."""

    leads: bool
    applied: int


class Cluster(abc.ABC):
    """Three members. `peers` and `clients` are their addresses for each other and for clients."""

    system: ClassVar[str]
    """As `load.WIRES` names it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        ports = [f"127.0.0.1:{port}" for port in free_ports(2 * len(NODES))]
        self.peers = dict(zip(NODES, ports, strict=False))
        self.clients = dict(zip(NODES, ports[len(NODES) :], strict=True))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @abc.abstractmethod
    def command(self, node: str) -> list[str]:
        """What runs `node`, in the foreground."""

    @abc.abstractmethod
    def ask(self, node: str) -> Standing:
        """Ask `node` how it stands. Raises `OSError` if it does not answer."""

    def log(self, node: str) -> Path:
        """What `node` writes to its standard error."""
        return self.directory / f"{node}.log"

    def start(self, *nodes: str) -> None:
        """Start these members, or all, and wait until all of them are level."""
        for node in nodes or NODES:
            with self.log(node).open("ab") as log:
                self._processes[node] = subprocess.Popen(
                    self.command(node), stdout=log, stderr=log, cwd=self.directory
                )
        wait_until(self.is_level, f"{self.system}: a leader, and all members level with it", 60)

    def kill(self, node: str) -> float:
        """``kill -9``; returns when, on the monotonic clock."""
        process = self._processes.pop(node)
        moment = time.monotonic()
        process.kill()
        process.wait()
        return moment

    def stop(self) -> None:
        """End all members."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def leader(self) -> str | None:
        """The member that says it leads."""
        return next((node for node, standing in self._standings().items() if standing.leads), None)

    def is_level(self) -> bool:
        """Whether one member leads and all have applied the same."""
        found = list(self._standings().values())
        return (
            len(found) == len(NODES)
            and sum(standing.leads for standing in found) == 1
            and len({standing.applied for standing in found}) == 1
        )

    def _standings(self) -> dict[str, Standing]:
        found = {}
        for node in self._processes:
            with contextlib.suppress(OSError):
                found[node] = self.ask(node)
        return found

    def cpu_seconds(self) -> dict[str, float]:
        """What each member has used of the processors so far."""
        times = {n: psutil.Process(p.pid).cpu_times() for n, p in self._processes.items()}
        return {node: spent.user + spent.system for node, spent in times.items()}


class Pickbox(Cluster):
    """This project's consensus layer, under mutual TLS."""

    system = "pickbox"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        authority = Authority(directory / "certificates")
        self._credentials = {node: authority.issue(node, ends=_LIFE) for node in NODES}

    def command(self, node: str) -> list[str]:
        files = self._credentials[node]
        return [
            sys.executable,
            str(HERE / "consensus_member.py"),
            node,
            str(self.directory / node),
            json.dumps(self.peers),
            self.clients[node],
            *map(str, (files.ca, files.certificate, files.key)),
        ]

    def ask(self, node: str) -> Standing:
        with dial(self.clients[node]) as connected, connected.makefile("rb") as answers:
            connected.sendall(REQUEST.pack(0, 0))
            answer = answers.read(ANSWER.size)
        if len(answer) < ANSWER.size:
            raise ConnectionResetError(f"{node} has closed the connection")
        _, verdict, applied = ANSWER.unpack(answer)
        return Standing(verdict == Verdict.LEADS, applied)

    def events(self, name: str) -> int:
        """How often members have logged event `name` so far."""
        return sum(
            json.loads(line)["event"] == name
            for node in NODES
            for line in self.log(node).read_text().splitlines()
        )


class Etcd(Cluster):
    """etcd with its defaults, which are durable; nothing between members is encrypted."""

    system = "etcd"
    program = shutil.which("etcd")

    def command(self, node: str) -> list[str]:
        assert self.program is not None
        peer, client = f"http://{self.peers[node]}", f"http://{self.clients[node]}"
        return [
            self.program,
            f"--name={node}",
            f"--data-dir={self.directory / node}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            "--initial-cluster=" + ",".join(f"{n}=http://{p}" for n, p in self.peers.items()),
            "--log-level=warn",
        ]

    def ask(self, node: str) -> Standing:
        request = urllib.request.Request(
            f"http://{self.clients[node]}/v3/maintenance/status", data=b"{}"
        )
        with urllib.request.urlopen(request, timeout=2) as answer:
            status = json.load(answer)
        leads = status.get("leader") == status["header"]["member_id"]
        return Standing(leads, int(status["raftAppliedIndex"]))
