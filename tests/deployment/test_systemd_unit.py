"""The unit of a node means what it says to systemd, and locks the node up well."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROLE = Path("collections/ansible_collections/pickbox/cluster/roles/node").resolve()


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unit as the role writes it, of a program that is there."""
    directory = tmp_path_factory.mktemp("unit")
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
        "vars": {"program_release": "1.2-a", "program_digest": "b"},
        "tasks": [
            {
                "ansible.builtin.template": {
                    "src": str(ROLE / "templates/pickbox.service.j2"),
                    "dest": str(directory / "pickbox.service"),
                    "mode": "0644",
                }
            }
        ],
    }
    (directory / "render.yml").write_text(yaml.safe_dump([play]))
    given = {
        "pickbox_runtime": "systemd",
        "pickbox_home": str(directory),
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
    }
    (directory / "current/bin").mkdir(parents=True)
    (directory / "current/bin/pickbox").symlink_to(sys.executable)
    command = [Path(sys.executable).parent / "ansible-playbook", "--inventory=localhost,"]
    subprocess.run(
        [*command, "--extra-vars", json.dumps(given), directory / "render.yml"],
        check=True,
        capture_output=True,
    )
    return directory / "pickbox.service"


def test_systemd_has_nothing_to_say_about_it(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_its_exposure_is_two_at_most(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level for pickbox.service: 1." in done.stdout


def test_it_tells_what_the_process_was_started_with(unit: Path) -> None:
    assert "Environment=PICKBOX_RELEASE=1.2-a PICKBOX_SETTINGS_DIGEST=b " in unit.read_text()
