"""Content between two nodes, through the real node API on a real socket."""

from __future__ import annotations

import errno
import io
import logging
import os
import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

import pytest
from authority import Authority
from transport_nodes import Endpoint, eventually

from pickbox.changes import Kind, Put, Receipt
from pickbox.errors import ChangeRefused, DiskFull, NoLeader, NotStaged
from pickbox.http.apps import create_peer_app
from pickbox.http.peer_server import PeerServer
from pickbox.members import Member, MemberChange, Members
from pickbox.observability.metrics import Metrics
from pickbox.replication.content import LocalContent
from pickbox.replication.inline import InlineContent
from pickbox.replication.peers import PeerError, Peers
from pickbox.replication.repeats import EVERY, Repeats
from pickbox.replication.transfer import ANSWER_SECONDS, Fetcher, Stager
from pickbox.storage.digest import digest_bytes
from pickbox.storage.disk import DiskGuard
from pickbox.storage.staging import Staging
from pickbox.storage.state import StateDatabase
from pickbox.storage.tree import FileTree
from pickbox.storage.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from pickbox.seams import NodeControl

CONTENT = os.urandom(3_000_000)


class Counts:
    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
        self.errors: list[str] = []

    def transferred(self, direction: str, peer: str, count: int) -> None:
        self.received += count

    def replication_error(self, cause: str) -> None:
        self.errors.append(cause)


class Meddled(io.BufferedReader):
    """A file that somebody changes in place, once, after its first MiB was read."""

    def __init__(self, file: BinaryIO, meddle: Callable[[str], None]) -> None:
        self._file, self._reads, self._meddle = file, 0, meddle
        super().__init__(io.FileIO(file.fileno(), closefd=False))

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads == 2:
            self._meddle(f"/proc/self/fd/{self._file.fileno()}")
        return super().read(size)

    def close(self) -> None:
        super().close()
        self._file.close()


class Side:
    """The content parts of one node, and its end of the node API."""

    def __init__(self, directory: Path, node_id: str, authority: Authority) -> None:
        directory.mkdir()
        control: NodeControl = Control()  # type: ignore[assignment]
        self.server = PeerServer(create_peer_app(self, control, Metrics(node_id)))
        self.server.prepare()
        threading.Thread(target=self.server.serve, daemon=True).start()
        self.endpoint = Endpoint(authority.issue(node_id), node_id, hand_over=self.server.hand_over)
        self.members = Members()
        base = bytes(directory)
        self.node_id = node_id
        self.staging = Staging(base + b"/staging")
        state = StateDatabase(base + b"/state.db")
        tree = FileTree(base + b"/files")
        tree.prepare(node_id)
        self.content = LocalContent(
            tree,
            InlineContent(self.staging),
            self.staging,
            state,
            Versions(base + b"/versions", state, 60.0),
            lambda digest: None,
            node_id,
        )
        self.counts = Counts()
        self.peers = Peers(node_id, self.endpoint.credentials)
        self.fetcher = Fetcher(
            self.peers, self.staging, self.content, DiskGuard(base, 0), self.counts
        )
        self.lie: bytes | None = None
        self.meddle: Callable[[str], None] | None = None
        self.stager = Stager(node_id, lambda: self.members, self.peers, self.staging)

    @property
    def member(self) -> Member:
        return Member(self.node_id, f"127.0.0.1:{self.endpoint.port}")

    def meet(self, *members: Member) -> None:
        self.members = Members(1, members)
        self.peers.follow(self.members)
        for member in members:
            self.endpoint.add(member.node_id, member.address)

    def close(self) -> None:
        self.stager.stop()
        self.endpoint.transport.destroy()
        self.server.stop()

    def transfer_leadership(self, target: str | None, timeout: float) -> str:
        raise NoLeader("not the leader")

    def change_members(
        self, change: MemberChange, node_id: str, address: str, version: int, timeout: float
    ) -> int:
        raise ChangeRefused(f"{change.value} {node_id} at {address} after {version}")

    def propose(self, command: bytes, timeout: float) -> list[Receipt]:
        raise NoLeader("not the leader")

    def barrier(self, timeout: float) -> int:
        return 42

    def stage(self, wanted: Sequence[tuple[bytes, int]], source: str, timeout: float) -> set[bytes]:
        return self.fetcher.stage(wanted, source)

    def sent(self, peer: str, count: int) -> None:
        self.counts.sent += count

    def open_content(self, digest: bytes, size: int) -> BinaryIO | None:
        if self.lie is not None:
            self.staging.put(digest_bytes(self.lie), self.lie)
            return self.staging.open(digest_bytes(self.lie))
        opened = self.content.open(digest, size)
        return opened if opened is None or self.meddle is None else Meddled(opened, self.meddle)


