"""The certificate of a node: loaded, checked so that errors teach, and loaded anew when it changes.

TLS 1.3 only (RFC 8446). No session tickets: a resumed session would skip the certificate.
"""

from __future__ import annotations

import datetime as dt
import logging
import ssl
import stat
import threading
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from pickbox.tls.identity import NodeIdentity

log = logging.getLogger(__name__)

RAFT: Final = "pickbox-raft/1"
HTTP: Final = "http/1.1"
"""What members speak on their port (ALPN, RFC 7301): messages of the log, and content."""

_Signature: TypeAlias = tuple[tuple[int, int, int], ...]
_READABLE_BY_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class CredentialsError(Exception):
    """Certificate, key or CA cannot be used; the text names the setting and what to change."""


@dataclass(frozen=True, slots=True)
class CredentialsFiles:
    """Where the PEM files are. `ca` may hold several certificates: all are trusted."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _Loaded:
    server: ssl.SSLContext
    clients: dict[str, ssl.SSLContext]
    https: ssl.SSLContext
    certificate: x509.Certificate
    authorities: tuple[str, ...]


class Credentials:
    """TLS contexts of one node. Thread-safe: what is loaded is replaced as a whole.

    Raises:
        CredentialsError: what the files hold cannot be used.
    """

    def __init__(self, files: CredentialsFiles, identity: NodeIdentity) -> None:
        self._files = files
        self.identity = identity
        self._lock = threading.Lock()
        self._tried = self._seen = self._signature()
        self._loaded = self._load()

    def server_context(self, protocols: Sequence[str]) -> ssl.SSLContext:
        """Accepts peers that show a certificate of the CA and speak one of `protocols` (ALPN)."""
        context = self._loaded.server
        context.set_alpn_protocols(list(protocols))
        return context

    def client_context(self, protocol: str) -> ssl.SSLContext:
        """Shows this node's certificate and speaks `RAFT` or `HTTP`.

        The peer's name is the caller's to check.
        """
        return self._loaded.clients[protocol]

    def https_context(self) -> ssl.SSLContext:
        """Shows this node's certificate to clients, who need none and check its name themselves."""
        return self._loaded.https

    def is_for(self, host: str) -> bool:
        """Whether a client that asks for `host`, a name or an address, finds it in the certificate.

        No wildcards: a node has names of its own.
        """
        names = _alternative_names(self._loaded.certificate)
        try:
            address = ip_address(host.strip("[]"))
        except ValueError:
            known = names.get_values_for_type(x509.DNSName) if names else []
            return host.lower() in [name.lower() for name in known]
        return names is not None and address in names.get_values_for_type(x509.IPAddress)

    @property
    def expires(self) -> dt.datetime:
        """When the certificate in use ends, in UTC."""
        return self._loaded.certificate.not_valid_after_utc

    @property
    def serial(self) -> str:
        """The serial number of the certificate in use, in hexadecimal."""
        return f"{self._loaded.certificate.serial_number:x}"

    @property
    def authorities(self) -> tuple[str, ...]:
        """SHA-256 of each CA that is trusted now, in hexadecimal, sorted."""
        return self._loaded.authorities

    def reload(self) -> None:
        """Load the files again, for connections from now on.

        Raises:
            CredentialsError: they cannot be used; what was loaded before stays in use.
        """
        with self._lock:
            self._tried = self._signature()
            self._loaded = self._load()
        fields = {"expires": self.expires.isoformat()}
        log.info("certificates_reloaded", extra={"fields": fields})

    def reload_if_changed(self) -> bool:
        """Load the files again if they have changed and rest since the call before."""
        try:
            now = self._signature()
        except CredentialsError:
            return False  # in the middle of being replaced, or gone: the old ones stay in use
        resting, self._seen = now == self._seen, now
        if now == self._tried or not resting:
            return False
        try:
            self.reload()
        except CredentialsError as error:
            log.error("certificates_not_reloaded", extra={"fields": {"why": str(error)}})
            return False
        return True

    def _signature(self) -> _Signature:
        stats = [_stat("TLS_CA", self._files.ca)]
        stats.append(_stat("TLS_CERTIFICATE", self._files.certificate))
        stats.append(_stat("TLS_KEY", self._files.key))
        return tuple((found.st_ino, found.st_size, found.st_mtime_ns) for found in stats)

    def _load(self) -> _Loaded:
        try:
            return self._load_files()
        except CredentialsError:
            raise
        except Exception as error:  # of all that cryptography may raise there is no list
            raise CredentialsError(
                "PICKBOX_TLS_CERTIFICATE, PICKBOX_TLS_KEY and PICKBOX_TLS_CA: what they hold "
                f"cannot be used: {error}; make new ones (playbooks/rotate_certificates.yml)"
            ) from error

    def _load_files(self) -> _Loaded:
        authorities = _certificates("TLS_CA", self._files.ca)
        chain = _certificates("TLS_CERTIFICATE", self._files.certificate)
        self._check_key(chain[0])
        self._check_identity(chain[0])
        self._check_validity(chain[0])
        self._check_issuer(chain[0], [*chain[1:], *authorities])
        try:
            server = self._context(ssl.PROTOCOL_TLS_SERVER)
            clients = {name: self._client(name) for name in (RAFT, HTTP)}
            https = self._https()
        except (ssl.SSLError, OSError) as error:
            raise CredentialsError(f"PICKBOX_TLS_CERTIFICATE: cannot be used: {error}") from error
        trusted = sorted(authority.fingerprint(SHA256()).hex() for authority in authorities)
        return _Loaded(server, clients, https, chain[0], tuple(trusted))

    def _client(self, protocol: str) -> ssl.SSLContext:
        context = self._context(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols([protocol])
        return context

    def _https(self) -> ssl.SSLContext:
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_NONE  # clients are known by their token
        context.set_alpn_protocols([HTTP])
        return context

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # a node is known by its SAN URI, wherever it runs
        context.verify_mode = ssl.CERT_REQUIRED
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0
        context.load_verify_locations(self._files.ca)
        context.load_cert_chain(self._files.certificate, self._files.key)
        return context

    def _check_key(self, certificate: x509.Certificate) -> None:
        path = self._files.key
        mode = _stat("TLS_KEY", path).st_mode
        if mode & _READABLE_BY_OTHERS:
            raise CredentialsError(
                f"PICKBOX_TLS_KEY: {path} has mode {stat.S_IMODE(mode):04o}, so others than its "
                f"owner may read it; change that with: chmod 600 {path}"
            )
        try:
            key = load_pem_private_key(_read("TLS_KEY", path), password=None)
        except (ValueError, TypeError) as error:
            raise CredentialsError(
                f"PICKBOX_TLS_KEY: {path} holds no unencrypted private key in PEM: {error}"
            ) from error
        public = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if key.public_key().public_bytes(*public) != certificate.public_key().public_bytes(*public):
            raise CredentialsError(
                f"PICKBOX_TLS_KEY: {path} is not the key of {self._files.certificate}; give the "
                "two files that were made together"
            )

    def _check_identity(self, certificate: x509.Certificate) -> None:
        names = _uris(certificate)
        if names == [self.identity.uri]:
            return
        found = ", ".join(names) or "no URI"
        raise CredentialsError(
            f"PICKBOX_TLS_CERTIFICATE: {self._files.certificate} is of {found}, but this node is "
            f"{self.identity.uri} (PICKBOX_CLUSTER_NAME and PICKBOX_NODE_ID); give the "
            "certificate with exactly that URI among its subject alternative names"
        )

    def _check_validity(self, certificate: x509.Certificate) -> None:
        now = dt.datetime.now(dt.UTC)
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now > last:
            raise CredentialsError(
                f"PICKBOX_TLS_CERTIFICATE: {self._files.certificate} expired at "
                f"{last.isoformat()}; make a new one (playbooks/rotate_certificates.yml)"
            )
        if now < first:
            raise CredentialsError(
                f"PICKBOX_TLS_CERTIFICATE: {self._files.certificate} is valid from "
                f"{first.isoformat()} on only; check this machine's clock"
            )

    def _check_issuer(
        self, certificate: x509.Certificate, issuers: Sequence[x509.Certificate]
    ) -> None:
        if not any(_issued(certificate, issuer) for issuer in issuers):
            raise CredentialsError(
                f"PICKBOX_TLS_CA: no certificate in {self._files.ca} has signed "
                f"{self._files.certificate}; give the CA that made it"
            )


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _uris(certificate: x509.Certificate) -> list[str]:
    names = _alternative_names(certificate)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    return [uri for uri in uris if uri.startswith("pickbox:")]


def _certificates(setting: str, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(setting, path))
    except ValueError as error:
        raise CredentialsError(
            f"PICKBOX_{setting}: {path} holds no certificate in PEM: {error}"
        ) from error


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(setting, path, error) from error


def _stat(setting: str, path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise _unreadable(setting, path, error) from error


def _unreadable(setting: str, path: Path, error: OSError) -> CredentialsError:
    return CredentialsError(
        f"PICKBOX_{setting}: found {str(path)!r}, which cannot be read ({error.strerror}); give a "
        "file that the user of this process may read"
    )
