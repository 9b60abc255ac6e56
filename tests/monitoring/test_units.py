"""What is added to the distribution's units."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROLES = Path("collections/ansible_collections/pickbox/cluster/roles").resolve()
TEMPLATES = {"prometheus": "program", "alertmanager": "program", "node_exporter": "node_exporter"}
"""The role that has the template of each service."""
SERVICES = tuple(TEMPLATES)
ADDRESSES = {"loopback": "127.0.0.1", "outside": "192.0.2.20"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what is added to each unit, for a service at each address."""
    directory = tmp_path_factory.mktemp("units")
    plays = [
        {
            "hosts": "localhost",
            "gather_facts": True,
            "gather_subset": ["!all", "!min", "distribution"],
            "vars_files": [
                str(ROLES / service / part / "main.yml") for part in ("defaults", "vars")
            ],
            "tasks": [
                {
                    "ansible.builtin.template": {
                        "src": str(ROLES / TEMPLATES[service] / "templates/service.conf.j2"),
                        "dest": str(directory / f"{service}-{name}.conf"),
                        "mode": "0644",
                    },
                    "vars": {
                        f"pickbox_{service}_address": address,
                        "__program": f"{{{{ __{service}_program }}}}",
                    },
                }
                for name, address in ADDRESSES.items()
            ],
        }
        for service in SERVICES
    ]
    (directory / "render.yml").write_text(yaml.safe_dump(plays))
    given = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    command = [Path(sys.executable).parent / "ansible-playbook", "--inventory=localhost,"]
    subprocess.run(
        [*command, "--extra-vars", json.dumps(given), directory / "render.yml"],
        check=True,
        capture_output=True,
    )
    return directory


@pytest.mark.parametrize("service", SERVICES)
def test_what_listens_outside_is_started_when_the_host_has_the_address(
    written: Path, service: str
) -> None:
    lines = (written / f"{service}-outside.conf").read_text().splitlines()
    assert lines.index("[Unit]") < lines.index("After=network-online.target")
    assert "Wants=network-online.target" in lines
    assert lines.index("After=network-online.target") < lines.index("[Service]")


@pytest.mark.parametrize("service", SERVICES)
def test_what_listens_on_loopback_waits_for_no_network(written: Path, service: str) -> None:
    text = (written / f"{service}-loopback.conf").read_text()
    assert "network" not in text
    assert "[Service]\nExecStart=\nExecStart=/" in text