@dataclass
class OlderStatus:
    """What a release says of itself that knows nothing of later fields."""

    node_id: str = "one"
    reachable: bool = True
    ready: bool = True
    reasons: tuple[str, ...] = ("the volume is nearly full",)


class Control:
    """What these tests ask of it through the node API."""

    def status(self) -> OlderStatus:
        return OlderStatus()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
def pair(tmp_path: Path, authority: Authority) -> Iterator[tuple[Side, Side]]:
    one, two = (Side(tmp_path / name, name, authority) for name in ("one", "two"))
    for side in (one, two):
        side.meet(one.member, two.member)
    yield one, two
    for side in (one, two):
        side.close()


def hold(side: Side, content: bytes) -> bytes:
    with side.staging.writer() as writer:
        writer.write(content)
        return writer.keep(fsync=False)


def test_a_peer_of_an_older_release_lacks_what_came_later(pair: tuple[Side, Side]) -> None:
    _, two = pair
    peer = two.peers.get("one")
    assert peer is not None
    told = peer.status(5.0)
    assert (told.ready, told.reasons, told.warnings) == (True, OlderStatus.reasons, ())


def test_content_is_fetched_whole_and_verified(pair: tuple[Side, Side]) -> None:
    one, two = pair
    digest = hold(one, CONTENT)
    assert two.fetcher.fetch(digest, len(CONTENT), ["one"])
    opened = two.staging.open(digest)
    assert opened is not None
    assert opened.read() == CONTENT


def test_a_broken_download_goes_on_where_it_stopped(pair: tuple[Side, Side]) -> None:
    one, two = pair
    digest = hold(one, CONTENT)
    with two.staging.resume(digest) as part:
        part.write(CONTENT[:2_000_000])
    assert two.fetcher.fetch(digest, len(CONTENT), ["one"])
    assert two.counts.received == len(CONTENT) - 2_000_000


def test_a_download_that_never_began_leaves_nothing(pair: tuple[Side, Side]) -> None:
    _, two = pair
    digest = digest_bytes(CONTENT)
    assert not two.fetcher.fetch(digest, len(CONTENT), ["one"])
    assert not os.path.exists(two.staging.path(digest) + b".part")


class Room(DiskGuard):
    """A volume with room for `left` bytes more, of which somebody else takes `taken` a look."""

    def __init__(self, left: int, taken: int = 0) -> None:
        self.left = left
        self.taken = taken

    def check(self, extra: int = 0) -> None:
        if extra > self.left:
            raise DiskFull("no room")
        self.left -= self.taken


def fetcher_with(side: Side, room: Room) -> Fetcher:
    return Fetcher(side.peers, side.staging, side.content, room, side.counts)


def test_a_download_ends_where_the_reserve_begins_and_goes_on_later(
    pair: tuple[Side, Side],
) -> None:
    """Several downloads may have been let begin by the same room."""
    one, two = pair
    digest = hold(one, CONTENT)
    room = Room(len(CONTENT), taken=1_000_000)
    with pytest.raises(DiskFull):
        fetcher_with(two, room).fetch(digest, len(CONTENT), ["one"])
    came = two.staging.begun(digest)
    assert 0 < came < len(CONTENT)
    assert two.fetcher.fetch(digest, len(CONTENT), ["one"])
    assert two.counts.received == len(CONTENT)


