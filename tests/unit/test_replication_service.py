"""What an application's write is answered: `pickbox.replication.service` over a real catalog."""

from __future__ import annotations

import errno
import io
import itertools
import os
import re
from typing import TYPE_CHECKING

import pytest
from authority import NO_FILES, tls_settings

from pickbox.changes import (
    ABSENT,
    ANY_VERSION,
    PRESENT,
    Delete,
    Kind,
    Put,
    Receipt,
    Submission,
)
from pickbox.codec import encode_command
from pickbox.errors import (
    DiskFailed,
    DiskFull,
    KeyReused,
    NotFound,
    NotReady,
    PickboxError,
    PreconditionFailed,
)
from pickbox.replication.content import LocalContent
from pickbox.replication.inline import InlineContent
from pickbox.replication.intake import Intake
from pickbox.replication.service import Files
from pickbox.replication.state_machine import StateMachine
from pickbox.settings import Settings
from pickbox.storage.catalog import Catalog
from pickbox.storage.digest import digest_bytes
from pickbox.storage.disk import DiskGuard
from pickbox.storage.staging import Staging
from pickbox.storage.state import StateDatabase
from pickbox.storage.tree import FileTree
from pickbox.storage.versions import Versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pickbox.changes import Change
    from pickbox.seams import Written


