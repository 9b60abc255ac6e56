"""The admin API over TLS: nodes that serve it, and the command and the modules that verify it."""

from __future__ import annotations

import json
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from authority import DECADE, Authority
from click.testing import CliRunner
from cluster import HOST, TOKEN, Cluster, Node, wait_until
from cryptography import x509
from module_runs import failure, run

from pickbox.cli.app import app
from pickbox.cli.failures import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

pytestmark = pytest.mark.cluster

# Who leads is compared around runs of modules, which take a second.
SETTINGS = {"admin_tls": "true", "election_timeout": "5"}


@pytest.fixture
def other_ca(tmp_path: Path) -> str:
    return str(Authority(tmp_path / "other").issue("node1").ca)


def pickbox(node: Node, *options: str, url: str = "") -> Result:
    """Run ``pickbox members`` against the admin API of `node`, or `url`."""
    environment = {"PICKBOX_ADMIN_TOKEN": TOKEN, "PICKBOX_CA": None}
    arguments = ["members", "--admin-url", url or node.admin, *options]
    return CliRunner().invoke(app, arguments, env=environment)


def served_serial(node: Node) -> int:
    """The serial number of the certificate that the admin port shows, after it was verified."""
    context = ssl.create_default_context(cafile=node.ca)
    with (
        socket.create_connection((HOST, node.ports[1]), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number


def test_nodes_say_where_it_is(cluster: Cluster) -> None:
    first, *_ = cluster

    def told() -> list[str]:
        nodes = first.request("GET", "/api/cluster").json()["nodes"]
        return [node["admin_url"] for node in nodes]

    wait_until(lambda: told() == [node.admin for node in cluster], "it has heard from all")
    assert first.admin == f"https://{HOST}:{first.ports[1]}"


def test_plain_http_is_refused_with_a_sentence(cluster: Cluster) -> None:
    node = cluster["node1"]
    plain = node.admin.replace("https:", "http:")
    answer = urllib3.request("GET", f"{plain}/api/v1/status", timeout=20.0, retries=False)
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:pickbox:problem:https-required"
    assert answer.json()["detail"].startswith("This port speaks HTTPS only")


def test_an_older_tls_is_refused_and_a_certificate_of_the_client_is_not_asked_for(
    cluster: Cluster,
) -> None:
    node = cluster["node1"]
    context = ssl.create_default_context(cafile=node.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((HOST, node.ports[1]), timeout=20) as plain,
        pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),
    ):
        context.wrap_socket(plain, server_hostname=HOST)
    assert node.admin_request("GET", "/api/v1/leader").status == 200


def test_a_client_that_is_slow_to_shake_hands_keeps_nobody_out(cluster: Cluster) -> None:
    node = cluster["node1"]

    def answers_meanwhile() -> bool:
        with socket.create_connection((HOST, node.ports[1])) as slow:
            slow.sendall(b"\x16\x03")  # it began, and goes no further
            assert node.admin_request("GET", "/api/v1/leader").status == 200
            slow.setblocking(False)
            try:
                slow.recv(1)
            except BlockingIOError:
                return True  # the node still waits for it
            return False

    wait_until(answers_meanwhile, "another client is answered before the slow one is given up")


def test_many_requests_go_over_one_connection(cluster: Cluster) -> None:
    node = cluster["node1"]
    pool = urllib3.PoolManager(retries=False, ca_certs=node.ca, maxsize=1)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    document = json.dumps({"target": None, "padding": "x" * 40_000})
    for _ in range(3):  # a body that no single record holds, refused for what is in it
        url = f"{node.admin}/api/v1/leader"
        json_headers = {**headers, "Content-Type": "application/json"}
        assert pool.request("POST", url, body=document, headers=json_headers).status == 400
        assert pool.request("GET", url, headers=headers).status == 200
    connections = pool.connection_from_url(node.admin)
    assert connections.num_connections == 1


def test_the_command_verifies_the_node(cluster: Cluster) -> None:
    done = pickbox(cluster["node1"], "--ca", cluster["node1"].ca)
    assert done.exit_code == 0, done.output
    assert "node3" in done.stdout


def test_the_command_trusts_no_certificate_of_another_ca(cluster: Cluster, other_ca: str) -> None:
    node = cluster["node1"]
    for options in ((), ("--ca", other_ca)):
        refused = pickbox(node, *options)
        assert refused.exit_code == ExitCode.UNREACHABLE
        assert f"{node.admin} shows a certificate of a CA that is not trusted" in refused.stderr
        assert "--ca or PICKBOX_CA" in refused.stderr


def test_the_command_trusts_no_certificate_of_another_host(cluster: Cluster) -> None:
    node = cluster["node1"]
    url = f"https://localhost:{node.ports[1]}"
    refused = pickbox(node, "--ca", node.ca, url=url)
    assert refused.exit_code == ExitCode.UNREACHABLE
    assert f"{url} shows a certificate that is not for this name or address." in refused.stderr


def test_the_command_says_when_one_side_speaks_https_and_the_other_does_not(
    cluster: Cluster,
) -> None:
    node = cluster["node1"]
    refused = pickbox(node, url=node.admin.replace("https:", "http:"))
    assert refused.exit_code == ExitCode.ERROR
    assert "This port speaks HTTPS only" in refused.stderr
    assert "--ca or PICKBOX_CA" in refused.stderr

    refused = pickbox(node, "--ca", node.ca, url=node.client.replace("http:", "https:"))
    assert refused.exit_code == ExitCode.UNREACHABLE
    assert "does not speak HTTPS" in refused.stderr
    assert node.client in refused.stderr


@pytest.mark.parametrize(("content", "why"), [(None, "cannot be read"), ("x", "no certificate")])
def test_the_command_says_when_the_ca_cannot_be_used(
    cluster: Cluster, tmp_path: Path, content: str | None, why: str
) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    refused = pickbox(cluster["node1"], "--ca", str(file))
    assert refused.exit_code == ExitCode.CONFIGURATION
    assert f"The CA file {file}" in refused.stderr
    assert why in refused.stderr


def options(cluster: Cluster, **more: Any) -> dict[str, Any]:
    return {"urls": [node.admin for node in cluster], "token": TOKEN, **more}


def test_modules_verify_the_nodes(cluster: Cluster) -> None:
    ca = cluster["node1"].ca
    leader = cluster.leader()
    assert not run("leader", **options(cluster, ca=ca, target=leader.node_id))["changed"]
    handed = run("leader", **options(cluster, ca=ca, not_on=leader.node_id))
    assert handed["after"] == cluster.leader().node_id != leader.node_id
    assert not run("drain", url=leader.admin, token=TOKEN, ca=ca, state="active")["changed"]
    address = f"{HOST}:{leader.ports[0]}"
    member = run("member", **options(cluster, ca=ca, node_id=leader.node_id, address=address))
    assert not member["changed"]


def test_modules_say_what_is_wrong_and_do_not_wait(cluster: Cluster, other_ca: str) -> None:
    said = failure("leader", **options(cluster, ca=other_ca, target="node1", timeout=120))
    assert "its certificate is refused: " in said
    assert said.endswith("the name that the inventory has for the node.")
    first = cluster["node1"]
    plain = first.admin.replace("https:", "http:")
    said = failure("drain", url=plain, token=TOKEN, timeout=120)
    assert "400 https-required: This port speaks HTTPS only" in said
    assert said.endswith("give the CA of the cluster as ca.")
    secure = first.client.replace("http:", "https:")
    said = failure("drain", url=secure, token=TOKEN, ca=first.ca, timeout=120)
    assert "it does not speak HTTPS" in said


def test_a_renewed_certificate_is_shown_without_a_restart(cluster: Cluster) -> None:
    node = cluster["node2"]
    before, pid = served_serial(node), node.pid
    cluster.authority.issue(node.node_id, hosts=(HOST,), starts=-DECADE, ends=DECADE)
    wait_until(lambda: served_serial(node) != before, "the new certificate is shown")
    assert node.pid == pid
    assert node.admin_request("GET", "/api/v1/leader").status == 200


def test_a_certificate_without_the_nodes_host_is_said_at_the_start(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster", size=1, admin_tls="true")
    node = cluster["node1"]
    cluster.authority.issue(node.node_id, starts=-DECADE, ends=DECADE)
    try:
        node.start()
        cluster.wait_ready()
        (event,) = [e for e in node.events() if e["event"] == "certificate_lacks_host"]
        assert event["level"] == "warning"
        why = f"clients of {node.admin} refuse the certificate: it is not for {HOST}"
        assert event["why"] == why
        assert "not for this name" in pickbox(node, "--ca", node.ca).stderr
    finally:
        cluster.stop()