def test_a_download_that_the_reserve_kept_from_beginning_leaves_nothing(
    pair: tuple[Side, Side],
) -> None:
    one, two = pair
    digest = hold(one, CONTENT)
    room = Room(len(CONTENT), taken=len(CONTENT))
    with pytest.raises(DiskFull):
        fetcher_with(two, room).fetch(digest, len(CONTENT), ["one"])
    assert not os.path.exists(two.staging.path(digest) + b".part")


def test_a_broken_download_needs_room_for_its_rest_alone(pair: tuple[Side, Side]) -> None:
    one, two = pair
    digest = hold(one, CONTENT)
    with two.staging.resume(digest) as part:
        part.write(CONTENT[:2_000_000])
    assert fetcher_with(two, Room(1_000_000)).fetch(digest, len(CONTENT), ["one"])


def test_content_that_is_not_what_its_digest_says_is_never_kept(pair: tuple[Side, Side]) -> None:
    one, two = pair
    digest = digest_bytes(CONTENT)
    one.lie = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    assert not two.fetcher.fetch(digest, len(CONTENT), ["one"])
    assert two.counts.errors == ["digest_mismatch"]
    one.lie = None
    hold(one, CONTENT)
    assert two.fetcher.fetch(digest, len(CONTENT), ["one"])


def test_what_is_appended_to_a_file_meanwhile_is_never_taken_for_the_next_answer(
    pair: tuple[Side, Side],
) -> None:
    """It is more than a client reads ahead, so that it comes when the next answer is waited for."""
    one, two = pair
    digest, peer = hold(one, CONTENT), two.peers.get("one")
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nFORGED"

    def append(path: str) -> None:
        with open(path, "ab") as file:
            file.write(b"x" * (io.DEFAULT_BUFFER_SIZE - 1) + forged)

    one.meddle = append
    assert peer is not None
    with peer.content(digest, len(CONTENT), 0) as chunks:
        assert b"".join(chunks) == CONTENT
    assert peer.status(5.0).ready


def test_a_file_that_is_cut_off_meanwhile_keeps_no_peer_waiting(pair: tuple[Side, Side]) -> None:
    one, two = pair
    digest, peer = hold(one, CONTENT), two.peers.get("one")
    one.meddle = lambda path: os.truncate(path, 1 << 20)
    assert peer is not None
    with (
        pytest.raises(PeerError, match="broke"),
        peer.content(digest, len(CONTENT), 0) as chunks,
    ):
        list(chunks)