class LogOfOne:
    """A proposer whose every change is committed at once."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self._index = itertools.count(2)
        self._behind: list[tuple[int, bytes]] = []

    def propose(
        self, changes: Sequence[Change], *, request_id: str | None = None, timeout: float
    ) -> Receipt:
        self.catch_up()
        submission = Submission(request_id or "", "node1", 0, tuple(changes))
        return self._machine.apply(next(self._index), encode_command([submission]))[0]

    def commit_elsewhere(self, change: Change, *, request_id: str = "") -> None:
        """Commit `change` by another node; this one learns of it with its own next one."""
        index = next(self._index)
        submission = Submission(request_id or f"elsewhere-{index}", "node2", 0, (change,))
        self._behind.append((index, encode_command([submission])))

    def catch_up(self) -> None:
        """Apply what was committed elsewhere."""
        while self._behind:
            self._machine.apply(*self._behind.pop(0))

    def stage(self, put: Put, *, timeout: float) -> Put:
        return put


class Service:
    """The files of one node, over real storage."""

    def __init__(self, root: Path) -> None:
        self.root, base = root, os.fsencode(root)
        settings = Settings(
            node_id="node1",
            data_dir=root,
            peers="node1=127.0.0.1:8001",
            **tls_settings(NO_FILES),
        )
        self.standing = ""
        self.catalog = Catalog(str(root / "catalog.db"))
        self.staging = Staging(base + b"/staging")
        self.state = StateDatabase(base + b"/state.db")
        self.versions = Versions(base + b"/versions", self.state, 60.0)
        tree, inline = FileTree(base + b"/files"), InlineContent(self.staging)
        tree.prepare("node1")
        machine = StateMachine(
            self.catalog,
            inline,
            in_folder=lambda submission, put: False,
            on_applied=lambda index, touched, submissions: None,
            on_loaded=lambda: None,
            before_snapshot=lambda: None,
            on_recalled=lambda index, submissions: None,
        )
        self.log = LogOfOne(machine)
        content = LocalContent(
            tree, inline, self.staging, self.state, self.versions, lambda digest: None, "node1"
        )
        self.files = Files(
            settings,
            self.catalog,
            content,
            self.log,  # type: ignore[arg-type]
            Intake(settings, self.staging, DiskGuard(base, 0)),
            bring=lambda entry: False,
            barrier=lambda timeout: self.log.catch_up(),
            accepting=lambda: "",
            serving=lambda: self.standing,
        )

    def put(self, path: bytes, content: bytes, *, base: int, request_id: str | None = None) -> int:
        return self.write(path, content, base=base, request_id=request_id).version

    def write(
        self, path: bytes, content: bytes, *, base: int, request_id: str | None = None
    ) -> Written:
        return self.files.put(
            path,
            io.BytesIO(content),
            length=len(content),
            base=base,
            mode=None,
            mtime_ns=1,
            request_id=request_id,
        )

    def staging_names(self) -> list[str]:
        return os.listdir(self.root / "staging")

    def close(self) -> None:
        self.state.close()
        self.catalog.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.close()


def test_a_refusal_names_the_header_that_was_sent(service: Service) -> None:
    version = service.put(b"f", b"1", base=ANY_VERSION)
    service.put(b"f", b"2", base=version)
    for path, base, header in (
        (b"f", ABSENT, "If-None-Match"),
        (b"f", version, "If-Match"),
        (b"missing", PRESENT, "If-Match"),
    ):
        with pytest.raises(PreconditionFailed) as refused:
            service.put(path, b"3", base=base)
        assert refused.value.field == header


def test_a_retry_of_what_was_refused_names_the_header_too(service: Service) -> None:
    service.files.make_directory(b"d", base=ANY_VERSION, mode=None, request_id="first")
    for _ in range(2):
        with pytest.raises(PreconditionFailed) as refused:
            service.files.make_directory(b"d", base=ABSENT, mode=None, request_id="again")
        assert refused.value.field == "If-None-Match"


def test_a_key_that_was_used_for_another_path_is_refused_and_nothing_is_done(
    service: Service,
) -> None:
    service.put(b"first", b"1", base=ANY_VERSION, request_id="key")
    with pytest.raises(KeyReused, match="write of 'first' before") as refused:
        service.put(b"second", b"2", base=ANY_VERSION, request_id="key")
    assert refused.value.field == "Idempotency-Key"
    with pytest.raises(KeyReused):
        service.files.delete(b"second", base=ANY_VERSION, recursive=False, request_id="key")
    with pytest.raises(KeyReused):
        service.files.move(
            b"first", b"third", base=ANY_VERSION, destination_base=ABSENT, request_id="key"
        )
    assert [entry.path for entry in service.catalog.under(b"")] == [b"first"]


def test_a_delete_is_never_answered_for_a_write_nor_a_write_for_a_delete(
    service: Service,
) -> None:
    service.put(b"f", b"1", base=ANY_VERSION, request_id="put")
    with pytest.raises(KeyReused, match="another write of 'f' before"):
        service.files.delete(b"f", base=ANY_VERSION, recursive=False, request_id="put")
    assert service.catalog.get(b"f") is not None
    service.files.delete(b"f", base=ANY_VERSION, recursive=False, request_id="delete")
    with pytest.raises(KeyReused):
        service.put(b"f", b"2", base=ANY_VERSION, request_id="delete")
    again = service.files.delete(b"f", base=ANY_VERSION, recursive=False, request_id="delete")
    assert again.version == ABSENT


def test_a_retry_never_tells_the_digest_of_another_version(service: Service) -> None:
    first = service.put(b"f", b"1", base=ANY_VERSION, request_id="first")
    again = service.write(b"f", b"1", base=ANY_VERSION, request_id="first")
    assert (again.version, again.digest) == (first, digest_bytes(b"1"))
    service.put(b"f", b"2", base=ANY_VERSION)
    again = service.write(b"f", b"1", base=ANY_VERSION, request_id="first")
    assert (again.version, again.digest) == (first, b"")


def test_a_key_that_another_node_used_meanwhile_is_refused_by_the_log(service: Service) -> None:
    service.log.commit_elsewhere(a_file(b"first"), request_id="key")
    with pytest.raises(KeyReused):
        service.put(b"second", b"2", base=ANY_VERSION, request_id="key")
    assert [entry.path for entry in service.catalog.under(b"")] == [b"first"]


def test_a_refused_move_names_the_member_of_its_condition(service: Service) -> None:
    version = service.put(b"f", b"1", base=ANY_VERSION)
    service.put(b"taken", b"2", base=ANY_VERSION)
    for base, destination_base, member in (
        (version + 9, ABSENT, "base"),
        (version, ABSENT, "destination_base"),
    ):
        with pytest.raises(PreconditionFailed) as refused:
            service.files.move(
                b"f", b"taken", base=base, destination_base=destination_base, request_id=None
            )
        assert refused.value.field == member


def test_a_node_that_takes_part_no_more_answers_nothing(service: Service) -> None:
    service.put(b"f", b"1", base=ANY_VERSION)
    service.standing = "this node was removed by version 4 of the members"
    with pytest.raises(NotReady, match="removed by version 4"):
        service.files.entry(b"f")
    with pytest.raises(NotReady, match="removed by version 4"):
        service.files.page(b"", b"", 10)


def test_a_node_that_takes_part_no_more_does_not_say_what_became_of_a_request(
    service: Service,
) -> None:
    service.put(b"f", b"1", base=ANY_VERSION, request_id="r")
    assert service.files.receipt("r").request_id == "r"
    service.standing = "this node was removed by version 4 of the members"
    with pytest.raises(NotReady, match="removed by version 4"):
        service.files.receipt("r")
    with pytest.raises(NotReady, match="removed by version 4"):
        service.put(b"f", b"1", base=ANY_VERSION, request_id="r")


def a_file(path: bytes) -> Put:
    return Put(path, Kind.FILE, 1, 0o644, 1, digest_bytes(b"1"), inline=b"1")


def test_a_node_that_lags_deletes_what_it_does_not_know_yet(service: Service) -> None:
    service.log.commit_elsewhere(a_file(b"f"))
    service.files.delete(b"f", base=ANY_VERSION, recursive=False, request_id=None)
    assert service.catalog.get(b"f") is None


def test_a_node_that_lags_moves_what_it_does_not_know_yet(service: Service) -> None:
    service.log.commit_elsewhere(a_file(b"f"))
    moved = service.files.move(
        b"f", b"g", base=ANY_VERSION, destination_base=ABSENT, request_id=None
    )
    assert moved.digest == digest_bytes(b"1")
    assert service.catalog.get(b"g") is not None


def test_a_node_that_lags_makes_what_it_knows_and_what_is_deleted(service: Service) -> None:
    service.put(b"f", b"old", base=ANY_VERSION)
    service.log.commit_elsewhere(Delete(b"f"))
    service.put(b"f", b"new", base=ABSENT)


def test_what_is_nowhere_is_not_found_by_delete_and_move(service: Service) -> None:
    """The log says so, and a retry hears it again, whatever has been made there since."""
    for _ in range(2):
        with pytest.raises(NotFound, match="nothing is at 'missing'"):
            service.files.delete(b"missing", base=ANY_VERSION, recursive=False, request_id="delete")
        with pytest.raises(NotFound, match="nothing is at 'missing'"):
            service.files.move(
                b"missing", b"g", base=ANY_VERSION, destination_base=ABSENT, request_id="move"
            )
        service.put(b"missing", b"1", base=ANY_VERSION)


class Unreadable(io.RawIOBase):
    """A body that nobody may ask for."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("the body was read")


@pytest.mark.parametrize("base", [ABSENT, 1])
def test_what_is_surely_stale_is_refused_before_the_body_is_sent(
    service: Service, base: int
) -> None:
    for content in (b"1", b"2"):
        service.put(b"f", content, base=ANY_VERSION)
    with pytest.raises(PreconditionFailed):
        service.files.put(
            b"f",
            Unreadable(),  # type: ignore[arg-type]
            length=1 << 20,
            base=base,
            mode=None,
            mtime_ns=None,
            request_id=None,
        )


@pytest.mark.parametrize(
    ("refusal", "error", "sentence"),
    [
        (errno.EIO, DiskFailed, "The disk of this node refused (Input/output error)"),
        (errno.EROFS, DiskFailed, "The disk of this node refused (Read-only file system)"),
        (errno.ENOSPC, DiskFull, "The volume took no more (No space left on device)"),
    ],
)
def test_what_the_disk_refuses_is_told_and_nothing_is_stored(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    refusal: int,
    error: type[PickboxError],
    sentence: str,
) -> None:
    def refuse(_: int) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(error, match=re.escape(sentence)):
        service.put(b"f", b"x" * 100_000, base=ANY_VERSION)
    assert service.catalog.applied_index == 0
    assert service.staging_names() == []
