"""The role for Grafana: what it writes for one that others run, what it warns of, what it sets.

There is no Grafana among Debian's packages, so none is started here: what the role would have the
collection grafana.grafana do is read off that collection's own template.
"""

from __future__ import annotations

import base64
import configparser
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dashboard_queries import FILES
from monitored import LOCAL
from ports import free_ports

from playbooks import Run, run_playbook

if TYPE_CHECKING:
    from collections.abc import Iterator

THEIRS = Path(
    str(distribution("ansible").locate_file("ansible_collections/grafana/grafana/roles/grafana"))
)
"""The role of the collection grafana.grafana."""

PLAY = """
- name: Play the role, or a part of it
  hosts: pickbox_grafana
  gather_facts: true
  gather_subset: ["!all", "!min", distribution]
  tasks: []
"""


@dataclass
class Shown:
    """Hosts of the group pickbox_grafana, each with a Grafana that others run, in a directory."""

    directory: Path
    hosts: dict[str, dict[str, Any]] = field(default_factory=lambda: {"shower": {}})
    watchers: dict[str, dict[str, Any]] = field(default_factory=dict)
    port: int = field(default_factory=lambda: free_ports(1)[0])

    def play(self, playbook: str | Path, *arguments: str) -> Run:
        """Run a playbook on them."""
        return run_playbook(self._inventory(), *arguments, str(playbook))

    def set_up(self, *arguments: str) -> str:
        """Run the collection's playbook, which has no reason to fail; returns what it said."""
        run = self.play("pickbox.cluster.monitoring", *arguments)
        assert run.code == 0, run.output
        return " ".join(run.output.split())

    def tasks(self, *tasks: dict[str, Any]) -> Run:
        """Run tasks of a test's own on them."""
        (play,) = yaml.safe_load(PLAY)
        playbook = self.directory / "play.yml"
        playbook.write_text(yaml.safe_dump([{**play, "tasks": list(tasks)}]))
        return self.play(playbook)

    def _inventory(self) -> Path:
        variables = {
            **LOCAL,
            "pickbox_grafana_runtime": "none",
            "pickbox_grafana_port": self.port,
            "pickbox_grafana_dir": f"{self.directory}/{{{{ inventory_hostname }}}}",
        }
        inventory = {
            "pickbox": {"hosts": {}},
            "pickbox_prometheus": {"hosts": self.watchers},
            "pickbox_grafana": {"hosts": self.hosts, "vars": variables},
        }
        path = self.directory / "hosts.yml"
        path.write_text(yaml.safe_dump(inventory))
        return path


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """A host whose Grafana sees what is written at another place, as one in a container does."""
    settings = {
        "pickbox_grafana_prometheus_url": "http://prometheus.example.org:9090",
        "pickbox_grafana_seen_dir": "/etc/pickbox-grafana",
    }
    return Shown(tmp_path_factory.mktemp("grafana"), {"shower": settings})


@pytest.fixture(scope="module")
def written(shown: Shown) -> Path:
    """Where the role wrote, after a check that wrote nothing."""
    directory = shown.directory / "shower"
    shown.set_up("--check", "--diff")
    assert not directory.exists()
    said = shown.set_up()
    assert f"No Grafana answers at http://127.0.0.1:{shown.port}." in said
    assert "Have yours read /etc/pickbox-grafana/provisioning" in said
    assert "the one that it comes with is published" in said
    return directory


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def test_the_data_source_is_the_one_that_the_dashboards_ask(written: Path) -> None:
    provisioned = load(written / "provisioning/datasources/pickbox.yml")
    assert provisioned["apiVersion"] == 1
    (source,) = provisioned["datasources"]
    assert (source["name"], source["uid"], source["type"]) == ("Pickbox", "pickbox", "prometheus")
    assert source["url"] == "http://prometheus.example.org:9090"
    assert source["jsonData"]["timeInterval"] == "15s"
    assert not source["isDefault"]


def test_the_dashboards_are_in_a_folder_where_grafana_sees_them(written: Path) -> None:
    provisioned = load(written / "provisioning/dashboards/pickbox.yml")
    assert provisioned["apiVersion"] == 1
    (provider,) = provisioned["providers"]
    assert (provider["folder"], provider["type"]) == ("Pickbox", "file")
    assert provider["options"] == {"path": "/etc/pickbox-grafana/dashboards/pickbox"}
    found = {path.name: path.read_text() for path in (written / "dashboards/pickbox").iterdir()}
    assert found == {file.name: file.read_text() for file in FILES}


def test_everybody_may_read_what_is_written(written: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in written.rglob("*") if path.is_file()}
    assert modes == {0o644}


