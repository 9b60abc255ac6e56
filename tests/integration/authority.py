"""A certificate authority for tests, and the files of nodes that it makes."""

from __future__ import annotations

import datetime as dt
import os
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pickbox.tls import CredentialsFiles, NodeIdentity

CLUSTER = "test"
DECADE = dt.timedelta(days=3650)


class Authority:
    """A CA and the files that it makes for the nodes of `cluster`, in `directory`."""

    def __init__(self, directory: Path, cluster: str = CLUSTER) -> None:
        self.directory = directory
        self._cluster = cluster
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        basic = x509.BasicConstraints(ca=True, path_length=0)
        self._certificate = (
            _builder(self._name, self._name, self._key, -DECADE, DECADE)
            .add_extension(basic, critical=True)
            .add_extension(self._own_id(), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(Encoding.PEM)

    def keep_in(self, directory: Path) -> None:
        """Put certificate and key where the role `certificates` keeps those of a CA that signs."""
        directory.mkdir()
        plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write(directory / "20260101T000000Z.pem", self.pem)
        write(directory / "20260101T000000Z.key", self._key.private_bytes(*plain))
        (directory / "current").symlink_to("20260101T000000Z.pem")

    def _uri(self, name: str) -> str:
        return NodeIdentity(self._cluster, name).uri

    # Two CAs of one name are told apart by these: RFC 5280, section 4.2.1.1.

    def _own_id(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())

    def _issuer_id(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    def issue(
        self,
        name: str,
        *uris: str,
        hosts: tuple[str, ...] = (),
        starts: dt.timedelta = -dt.timedelta(hours=1),
        ends: dt.timedelta = dt.timedelta(hours=1),
        usages: tuple[x509.ObjectIdentifier, ...] = (
            ExtendedKeyUsageOID.CLIENT_AUTH,
            ExtendedKeyUsageOID.SERVER_AUTH,
        ),
    ) -> CredentialsFiles:
        """Files for node `name`, or with the URIs given, valid between two moments from now.

        With `hosts`, names and addresses, clients that verify these find them there.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(uri) for uri in uris or (self._uri(name),)
        ]
        names += [_host(host) for host in hosts]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(subject, self._name, key, starts, ends)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(self._issuer_id(), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = CredentialsFiles(
            self.directory / f"{name}-ca.pem",
            self.directory / f"{name}.pem",
            self.directory / f"{name}.key",
        )
        self.directory.mkdir(exist_ok=True)
        write(files.ca, self.pem)
        write(files.certificate, certificate.public_bytes(Encoding.PEM))
        plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write(files.key, key.private_bytes(*plain))
        return files


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    starts: dt.timedelta,
    ends: dt.timedelta,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
    )


def write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    temporary.replace(path)


NO_FILES = CredentialsFiles(*(Path("/nonexistent") / name for name in ("ca", "pem", "key")))
"""For settings of a node that makes no connection."""


def tls_settings(files: CredentialsFiles) -> dict[str, Path]:
    """What `pickbox.settings.Settings` is told of `files`."""
    return {"tls_ca": files.ca, "tls_certificate": files.certificate, "tls_key": files.key}
