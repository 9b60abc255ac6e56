"""Certificate, key and CAs of a node land together, and only when they belong together."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from ansible_collections.pickbox.cluster.plugins.modules.certificate_files import (
    Files,
    Misfit,
    certificates_in,
    install,
    problem_with,
)
from ansible_collections.pickbox.cluster.plugins.modules.wait_certificate import differences
from authority import Authority
from cryptography.x509.oid import ExtendedKeyUsageOID

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pickbox.tls import CredentialsFiles

HOUR = dt.timedelta(hours=1)
SERVER_ONLY = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT_ONLY = (ExtendedKeyUsageOID.CLIENT_AUTH,)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "one")


def files_of(issued: CredentialsFiles) -> Files:
    return Files(str(issued.ca), str(issued.certificate), str(issued.key))


def content_of(files: Files) -> list[bytes]:
    found = []
    for path in (files.ca, files.certificate, files.key):
        with open(path, "rb") as file:
            found.append(file.read())
    return found


def test_files_that_belong_together_have_no_problem(authority: Authority) -> None:
    assert problem_with(files_of(authority.issue("a"))) == ""


def spoiled(authority: Authority, spoil: Callable[[CredentialsFiles], object]) -> Files:
    issued = authority.issue("a")
    spoil(issued)
    return files_of(issued)


WRONG: list[tuple[str, Callable[[Authority], Files]]] = [
    ("there is no .*a.key", lambda ca: spoiled(ca, lambda files: files.key.unlink())),
    ("there is no .*a.pem", lambda ca: spoiled(ca, lambda files: files.certificate.unlink())),
    ("there is no .*a-ca.pem", lambda ca: spoiled(ca, lambda files: files.ca.unlink())),
    ("cannot be used", lambda ca: spoiled(ca, lambda files: files.key.write_text("key"))),
    (
        "cannot be used .KEY_VALUES_MISMATCH",
        lambda ca: spoiled(ca, lambda files: shutil.copy(ca.issue("b").key, files.key)),
    ),
    (
        "refused .(self-signed|unable to get local issuer)",
        lambda ca: spoiled(ca, lambda files: files.ca.write_bytes(Authority(ca.directory).pem)),
    ),
    ("refused .*expired", lambda ca: files_of(ca.issue("a", starts=-2 * HOUR, ends=-HOUR))),
    ("refused .*not yet valid", lambda ca: files_of(ca.issue("a", starts=HOUR, ends=2 * HOUR))),
    ("refused .* purpose", lambda ca: files_of(ca.issue("a", usages=SERVER_ONLY))),
    ("refused .* purpose", lambda ca: files_of(ca.issue("a", usages=CLIENT_ONLY))),
]


@pytest.mark.parametrize(("said", "wrong"), WRONG)
def test_what_the_nodes_would_refuse_is_said(
    said: str, wrong: Callable[[Authority], Files], authority: Authority
) -> None:
    problem = problem_with(wrong(authority))
    assert re.search(said, problem), problem


def test_a_new_certificate_lands_with_its_key(authority: Authority, tmp_path: Path) -> None:
    files = files_of(authority.issue("a"))
    other = Authority(tmp_path / "two")
    new = other.issue("a")
    wanted = content_of(files_of(new))
    texts = {files.ca: wanted[0].decode(), files.certificate: wanted[1].decode()}
    install(files, texts, str(new.key))
    assert content_of(files) == wanted
    assert sorted(path.name for path in authority.directory.iterdir()) == [
        "a-ca.pem",
        "a.key",
        "a.pem",
    ]


def test_a_certificate_without_its_key_does_not_land(authority: Authority) -> None:
    files = files_of(authority.issue("a"))
    before = content_of(files)
    text = authority.issue("b").certificate.read_text()
    with pytest.raises(Misfit, match="KEY_VALUES_MISMATCH"):
        install(files, {files.certificate: text}, None)
    assert content_of(files) == before
    assert not list(authority.directory.glob("*.new"))


def test_cas_that_did_not_sign_the_certificate_do_not_land(authority: Authority) -> None:
    files = files_of(authority.issue("a"))
    before = content_of(files)
    with pytest.raises(Misfit, match="refused"):
        install(files, {files.ca: Authority(authority.directory).pem.decode()}, None)
    assert content_of(files) == before


def test_a_further_ca_lands(authority: Authority) -> None:
    files = files_of(authority.issue("a"))
    bundle = (authority.pem + Authority(authority.directory).pem).decode()
    install(files, {files.ca: bundle}, None)
    assert certificates_in(files.ca) == bundle


def test_what_is_no_certificate_is_read_as_none(authority: Authority) -> None:
    issued = authority.issue("a")
    assert certificates_in(str(issued.certificate)) == issued.certificate.read_text()
    assert certificates_in(str(issued.key)) == ""
    assert certificates_in(str(authority.directory / "missing")) == ""


NODE = {"certificate_serial": "1f", "certificate_authorities": ["b" * 64, "a" * 64], "ready": True}


def test_a_node_that_uses_what_it_was_given_is_as_expected() -> None:
    assert differences(NODE, "1f", ["a" * 64, "b" * 64]) == []
    assert differences(NODE, "", []) == []


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({}, "it shows no certificate"),
        ({**NODE, "certificate_serial": ""}, "it shows no certificate"),
        ({**NODE, "certificate_serial": "20"}, "serial 20 and not 1f"),
        ({**NODE, "certificate_authorities": ["a" * 64]}, "it trusts the CAs aaaaaaaaaaaaaaaa and"),
        ({**NODE, "ready": False, "reasons": ["no leader is known"]}, "no leader is known"),
        ({**NODE, "ready": False}, "it is not ready and gives no reason"),
    ],
)
def test_a_node_that_uses_something_else_is_told(node: dict[str, object], said: str) -> None:
    (found,) = differences(node, "1f", ["a" * 64, "b" * 64])
    assert said in found
