"""Whose certificates an https:// address may show, and what to do when it shows another."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

from pickbox.cli.failures import ExitCode, Failure

_NAME_THE_CA: Final = "Name the CA of the cluster with --ca or PICKBOX_CA; on a node it is tls_ca."
_OF_ANOTHER_CA: Final = frozenset({18, 19, 20, 21})
_OF_ANOTHER_HOST: Final = frozenset({62, 64})
_EXPIRED: Final = 10
_NO_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"}
)


@dataclass(frozen=True, slots=True)
class Trust:
    """The CAs in a PEM file, with those of the system unless it is `alone`."""

    ca: str
    alone: bool = False

    def context(self) -> ssl.SSLContext:
        """What connections are made with; name and certificate of the other side are verified.

        Raises:
            Failure: the file cannot be used.
        """
        try:
            if self.alone:
                return ssl.create_default_context(cafile=self.ca)
            context = ssl.create_default_context()
            context.load_verify_locations(self.ca)
        except ssl.SSLError:
            raise _unusable(f"The CA file {self.ca} holds no certificate in PEM.") from None
        except OSError as error:
            raise _unusable(f"The CA file {self.ca} cannot be read: {error.strerror}.") from None
        return context


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """The error of TLS for which a connection failed; None if it failed for something else."""
    chain = [error]
    for found in chain:
        if isinstance(found, ssl.SSLError):
            return found
        inner = (getattr(found, "reason", None), found.__cause__, *found.args)
        chain += [e for e in inner if isinstance(e, BaseException) and e not in chain]
    return None


def untrusted(url: str, error: ssl.SSLError) -> Failure:
    """The address at `url` cannot be trusted, or does not speak TLS."""
    reason, advice = _explain(url, error)
    detail = f"{url} {reason}."
    problem = {"type": "untrusted", "detail": detail, "url": url}
    return Failure(ExitCode.UNREACHABLE, problem, advice)


def _explain(url: str, error: ssl.SSLError) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OF_ANOTHER_CA:
            return "shows a certificate of a CA that is not trusted here", _NAME_THE_CA
        if error.verify_code in _OF_ANOTHER_HOST:
            return (
                "shows a certificate that is not for this name or address",
                "Use the name that the inventory has for the node, or deploy it again: "
                "playbooks/deploy.yml",
            )
        if error.verify_code == _EXPIRED:
            return (
                "shows a certificate that has expired",
                "Renew it: playbooks/rotate_certificates.yml",
            )
        return f"shows a certificate that is refused: {error.verify_message}", _NAME_THE_CA
    if error.reason in _NO_TLS:
        plain = "http" + url.removeprefix("https")
        return "does not speak HTTPS", f"It may speak plain HTTP: {plain}"
    return f"cannot be spoken to over TLS: {error.reason or error}", ""


def _unusable(detail: str) -> Failure:
    return Failure(ExitCode.CONFIGURATION, {"type": "ca", "detail": detail, "field": "ca"})
