"""Connections to one peer: HTTP over mutual TLS, to the node that the certificate names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NewConnectionError

from pickbox.tls import HTTP, NodeIdentity, identity_in

if TYPE_CHECKING:
    from pickbox.tls import Credentials

_KEPT: Final = 8


def secure_pool(
    node_id: str, places: tuple[str, ...], credentials: Credentials
) -> HTTPSConnectionPool:
    """A pool whose connections show this node's certificate and check the peer's.

    Args:
        places: host:port where `node_id` may be, likeliest first. Whoever answers elsewhere has
            another certificate, so trying them all is safe; where it was found is tried first.
    """
    wanted = NodeIdentity(credentials.identity.cluster, node_id)
    likeliest = places

    class Connection(HTTPSConnection):
        """Made with the certificate of the moment: they change while a node runs."""

        def connect(self) -> None:
            nonlocal likeliest
            failure: Exception | None = None
            for place in likeliest:
                try:
                    self._connect_to(place)
                except (HTTPError, OSError) as error:
                    self.close()
                    failure = failure or error
                else:
                    likeliest = (place, *(other for other in places if other != place))
                    return
            assert failure is not None, "there is no place to look at"
            raise failure

        def _connect_to(self, place: str) -> None:
            self.host, self.port = _host_and_port(place)
            self.ssl_context = credentials.client_context(HTTP)
            super().connect()
            found = identity_in(self.sock.getpeercert())  # type: ignore[union-attr]
            if found != wanted:
                raise NewConnectionError(self, f"{wanted.uri} was expected, {found} answered")

    class Pool(HTTPSConnectionPool):
        ConnectionCls = Connection

    options: dict[str, Any] = {"assert_hostname": False, "cert_reqs": "CERT_REQUIRED"}
    host, port = _host_and_port(places[0])
    return Pool(host, port, maxsize=_KEPT, retries=False, **options)


def _host_and_port(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host.strip("[]"), int(port)
