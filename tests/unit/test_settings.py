"""Settings: what is allowed, what a wrong value is told, and that the reference lists them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from pickbox.settings import Peer, Settings, SettingsError, load_settings

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
GOOD = {
    "NODE_ID": "node1",
    "DATA_DIR": "/tmp/pickbox",
    "PEERS": "node1=127.0.0.1:8001,node2=127.0.0.1:8002",
    "ADMIN_TOKEN": "0123456789abcdef",
    "TLS_CA": "/etc/pickbox/ca.pem",
    "TLS_CERTIFICATE": "/etc/pickbox/node1.pem",
    "TLS_KEY": "/etc/pickbox/node1.key",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in GOOD.items():
        monkeypatch.setenv(f"PICKBOX_{name}", value)
    return monkeypatch


def test_peers_are_read_with_their_ports(environment: pytest.MonkeyPatch) -> None:
    peers = load_settings().peers
    assert peers["node1"] == Peer("node1", "127.0.0.1", 8001)
    assert peers["node2"].address == "127.0.0.1:8002"


def test_an_ipv6_peer_is_read() -> None:
    assert Peer.parse("n", "[::1]:8001").address == "[::1]:8001"


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_setting_is_named(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(f"PICKBOX_{name}")
    with pytest.raises(SettingsError, match=f"PICKBOX_{name}: not set"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("NODE_ID", "Node One", "PICKBOX_NODE_ID: found 'Node One'; 1 to 32 of a-z"),
        ("PORT", "http", "PICKBOX_PORT: found 'http'; input should be a valid integer"),
        ("PORT", "70000", "less than or equal to 65535"),
        ("LOG_LEVEL", "loud", "PICKBOX_LOG_LEVEL: found 'loud'; input should be 'debug', 'info'"),
        ("PEERS", "node2=127.0.0.1:8002", "PICKBOX_PEERS: node1 (node_id) is missing"),
        ("PEERS", "node1=127.0.0.1", "'127.0.0.1' is not host:port"),
        ("PEERS", "node1=a:1,node1=b:2", "a node is listed twice"),
        ("PEERS", "node1=127.0.0.1:99999", "not within 1-65535"),
        ("ADMIN_PORT", "8001", "PICKBOX_PORT: the four ports must differ"),
        ("PEERS", "node1=127.0.0.1:8001/9001", "'127.0.0.1:8001/9001' is not host:port"),
        ("PORT", "8009", "PICKBOX_PEERS: node1 is at port 8001 there"),
        (
            "ELECTION_TIMEOUT",
            "0.2",
            "PICKBOX_ELECTION_TIMEOUT: found 0.2; with a heartbeat_interval",
        ),
        ("ADMIN_TOKEN", "short", "PICKBOX_ADMIN_TOKEN: found 5 characters; allowed are 16"),
        ("INLINE_LIMIT", "999999999", "PICKBOX_INLINE_LIMIT: found '999999999'"),
        ("ADVERTISED_HOST", "a:80", "PICKBOX_ADVERTISED_HOST: found 'a:80'; a name or an address"),
        ("ADVERTISED_HOST", "", "PICKBOX_ADVERTISED_HOST: found ''; a name or an address"),
        ("ADVERTISED_HOST", "::1", "PICKBOX_ADVERTISED_HOST: found '::1'; a name or an address"),
        ("DRAIN_TIMEOUT", "60", "PICKBOX_DRAIN_TIMEOUT: found '60'"),
    ],
)
def test_a_wrong_value_is_told_what_was_found_and_what_is_allowed(
    environment: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    environment.setenv(f"PICKBOX_{name}", value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert said in str(error.value)


def test_a_secret_never_shows(environment: pytest.MonkeyPatch) -> None:
    assert "0123456789abcdef" not in repr(load_settings())
    environment.setenv("PICKBOX_ADMIN_TOKEN", "hunter2")
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert "hunter2" not in str(error.value)


def test_a_secret_of_the_wrong_type_does_not_show_either(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.delenv("PICKBOX_ADMIN_TOKEN")
    config = tmp_path / "node.toml"
    config.write_text("admin_token = 31415926535897932\n")
    with pytest.raises(SettingsError) as error:
        load_settings(config)
    assert "PICKBOX_ADMIN_TOKEN: found a value that is not shown" in str(error.value)
    assert "31415926535897932" not in str(error.value)


def test_a_file_holds_the_same_keys_and_the_environment_wins(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.delenv("PICKBOX_PEERS")
    config = tmp_path / "node.toml"
    config.write_text(
        'log_level = "debug"\nport = 8101\nadmin_port = 9101\n'
        '[peers]\nnode1 = "127.0.0.1:8101"\nnode2 = "127.0.0.1:8102"\n'
    )
    environment.setenv("PICKBOX_LOG_LEVEL", "error")
    settings = load_settings(config)
    assert (settings.port, settings.log_level) == (8101, "error")
    assert settings.peers["node2"].port == 8102


def test_certificates_that_cannot_be_used_are_named_with_their_setting(
    environment: pytest.MonkeyPatch,
) -> None:
    settings = load_settings()
    with pytest.raises(SettingsError, match=r"PICKBOX_TLS_CA: found '/etc/pickbox/ca\.pem'"):
        settings.credentials()


def test_an_unknown_key_of_the_file_is_named(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "node.toml"
    config.write_text("prot = 8001\n")
    with pytest.raises(SettingsError, match="PICKBOX_PROT: not a setting; allowed are "):
        load_settings(config)


def test_a_malformed_or_missing_file_is_named(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "node.toml"
    with pytest.raises(SettingsError, match="which is not a file"):
        load_settings(config)
    config.write_text("port = \n")
    with pytest.raises(SettingsError, match="PICKBOX_CONFIG: "):
        load_settings(config)


def test_a_secret_is_read_from_its_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("PICKBOX_ADMIN_TOKEN")
    secret = tmp_path / "secret"
    environment.setenv("PICKBOX_ADMIN_TOKEN_FILE", str(secret))
    with pytest.raises(SettingsError, match=r"PICKBOX_ADMIN_TOKEN_FILE: found .* cannot be read"):
        load_settings()
    secret.write_text("a secret from a file\n")
    assert load_settings().tokens == ("a secret from a file",)


def test_a_file_may_hold_several_tokens_one_a_line(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.delenv("PICKBOX_ADMIN_TOKEN")
    secret = tmp_path / "secret"
    environment.setenv("PICKBOX_ADMIN_TOKEN_FILE", str(secret))
    secret.write_text("\n  the new token of many  \r\n\n\tthe old token of many\n\n")
    assert load_settings().tokens == ("the new token of many", "the old token of many")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "which has no token; one is needed"),
        (b" \n\n", "which has no token; one is needed"),
        ("the größte token of many\n".encode(), "FILE, line 1: found a character that no header"),
        (b"the new\0token of many\n", "FILE, line 1: found a character that no header carries"),
        (b"the new token of many\n\nshort\n", "FILE, line 3: found 5 characters; allowed are 16"),
        (b"\xff\xfe", r"cannot be read \(it is not text\)"),
    ],
)
def test_a_token_of_a_file_that_cannot_be_used_is_named_by_its_line_and_not_shown(
    environment: pytest.MonkeyPatch, tmp_path: Path, content: bytes, told: str
) -> None:
    environment.delenv("PICKBOX_ADMIN_TOKEN")
    secret = tmp_path / "secret"
    environment.setenv("PICKBOX_ADMIN_TOKEN_FILE", str(secret))
    secret.write_bytes(content)
    with pytest.raises(SettingsError, match=told) as refused:
        load_settings()
    assert "short" not in str(refused.value)
    assert "many" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "said", "served"),
    [
        ("127.0.0.1", None, "http"),
        ("127.8.9.1", None, "http"),
        ("::1", None, "http"),
        ("localhost", None, "http"),
        ("0.0.0.0", None, "https"),
        ("10.0.0.1", None, "https"),
        ("node1.example", None, "https"),
        ("10.0.0.1", "false", "http"),
        ("127.0.0.1", "true", "https"),
    ],
)
def test_the_admin_api_is_plain_on_loopback_only_unless_it_is_said(
    environment: pytest.MonkeyPatch, host: str, said: str | None, served: str
) -> None:
    environment.setenv("PICKBOX_HOST", host)
    if said is not None:
        environment.setenv("PICKBOX_ADMIN_TLS", said)
    settings = load_settings()
    peer = settings.peers[settings.node_id].host
    assert settings.admin_url == f"{served}://{peer}:{settings.admin_port}"


@pytest.mark.parametrize(
    ("advertised", "host"),
    [(None, "127.0.0.1"), ("box.example", "box.example"), ("[2001:db8::1]", "[2001:db8::1]")],
)
def test_the_urls_name_the_advertised_host_or_else_what_peers_call_the_node(
    environment: pytest.MonkeyPatch, advertised: str | None, host: str
) -> None:
    if advertised is not None:
        environment.setenv("PICKBOX_ADVERTISED_HOST", advertised)
    settings = load_settings()
    urls = (settings.client_url, settings.admin_url, settings.monitor_url)
    assert urls == (f"http://{host}:8080", f"http://{host}:9001", f"http://{host}:6001")
    assert settings.peers["node1"].address == "127.0.0.1:8001"


def reference_table() -> str:
    """The table of docs/reference/settings.md, from the settings themselves."""
    rows = ["| setting | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else f"`{field.default}`"
        rows.append(f"| `PICKBOX_{name.upper()}` | {default} | {field.description or ''} |")
    return "\n".join(rows)


def test_the_reference_lists_every_setting() -> None:
    assert reference_table() in REFERENCE.read_text(), f"put this there:\n{reference_table()}"


def test_every_setting_is_described() -> None:
    undescribed = [n for n, field in Settings.model_fields.items() if not field.description]
    assert undescribed == []
