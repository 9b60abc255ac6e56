"""Both balancers for tests, set up by the collection's own playbooks, and clients that use them."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psutil
import urllib3
import yaml
from cluster import wait_until
from ports import free_ports

from playbooks import Run, run_playbook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster import Cluster, Node

KINDS = ("nginx", "haproxy")
MAX_BODY = 6 << 20


class Balancer:
    """A balancer as a process of our own, a host of the inventory by the name of its kind."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.port, self.stats_port, self.tls_port = free_ports(3)
        self.home = directory / kind

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def variables(self) -> dict[str, Any]:
        """What the inventory says of it."""
        return {
            "pickbox_balancer": self.kind,
            "pickbox_balancer_runtime": "process",
            "pickbox_balancer_dir": str(self.home),
            "pickbox_balancer_address": "127.0.0.1",
            "pickbox_balancer_port": self.port,
            "pickbox_balancer_tls_port": self.tls_port,
            "pickbox_balancer_stats_port": self.stats_port,
            "pickbox_balancer_max_body": MAX_BODY,
        }

    def request(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """A request through the balancer, of a client that never tries twice."""
        with urllib3.PoolManager(retries=False) as pool:
            return pool.request(method, self.url + path, timeout=40.0, **options)

    def told(self, path: str) -> str:
        """What it tells of itself, over a connection that keeps no old process from ending."""
        with urllib3.PoolManager() as pool:
            return pool.request("GET", f"http://127.0.0.1:{self.stats_port}/{path}").data.decode()

    def connections_to(self, node: Node) -> int:
        """How many connections the balancer has to a node's client port."""
        return sum(
            bool(connection.raddr) and connection.raddr.port == node.ports[3]
            for process in self.processes()
            for connection in process.net_connections("tcp")
        )

    def processes(self) -> list[psutil.Process]:
        """The balancer's processes: all that were started by the one in its file."""
        pid_file = self.home / f"{self.kind}.pid"
        if not pid_file.exists():
            return []
        try:
            master = psutil.Process(int(pid_file.read_text().split()[0]))
            return [master, *master.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def reload(self) -> None:
        """Have it load its configuration again, as an operator would.

        Returns when all its processes but the first are new ones: an old one that is idle ends, and
        closes connections that clients keep, and it could still answer by what held before.
        """
        master, *old = self.processes()
        master.send_signal(signal.SIGHUP if self.kind == "nginx" else signal.SIGUSR2)

        def renewed() -> bool:
            now = set(master.children(recursive=True))
            return bool(now) and not now & set(old)

        wait_until(renewed, f"the processes of {self.kind} are new ones", 120)

    def stop(self) -> None:
        """End it."""
        for process in self.processes():
            process.kill()


class Balancers:
    """One of each kind in front of one cluster: each run of a playbook does its work for both."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory
        self.nodes = list(cluster.nodes)
        self.variables: dict[str, Any] = {}
        self.others: dict[str, dict[str, Any]] = {}
        self.away: dict[str, dict[str, Any]] = {}
        self._of_kind = {kind: Balancer(kind, directory) for kind in KINDS}

    def __iter__(self) -> Iterator[Balancer]:
        return iter(self._of_kind.values())

    def __getitem__(self, kind: str) -> Balancer:
        return self._of_kind[kind]

    def play(self, name: str, *arguments: str, **extra: object) -> Run:
        """Run a playbook of the collection, or one of ours by its path, on this inventory."""
        return run_playbook(
            self._inventory(),
            *(f"--extra-vars={key}={value}" for key, value in extra.items()),
            *arguments,
            name if "/" in name else f"pickbox.cluster.{name}",
        )

    def succeed(self, name: str, *arguments: str, **extra: object) -> Run:
        """The same, for a run that has no reason to fail."""
        run = self.play(name, *arguments, **extra)
        assert run.code == 0, run.output
        return run

    @contextmanager
    def loaded(self) -> Iterator[list[Load]]:
        """A load through each; no request of it may fail."""
        loads = [Load(balancer.url) for balancer in self]
        with ExitStack() as stack:
            for load in loads:
                stack.enter_context(load.applied())
            yield loads
        failed = {balancer.kind: load.failed for balancer, load in zip(self, loads, strict=True)}
        assert failed == {kind: [] for kind in KINDS}

    def stop(self) -> None:
        """End both."""
        for balancer in self:
            balancer.stop()

    def _inventory(self) -> Path:
        names = ("pickbox_port", "pickbox_admin_port", "pickbox_monitor_port")
        local = {
            "ansible_connection": "local",
            "ansible_host": "127.0.0.1",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        }
        hosts = {
            name: dict(
                zip((*names, "pickbox_dashboard_port"), self.cluster[name].ports, strict=True)
            )
            | self.away.get(name, {})
            for name in self.nodes
        }
        balancers = {one.kind: {**local, **one.variables, **self.variables} for one in self}
        inventory = {
            "pickbox": {"hosts": hosts, "vars": {**local, "pickbox_home": str(self.directory)}},
            "pickbox_balancer": {"hosts": {**balancers, **self.others}},
        }
        path = self.directory / "hosts.yml"
        path.write_text(yaml.safe_dump(inventory))
        return path


class Load:
    """Clients that write and read what they wrote, over connections that they keep."""

    CLIENTS = 4

    def __init__(self, url: str) -> None:
        self.failed: list[str] = []
        self.writes: list[float] = []
        self.requests = 0
        self._url = url
        self._ended = threading.Event()
        self._run = f"{time.monotonic_ns()}"

    @property
    def longest_gap(self) -> float:
        """Seconds between two successful writes that had none in between."""
        times = sorted(self.writes)
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    @contextmanager
    def applied(self) -> Iterator[Load]:
        """The load, from the first write of each client to the end of the block."""
        clients = [threading.Thread(target=self._client, args=(n,)) for n in range(self.CLIENTS)]
        for client in clients:
            client.start()
        try:
            yield self
        finally:
            self._ended.set()
            for client in clients:
                client.join()

    def _client(self, number: int) -> None:
        with urllib3.PoolManager(retries=False) as pool:
            for count in itertools.count():
                if self._ended.is_set():
                    return
                address = f"{self._url}/api/v1/files/load/{self._run}-{number}-{count % 50}"
                content = f"{number} {count} ".encode() * 200
                try:
                    put = pool.request("PUT", address, body=content, timeout=40.0)
                    self.writes.append(time.monotonic())
                    self._judge(put.status in (200, 201), f"PUT {put.status} {put.data[:200]!r}")
                    got = pool.request("GET", f"{address}?consistency=linearizable", timeout=40.0)
                    self._judge(
                        (got.status, got.data) == (200, content),
                        f"GET {got.status} {got.data[:200]!r}",
                    )
                except urllib3.exceptions.HTTPError as error:
                    self._judge(False, repr(error))

    def _judge(self, good: bool, otherwise: str) -> None:
        self.requests += 1
        if not good:
            self.failed.append(otherwise)
