"""The rules as the role writes them: good, whole, and each firing when it should and only then."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from monitored import Monitoring

from pickbox.cli import backup
from pickbox.observability import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECTION = Path("collections/ansible_collections/pickbox/cluster")
TEMPLATE = (COLLECTION / "roles/prometheus/templates/pickbox.rules.yml.j2").read_text()
WATCHDOG = "PickboxWatchdog"
"""Which always fires, for a heartbeat service."""
ALERTS = re.findall(r"- alert: (\w+)", TEMPLATE)
RECORDS = re.findall(r"- record: (\S+)", TEMPLATE)
CASES = sorted(Path("tests/monitoring/rules").glob("*.yml"))
SHORT_CERTIFICATES = Path("tests/monitoring/rules_of_short_certificates.yml")
RUNBOOK = Path("docs/operations/alerts.md")
REPOSITORY = yaml.safe_load((COLLECTION / "galaxy.yml").read_text())["repository"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the role wrote rules and configuration, with what it takes for granted."""
    monitoring = Monitoring(
        tmp_path_factory.mktemp("monitoring"),
        {f"node{n}": (8000 + n, 9000 + n, 6000 + n, 7000 + n) for n in (1, 2, 3)},
        node_variables={"pickbox_backup_metrics_dir": "/var/lib/prometheus/node-exporter"},
        variables={
            "pickbox_prometheus_host_metrics": True,
            "pickbox_alertmanager_email_to": "operators@example.org",
            "pickbox_alertmanager_email_from": "pickbox@example.org",
            "pickbox_alertmanager_smtp_server": "mail.example.org:587",
            "pickbox_alertmanager_smtp_user": "pickbox",
            "pickbox_alertmanager_smtp_password": "a-secret-0123456789",
            "pickbox_alertmanager_slack_url": "https://hooks.example.org/services/secret",
            "pickbox_alertmanager_slack_channel": "#operations",
            "pickbox_alertmanager_watchdog_url": "https://hooks.example.org/heartbeat/secret",
        },
    )
    said = monitoring.set_up("--diff")
    assert "secret-" not in said
    assert "hooks.example.org" not in said
    return monitoring.directory


@pytest.fixture(scope="module")
def rules(written: Path) -> dict[str, dict[str, Any]]:
    """Each alert by its name."""
    groups = yaml.safe_load((written / "prometheus/pickbox.rules.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def cases() -> Iterator[dict[str, Any]]:
    """Every case of every file."""
    for path in CASES:
        yield from yaml.safe_load(path.read_text())["tests"]


def test_the_programs_find_what_the_roles_wrote_good(written: Path) -> None:
    rules = written / "prometheus/pickbox.rules.yml"
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", rules)
    run("promtool", "check", "config", written / "prometheus/prometheus.yml")
    run("amtool", "check-config", written / "alertmanager/alertmanager.yml")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_rules_do_what_the_cases_say(written: Path, path: Path) -> None:
    copy = written / "prometheus" / f"{path.stem}-cases.yml"
    copy.write_text(path.read_text())
    run("promtool", "test", "rules", copy)


def test_a_certificate_is_told_of_only_when_a_deployment_would_have_renewed_it(
    tmp_path: Path,
) -> None:
    """Also a short one, and though nodes differ in it."""
    monitoring = Monitoring(
        tmp_path,
        {"node1": (8001, 9001, 6001, 7001), "node2": (8002, 9002, 6002, 7002)},
        node_variables={
            "pickbox_certificates_node_days": "{{ 12 if pickbox_port == 8002 else 60 }}"
        },
        variables={"pickbox_alertmanager_webhook_url": "http://127.0.0.1:1/"},
    )
    monitoring.set_up()
    cases = monitoring.prometheus / SHORT_CERTIFICATES.name
    cases.write_text(SHORT_CERTIFICATES.read_text())
    run("promtool", "test", "rules", cases)


def test_the_rules_know_for_how_long_a_certificate_is_valid() -> None:
    defaults = yaml.safe_load((COLLECTION / "roles/certificates/defaults/main.yml").read_text())
    taken = (COLLECTION / "roles/prometheus/vars/main.yml").read_text()
    days = defaults["pickbox_certificates_node_days"]
    assert f"attribute='pickbox_certificates_node_days', default={days})" in taken


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    found = [
        bool(check["exp_alerts"])
        for case in cases()
        for check in case.get("alert_rule_test", [])
        if check["alertname"] == alert
    ]
    assert set(found) == ({True} if alert == WATCHDOG else {True, False})


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_has_a_case(record: str) -> None:
    assert any(
        record in check["expr"] and check["exp_samples"]
        for case in cases()
        for check in case.get("promql_expr_test", [])
    )


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_bad_it_is_what_is_so_and_what_to_do(
    rules: dict[str, dict[str, Any]], alert: str
) -> None:
    rule = rules[alert]
    severities = ("none",) if alert == WATCHDOG else ("critical", "warning")
    assert rule["labels"]["severity"] in severities
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    # Whoever reads a message has no clone of the project beside it.
    page = f"{REPOSITORY}/blob/main/{RUNBOOK}"
    assert rule["annotations"]["runbook_url"] == f"{page}#{alert.lower()}"
    assert f"default('{rule['for']}')" in TEMPLATE


def test_the_runbook_has_a_section_for_each_alert_and_for_nothing_else() -> None:
    sections = RUNBOOK.read_text().split("\n## ")[1:]
    assert sorted(section.splitlines()[0] for section in sections) == sorted(ALERTS)
    for section in sections:
        for part in ("**Means:**", "**Look at:**", "**Do:**"):
            assert part in section, section.splitlines()[0]


def test_rules_know_only_metrics_that_there_are() -> None:
    names = {family.name for family in Metrics("node1").registry.collect()}
    made = {f"pickbox_backup_{name}" for name, _ in backup._METRICS}
    used = re.findall(r"(?<![:\w-])pickbox_(?!prometheus_)\w+", TEMPLATE)
    assert used
    for name in set(used):
        assert re.sub(r"_(total|bucket)$", "", name) in names | made, name


def test_secrets_are_in_files_that_nobody_else_reads(written: Path) -> None:
    secrets = {path.name: path.read_text() for path in (written / "alertmanager/secrets").iterdir()}
    assert secrets == {
        "smtp_password": "a-secret-0123456789",
        "slack_url": "https://hooks.example.org/services/secret",
    }
    private = [
        *(written / "alertmanager/secrets").iterdir(),
        written / "alertmanager/alertmanager.yml",
    ]
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    configuration = private[-1].read_text()
    assert not [secret for secret in secrets.values() if secret in configuration]


def test_what_no_rule_knows_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    monitoring = Monitoring(
        tmp_path,
        {"node1": (8000, 9000, 6001, 8080)},
        variables={
            "pickbox_prometheus_for": {"PickboxNodeDwon": "1h"},
            "pickbox_prometheus_limits": {"disc_free_ratio": 0.5},
        },
    )
    done = monitoring.play("monitoring")
    said = " ".join(done.output.split())
    assert done.code != 0
    assert "Alertmanager was not touched: it would tell nobody" in said
    monitoring.variables["pickbox_alertmanager_webhook_url"] = "http://127.0.0.1:1/"
    done = monitoring.play("monitoring", "--check")
    said = " ".join(done.output.split())
    assert "no rule knows of disc_free_ratio, PickboxNodeDwon" in said
    assert [path.name for path in tmp_path.iterdir()] == ["hosts.yml"]
