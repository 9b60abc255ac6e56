"""The name of a node in its certificate: a SAN URI ``pickbox://<cluster>/<node>``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

_URI: Final = re.compile(r"pickbox://(?P<cluster>[^/]+)/(?P<node>[^/]+)")


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A node of a cluster, by their names."""

    cluster: str
    node_id: str

    @property
    def uri(self) -> str:
        """As it stands in a certificate; other characters than RFC 3986's unreserved are quoted."""
        return f"pickbox://{quote(self.cluster, safe='')}/{quote(self.node_id, safe='')}"

    @classmethod
    def parse(cls, uri: str) -> NodeIdentity:
        """Read a SAN URI.

        Raises:
            ValueError: it names no node of a cluster.
        """
        match = _URI.fullmatch(uri)
        if match is None:
            raise ValueError(f"{uri!r} is not pickbox://<cluster>/<node>")
        return cls(unquote(match["cluster"]), unquote(match["node"]))


def identity_in(certificate: Mapping[str, Any] | None) -> NodeIdentity | None:
    """The identity in what `ssl.SSLSocket.getpeercert` gives; None unless there is exactly one."""
    names = (certificate or {}).get("subjectAltName", ())
    uris = [value for kind, value in names if kind == "URI" and value.startswith("pickbox:")]
    try:
        return NodeIdentity.parse(uris[0]) if len(uris) == 1 else None
    except ValueError:
        return None
