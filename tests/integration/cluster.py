"""A real cluster for tests: nodes as processes of their own, on real sockets and directories."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from base64 import b64decode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import psutil
import urllib3
from authority import CLUSTER, DECADE, Authority
from blake3 import blake3
from ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

TOKEN = "test-admin-token-0123456789"
UNDECIDED = {503, 504}
"""Answers that mean: try again, under the same key."""

HOST = "127.0.0.1"
_POOL = urllib3.PoolManager(retries=False, maxsize=32)


@functools.cache
def _verifying(ca: str) -> urllib3.PoolManager:
    return urllib3.PoolManager(retries=False, ca_certs=ca)


def wait_until(
    condition: Callable[[], object], what: str, seconds: float = 30.0, pause: float = 0.02
) -> None:
    """Return when `condition` holds; fail with `what` if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"after {seconds:g} s still not: {what}")
        time.sleep(pause)


@dataclass
class Node:
    """One node: its settings, its process, its folder, its HTTP API."""

    node_id: str
    directory: Path
    ports: tuple[int, int, int, int]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    host: str = HOST
    launcher: tuple[str, ...] = ()
    """A command that runs the node, such as one that enters a network namespace first."""
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.directory.parent / f"{self.node_id}.log"

    @property
    def files(self) -> Path:
        """The folder that people see."""
        return self.directory / "files"

    @property
    def client(self) -> str:
        """Base URL of the client API."""
        return f"http://{self.host}:{self.ports[3]}"

    @property
    def admin(self) -> str:
        """Base URL of the admin API."""
        scheme = "https" if self.environment.get("PICKBOX_ADMIN_TLS") == "true" else "http"
        return f"{scheme}://{self.host}:{self.ports[1]}"

    @property
    def ca(self) -> str:
        """The file of the CA that its certificate is of."""
        return self.environment["PICKBOX_TLS_CA"]

    @property
    def monitor(self) -> str:
        """Base URL of probes and metrics."""
        return f"http://{self.host}:{self.ports[2]}"

    @property
    def pid(self) -> int:
        """Process id of the running node."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start the node; does not wait for it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.launcher, sys.executable, "-m", "pickbox", "serve"],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """``kill -9``."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, timeout: float = 15.0) -> int:
        """SIGTERM; return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def ready(self) -> bool:
        """Whether ``/ready`` answers 200."""
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return _POOL.request("GET", f"{self.monitor}/ready", timeout=2.0).status == 200
        return False

    def request(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """A request to the client API; `path` starts with a slash."""
        return _POOL.request(method, self.client + path, timeout=40.0, **options)

    def admin_request(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """A request to the admin API with the token."""
        headers = {"Authorization": f"Bearer {TOKEN}"} | options.pop("headers", {})
        pool = _verifying(self.ca) if self.admin.startswith("https:") else _POOL
        return pool.request(method, self.admin + path, headers=headers, timeout=20.0, **options)

    def status(self) -> dict[str, Any]:
        """What the node says of itself."""
        answer: dict[str, Any] = self.admin_request("GET", "/api/v1/status").json()["node"]
        return answer

    def put(self, path: str, content: bytes, **headers: str) -> urllib3.BaseHTTPResponse:
        """PUT a file."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("PUT", f"/api/v1/files/{path}", body=content, headers=names)

    def get(self, path: str) -> urllib3.BaseHTTPResponse:
        """GET a file."""
        return self.request("GET", f"/api/v1/files/{path}")

    def listing(self) -> dict[bytes, dict[str, Any]]:
        """The catalog as the node lists it: path -> entry."""
        found: dict[bytes, dict[str, Any]] = {}
        query = "?limit=1000"
        while True:
            page = self.request("GET", f"/api/v1/files{query}").json()
            for entry in page["entries"]:
                path = entry.get("path_b64")
                found[b64decode(path) if path else entry["path"].encode()] = entry
            if page["cursor"] is None:
                return found
            query = f"?limit=1000&cursor={page['cursor']}"

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have all of `labels`."""
        text = _POOL.request("GET", f"{self.monitor}/metrics", timeout=10.0).data.decode()
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.partition("{")[0].partition(" ")[0] == name
            and all(f'{key}="{value}"' in line for key, value in labels.items())
        )

    def events(self) -> list[dict[str, Any]]:
        """What the node has logged; what is not JSON (a traceback) is an event ``unstructured``."""
        found: list[dict[str, Any]] = []
        for line in self.log.read_text().splitlines() if self.log.exists() else []:
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                found.append({"level": "critical", "event": "unstructured", "line": line})
        return found

    def errors(self) -> list[dict[str, Any]]:
        """Logged events that say that something is broken."""
        return [e for e in self.events() if e["level"] in ("error", "critical") or "exc_info" in e]

    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def pause(self) -> None:
        """SIGSTOP: the node hangs, its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def rss(self) -> int:
        """Resident memory, bytes."""
        resident: int = psutil.Process(self.pid).memory_info().rss
        return resident


