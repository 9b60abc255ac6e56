"""Staging: content is there whole under its digest, or not at all."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from privileges import give_away, without_privileges
from transport_nodes import eventually

from pickbox.storage.digest import digest_bytes
from pickbox.storage.staging import STRAY_SUFFIX, Staging

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"some content\n" * 1000
DIGEST = digest_bytes(CONTENT)


@pytest.fixture
def directory(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path / "staging")


@pytest.fixture
def staging(directory: bytes) -> Staging:
    return Staging(directory)


def read(staging: Staging, digest: bytes) -> bytes | None:
    file = staging.open(digest)
    if file is None:
        return None
    with file:
        return file.read()


@pytest.mark.parametrize("fsync", [True, False])
def test_kept_content_is_there_by_its_digest(
    staging: Staging, directory: bytes, fsync: bool
) -> None:
    with staging.writer() as writer:
        for start in range(0, len(CONTENT), 999):
            writer.write(CONTENT[start : start + 999])
        assert (writer.size, writer.digest) == (len(CONTENT), DIGEST)
        assert not staging.has(DIGEST, len(CONTENT))
        assert writer.keep(fsync=fsync) == DIGEST
    assert staging.has(DIGEST, len(CONTENT))
    assert not staging.has(DIGEST, len(CONTENT) - 1)
    assert read(staging, DIGEST) == CONTENT
    assert os.listdir(directory) == [DIGEST.hex().encode()]


def test_only_what_was_made_durable_counts_as_such(directory: bytes) -> None:
    told: list[float] = []
    staging = Staging(directory, told.append)
    for fsync in (True, False):
        with staging.writer() as writer:
            writer.write(CONTENT)
            writer.keep(fsync=fsync)
    assert len(told) == 1
    assert told[0] > 0


def test_content_that_is_not_kept_leaves_nothing(staging: Staging, directory: bytes) -> None:
    with staging.writer() as writer:
        writer.write(CONTENT)

    def break_off() -> None:
        with staging.writer() as writer:
            writer.write(CONTENT)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        break_off()
    assert read(staging, DIGEST) is None
    assert os.listdir(directory) == []


def test_putting_inline_content_twice_is_the_same_as_once(
    staging: Staging, directory: bytes
) -> None:
    staging.put(DIGEST, CONTENT)
    staging.put(DIGEST, CONTENT)
    assert read(staging, DIGEST) == CONTENT
    assert len(os.listdir(directory)) == 1


def test_putting_mends_a_file_that_a_crash_left_short(staging: Staging) -> None:
    staging.put(DIGEST, CONTENT)
    os.truncate(staging.path(DIGEST), 0)
    staging.put(DIGEST, CONTENT)
    assert read(staging, DIGEST) == CONTENT


def test_content_under_another_digest_is_refused(staging: Staging, directory: bytes) -> None:
    with pytest.raises(ValueError, match=DIGEST.hex()):
        staging.put(DIGEST, CONTENT + b"!")
    assert os.listdir(directory) == []


def test_a_broken_download_goes_on_where_it_stopped(directory: bytes) -> None:
    with Staging(directory).resume(DIGEST) as writer:
        writer.write(CONTENT[:5000])
    with Staging(directory).resume(DIGEST) as writer:
        assert writer.size == 5000
        writer.write(CONTENT[5000:])
        assert writer.digest == DIGEST
        writer.keep(fsync=True)
    assert read(Staging(directory), DIGEST) == CONTENT
    assert os.listdir(directory) == [DIGEST.hex().encode()]


def test_a_damaged_part_is_told_by_its_digest_and_can_be_thrown_away(
    staging: Staging, directory: bytes
) -> None:
    with staging.resume(DIGEST) as writer:
        writer.write(b"x" * 5000)
    with staging.resume(DIGEST) as writer:
        writer.write(CONTENT[5000:])
        assert writer.digest != DIGEST
        writer.discard()
    assert os.listdir(directory) == []
    with staging.resume(DIGEST) as writer:
        assert writer.size == 0


def test_a_second_download_at_the_same_time_starts_afresh(
    staging: Staging, directory: bytes
) -> None:
    with staging.resume(DIGEST) as first, staging.resume(DIGEST) as second:
        first.write(CONTENT[:100])
        assert second.size == 0
        second.write(CONTENT)
        first.write(CONTENT[100:])
        assert first.keep(fsync=False) == second.keep(fsync=False) == DIGEST
    assert read(staging, DIGEST) == CONTENT
    assert len(os.listdir(directory)) == 1
    with staging.resume(DIGEST) as third:
        assert third.resumable


def test_many_threads_may_keep_the_same_content(staging: Staging, directory: bytes) -> None:
    failed: list[BaseException] = []

    def keep() -> None:
        try:
            for _ in range(20):
                with staging.writer() as writer:
                    writer.write(CONTENT)
                    writer.keep(fsync=False)
                assert read(staging, DIGEST) == CONTENT
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=keep) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(os.listdir(directory)) == 1


def test_claimed_content_belongs_to_one_caller(staging: Staging) -> None:
    staging.put(DIGEST, CONTENT)
    mine = staging.claim(DIGEST)
    assert mine is not None
    assert staging.claim(DIGEST) is None
    assert not staging.has(DIGEST, len(CONTENT))
    with open(mine, "rb") as file:
        assert file.read() == CONTENT


def test_discarded_content_is_gone_with_its_part(staging: Staging, directory: bytes) -> None:
    staging.put(DIGEST, CONTENT)
    with staging.resume(DIGEST) as writer:
        writer.write(b"x")
    staging.discard(DIGEST)
    staging.discard(DIGEST)
    assert os.listdir(directory) == []


def test_a_sweep_takes_what_is_old_and_not_needed(staging: Staging, directory: bytes) -> None:
    other = digest_bytes(b"other")
    staging.put(DIGEST, CONTENT)
    staging.put(other, b"other")
    with staging.resume(digest_bytes(b"third")) as writer:
        writer.write(b"thi")
    with open(staging.scratch(), "wb"):
        pass
    os.mkdir(staging.scratch())
    # An old mtime says nothing: dressed files have the user's.
    os.utime(staging.path(DIGEST), ns=(0, 0))
    assert staging.sweep(3600, lambda _: False) == 0
    assert staging.sweep(-1, lambda digest: digest == other) == 3
    assert staging.has(other, 5)
    assert not staging.has(DIGEST, len(CONTENT))


def test_a_sweep_leaves_what_is_touched_while_it_looks(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging.put(DIGEST, CONTENT)
    since = os.stat(staging.path(DIGEST)).st_ctime

    def is_newer() -> bool:  # the clock of files is coarse
        staging.touch(DIGEST)
        return os.stat(staging.path(DIGEST)).st_ctime > since

    def touched_meanwhile(digest: bytes) -> bool:
        eventually(is_newer)
        return False

    monkeypatch.setattr("pickbox.storage.staging.time.time", lambda: since)
    assert staging.sweep(0, touched_meanwhile) == 0
    assert staging.has(DIGEST, len(CONTENT))


def test_what_is_not_here_is_not_made_by_a_touch(staging: Staging) -> None:
    staging.touch(DIGEST)
    assert not os.path.exists(staging.path(DIGEST))


def test_a_sweep_leaves_what_is_being_written(staging: Staging) -> None:
    with staging.writer() as writer, staging.resume(DIGEST) as part:
        writer.write(CONTENT)
        part.write(CONTENT)
        assert staging.sweep(-1, lambda _: False) == 0
        writer.keep(fsync=False)
    assert read(staging, DIGEST) == CONTENT


def test_a_disk_error_leaves_nothing_behind(staging: Staging, directory: bytes) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large"), staging.writer() as writer:
            writer.write(CONTENT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(directory) == []


def test_content_that_a_killed_process_was_placing_is_found_again(
    staging: Staging, directory: bytes
) -> None:
    content = b"the only copy on this node"
    digest = digest_bytes(content)
    staging.put(digest, content)
    claimed = staging.claim(digest)
    assert claimed is not None
    os.chmod(claimed, 0o000)
    other = staging.scratch()
    with open(other, "wb") as file:
        file.write(b"needed by nobody, but perhaps by a person")
    os.symlink("target", staging.scratch())
    started_again = Staging(directory)
    started_again.recover(lambda found: found == digest)
    assert read(started_again, digest) == content
    assert not os.path.exists(claimed)
    assert os.path.exists(other)


def test_a_file_of_another_user_does_not_keep_a_node_from_starting(staging: Staging) -> None:
    staging.put(DIGEST, CONTENT)
    claimed = staging.claim(DIGEST)
    assert claimed is not None
    give_away(claimed)
    without_privileges(lambda: staging.recover(lambda digest: True))
    assert os.path.exists(claimed)


def test_what_a_killed_process_was_taking_in_is_thrown_away(
    staging: Staging, directory: bytes
) -> None:
    writer = staging.writer()
    writer.write(b"half an upload")
    download = staging.resume(digest_bytes(b"whole"))
    download.write(b"who")
    Staging(directory).recover(lambda found: True)
    assert os.listdir(directory) == [digest_bytes(b"whole").hex().encode() + b".part"]
    writer.discard()
    download.discard()


def test_after_a_loss_of_power_a_name_says_nothing_of_the_content(
    staging: Staging, directory: bytes
) -> None:
    staging.put(DIGEST, CONTENT)
    with open(staging.path(DIGEST), "r+b") as file:
        file.write(bytes(512))
    staging.recover(lambda digest: True, in_doubt=True)
    assert not staging.has(DIGEST, len(CONTENT))
    assert read(staging, digest_bytes(bytes(512) + CONTENT[512:])) is not None


def test_after_a_loss_of_power_all_content_is_kept(staging: Staging) -> None:
    """The catalog may not know yet, until the log is applied, what is needed."""
    staging.put(DIGEST, CONTENT)
    assert staging.claim(DIGEST) is not None
    staging.recover(lambda digest: False, in_doubt=True)
    assert read(staging, DIGEST) == CONTENT


def test_an_edit_that_was_set_aside_keeps_its_name(staging: Staging, directory: bytes) -> None:
    stray = staging.scratch() + STRAY_SUFFIX
    with open(stray, "wb") as file:
        file.write(CONTENT)
    for in_doubt in (False, True):
        staging.recover(lambda digest: True, in_doubt=in_doubt)
        assert os.listdir(directory) == [os.path.basename(stray)]
