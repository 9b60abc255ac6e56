"""Messages between nodes: mutual TLS 1.3, length-limited msgpack frames, bounded queues."""

from pickbox.consensus.transport.hub import HandOver, Pace
from pickbox.consensus.transport.link import Traffic
from pickbox.consensus.transport.transport import TlsTransport, TransportCounts, TransportOptions

__all__ = ["HandOver", "Pace", "TlsTransport", "Traffic", "TransportCounts", "TransportOptions"]
