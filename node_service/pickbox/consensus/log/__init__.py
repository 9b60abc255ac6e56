"""The durable log: what Raft must not forget, in checksummed segments.

It knows bytes, indexes, terms and files, and nothing of the network.
``docs/reference/log-format.md`` describes the bytes.
"""

from pickbox.consensus.log.disk import Disk, DiskFile, ReadOnlyDisk, RealDisk
from pickbox.consensus.log.durable_log import DurableLog, LogStopped
from pickbox.consensus.log.examine import Damage, Examination, SegmentFound, examine
from pickbox.consensus.log.recovery import HardState, recover
from pickbox.consensus.log.segment import LogDamaged, LogTooNew

__all__ = [
    "Damage",
    "Disk",
    "DiskFile",
    "DurableLog",
    "Examination",
    "HardState",
    "LogDamaged",
    "LogStopped",
    "LogTooNew",
    "ReadOnlyDisk",
    "RealDisk",
    "SegmentFound",
    "examine",
    "recover",
]
