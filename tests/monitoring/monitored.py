"""Prometheus and Alertmanager for tests: set up by the playbook, run as processes of our own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import urllib3
import yaml
from cluster import wait_until
from ports import free_ports

from playbooks import Run, run_playbook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "webhook-secret-0123456789"

LOCAL = {
    "ansible_connection": "local",
    "ansible_host": "127.0.0.1",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
}

PORTS = ("pickbox_port", "pickbox_admin_port", "pickbox_monitor_port", "pickbox_dashboard_port")


@dataclass(frozen=True)
class Message:
    """What Alertmanager told the webhook, and when."""

    arrived: float
    authorization: str
    document: dict[str, Any]

    def tells(self, status: str, **labels: str) -> bool:
        """Whether it has an alert of this status and with these labels."""
        return any(alert["status"] == status for alert in self.of(**labels))

    def of(self, **labels: str) -> list[dict[str, Any]]:
        """The alerts with these labels."""
        alerts = self.document["alerts"]
        return [alert for alert in alerts if alert["labels"].items() >= labels.items()]

    def alerts(self) -> set[str]:
        """The names of all alerts that it has."""
        return {alert["labels"]["alertname"] for alert in self.document["alerts"]}


class Webhook:
    """Takes messages, as somebody's on-call service does.

    Args:
        port: where; 0 for any.
    """

    def __init__(self, port: int = 0) -> None:
        self.messages: list[Message] = []
        taken = self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                allowed = self.headers.get("Authorization", "")
                taken.append(Message(time.monotonic(), allowed, json.loads(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait_for(
        self, status: str, seconds: float = 30.0, since: float = 0.0, **labels: str
    ) -> Message:
        """The first message that tells of such an alert, of those that arrived after `since`."""
        found: list[Message] = []

        def told() -> bool:
            later = [message for message in self.messages if message.arrived > since]
            found[:] = [message for message in later if message.tells(status, **labels)]
            return bool(found)

        wait_until(told, f"the webhook is told that {labels} is {status}", seconds)
        return found[0]

    def stop(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Monitoring:
    """A host with Prometheus and Alertmanager that watch `nodes`: their ids and four ports each."""

    directory: Path
    nodes: dict[str, tuple[int, int, int, int]]
    node_variables: dict[str, Any] = field(default_factory=dict)
    down: tuple[str, ...] = ()
    """The nodes whose hosts cannot be reached."""
    variables: dict[str, Any] = field(default_factory=dict)
    balancers: dict[str, dict[str, Any]] = field(default_factory=dict)
    ports: list[int] = field(default_factory=lambda: free_ports(2))
    _programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def prometheus(self) -> Path:
        return self.directory / "prometheus"

    @property
    def alertmanager(self) -> Path:
        return self.directory / "alertmanager"

    def play(self, name: str, *arguments: str) -> Run:
        """Run a playbook of the collection on this host and these nodes."""
        return run_playbook(self._inventory(), *arguments, f"pickbox.cluster.{name}")

    def set_up(self, *arguments: str) -> str:
        """Run the playbook, which has no reason to fail; returns what it said."""
        run = self.play("monitoring", *arguments)
        assert run.code == 0, run.output
        return run.output

    def start(self) -> None:
        """Start both by the scripts that the roles wrote, and wait until they serve."""
        self._start(self.prometheus, self.ports[0])
        self.start_alertmanager()

    def start_alertmanager(self) -> None:
        """Start it alone, for alerts that are the test's own."""
        self._start(self.alertmanager, self.ports[1])

    def _start(self, program: Path, port: int) -> None:
        with (self.directory / f"{program.name}.log").open("ab") as log:
            self._programs.append(
                subprocess.Popen([program / "run"], cwd=program, stdout=log, stderr=log)
            )
        wait_until(lambda: _is_ready(port), f"{program.name} is ready")

    def stop(self) -> None:
        """End what was started."""
        for program in self._programs:
            program.terminate()
        for program in self._programs:
            program.wait()

    def ask(self, path: str, **fields: str) -> Any:
        """The data that Prometheus answers with."""
        url = f"http://127.0.0.1:{self.ports[0]}/api/v1/{path}"
        return urllib3.request("GET", url, fields=fields, timeout=10.0).json()["data"]

    def figure(self, query: str) -> str:
        """The figure that a query finds, once it does: after a scrape that failed there is none."""
        found: list[Any] = []

        def is_known() -> bool:
            found[:] = self.ask("query", query=query)["result"]
            return bool(found)

        wait_until(is_known, f"there is a figure of {query}")
        return str(found[0]["value"][1])

    def health(self, job: str) -> dict[str, str]:
        """The health of each target of a job, by its address."""
        targets = self.ask("targets", state="active")["activeTargets"]
        return {
            target["labels"]["instance"]: target["health"]
            for target in targets
            if target["labels"]["job"] == job
        }

    def alerts(self) -> Iterator[dict[str, Any]]:
        """The alerts that Alertmanager knows, silenced ones too."""
        url = f"http://127.0.0.1:{self.ports[1]}/api/v2/alerts"
        yield from urllib3.request("GET", url, timeout=10.0).json()

    def raise_alerts(self, *labels: dict[str, str]) -> None:
        """Tell Alertmanager of alerts, as Prometheus does, each by its labels."""
        url = f"http://127.0.0.1:{self.ports[1]}/api/v2/alerts"
        alerts = [{"labels": each, "annotations": _annotations(each)} for each in labels]
        assert urllib3.request("POST", url, json=alerts, timeout=10.0).status == 200

    def states(self, **labels: str) -> dict[str, str]:
        """The state of each alert with these labels that Alertmanager knows, by its name."""
        return {
            alert["labels"]["alertname"]: alert["status"]["state"]
            for alert in self.alerts()
            if alert["labels"].items() >= labels.items()
        }

    def _inventory(self) -> Path:
        prometheus, alertmanager = self.ports
        host = {
            **LOCAL,
            "pickbox_prometheus_runtime": "process",
            "pickbox_prometheus_port": prometheus,
            "pickbox_prometheus_dir": str(self.prometheus),
            "pickbox_prometheus_data_dir": str(self.directory / "prometheus-data"),
            "pickbox_alertmanager_runtime": "process",
            "pickbox_alertmanager_port": alertmanager,
            "pickbox_alertmanager_dir": str(self.alertmanager),
            "pickbox_alertmanager_data_dir": str(self.directory / "alertmanager-data"),
            **self.variables,
        }
        nodes: dict[str, dict[str, Any]] = {
            name: dict(zip(PORTS, ports, strict=True)) for name, ports in self.nodes.items()
        }
        for name in self.down:
            nodes[name] |= {"ansible_connection": "ssh", "ansible_port": 1}  # nobody listens there
        variables = {**LOCAL, "pickbox_home": str(self.directory), **self.node_variables}
        inventory = {
            "pickbox": {"hosts": nodes, "vars": variables},
            "pickbox_balancer": {"hosts": self.balancers},
            "pickbox_prometheus": {"hosts": {"watcher": host}},
            "pickbox_alertmanager": {"hosts": {"watcher": {}}},
        }
        path = self.directory / "hosts.yml"
        path.write_text(yaml.safe_dump(inventory))
        return path


def _annotations(labels: dict[str, str]) -> dict[str, str]:
    about = labels.get("node", labels["alertname"])
    return {"summary": f"{about} fails", "description": "So it is.", "runbook_url": f"r#{about}"}


def _is_ready(port: int) -> bool:
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        url = f"http://127.0.0.1:{port}/-/ready"
        return urllib3.request("GET", url, retries=False, timeout=2.0).status == 200
    return False
