"""Who a node is, shown by its certificate: loading, checking, and why a peer is refused."""

from pickbox.tls.causes import alerted_cause, cause_of
from pickbox.tls.credentials import HTTP, RAFT, Credentials, CredentialsError, CredentialsFiles
from pickbox.tls.identity import NodeIdentity, identity_in

__all__ = [
    "HTTP",
    "RAFT",
    "Credentials",
    "CredentialsError",
    "CredentialsFiles",
    "NodeIdentity",
    "alerted_cause",
    "cause_of",
    "identity_in",
]
