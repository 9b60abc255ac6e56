"""Why a TLS handshake failed, as one word that operators can search for."""

from __future__ import annotations

import ssl
from typing import Final

_BY_VERIFY_CODE: Final = {
    9: "not_yet_valid",
    10: "expired",
    18: "another_ca",  # self-signed
    19: "another_ca",
    20: "another_ca",
    21: "another_ca",
    26: "wrong_purpose",
}
_BY_REASON: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no_certificate",
    "HTTP_REQUEST": "not_tls",
    "HTTPS_PROXY_REQUEST": "not_tls",
    "WRONG_VERSION_NUMBER": "not_tls",
    "PACKET_LENGTH_TOO_LONG": "not_tls",
    "RECORD_LAYER_FAILURE": "not_tls",
    "UNSUPPORTED_PROTOCOL": "old_tls",
    "VERSION_TOO_LOW": "old_tls",
    "TLSV1_ALERT_PROTOCOL_VERSION": "old_tls",
}
_ALERTS: Final = {
    "TLSV1_ALERT_UNKNOWN_CA": "another_ca",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "no_certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "bad_certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "wrong_purpose",
}


def cause_of(error: Exception) -> str:
    """The cause for which this side refused the other: ``another_ca``, ``expired``, …."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_VERIFY_CODE.get(error.verify_code, "bad_certificate")
    if isinstance(error, ssl.SSLError):
        return _BY_REASON.get(error.reason or "", "bad_handshake")
    if isinstance(error, TimeoutError):
        return "too_slow"
    return "connection_lost"


def alerted_cause(error: Exception) -> str | None:
    """The cause for which the other side refused this one, if `error` is its TLS alert."""
    if isinstance(error, ssl.SSLError):
        return _ALERTS.get(error.reason or "")
    return None
