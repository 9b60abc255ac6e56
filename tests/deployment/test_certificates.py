"""The certificates of a deployed cluster: made once, renewed, rotated, and never mixed up.

The tests of this module build on each other, on one cluster.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import signal
import urllib.request
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from asked import writing
from cluster import wait_until
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from deployed import NODES, Deployment

from pickbox.tls import Credentials, CredentialsFiles, NodeIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

CONFIRMED = "--extra-vars=confirm=yes"
WITH_CA = "--extra-vars=confirm=yes pickbox_rotate_ca=yes"
IMPATIENT = "--extra-vars=pickbox_certificates_timeout=3"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    made = Deployment.prepare(tmp_path_factory.mktemp("certificates"))
    yield made
    made.stop()


def authorities(deployment: Deployment) -> list[Path]:
    """The certificates of the CAs that the control node keeps."""
    return sorted((deployment.home / "certificates").glob("*.pem"))


def tls(deployment: Deployment, node: str) -> CredentialsFiles:
    directory = deployment.home / "nodes" / node / "tls"
    return CredentialsFiles(
        directory / "ca.pem", directory / "certificate.pem", directory / "key.pem"
    )


def certificate(deployment: Deployment, node: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(tls(deployment, node).certificate.read_bytes())


def serials(deployment: Deployment) -> dict[str, str]:
    return {node: f"{certificate(deployment, node).serial_number:x}" for node in NODES}


def shown(deployment: Deployment) -> dict[str, dict[str, Any]]:
    """How each node that answers sees itself."""
    found: dict[str, dict[str, Any]] = {}
    for node in NODES:
        place = deployment.url(node, "dashboard", "/api/cluster")
        with urllib.request.urlopen(place, timeout=10) as answer:
            found |= {n["node_id"]: n for n in json.load(answer)["nodes"] if n["node_id"] == node}
    return found


def shown_serials(deployment: Deployment) -> dict[str, str]:
    return {node: view["certificate_serial"] for node, view in shown(deployment).items()}


def ordered(output: str) -> list[str]:
    """The nodes that got a new certificate, in their order."""
    return re.findall(r"(node\d) gets a new certificate", output)


def test_a_deployment_shows_no_private_key(deployment: Deployment) -> None:
    run = deployment.play("deploy", "-vv", "--diff")
    assert run.code == 0, run.output
    keys = [text for path, text in deployment.certificates().items() if b"PRIVATE" in text]
    assert len(keys) == len(NODES) + 1
    assert len(set(keys)) == len(keys)
    assert "PRIVATE KEY" not in run.output
    for key in keys:  # the first line has the private part; the public one is in requests too
        assert key.decode().splitlines()[1] not in run.output


def test_private_keys_are_for_their_user_only(deployment: Deployment) -> None:
    keys = [path for path, text in deployment.certificates().items() if b"PRIVATE" in text]
    assert len(keys) == len(NODES) + 1
    for path in keys:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_ca_signs_nodes_only_and_lasts_ten_years(deployment: Deployment) -> None:
    (path,) = authorities(deployment)
    assert (path.parent / "current").resolve() == path
    ca = x509.load_pem_x509_certificate(path.read_bytes())
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature
    with pytest.raises(x509.ExtensionNotFound):
        ca.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    left = ca.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert 3649 <= left.days <= 3650


@pytest.mark.parametrize("node", NODES)
def test_a_certificate_names_its_node_and_its_host(deployment: Deployment, node: str) -> None:
    (ca,) = authorities(deployment)
    made = certificate(deployment, node)
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.read_bytes()))
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [
        x509.UniformResourceIdentifier(f"pickbox://pickbox/{node}"),
        x509.IPAddress(ip_address("127.0.0.1")),
        x509.DNSName("localhost"),
    ]
    usages = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    left = made.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert 364 <= left.days <= 365


@pytest.mark.parametrize("node", NODES)
def test_a_node_uses_what_was_made_for_it(deployment: Deployment, node: str) -> None:
    files = tls(deployment, node)
    loaded = Credentials(files, NodeIdentity("pickbox", node))
    view = shown(deployment)[node]
    assert view["certificate_serial"] == loaded.serial
    assert view["certificate_expires"] == loaded.expires.isoformat()
    assert view["certificate_authorities"] == list(loaded.authorities)


def age(deployment: Deployment, node: str) -> None:
    """Give a node a certificate for its key of which less than a third is left."""
    (ca_path,) = authorities(deployment)
    ca_key = load_pem_private_key(ca_path.with_suffix(".key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    now, present = dt.datetime.now(dt.UTC), certificate(deployment, node)
    builder = (
        x509.CertificateBuilder(present.issuer, present.subject, present.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=247))
        .not_valid_after(now + dt.timedelta(days=118))
    )
    for extension in present.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    aged = builder.sign(ca_key, SHA256()).public_bytes(Encoding.PEM)
    new = tls(deployment, node).certificate.with_suffix(".aged")
    new.write_bytes(aged)
    os.replace(new, tls(deployment, node).certificate)


def test_what_is_due_is_told_by_a_check_and_not_touched(deployment: Deployment) -> None:
    age(deployment, "node2")
    tls(deployment, "node3").key.chmod(0o640)
    before = deployment.certificates()
    run = deployment.play("deploy", "--check", "--diff")
    assert run.code == 0, run.output
    assert run.changed == {"node1": 0, "node2": 1, "node3": 1}
    assert ordered(run.output) == ["node2"]
    assert deployment.certificates() == before


def test_only_what_is_due_is_renewed_and_no_node_is_restarted(deployment: Deployment) -> None:
    pids, before, keys = deployment.pids(), serials(deployment), deployment.certificates()
    run = deployment.play("deploy")
    assert run.code == 0, run.output
    assert "node2 gets a new certificate: less than a third of its time is left" in run.output
    after = serials(deployment)
    assert [node for node in NODES if after[node] != before[node]] == ["node2"]
    assert tls(deployment, "node2").key.read_bytes() not in keys.values()
    assert tls(deployment, "node3").key.stat().st_mode & 0o777 == 0o600
    assert deployment.pids() == pids
    wait_until(lambda: shown_serials(deployment) == after, "the nodes show what they were given")


def test_a_control_node_without_the_ca_makes_no_second_one(deployment: Deployment) -> None:
    before = deployment.certificates()
    run = deployment.play("deploy", f"--extra-vars=pickbox_certificates_dir={deployment.home}/lost")
    assert run.code != 0
    told = " ".join(run.output.split())
    assert "No certificate was touched: node1 has a certificate of pickbox CA" in told
    assert "set pickbox_certificates_dir or copy it there" in told
    assert not (deployment.home / "lost").exists()
    assert deployment.certificates() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "Nothing was touched"), (["--limit=node1", CONFIRMED], "a limit hides node2, node3")],
    ids=["not confirmed", "limited"],
)
def test_a_rotation_that_may_not_be_touches_nothing(
    deployment: Deployment, arguments: list[str], said: str
) -> None:
    before = deployment.certificates()
    run = deployment.play("rotate_certificates", *arguments)
    assert run.code != 0
    assert said in " ".join(run.output.split())
    assert deployment.certificates() == before


def restart(deployment: Deployment, node: str) -> None:
    """Kill a node and see it back, ready, with its settings as they are now."""
    before = deployment.pids()[node]
    os.kill(before, signal.SIGKILL)

    def is_back() -> bool:
        if deployment.pids().get(node, before) == before:
            return False
        try:
            return bool(shown(deployment)[node]["ready"])
        except (OSError, KeyError):
            return False

    wait_until(is_back, f"{node} is back", 120)


@contextmanager
def deaf(deployment: Deployment, node: str) -> Iterator[None]:
    """Have a node use copies of its files, so that it never sees them change."""
    settings = deployment.home / "nodes" / node / "node.toml"
    directory = settings.with_name("tls")
    copies = settings.with_name("copies")
    shutil.copytree(directory, copies)
    text = settings.read_text()
    settings.write_text(text.replace(f"{directory}/", f"{copies}/"))
    restart(deployment, node)
    try:
        yield
    finally:
        settings.write_text(text)
        restart(deployment, node)


def leader_of(deployment: Deployment) -> str:
    """Who leads, once one node alone says so of itself."""
    leaders: list[str] = []

    def one_leads() -> bool:
        views = shown(deployment)
        leaders[:] = [node for node, view in views.items() if view["role"] == "leader"]
        return len(leaders) == 1 and {view["leader"] for view in views.values()} == set(leaders)

    wait_until(one_leads, "one node leads")
    return leaders[0]


def lead(deployment: Deployment, target: str) -> None:
    """Hand the leadership over to a node, if another one has it."""

    def leads() -> bool:
        leader = leader_of(deployment)
        if leader == target:
            return True
        asked = deployment.admin_request(leader, "/api/v1/leader", {"target": target})
        with suppress(OSError), urllib.request.urlopen(asked, timeout=30):
            pass
        return False

    wait_until(leads, f"{target} leads", 60, 0.5)


def test_a_rotation_stops_at_the_first_node_that_does_not_follow(deployment: Deployment) -> None:
    first, other, third = NODES
    used, pids = serials(deployment)[first], deployment.pids()
    with deaf(deployment, first):
        for _ in range(5):
            lead(deployment, other)
            before = serials(deployment)
            run = deployment.play("rotate_certificates", CONFIRMED, IMPATIENT)
            assert run.code != 0
            if ordered(run.output) != [other, third, first] or leader_of(deployment) != first:
                break  # else it led by then, and its turn was the last
        told = " ".join(run.output.split())
        assert f"{first} after 3 s: it uses the certificate with serial {used}" in told
        assert ordered(run.output) == [first]
        after = serials(deployment)
        assert [node for node in NODES if after[node] != before[node]] == [first]

        run = deployment.play("rotate_certificates", WITH_CA, IMPATIENT)
        assert run.code != 0
        assert f"{first} after 3 s: it trusts the CAs" in " ".join(run.output.split())
        assert serials(deployment) == after
    assert [node for node in NODES if deployment.pids()[node] != pids[node]] == [first]


def test_a_rotation_of_the_ca_that_is_not_finished_is_told(deployment: Deployment) -> None:
    before = serials(deployment)
    assert len(authorities(deployment)) == 2
    run = deployment.play("deploy")
    assert run.code == 0, run.output
    assert "a rotation of the CA is not finished" in " ".join(run.output.split())
    assert serials(deployment) == before
    assert shown_serials(deployment) == before


def test_a_rotation_goes_node_by_node_with_the_leader_last(deployment: Deployment) -> None:
    before, pids = deployment.certificates(), deployment.pids()
    while True:
        leader = leader_of(deployment)
        with writing(deployment, *NODES) as answers:
            run = deployment.play("rotate_certificates", CONFIRMED)
        assert run.code == 0, run.output
        assert set(answers) == {201}
        assert sorted(ordered(run.output)) == list(NODES)
        if leader_of(deployment) == leader:
            break  # it led when the order was chosen
    assert ordered(run.output) == [*(node for node in NODES if node != leader), leader]
    for node in NODES:
        for path in (tls(deployment, node).key, tls(deployment, node).certificate):
            assert path.read_bytes() != before[path]
        assert tls(deployment, node).ca.read_bytes() == before[tls(deployment, node).ca]
    assert shown_serials(deployment) == serials(deployment)
    for node, serial in serials(deployment).items():
        assert re.search(rf"- {node}  \d{{4}}-\d\d-\d\d  {serial}\n", run.output)
    assert deployment.pids() == pids


def test_a_rotation_of_the_ca_goes_on_and_interrupts_nothing(deployment: Deployment) -> None:
    pids, (_, new) = deployment.pids(), authorities(deployment)
    with writing(deployment, *NODES) as answers:
        run = deployment.play("rotate_certificates", WITH_CA)
    assert run.code == 0, run.output
    assert authorities(deployment) == [new]
    digest = x509.load_pem_x509_certificate(new.read_bytes()).fingerprint(SHA256()).hex()
    for node, view in shown(deployment).items():
        loaded = Credentials(tls(deployment, node), NodeIdentity("pickbox", node))
        assert view["certificate_authorities"] == list(loaded.authorities) == [digest]
        assert view["certificate_serial"] == loaded.serial
    assert deployment.pids() == pids
    assert set(answers) == {201}


def test_a_lost_ca_is_replaced_without_a_gap(deployment: Deployment) -> None:
    (lost,) = authorities(deployment)
    digests = {view["certificate_authorities"][0] for view in shown(deployment).values()}
    for path in (lost, lost.with_suffix(".key"), lost.parent / "current"):
        path.unlink()
    with writing(deployment, *NODES) as answers:
        run = deployment.play("rotate_certificates", WITH_CA)
    assert run.code == 0, run.output
    (new,) = authorities(deployment)
    assert new.name != lost.name
    for view in shown(deployment).values():
        assert len(view["certificate_authorities"]) == 1
        assert view["certificate_authorities"][0] not in digests
    assert set(answers) == {201}
    assert deployment.play("deploy").changed == dict.fromkeys(NODES, 0)
