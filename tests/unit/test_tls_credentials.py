"""A node's own certificate: what is wrong with it is said before the node starts."""

from __future__ import annotations

import datetime as dt
import shutil
import ssl
from typing import TYPE_CHECKING

import pytest
from authority import Authority
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from pickbox.tls import Credentials, CredentialsError, NodeIdentity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pickbox.tls import CredentialsFiles

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def load(files: CredentialsFiles) -> Credentials:
    return Credentials(files, NodeIdentity("test", "a"))


def test_a_good_certificate_is_loaded(authority: Authority) -> None:
    files = authority.issue("a")
    credentials = load(files)
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert credentials.identity.uri == "pickbox://test/a"
    assert credentials.serial == f"{certificate.serial_number:x}"
    assert credentials.expires == certificate.not_valid_after_utc


def test_every_ca_of_the_bundle_is_told(authority: Authority) -> None:
    files = authority.issue("a")
    bundle = authority.pem + Authority(authority.directory).pem
    files.ca.write_bytes(bundle)
    digests = {c.fingerprint(SHA256()).hex() for c in x509.load_pem_x509_certificates(bundle)}
    assert load(files).authorities == tuple(sorted(digests))
    assert len(digests) == 2


OF_A_CURVE_THAT_NOBODY_KNOWS = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqBHM9VAYItBG0wawIBAQQgQ0PWXvboaS8AY8Yd
eVGuhDwW5wzYUhbc59jz0yF/RTChRANCAATn37bdWH9MHQT+lql2PKCasJi4+y8L
+WBVa2O/la8lT2tTslp6nKD7QNTPrZjWpj4llArsmUvJgs3McGUJSWa7
-----END PRIVATE KEY-----
"""


def of_version_7(certificate: Path) -> str:
    """The certificate as PEM, with a version that there is not."""
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    return ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x06"))


def spoiled(authority: Authority, spoil: Callable[[CredentialsFiles], None]) -> CredentialsFiles:
    files = authority.issue("a")
    spoil(files)
    return files


WRONG: dict[str, Callable[[Authority], CredentialsFiles]] = {
    "TLS_KEY: .* is not the key of": lambda ca: spoiled(
        ca, lambda files: shutil.copy(ca.issue("b").key, files.key)
    ),
    "TLS_KEY: .* has mode 0640, .* chmod 600": lambda ca: spoiled(
        ca, lambda files: files.key.chmod(0o640)
    ),
    "TLS_KEY: .* holds no unencrypted private key": lambda ca: spoiled(
        ca, lambda files: files.key.write_text("key")
    ),
    "TLS_CERTIFICATE, .* cannot be used: .*; make new ones": lambda ca: spoiled(
        ca, lambda files: files.key.write_text(OF_A_CURVE_THAT_NOBODY_KNOWS)
    ),
    "TLS_CERTIFICATE, .* cannot be used: .*version": lambda ca: spoiled(
        ca, lambda files: files.certificate.write_text(of_version_7(files.certificate))
    ),
    "TLS_KEY: .* cannot be read .No such file": lambda ca: spoiled(
        ca, lambda files: files.key.unlink()
    ),
    "TLS_CERTIFICATE: .* is of pickbox://test/b, but": lambda ca: ca.issue("a", "pickbox://test/b"),
    "TLS_CERTIFICATE: .* is of pickbox://x/a, but": lambda ca: ca.issue("a", "pickbox://x/a"),
    "TLS_CERTIFICATE: .* is of no URI": lambda ca: ca.issue("a", "https://example.test"),
    "TLS_CERTIFICATE: .* expired at": lambda ca: ca.issue("a", starts=-2 * HOUR, ends=-HOUR),
    "TLS_CERTIFICATE: .* check this machine's clock": lambda ca: ca.issue(
        "a", starts=HOUR, ends=2 * HOUR
    ),
    "TLS_CERTIFICATE: .* holds no certificate": lambda ca: spoiled(
        ca, lambda files: files.certificate.write_text("certificate")
    ),
    "TLS_CA: no certificate in .* has signed": lambda ca: spoiled(
        ca, lambda files: files.ca.write_bytes(Authority(ca.directory).pem)
    ),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_named_with_what_to_change(said: str, authority: Authority) -> None:
    with pytest.raises(CredentialsError, match=f"PICKBOX_{said}"):
        load(WRONG[said](authority))


def test_changed_files_are_loaded_once_they_rest(authority: Authority) -> None:
    credentials = load(authority.issue("a"))
    before = credentials.expires
    assert not credentials.reload_if_changed()
    authority.issue("a", ends=5 * HOUR)
    assert not credentials.reload_if_changed()  # it may be half written
    assert credentials.reload_if_changed()
    assert credentials.expires > before


@pytest.mark.parametrize("of_another", [True, False], ids=["of another", "of an unknown kind"])
def test_bad_new_files_leave_the_old_ones_in_use(authority: Authority, of_another: bool) -> None:
    files = authority.issue("a")
    credentials = load(files)
    before = credentials.expires
    other = authority.issue("b").key
    files.key.write_text(other.read_text() if of_another else OF_A_CURVE_THAT_NOBODY_KNOWS)
    assert not credentials.reload_if_changed()
    assert not credentials.reload_if_changed()
    assert credentials.expires == before


def test_a_certificate_is_for_the_hosts_that_are_in_it_and_no_others(authority: Authority) -> None:
    credentials = load(authority.issue("a", hosts=("node1.example", "10.0.0.1", "fd00::1")))
    for host in ("node1.example", "NODE1.example", "10.0.0.1", "fd00::1", "[fd00:0::1]"):
        assert credentials.is_for(host), host
    for host in ("node2.example", "example", "10.0.0.2", "fd00::2", "a"):
        assert not credentials.is_for(host), host
    assert not load(authority.issue("a")).is_for("10.0.0.1")
