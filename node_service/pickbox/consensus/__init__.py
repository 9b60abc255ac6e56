"""A durable, ordered log of small commands: the one package that imports pysyncobj.

The seam is `pickbox.seams.Consensus`; `RaftConsensus` is what is under it: the library's node with
the parts that decide replaced (`core`), a durable log (`log`), and mutual TLS (`transport`).
"""

import _socket
import socket

from pickbox.consensus.raft import LogUnusable, RaftConsensus

# The library puts a function for Windows in its place, on every system; psutil needs the real one.
socket.inet_ntop = _socket.inet_ntop

__all__ = ["LogUnusable", "RaftConsensus"]