def test_two_who_want_one_content_fetch_it_once(pair: tuple[Side, Side]) -> None:
    one, two = pair
    digest = hold(one, CONTENT)
    threads = [
        threading.Thread(target=two.fetcher.fetch, args=(digest, len(CONTENT), ["one"]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    assert two.counts.received == len(CONTENT)


def test_content_that_a_node_says_it_holds_is_kept_from_then_on(pair: tuple[Side, Side]) -> None:
    """Whoever asked counts on it; it may lie here since nearly an hour."""
    _, two = pair
    digest = hold(two, CONTENT)
    since = os.stat(two.staging.path(digest)).st_ctime

    def is_newer() -> bool:
        assert two.fetcher.stage([(digest, len(CONTENT))], "one") == {digest}
        return os.stat(two.staging.path(digest)).st_ctime > since

    eventually(is_newer)


def test_staging_puts_content_on_a_majority(pair: tuple[Side, Side]) -> None:
    one, two = pair
    digest = hold(one, CONTENT)
    put = Put(b"p", Kind.FILE, len(CONTENT), 0o644, 1, digest)
    holders = one.stager.stage([put], 20.0)
    assert holders == {digest: ("one", "two")}
    assert two.staging.has(digest, len(CONTENT))


class Answering:
    """A peer of `Stager`; a test says what it answers."""

    def __init__(self, node_id: str, answer: Callable[[], bool]) -> None:
        self.node_id = node_id
        self._answer = answer

    def stage(self, wanted: Sequence[tuple[bytes, int]], source: str, timeout: float) -> set[bytes]:
        return {digest for digest, _ in wanted} if self._answer() else set()


FIVE = Members(1, tuple(Member(name, "") for name in ("one", "two", "three", "four", "five")))


def stager_among(
    staging: Staging,
    *peers: Answering,
    members: Callable[[], Members] = lambda: FIVE,
    clock: Callable[[], float] = time.monotonic,
) -> Stager:
    """The stager of node one, of the voters one to five."""
    return Stager("one", members, peers, staging, clock)  # type: ignore[arg-type]


def test_content_is_kept_here_until_it_is_staged_and_from_then_on(tmp_path: Path) -> None:
    """Peers may take longer to fetch it than staged content is kept."""
    staging = Staging(bytes(tmp_path))
    digest = digest_bytes(CONTENT)
    staging.put(digest, CONTENT)
    seen: list[bool] = []

    def fetch() -> bool:
        seen.append(stager.is_under_way(digest))
        return True

    stager = stager_among(staging, *(Answering(node_id, fetch) for node_id in ("two", "three")))
    since = os.stat(staging.path(digest)).st_ctime

    def is_newer() -> bool:
        stager.stage([Put(b"p", Kind.FILE, len(CONTENT), 0o644, 1, digest)], 20.0)
        return os.stat(staging.path(digest)).st_ctime > since

    eventually(is_newer)
    stager.stop()
    assert all(seen)
    assert not stager.is_under_way(digest)


class SlowCluster:
    """Node two answers at once, and node three `later` seconds after that was counted."""

    def __init__(self, staging: Staging, two: Iterable[bool], three: Iterable[bool]) -> None:
        self.later = 0.0
        self._now = 0.0
        self._looks = 0
        self._counted = threading.Event()
        self._two, self._three = iter(two), iter(three)
        self.stager = stager_among(
            staging,
            Answering("two", lambda: next(self._two, False)),
            Answering("three", self._answer_late),
            members=self._members,
            clock=lambda: self._now,
        )

    def _members(self) -> Members:
        self._looks += 1
        if self._looks > 1:  # the first is before anybody is asked
            self._counted.set()
        return FIVE

    def _answer_late(self) -> bool:
        assert self._counted.wait(20.0)
        self._now += self.later
        self.later = 0.0
        return next(self._three, False)


def test_a_node_that_said_long_ago_that_it_holds_content_does_not_count(tmp_path: Path) -> None:
    """It may have swept it since."""
    cluster = SlowCluster(Staging(bytes(tmp_path)), two=[True], three=[True] * 99)
    cluster.later = ANSWER_SECONDS + 1.0
    put = Put(b"p", Kind.FILE, len(CONTENT), 0o644, 1, digest_bytes(CONTENT))
    with pytest.raises(NotStaged):
        cluster.stager.stage([put], 1.0)
    cluster.stager.stop()


@pytest.mark.parametrize(
    ("two", "three", "later"),
    [
        ([True, True], [True, True], ANSWER_SECONDS + 1.0),
        ([True, False], [False, True], ANSWER_SECONDS / 2),
    ],
)
def test_a_majority_is_found_in_answers_that_come_one_by_one(
    tmp_path: Path, two: list[bool], three: list[bool], later: float
) -> None:
    cluster = SlowCluster(Staging(bytes(tmp_path)), two, three)
    cluster.later = later
    digest = digest_bytes(CONTENT)
    put = Put(b"p", Kind.FILE, len(CONTENT), 0o644, 1, digest)
    assert cluster.stager.stage([put], 20.0) == {digest: ("one", "three", "two")}
    cluster.stager.stop()


def test_without_a_majority_nothing_may_be_proposed(pair: tuple[Side, Side]) -> None:
    one, two = pair
    one.meet(one.member, Member("three", "127.0.0.1:1"), replace(two.member, voter=False))
    digest = hold(one, CONTENT)
    put = Put(b"p", Kind.FILE, len(CONTENT), 0o644, 1, digest)
    with pytest.raises(NotStaged, match="2 of 2 voters must hold the content"):
        one.stager.stage([put], 0.5)


def test_a_peer_that_hangs_holds_nobody_up(pair: tuple[Side, Side]) -> None:
    """It accepts, as the kernel does for a stopped process, and never answers."""
    one, two = pair
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hung = Member("three", f"127.0.0.1:{silent.getsockname()[1]}")
        undisturbed = seconds_to_stage(one, range(12))
        one.meet(one.member, two.member, hung)
        assert seconds_to_stage(one, range(12, 24)) - undisturbed < 4.0
        one.stager.stop()


def seconds_to_stage(one: Side, numbers: Iterable[int]) -> float:
    """How long contents take to be on two nodes; how long the disk takes is in it."""
    began = time.monotonic()
    for number in numbers:
        digest = hold(one, CONTENT + bytes([number]))
        put = Put(b"p", Kind.FILE, len(CONTENT) + 1, 0o644, 1, digest)
        assert one.stager.stage([put], 5.0) == {digest: ("one", "two")}
    return time.monotonic() - began


def test_what_the_leader_refuses_comes_back_as_it_said_it(pair: tuple[Side, Side]) -> None:
    one, _ = pair
    two = one.peers.expect("two")
    assert two.barrier(1.0) == 42
    with pytest.raises(NoLeader):
        two.propose(b"", 1.0)
    with pytest.raises(ChangeRefused, match="add three at host:1 after 7"):
        two.change_members(MemberChange.ADD, "three", "host:1", 7, 1.0)


def test_only_a_member_gets_in(
    pair: tuple[Side, Side], authority: Authority, tmp_path: Path
) -> None:
    one, _ = pair
    digest = hold(one, CONTENT)
    strangers = {
        "not a member": Side(tmp_path / "three", "three", authority),
        "another CA": Side(tmp_path / "other", "two", Authority(tmp_path / "other-tls")),
    }
    for stranger in strangers.values():
        stranger.meet(one.member)
        peer = stranger.peers.expect("one")
        with pytest.raises(PeerError), peer.content(digest, len(CONTENT), 0):
            pass
        with pytest.raises(NoLeader):
            peer.barrier(1.0)
        stranger.close()


def test_another_node_at_the_address_is_not_talked_to(pair: tuple[Side, Side]) -> None:
    """The certificate says who answers, whatever the address says."""
    one, two = pair
    one.meet(one.member, replace(two.member, node_id="three"))
    with pytest.raises(NoLeader, match="three cannot be reached"):
        one.peers.expect("three").propose(b"", 1.0)


def test_a_new_certificate_is_shown_to_a_peer_without_a_restart(
    pair: tuple[Side, Side], authority: Authority
) -> None:
    one, _ = pair
    before = one.endpoint.credentials.serial
    authority.issue("one")
    one.endpoint.credentials.reload()
    assert one.endpoint.credentials.serial != before
    assert one.peers.expect("two").barrier(1.0) == 42


def test_a_download_that_could_not_be_synced_is_fetched_anew(
    pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second fsync of the same bytes would succeed, and they may never reach the disk."""
    one, two = pair
    digest = hold(one, CONTENT)

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="Input/output error"):
            two.fetcher.stage([(digest, len(CONTENT))], "one")
    assert two.fetcher.stage([(digest, len(CONTENT))], "one") == {digest}
    assert two.counts.received == 2 * len(CONTENT)


def test_a_peer_that_stays_away_is_told_once_in_a_while(
    pair: tuple[Side, Side], caplog: pytest.LogCaptureFixture
) -> None:
    one, _ = pair
    digest = hold(one, CONTENT)
    put = Put(b"p", Kind.FILE, len(CONTENT), 0o644, 1, digest)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        away = Member("three", f"127.0.0.1:{nobody.getsockname()[1]}")
    one.meet(one.member, away)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            with pytest.raises(NotStaged):
                one.stager.stage([put], 0.5)
    told = [record for record in caplog.records if record.getMessage() == "stage_failed"]
    assert [record.fields["peer"] for record in told] == ["three"]


def test_what_comes_again_and_again_is_counted_until_it_is_told() -> None:
    now = 0.0
    repeats = Repeats(lambda: now)
    assert [repeats.to_tell("one") for _ in range(4)] == [1, 0, 0, 0]
    assert repeats.to_tell("another") == 1
    now = EVERY - 0.1
    assert repeats.to_tell("one") == 0
    now = EVERY
    assert [repeats.to_tell("one") for _ in range(3)] == [5, 0, 0]
