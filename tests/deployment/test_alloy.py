"""What the role has Grafana Alloy do.

Alloy itself is not to be had where these tests run: what is written for it is read here.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from collected import Logs

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://loki.example.org/loki/api/v1/push"
PASSWORD, TOKEN = "a-password-0123456789", "a-token-0123456789"
OPEN = {"{": "}", "[": "]"}


class Written:
    """What a run of the playbook wrote for Alloy, and what the run said."""

    def __init__(self, directory: Path, **variables: Any) -> None:
        logs = Logs(directory)
        logs.variables["pickbox"] = {
            "pickbox_logs_agent": "alloy",
            "pickbox_logs_loki_url": URL,
            "pickbox_logs_files": ["/srv/node1.log", "/srv/node2.log"],
            **variables,
        }
        self.logs, self.run = logs, logs.play("--diff")
        self.directory = logs.sender.directory / "conf.d"

    @property
    def text(self) -> str:
        assert self.run.code == 0, self.run.output
        return (self.directory / "pickbox.alloy").read_text()

    def strings(self, name: str) -> list[str]:
        """The strings that are given to an argument of this name."""
        return re.findall(rf'^ *{name} += "(.*)"$', self.text, re.MULTILINE)

    def block(self, name: str) -> str:
        """What is in the first block of this name, on its lines."""
        _, _, rest = self.text.partition(f"{name} {{\n")
        assert rest, name
        return rest.partition("}\n")[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """With a user of Loki, a tenant and a CA of one's own."""
    return Written(
        tmp_path_factory.mktemp("alloy"),
        pickbox_cluster_name="west",
        pickbox_logs_loki_user="pickbox",
        pickbox_logs_loki_password=PASSWORD,
        pickbox_logs_loki_tenant="operations",
        pickbox_logs_loki_ca="/etc/ssl/loki-ca.pem",
    )


def is_balanced(text: str) -> bool:
    """Whether each bracket is closed by its own, leaving out strings and comments."""
    code = re.sub(r'"(?:[^"\\]|\\.)*"|//.*', "", text)
    closing: list[str] = []
    for character in code:
        if character in OPEN:
            closing.append(OPEN[character])
        elif character in OPEN.values() and (not closing or closing.pop() != character):
            return False
    return not closing and '"' not in code


def test_it_is_whole_and_every_part_leads_to_one_that_is_there(written: Written) -> None:
    assert is_balanced(written.text)
    parts = {
        f"{kind}.{name}" for kind, name in re.findall(r'(?m)^([\w.]+) "(\w+)" {', written.text)
    }
    led_to = set(re.findall(r"\[([\w.]+)\.receiver\]", written.text))
    assert parts == {"loki.source.file.pickbox", *led_to}
    assert led_to == {"loki.process.pickbox", "loki.write.pickbox"}


def test_it_sends_to_loki_as_the_user_of_the_inventory(written: Written) -> None:
    assert written.strings("url") == [URL]
    assert written.strings("tenant_id") == ["operations"]
    assert written.strings("username") == ["pickbox"]
    assert written.strings("ca_file") == ["/etc/ssl/loki-ca.pem"]
    assert "bearer_token_file" not in written.text


def test_labels_are_what_there_are_few_of_and_ids_are_none(written: Written) -> None:
    keep = re.search(r"values = (\[.*\])", written.block("stage.label_keep"))
    assert keep is not None
    assert json.loads(keep[1]) == ["cluster", "node", "event", "level"]
    assert re.findall(r"(\w+) = \"\"", written.block("stage.labels")) == ["level", "event", "node"]
    assert 'cluster = "west"' in written.block("stage.static_labels")
    metadata = re.findall(r"(\w+) = \"\"", written.block("stage.structured_metadata"))
    assert metadata == ["request_id", "version"]
    assert set(metadata) <= set(re.findall(r"(\w+) = \"\"", written.block("stage.json")))


def test_secrets_are_in_files_that_nobody_else_reads(written: Written) -> None:
    assert PASSWORD not in written.text
    assert PASSWORD not in written.run.output
    (file,) = written.strings("password_file")
    assert (written.directory / "secrets/loki_password").as_posix() == file
    secrets = list((written.directory / "secrets").iterdir())
    assert {path.name: path.read_text() for path in secrets} == {"loki_password": PASSWORD}
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}


def test_a_second_run_changes_nothing(written: Written) -> None:
    again = written.logs.play()
    assert again.changed == {"collector": 0, "nodes": 0}


def test_with_a_token_there_is_no_password(tmp_path: Path) -> None:
    written = Written(tmp_path, pickbox_logs_loki_token=TOKEN)
    assert is_balanced(written.text)
    (file,) = written.strings("bearer_token_file")
    assert (written.directory / "secrets/loki_token").read_text() == TOKEN
    assert file.endswith("/secrets/loki_token")
    assert "basic_auth" not in written.text
    assert TOKEN not in written.text + written.run.output


@pytest.mark.parametrize(
    ("runtime", "source"),
    [("systemd", "loki.source.journal"), ("docker", "loki.source.docker")],
)
def test_it_reads_where_the_runtime_has_the_log(tmp_path: Path, runtime: str, source: str) -> None:
    written = Written(tmp_path, pickbox_runtime=runtime, pickbox_logs_files=[])
    assert is_balanced(written.text)
    assert f'{source} "pickbox" {{' in written.text
    assert "loki.source.file" not in written.text
    if runtime == "systemd":
        (path,) = written.strings("path")
        assert re.fullmatch(r"/var/log/journal/[0-9a-f]{32}\.pickbox", path)
    else:
        assert 'values = ["io.pickbox.cluster=pickbox"]' in written.text


def test_rsyslog_sends_nothing_beside_it(tmp_path: Path) -> None:
    logs = Logs(tmp_path, [tmp_path / "node.log"])
    sent = logs.sender.directory / "conf.d/10-pickbox-send.conf"
    assert logs.play().code == 0
    assert sent.exists()
    logs.variables["pickbox"] = {"pickbox_logs_agent": "alloy", "pickbox_logs_loki_url": URL}
    assert logs.play().code == 0
    assert not sent.exists()


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"pickbox_logs_loki_url": ""}, "has to be the URL of the push API"),
        ({"pickbox_logs_loki_url": f"https://me:{PASSWORD}@loki/"}, "no password in it"),
        ({"pickbox_logs_loki_password": PASSWORD}, "needs pickbox_logs_loki_user"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, variables: dict[str, str], why: str
) -> None:
    written = Written(tmp_path, **variables)
    assert written.run.code != 0
    assert why in " ".join(written.run.output.split())
    assert PASSWORD not in written.run.output
    assert list(written.directory.iterdir()) == []