class Grafana:
    """Answers as a Grafana does whose administrator has this password."""

    def __init__(self, port: int, password: str) -> None:
        right = base64.b64encode(f"admin:{password}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                allowed = self.headers.get("Authorization") == f"Basic {right}"
                known = {"/api/health": 200, "/api/user": 200 if allowed else 401}
                self.send_response(known.get(self.path, 404))
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def grafana(shown: Shown, request: pytest.FixtureRequest) -> Iterator[Grafana]:
    made = Grafana(shown.port, request.param)
    yield made
    made.stop()


@pytest.mark.parametrize("grafana", ["zinc-otter-halibut"], indirect=True)
def test_a_second_run_changes_nothing_and_a_password_of_ones_own_is_not_warned_of(
    shown: Shown, written: Path, grafana: Grafana
) -> None:
    said = shown.set_up("-e", "pickbox_grafana_admin_password=zinc-otter-halibut")
    assert re.search(r"shower : ok=\d+ changed=0 ", said)
    assert "WARNING" not in said
    assert "zinc-otter-halibut" not in said


@pytest.mark.parametrize("grafana", ["admin"], indirect=True)
def test_a_published_password_is_warned_of_where_it_is_set_and_where_it_is_in_use(
    shown: Shown, written: Path, grafana: Grafana
) -> None:
    stale = written / "dashboards/pickbox/pickbox-of-old.json"
    stale.write_text("{}")
    page = "https://wiki.example.org/alerts"
    said = shown.set_up(
        "-e", "pickbox_grafana_admin_password=ChangeMe", "-e", f"pickbox_grafana_runbooks={page}"
    )
    assert "WARNING: pickbox_grafana_admin_password is one that is published" in said
    assert 'lets in whoever says "admin" and "admin"' in said
    assert "does not let in admin with the password that is set" in said
    assert "ChangeMe" not in said
    assert not stale.exists()
    for path in (written / "dashboards/pickbox").iterdir():
        text = path.read_text()
        assert f'"query": "{page}"' in text
        assert "blob/main" not in text


def test_each_prometheus_is_a_data_source_and_one_out_of_reach_is_refused(tmp_path: Path) -> None:
    shown = Shown(
        tmp_path,
        {"near": {"ansible_host": "192.0.2.1"}, "far": {"ansible_host": "192.0.2.2"}},
        watchers={
            "first": {"ansible_host": "192.0.2.1", "pickbox_prometheus_port": 9091},
            "second.example.org": {
                "ansible_host": "2001:db8::2",
                "pickbox_prometheus_address": "0.0.0.0",
                "pickbox_prometheus_interval": 60,
            },
        },
    )
    done = shown.tasks({"ansible.builtin.include_role": {"name": "pickbox.cluster.grafana"}})
    said = " ".join(done.output.split())
    assert done.code == 2, said
    assert "Grafana was not touched: a Prometheus of another host listens on its loopback" in said
    assert not (tmp_path / "far").exists()
    sources = load(tmp_path / "near/provisioning/datasources/pickbox.yml")["datasources"]
    assert [
        (source["name"], source["uid"], source["url"], source["jsonData"]["timeInterval"])
        for source in sources
    ] == [
        ("Pickbox", "pickbox", "http://127.0.0.1:9091", "15s"),
        (
            "Pickbox (second.example.org)",
            "pickbox-second-example-org",
            "http://[2001:db8::2]:9090",
            "60s",
        ),
    ]


def test_the_data_source_of_an_address_of_ones_own_is_asked_as_often_as_prometheus_looks(
    tmp_path: Path,
) -> None:
    shown = Shown(
        tmp_path,
        {"shower": {"pickbox_grafana_prometheus_url": "http://prometheus.example.org:9090"}},
        watchers={"first": {"pickbox_prometheus_interval": 30}, "second": {}},
    )
    done = shown.tasks({"ansible.builtin.include_role": {"name": "pickbox.cluster.grafana"}})
    assert done.code == 0, done.output
    provisioned = load(tmp_path / "shower/provisioning/datasources/pickbox.yml")
    (source,) = provisioned["datasources"]
    assert source["jsonData"]["timeInterval"] == "30s"


def test_grafana_is_set_up_with_a_login_of_its_own_and_calls_nobody(tmp_path: Path) -> None:
    shown = Shown(tmp_path)
    kept = tmp_path / "secrets/grafana"
    variables = {"pickbox_grafana_admin_password_file": str(kept)}
    role = Path("roles/grafana")
    (includes,) = _includes(yaml.safe_load((role / "tasks/systemd/install.yml").read_text()))
    settings = tmp_path / "grafana.ini"
    password = {"name": "pickbox.cluster.grafana", "tasks_from": "password", "public": True}
    tasks = [
        {"ansible.builtin.include_role": password, "vars": variables},
        # What their role is given, judged by their role, and written as it writes it.
        {
            "ansible.builtin.include_role": {
                "name": "grafana.grafana.grafana",
                "tasks_from": "preflight",
                "public": True,
            },
            "vars": includes["vars"],
        },
        {
            "ansible.builtin.template": {
                "src": str(THEIRS / "templates/grafana.ini.j2"),
                "dest": str(settings),
            },
            "vars": includes["vars"],
        },
    ]
    done = shown.tasks(*tasks)
    assert done.code == 0, done.output
    secret = kept.read_text().strip()
    assert len(secret) == 48
    assert kept.stat().st_mode & 0o777 == 0o600
    assert secret not in done.output + settings.read_text()
    ini = configparser.ConfigParser(interpolation=None)
    ini.read_string(f"[top]\n{settings.read_text()}")
    assert ini["security"]["admin_password"] == f"$__file{{{tmp_path}/shower/admin_password}}"
    assert ini["server"]["http_addr"] == "127.0.0.1"
    assert ini["paths"]["data"] == "/var/lib/grafana"
    assert ini["paths"]["provisioning"] == f"{tmp_path}/shower/provisioning"
    assert ini.getboolean("plugins", "preinstall_disabled")
    off = ("users.allow_sign_up", "auth.anonymous.enabled", "analytics.reporting_enabled")
    off += ("analytics.check_for_updates", "analytics.check_for_plugin_updates")
    for name in off:
        section, _, key = name.rpartition(".")
        assert not ini.getboolean(section, key), name


def _includes(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The inclusions of the collection grafana.grafana."""
    for task in tasks:
        role = task.get("ansible.builtin.include_role", {}).get("name", "")
        if role.startswith("grafana."):
            yield task
        yield from _includes(task.get("block", []))
