"""Connections to one peer: HTTP over mutual TLS, to the node that the certificate names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

from pickbox.tls import HTTP, NodeIdentity, identity_in

if TYPE_CHECKING:
    from pickbox.seams import Member
    from pickbox.tls import Credentials

_KEPT: Final = 8


def secure_pool(member: Member, credentials: Credentials) -> HTTPSConnectionPool:
    """A pool whose connections show this node's certificate and check the peer's."""
    host, _, port = (member.reached_at or member.address).rpartition(":")
    wanted = NodeIdentity(credentials.identity.cluster, member.node_id)

    class Connection(HTTPSConnection):
        """Made with the certificate of the moment: they change while a node runs."""

        def connect(self) -> None:
            self.ssl_context = credentials.client_context(HTTP)
            super().connect()
            found = identity_in(self.sock.getpeercert())  # type: ignore[union-attr]
            if found != wanted:
                self.close()
                raise NewConnectionError(self, f"{wanted.uri} was expected, {found} answered")

    class Pool(HTTPSConnectionPool):
        ConnectionCls = Connection

    options: dict[str, Any] = {"assert_hostname": False, "cert_reqs": "CERT_REQUIRED"}
    return Pool(host.strip("[]"), int(port), maxsize=_KEPT, retries=False, **options)
