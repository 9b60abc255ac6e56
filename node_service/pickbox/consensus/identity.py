"""Whose data directory this is: ``identity.json``, made once, and refused when it does not fit.

A node's promises to the others (its votes, what it acknowledged) are in its data directory. Its
random *incarnation* tells the directory from an emptied one under the same node id; the file's own
inode number tells it from a copy, which would make the same promises a second time.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pickbox.consensus.library import Identity
from pickbox.durable import replacing

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "identity.json"
_FORMAT: Final = 1
_INCARNATION_BYTES: Final = 16


class WrongIdentity(Exception):
    """The data directory belongs to another node or cluster, or is a copy; the text says more."""


@dataclass(frozen=True, slots=True)
class _Record:
    cluster: str
    node_id: str
    incarnation: bytes
    inode: int


def claim_identity(data_dir: Path, node_id: str, cluster: str) -> Identity:
    """The identity of the node in `data_dir`; an empty directory gets a new one, durably.

    Raises:
        WrongIdentity: the directory is not this node's.
        OSError: the file cannot be read or written.
    """
    path = data_dir / FILE
    if not path.exists():
        _write(path, cluster, node_id, secrets.token_bytes(_INCARNATION_BYTES))
    record = _read(path)
    if record.cluster != cluster:
        raise WrongIdentity(
            f"PICKBOX_CLUSTER_NAME: found {cluster!r}, but {path} says that this data directory "
            f"belongs to cluster {record.cluster!r}: give that name, or another PICKBOX_DATA_DIR"
        )
    if record.node_id != node_id:
        raise WrongIdentity(
            f"PICKBOX_NODE_ID: found {node_id!r}, but {path} says that this data directory is "
            f"{record.node_id}'s: give that id, or another PICKBOX_DATA_DIR"
        )
    if record.inode != path.stat().st_ino:
        raise WrongIdentity(
            f"{path} was not made where it is: the data directory is a copy, and two nodes that "
            "make the same promises lose data. For a new node start with an empty directory. If "
            "the original is gone for good (it was moved to another volume, say), run "
            "`pickbox recover --accept-copy` once"
        )
    return Identity(record.node_id, record.incarnation, record.cluster)


def accept_copy(data_dir: Path) -> None:
    """Make the copied `data_dir` a node's own; the original must never be started again.

    Raises:
        WrongIdentity: the file is no identity.
        OSError: it cannot be read or written.
    """
    path = data_dir / FILE
    record = _read(path)
    _write(path, record.cluster, record.node_id, record.incarnation)


def _write(path: Path, cluster: str, node_id: str, incarnation: bytes) -> None:
    with replacing(path) as file:
        record = {
            "format": _FORMAT,
            "cluster": cluster,
            "node_id": node_id,
            "incarnation": incarnation.hex(),
            "inode": os.fstat(file.fileno()).st_ino,
        }
        file.write(json.dumps(record, indent=1).encode())


def _read(path: Path) -> _Record:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        if found["format"] > _FORMAT:
            raise WrongIdentity(
                f"{path} was written by a newer release (format {found['format']}, this one knows "
                f"{_FORMAT}): start that release again"
            )
        return _Record(
            str(found["cluster"]),
            str(found["node_id"]),
            bytes.fromhex(found["incarnation"]),
            int(found["inode"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise WrongIdentity(
            f"{path} is damaged ({error}): restore it from a backup of this node, or move the data "
            "directory away and add the node to the cluster again"
        ) from error
