"""Which sources of pysyncobj were read and found fit to be overridden, checked at each start."""

from __future__ import annotations

import hashlib
import os
from typing import Final

import pysyncobj
from pysyncobj import SyncObj
from pysyncobj.transport import Transport
from pysyncobj.version import VERSION

REVIEWED_VERSION: Final = "0.3.17"

REVIEWED_SOURCES: Final = {
    "__init__.py": "4966a9dd893542b1b0e0fcef3d2ea44f2f40919d66b684992e5511be7503c036",
    "atomic_replace.py": "43a5252a241939b7f457cbbf39480260c91f0d2035a62b170bf1e1d20d0f9c1d",
    "config.py": "fbbc7ff9f18e4d15a7fd563376e42f5bd192956879d4b810b056d5248b955698",
    "dns_resolver.py": "4b88da2b45e20fbb299fb7a21f2595369b6314700b687fb8858891999bce14e0",
    "encryptor.py": "db20725465efdfc6d7a3b5b2112f53bc5426d36c56312ebdf5fbcf05423a7c19",
    "fast_queue.py": "8477fe5fdf36d9766df933310d3d66ee953d1afc195b1e6482b3a1498fc517bd",
    "journal.py": "9cf1eaf6acc704581a4cf7d3de330a404403913107adc91c929778b7e3f35edf",
    "monotonic.py": "d116df70e1f81bcab1fb89191fe2fe18486bc25187401d73fd6101cfe686e0a3",
    "node.py": "e4a3f027cd8291f558334bb9c977e952f6b6989e7e1fa1588d3005ef0b990e2c",
    "pickle.py": "e9327780738065cec5d600484b936c91e7c13875206cb584d5ff7f5d0dc9c474",
    "pipe_notifier.py": "587d964bfa5d62320f3541cbb283ff3e282cb2db95e1b8cfd888dc3d53af82aa",
    "poller.py": "f69ac749fb410670282fd9520c5805ffc684c8a5f762a927127753d9be8551e6",
    "serializer.py": "4d39fde2f15000ad8f507ec229ebd4f6a86371b6f84d4dc1439a9cccd52857ee",
    "syncobj.py": "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4",
    "tcp_connection.py": "7784ed8da031369fe36f805cb186a2e94a3bd6f10fed2dd59c8cc3713fd6331c",
    "tcp_server.py": "bde2f216c1a585029188d0438b44762e2e797dfc53bbce387839daaa46b9a60d",
    "transport.py": "0c9d89f9c4781ec9772df8011d7975a1a4a1a5f541357e12eae85a813e92b50b",
    "utility.py": "1aa0c49d3558c5df6489235b94ae44357b382f9f0792b9d72ae6e5ae0c0039ea",
    "version.py": "0b8426a8b52ecf874193897d26c4214acbd85335145ea9ff17e27a22b1132943",
    "win_inet_pton.py": "75315fdf68bfa4219c2952b21077387be45a02c4f01db45c7355cdc883c8e9cc",
}
"""SHA-256 of each source that is loaded with the library, whether `library` uses it or not."""

OVERRIDDEN_METHODS: Final = (
    "_SyncObj__onMessageReceived",
    "_SyncObj__onNodeConnected",
    "_SyncObj__onNodeDisconnected",
    "_SyncObj__onReadonlyNodeConnected",
    "_SyncObj__onReadonlyNodeDisconnected",
    "_SyncObj__doApplyCommand",
    "_SyncObj__loadDumpFile",
    "_SyncObj__sendAppendEntries",
    "_SyncObj__parseChangeClusterRequest",
    "_SyncObj__generateRaftTimeout",
    "_applyCommand",
    "_onTick",
    "_doDestroy",
    "addNodeToCluster",
    "removeNodeFromCluster",
    "setCodeVersion",
    "transferLeadership",
    "forceLogCompaction",
    "isReady",
    "hasQuorum",
    "getStatus",
    "printStatus",
    "getCodeVersion",
    "addOnTickCallback",
    "removeOnTickCallback",
    "destroy",
    "destroy_synchronous",
)

USED_ATTRIBUTES: Final = (
    "raftCurrentTerm",
    "votedForNodeId",
    "raftState",
    "raftLeader",
    "raftLog",
    "raftCommitIndex",
    "raftLastApplied",
    "otherNodes",
    "transport",
)
"""Private attributes that the constructor sets, without the class's name in front."""

USED_OPEN_ATTRIBUTES: Final = ("_poller",)
"""The same of attributes that have no such name in front."""

USED_TRANSPORT_METHODS: Final = (
    "send",
    "addNode",
    "dropNode",
    "destroy",
    "_onMessageReceived",
    "_onNodeConnected",
    "_onNodeDisconnected",
)


class LibraryNotReviewed(Exception):
    """The installed pysyncobj is not the one that the core was built on."""


def check_library() -> None:
    """Refuse to run on a pysyncobj that nobody has read.

    Raises:
        LibraryNotReviewed: version, sources or private names differ; the text says what to do.
    """
    findings = [*_findings_in_sources(os.path.dirname(pysyncobj.__file__)), *_findings_in_names()]
    if VERSION != REVIEWED_VERSION:
        findings.insert(0, f"its version is {VERSION}")
    if findings:
        raise LibraryNotReviewed(
            f"pysyncobj {REVIEWED_VERSION} was reviewed, and the installed one is not it: "
            f"{'; '.join(findings)}. Install pysyncobj=={REVIEWED_VERSION} unmodified; to move to "
            "another version, read its changes against pickbox/consensus/library.py and record "
            "its hashes in pickbox/consensus/reviewed.py"
        )


def _findings_in_sources(directory: str) -> list[str]:
    findings = []
    for name, expected in REVIEWED_SOURCES.items():
        try:
            with open(os.path.join(directory, name), "rb") as source:
                actual = hashlib.sha256(source.read()).hexdigest()
        except OSError as error:
            findings.append(f"{name} cannot be read ({error.strerror})")
            continue
        if actual != expected:
            findings.append(f"{name} has SHA-256 {actual[:16]}…, not {expected[:16]}…")
    return findings


def _findings_in_names() -> list[str]:
    code = SyncObj.__init__.__code__
    names = set(code.co_names)
    missing = [name for name in OVERRIDDEN_METHODS if not hasattr(SyncObj, name)]
    missing += [f"_SyncObj__{n}" for n in USED_ATTRIBUTES if f"_SyncObj__{n}" not in names]
    missing += [name for name in USED_OPEN_ATTRIBUTES if name not in names]
    missing += [f"Transport.{n}" for n in USED_TRANSPORT_METHODS if not hasattr(Transport, n)]
    return [f"it has no {name}" for name in missing]