class Cluster:
    """Some nodes that know each other."""

    def __init__(self, directory: Path, size: int = 3, **settings: str) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        ids = [f"node{number}" for number in range(1, size + 1)]
        ports = {node: tuple(free_ports(4)) for node in ids}
        peers = _peers({node: four[0] for node, four in ports.items()})
        self.authority = Authority(directory / "tls")
        self.settings = settings
        self.nodes = {
            node: Node(
                node,
                directory / node,
                ports[node],  # type: ignore[arg-type]  # four of them
                self.environment(node, directory / node, ports[node], peers, settings),
            )
            for node in ids
        }

    def join(self, node_id: str) -> Node:
        """A node that waits to be added, not started yet."""
        ports = tuple(free_ports(4))
        peers = {node.node_id: node.ports[0] for node in self} | {node_id: ports[0]}
        directory = self.directory / node_id
        settings = {**self.settings, "bootstrap": "false"}
        environment = self.environment(node_id, directory, ports, _peers(peers), settings)
        node = Node(node_id, directory, ports, environment)  # type: ignore[arg-type]  # four
        self.nodes[node_id] = node
        return node

    def move(self, moved: Node) -> None:
        """Give a stopped node another port for its log; only it is told."""
        moved.ports = (free_ports(1)[0], *moved.ports[1:])
        peers = {node.node_id: node.ports[0] for node in self}
        moved.environment["PICKBOX_PORT"] = str(moved.ports[0])
        moved.environment["PICKBOX_PEERS"] = _peers(peers)

    def environment(
        self,
        node: str,
        directory: Path,
        ports: tuple[int, ...],
        peers: str,
        settings: dict[str, str],
    ) -> dict[str, str]:
        """What a node is told, and nothing that this process was told."""
        names = ("PORT", "ADMIN_PORT", "MONITOR_PORT", "DASHBOARD_PORT")
        tls = self.authority.issue(node, hosts=(HOST,), starts=-DECADE, ends=DECADE)
        return {
            **{key: value for key, value in os.environ.items() if "PICKBOX" not in key},
            "PICKBOX_NODE_ID": node,
            "PICKBOX_DATA_DIR": str(directory),
            "PICKBOX_PEERS": peers,
            "PICKBOX_CLUSTER_NAME": CLUSTER,
            "PICKBOX_TLS_CA": str(tls.ca),
            "PICKBOX_TLS_CERTIFICATE": str(tls.certificate),
            "PICKBOX_TLS_KEY": str(tls.key),
            "PICKBOX_ADMIN_TOKEN": TOKEN,
            **{f"PICKBOX_{name}": str(port) for name, port in zip(names, ports, strict=True)},
            **{f"PICKBOX_{name.upper()}": value for name, value in settings.items()},
        }

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __getitem__(self, node_id: str) -> Node:
        return self.nodes[node_id]

    def __enter__(self) -> Self:
        """Start all nodes; they end with the block, or with a start that fails."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all nodes and wait until each is ready."""
        for node in self:
            node.start()
        self.wait_ready()

    def wait_ready(self, nodes: Iterable[Node] | None = None, seconds: float = 30.0) -> None:
        """Wait until `nodes` (all, if not said) are ready."""
        for node in nodes or self:
            wait_until(node.ready, f"{node.node_id} is ready; its log: {node.log}", seconds)

    def stop(self) -> None:
        """Kill whatever still runs."""
        for node in self.running():
            node.kill()

    def running(self) -> list[Node]:
        """The nodes whose process is there."""
        return [node for node in self if node.running()]

    def heal(self) -> None:
        """Start what is down, wake what is stopped, and wait until all are ready."""
        for node in self:
            if node.running():
                node.resume()
            else:
                node.start()
        self.wait_ready()

    def leader(self) -> Node:
        """The node that leads, once those that run agree."""
        return self.leader_of(self.running())

    def leader_of(self, nodes: Iterable[Node]) -> Node:
        """The node that leads, once `nodes` agree."""
        found: list[Node] = []
        asked = list(nodes)

        def agreed() -> bool:
            running = [node for node in asked if node.running()]  # one may have died by now
            with contextlib.suppress(urllib3.exceptions.HTTPError, json.JSONDecodeError):
                told = {node.status().get("leader") for node in running}
                leader = told.pop() if len(told) == 1 else None
                if leader in {node.node_id for node in running}:
                    found[:] = [self.nodes[str(leader)]]
                    return True
            return False

        wait_until(agreed, "the running nodes agree on a leader")
        return found[0]

    def followers(self) -> list[Node]:
        """All nodes but the leader."""
        return self.roles()[1]

    def roles(self) -> tuple[Node, list[Node]]:
        """The leader and all other nodes, of one moment: no election is between the two."""
        leader = self.leader()
        return leader, [node for node in self if node is not leader]

    def hand_over(self, target: Node) -> None:
        """Have `target` lead; asked for until it does, as one that is behind is not given it."""

        def leads() -> bool:
            leader = self.leader()
            if leader is not target:
                with contextlib.suppress(urllib3.exceptions.HTTPError):  # it hands over just now
                    body = {"target": target.node_id}
                    leader.admin_request("POST", "/api/v1/leader", json=body)
            return leader is target

        wait_until(leads, f"{target.node_id} leads")

    def wait_same(self, seconds: float = 60.0) -> dict[bytes, tuple[object, ...]]:
        """Wait until the folders of all running nodes are the same; return what is in them."""
        running = self.running()
        trees: list[dict[bytes, tuple[object, ...]]] = []

        def same() -> bool:
            trees[:] = [tree(node.files) for node in running]
            return all(found == trees[0] for found in trees)

        try:
            wait_until(same, "all folders are the same", seconds, pause=0.1)
        except AssertionError:
            raise AssertionError(_differences(trees)) from None
        return trees[0]

    def wait_settled(self, seconds: float = 60.0) -> dict[bytes, tuple[object, ...]]:
        """Wait until folders and catalogs of all running nodes are the same, versions included."""
        running = self.running()
        settled: list[dict[bytes, tuple[object, ...]]] = []
        seen: list[object] = []

        def agreed() -> bool:
            listings = [node.listing() for node in running]
            settled[:] = [tree(node.files) for node in running]
            seen[:] = [
                f"{node.node_id}: catalog {sorted(set(listing) ^ set(listings[0]))[:5]} and folder "
                f"{sorted(set(listing) ^ set(found))[:5]} differ from the first node's catalog"
                for node, listing, found in zip(running, listings, settled, strict=True)
            ]
            return (
                all(listing == listings[0] for listing in listings)
                and all(found == settled[0] for found in settled)
                and set(settled[0]) == set(listings[0])
            )

        try:
            wait_until(agreed, "folders and catalogs are the same", seconds, pause=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{seen}\n{_differences(settled)}") from None
        return settled[0]


def _peers(ports: dict[str, int]) -> str:
    """What nodes on this machine are told of each other."""
    return ",".join(f"{node_id}=127.0.0.1:{port}" for node_id, port in ports.items())


def put_until_acknowledged(
    nodes: Sequence[Node], path: str, content: bytes, seconds: float = 60.0
) -> int:
    """PUT with retries under one key, at one node after the other; return the version."""
    key = path.replace("/", "-")[-64:]
    deadline = time.monotonic() + seconds
    attempt = 0
    while time.monotonic() < deadline:
        node = nodes[attempt % len(nodes)]
        attempt += 1
        try:
            answer = node.put(path, content, Idempotency_Key=key, If_None_Match="*")
        except (urllib3.exceptions.HTTPError, OSError):
            time.sleep(0.05)
            continue
        if answer.status in (200, 201):
            version: int = answer.json()["version"]
            return version
        assert answer.status in UNDECIDED, (answer.status, answer.data)
        time.sleep(0.05)
    raise AssertionError(f"{path} was not acknowledged within {seconds:g} s")


def tree(root: Path) -> dict[bytes, tuple[object, ...]]:
    """What is in a folder: path -> (type, mode, mtime, content digest or link target)."""
    found: dict[bytes, tuple[object, ...]] = {}
    base = os.fsencode(root)
    for directory, names, files in os.walk(base):
        if directory == base:
            names[:] = [name for name in names if name != b".pickbox"]
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            # Something else may be at the path by now; then the next look finds it.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                found[os.path.relpath(path, base)] = _describe(path)
    return found


def _describe(path: bytes) -> tuple[object, ...]:
    stat = os.lstat(path)
    kind = stat.st_mode & 0o170000
    if kind == 0o120000:
        return "link", os.readlink(path), stat.st_mtime_ns
    if kind == 0o040000:
        return "directory", stat.st_mode & 0o777
    if kind != 0o100000:
        return ("special",)
    hasher = blake3()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return "file", stat.st_mode & 0o777, stat.st_mtime_ns, hasher.hexdigest()


def _differences(trees: list[dict[bytes, tuple[object, ...]]]) -> str:
    everything = sorted(set().union(*trees))
    lines = [
        f"{path!r}: {[t.get(path) for t in trees]}"
        for path in everything
        if len({t.get(path) for t in trees}) > 1
    ]
    return f"{len(lines)} paths differ:\n" + "\n".join(lines[:20])
