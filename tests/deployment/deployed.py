"""A deployment for tests: a home and an inventory of its own, and playbooks run for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from ansible_collections.pickbox.cluster.plugins.module_utils import supervisor
from cluster import wait_until
from ports import free_ports

from playbooks import Run

if TYPE_CHECKING:
    from pathlib import Path

NODES = ("node1", "node2", "node3")
PORTS = ("pickbox_port", "pickbox_admin_port", "pickbox_monitor_port", "pickbox_dashboard_port")
SECRETS = ("admin_token",)
COLLECTION = "ansible_collections/pickbox/cluster"


@dataclass(frozen=True)
class Deployment:
    """A home, an inventory, and the collection as its artifact installs it, far from any clone."""

    directory: Path
    nodes: dict[str, dict[str, Any]]
    watchers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The hosts of Prometheus."""

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def source(self) -> Path:
        """What a release is built from: the collection was installed with it."""
        return self.directory / "installed" / COLLECTION / "roles/node/files/source"

    def play(self, name: str, *arguments: str) -> Run:
        """Run a playbook of the collection, as a caller whose shell has settings of its own.

        Whatever it does and however it ends, it shows no secret.
        """
        done = subprocess.run(
            [
                f"{os.path.dirname(sys.executable)}/ansible-playbook",
                f"--inventory={self._inventory()}",
                *arguments,
                f"pickbox.cluster.{name}",
            ],
            env={
                **os.environ,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_INJECT_FACT_VARS": "false",
                "ANSIBLE_DEPRECATION_WARNINGS": "true",
                "ANSIBLE_CONFIG": os.path.abspath("ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(self.directory / "installed"),
                "PICKBOX_LOG_LEVEL": "error",
            },
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        run = Run(done.returncode, done.stdout + done.stderr)
        assert "PRIVATE KEY" not in run.output
        assert not [secret for secret in self.secrets() if secret in run.output]
        return run

    def pids(self) -> dict[str, int]:
        """The process of each node that runs."""
        socket_path = str(self.home / "supervisor.sock")
        if not supervisor.answers(socket_path):
            return {}
        processes = supervisor.connect(socket_path).getAllProcessInfo()
        return {p["name"]: p["pid"] for p in processes if p["statename"] == "RUNNING"}

    def url(self, node: str, purpose: str, path: str) -> str:
        """Where a node's ``dashboard``, ``admin`` or ``monitor`` port has a path."""
        return f"http://127.0.0.1:{self.nodes[node][f'pickbox_{purpose}_port']}{path}"

    def admin_request(
        self, node: str, path: str, told: dict[str, str] | None = None
    ) -> urllib.request.Request:
        """With the token that is on the machine at the moment; `told` is posted."""
        (token, *_) = self.secrets()[0].split()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        body = None if told is None else json.dumps(told).encode()
        return urllib.request.Request(self.url(node, "admin", path), body, headers)

    def is_ready(self, node: str) -> bool:
        """Whether a node says that it serves."""
        try:
            with urllib.request.urlopen(self.url(node, "monitor", "/ready"), timeout=5) as answer:
                return int(answer.status) == 200
        except OSError:
            return False

    def stop(self) -> None:
        """End what still runs, by supervisord itself: that is sooner than by a playbook."""
        socket_path = str(self.home / "supervisor.sock")
        if supervisor.answers(socket_path):
            rpc = supervisor.connect(socket_path)
            pid = rpc.getPID()
            rpc.shutdown()
            wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "all nodes are down", 60)

    def files(self, node: str) -> Path:
        """The folder that people use."""
        return self.home / "nodes" / node / "data/files"

    def certificates(self) -> dict[Path, bytes]:
        """All files of the CA and of the nodes' TLS, by their paths."""
        found = [*self.home.glob("certificates/*"), *self.home.glob("nodes/*/tls/*")]
        return {path: path.read_bytes() for path in found}

    def secrets(self) -> list[str]:
        """What must not be seen anywhere; nothing before the first deployment."""
        paths = [self.home / "secrets" / name for name in SECRETS]
        return [path.read_text().strip() for path in paths if path.exists()]

    @classmethod
    def prepare(cls, directory: Path) -> Deployment:
        """With free ports, and the collection installed from its artifact."""
        ports = iter(free_ports(len(NODES) * len(PORTS)))
        nodes: dict[str, dict[str, Any]] = {
            node: {purpose: next(ports) for purpose in PORTS} for node in NODES
        }
        tools = os.path.dirname(sys.executable)
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        subprocess.run(["tools/collection", str(directory)], env=environment, check=True)
        (artifact,) = directory.glob("pickbox-cluster-*.tar.gz")
        subprocess.run(
            [
                f"{tools}/ansible-galaxy",
                *("collection", "install", "--no-deps", "--offline", str(artifact)),
                f"--collections-path={directory / 'installed'}",
            ],
            cwd=directory,
            check=True,
        )
        return cls(directory, nodes)

    def _inventory(self) -> Path:
        local = {
            "ansible_connection": "local",
            "ansible_host": "127.0.0.1",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        }
        inventory = {
            "pickbox": {"hosts": self.nodes, "vars": {**local, "pickbox_home": str(self.home)}},
            "pickbox_prometheus": {"hosts": self.watchers, "vars": local},
        }
        path = self.directory / "hosts.yml"
        path.write_text(yaml.safe_dump(inventory))
        return path
