"""One node's way to another: HTTP on the peer's port for the log, over mutual TLS.

The API is private between nodes of one cluster (`pickbox.http.peer` is its other end); bodies are
msgpack, content is raw bytes. Both sides are known by their certificates.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any, Final

import msgpack
import urllib3

from pickbox.codec import DecodeError, decode_receipts
from pickbox.errors import ChangeRefused, ChangeTooEarly, NoLeader, OutcomeUnknown
from pickbox.replication.secure_pool import secure_pool
from pickbox.status import Figures, NodeStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pickbox.changes import Receipt
    from pickbox.members import Member, MemberChange, Members
    from pickbox.tls import Credentials

PREFIX: Final = "/peer/v1"
CHUNK: Final = 1 << 20


class PeerError(Exception):
    """The peer did not answer, or not with what was asked for."""


class Peer:
    """A client of one peer. Thread-safe; connections are kept open."""

    def __init__(self, member: Member, credentials: Credentials) -> None:
        self.node_id = member.node_id
        self.places = member.places
        self._pool = secure_pool(member.node_id, self.places, credentials)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._pool.close()

    def propose(self, command: bytes, timeout: float) -> list[Receipt]:
        """Have the peer, the leader, commit `command`.

        Raises:
            NoLeader: it does not lead, or cannot be reached: nothing was appended.
            OutcomeUnknown: it may have been committed: retry with the same request ids.
        """
        try:
            status, body = self._post("propose", command, timeout)
        except urllib3.exceptions.NewConnectionError as error:
            raise NoLeader(f"{self.node_id} cannot be reached") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise OutcomeUnknown(self._why(error)) from error
        if status == 503:
            raise NoLeader(f"{self.node_id} does not lead")
        if status != 200:
            raise OutcomeUnknown(f"{self.node_id} answered {status}")
        try:
            return decode_receipts(body)
        except DecodeError as error:
            raise OutcomeUnknown(f"{self.node_id} answered something else") from error

    def barrier(self, timeout: float) -> int:
        """Have the peer confirm that it leads; an index that covers all acknowledged before.

        Raises:
            NoLeader: it does not lead, or did not answer in time.
        """
        try:
            status, body = self._post("barrier", b"", timeout)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise NoLeader(self._why(error)) from error
        if status != 200:
            raise NoLeader(f"{self.node_id} does not lead")
        return int(msgpack.unpackb(body))

    def stage(self, wanted: Sequence[tuple[bytes, int]], source: str, timeout: float) -> set[bytes]:
        """Have the peer fetch contents (digest, size) from `source`, durably.

        Returns:
            The digests that it holds now.

        Raises:
            PeerError: it did not answer.
        """
        body = msgpack.packb([source, [list(item) for item in wanted], timeout])
        return set(self._call("stage", body, timeout + 1.0))

    def transfer_leadership(self, target: str | None, timeout: float) -> str:
        """Have the peer, the leader, hand over; return the new leader's id."""
        return str(self._call("transfer", msgpack.packb(target), timeout + 1.0))

    def change_members(
        self, change: MemberChange, node_id: str, address: str, version: int, timeout: float
    ) -> int:
        """Have the peer, the leader, change the members that `version` names; the new version.

        Raises:
            ChangeTooEarly, ChangeRefused: it refuses; the text is its own.
            NoLeader: it does not lead, or did not answer in time.
        """
        body = msgpack.packb([change.value, node_id, address, version])
        try:
            status, answer = self._post("members", body, timeout)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise NoLeader(self._why(error)) from error
        if status == 409:
            raise _refusal(answer)
        if status != 200:
            raise NoLeader(f"{self.node_id} could not change the members (it answered {status})")
        return int(msgpack.unpackb(answer))

    @contextlib.contextmanager
    def content(self, digest: bytes, size: int, offset: int) -> Iterator[Iterator[bytes]]:
        """Stream a content from byte `offset` on, in chunks.

        Raises:
            PeerError: the peer does not have it, or the connection broke (also while reading).
        """
        url = f"{PREFIX}/content/{digest.hex()}?size={size}&offset={offset}"
        try:
            response = self._pool.request(
                "GET", url, preload_content=False, timeout=urllib3.Timeout(2.0, read=15.0)
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise PeerError(self._why(error)) from error
        whole = False
        try:
            if response.status != 200:
                raise PeerError(f"{self.node_id} does not have {digest.hex()[:12]}")
            yield response.stream(CHUNK)
            whole = True
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise PeerError(self._why(error)) from error
        finally:
            if not whole:
                response.close()
            response.release_conn()

    def status(self, timeout: float) -> NodeStatus:
        """What the peer says of itself.

        Raises:
            PeerError: it did not answer.
        """
        asked = time.time()
        try:
            response = self._pool.request("GET", f"{PREFIX}/status", timeout=timeout)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise PeerError(self._why(error)) from error
        if response.status != 200:
            raise PeerError(f"{self.node_id} answered {response.status}")
        halfway = (asked + time.time()) / 2
        try:
            document = json.loads(response.data)
            return dataclasses.replace(
                _status_of(document), clock_offset=_offset(document.get("clock"), halfway)
            )
        except (ValueError, TypeError, KeyError) as error:
            raise PeerError(f"{self.node_id} answered something else: {error}") from error

    def _call(self, name: str, body: bytes, timeout: float) -> Any:
        try:
            status, answer = self._post(name, body, timeout)
            if status != 200:
                raise PeerError(f"{self.node_id} answered {status} to {name}")
            return msgpack.unpackb(answer)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise PeerError(self._why(error)) from error

    def _why(self, error: Exception) -> str:
        """One plain sentence for what a library says in many words."""
        if isinstance(error, urllib3.exceptions.NewConnectionError):
            return f"{self.node_id} cannot be reached"
        if isinstance(error, urllib3.exceptions.TimeoutError):
            return f"{self.node_id} did not answer in time"
        if isinstance(error, urllib3.exceptions.HTTPError | OSError):
            return f"the connection to {self.node_id} broke"
        return f"{self.node_id} answered something else: {error}"

    def _post(self, name: str, body: bytes, timeout: float) -> tuple[int, bytes]:
        response = self._pool.request(
            "POST",
            f"{PREFIX}/{name}",
            body=body,
            headers={"X-Pickbox-Timeout": f"{timeout:.3f}"},
            timeout=urllib3.Timeout(connect=2.0, read=timeout + 1.0),
        )
        return response.status, response.data


class Peers:
    """The other members, as the log says who they are. For any thread."""

    def __init__(self, node_id: str, credentials: Credentials) -> None:
        self._node_id = node_id
        self._credentials = credentials
        self._peers: dict[str, Peer] = {}

    def follow(self, members: Members) -> None:
        """Take over who is in force; who is asked now is still answered."""
        kept: dict[str, Peer] = {}
        for member in members.nodes:
            peer = self._peers.get(member.node_id)
            if member.node_id == self._node_id:
                continue
            if peer is None or peer.places != member.places:
                peer = Peer(member, self._credentials)
            kept[member.node_id] = peer
        gone = [peer for node_id, peer in self._peers.items() if kept.get(node_id) is not peer]
        self._peers = kept
        for peer in gone:
            peer.close()

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def __len__(self) -> int:
        return len(self._peers)

    def get(self, node_id: str) -> Peer | None:
        """The peer of that id, if it is a member."""
        return self._peers.get(node_id)

    def expect(self, node_id: str) -> Peer:
        """The peer of that id; raises `NoLeader` if it is no member."""
        peer = self._peers.get(node_id)
        if peer is None:
            raise NoLeader(f"{node_id} is not a member")
        return peer


class Forwarder:
    """Implements `pickbox.seams.LeaderForwarder` over the peers."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def forward(self, leader: str, command: bytes, timeout: float) -> list[Receipt]:
        """Have node `leader` propose `command`."""
        return self._peers.expect(leader).propose(command, timeout)


def _refusal(answer: bytes) -> ChangeRefused:
    """The leader's refusal, as it said it."""
    problem = json.loads(answer)
    early = str(problem["type"]).endswith(ChangeTooEarly.type)
    return (ChangeTooEarly if early else ChangeRefused)(str(problem["detail"]), field="node_id")


def _offset(clock: float | None, now: float) -> float | None:
    """How far `clock` is ahead of `now`; None for a peer whose release does not tell it."""
    return None if clock is None else round(float(clock) - now, 3)


def _status_of(document: dict[str, Any]) -> NodeStatus:
    known = {field.name for field in dataclasses.fields(NodeStatus)}
    fields = {name: value for name, value in document.items() if name in known}
    figures = {field.name for field in dataclasses.fields(Figures)}
    fields["figures"] = Figures(
        **{name: value for name, value in fields.pop("figures", {}).items() if name in figures}
    )
    for name in ("reasons", "warnings", "certificate_authorities"):
        fields[name] = tuple(fields.get(name, ()))
    return NodeStatus(**fields)
