"""The durable log on a real directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from pickbox.consensus.booting import read_history
from pickbox.consensus.log import DurableLog, HardState, LogDamaged, LogStopped, LogTooNew, RealDisk
from pickbox.consensus.log.records import SegmentHeader

if TYPE_CHECKING:
    from pathlib import Path

    from pickbox.consensus.log.disk import RealFile


def open_log(directory: Path, **options: int) -> DurableLog:
    return DurableLog.open(RealDisk(), str(directory / "raft"), **options)  # type: ignore[arg-type]


def test_what_was_synced_is_there_after_a_restart(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.set_hard_state(3, "node2/ab")
    for index in range(1, 101):
        log.add(b"%d" % index, index, 3)
    log.sync()
    log.setRaftCommitIndex(90)
    log.add(b"not synced", 101, 3)
    log.close()
    again = open_log(tmp_path)
    assert (len(again), again.first_index, again.last_index) == (100, 1, 100)
    assert again[41:43] == [(b"42", 42, 3), (b"43", 43, 3)]
    assert again[-1] == (b"100", 100, 3)
    assert again.hard_state == HardState(3, "node2/ab")
    assert again.synced_index == 100


def test_the_commit_hint_goes_to_the_disk_with_the_next_batch(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.add(b"one", 1, 1)
    log.sync()
    log.setRaftCommitIndex(1)
    assert not log.dirty
    log.add(b"two", 2, 1)
    log.sync()
    log.close()
    assert open_log(tmp_path).getRaftCommitIndex() == 1


def test_nothing_to_do_costs_no_sync(tmp_path: Path) -> None:
    synced: list[float] = []
    log = DurableLog.open(RealDisk(), str(tmp_path / "raft"), on_sync=synced.append)
    log.add(b"one", 1, 1)
    log.add(b"two", 2, 1)
    log.sync()
    log.sync()
    log.set_hard_state(0, None)  # as it was
    log.sync()
    assert len(synced) == 1


def test_p31_old_commands_are_read_from_the_disk(tmp_path: Path) -> None:
    log = open_log(tmp_path, segment_bytes=4096, cache_bytes=1000)
    for index in range(1, 201):
        log.add(b"%d" % index * 20, index, 1)
        log.sync()
    assert log._cached_bytes <= 1000
    assert [entry[0] for entry in log[:]] == [b"%d" % index * 20 for index in range(1, 201)]


def test_p31_compaction_drops_whole_segments_and_keeps_trailing_entries(tmp_path: Path) -> None:
    log = open_log(tmp_path, segment_bytes=4096)
    for index in range(1, 201):
        log.add(b"x" * 100, index, 1)
        log.sync()
    before = len(list((tmp_path / "raft").glob("*.log")))
    log.compact_to(150, 1, keep_trailing=50)
    log.sync()
    assert 50 < log.first_index <= 100
    assert len(list((tmp_path / "raft").glob("*.log"))) < before
    log.close()
    again = open_log(tmp_path, segment_bytes=4096)
    assert (again.first_index, again.last_index) == (log.first_index, 200)
    assert again.compacted == (150, 1)


def test_a_snapshot_that_is_ahead_of_the_log_empties_it(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.add(b"one", 1, 1)
    log.compact_to(1000, 7, keep_trailing=10)
    assert (len(log), log.last_index) == (0, 1000)
    log.add(b"next", 1001, 7)
    log.sync()
    log.close()
    assert open_log(tmp_path)[:] == [(b"next", 1001, 7)]


def test_a_snapshot_of_another_past_than_the_logs_empties_it(tmp_path: Path) -> None:
    log = open_log(tmp_path, segment_bytes=4096)
    for index in range(1, 201):
        log.add(b"x" * 100, index, 1)
        log.sync()
    log.compact_to(100, 7, keep_trailing=0)
    log.sync()
    assert (len(log), log.last_index) == (0, 100)
    log.close()
    again = open_log(tmp_path, segment_bytes=4096)  # the newest segment has entries of after it
    assert (len(again), again.last_index, again.compacted) == (0, 100, (100, 7))
    again.add(b"next", 101, 7)
    again.sync()
    again.close()
    assert open_log(tmp_path, segment_bytes=4096)[:] == [(b"next", 101, 7)]


def test_an_entry_that_does_not_follow_is_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.add(b"one", 1, 1)
    with pytest.raises(ValueError, match="entry 3 after entry 1"):
        log.add(b"three", 3, 1)


def test_two_processes_cannot_have_one_log(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    with pytest.raises(BlockingIOError):
        open_log(tmp_path)
    log.close()
    open_log(tmp_path)


def test_a_log_that_another_process_is_about_to_close_is_read_after_that(tmp_path: Path) -> None:
    """It is closed between the two steps of `open`: what it says last must not be lost."""
    first = open_log(tmp_path)
    first.add(b"one", 1, 3)
    first.sync()

    class ClosingDisk(RealDisk):
        def lock(self, directory: str) -> RealFile:
            first.set_hard_state(4, "node2/ab")
            first.add(b"acknowledged", 2, 4)
            first.sync()
            first.close()
            return super().lock(directory)

    second = DurableLog.open(ClosingDisk(), str(tmp_path / "raft"))
    assert second.hard_state == HardState(4, "node2/ab")
    assert second[:] == [(b"one", 1, 3), (b"acknowledged", 2, 4)]


def test_a_log_that_could_not_be_opened_is_locked_by_nobody(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    segment = tmp_path / "raft" / "0000000000000001.log"
    written = segment.read_bytes()
    segment.write_bytes(b"damaged" + written)
    with pytest.raises(LogDamaged):
        open_log(tmp_path)
    segment.write_bytes(written)
    open_log(tmp_path)


def test_a_log_that_is_larger_than_the_memory_is_opened(tmp_path: Path) -> None:
    """A segment at a time, and then an entry at a time."""
    log = open_log(tmp_path, segment_bytes=1 << 16)
    for index in range(1, 401):
        log.add(b"\0" + os.urandom(10_000), index, 1)
        log.sync()
    log.close()
    tracemalloc.start()
    try:
        again = open_log(tmp_path, segment_bytes=1 << 16)
        read_history(again, None, "cluster")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert again.last_index == 400
    assert peak < 1 << 20, "4 MB are in the log"


def test_the_format_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    segment = tmp_path / "raft" / "0000000000000001.log"
    with segment.open("r+b") as file:
        file.write(SegmentHeader(1, b"salt" * 2, version=2).encode())
    with pytest.raises(LogTooNew, match="format 2, and this release knows 1"):
        open_log(tmp_path)


WRITER = """
import os, sys
from pickbox.consensus.log import DurableLog, RealDisk
log = DurableLog.open(RealDisk(), sys.argv[1], segment_bytes=65536)
for index in range(log.last_index + 1, 1_000_000):
    log.add(b"%d" % index * 30, index, 1)
    log.sync()
    os.write(1, b"%d\\n" % index)
"""


def test_a_killed_process_loses_nothing_that_it_had_synced(tmp_path: Path) -> None:
    acknowledged = 0
    for _ in range(5):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "raft")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(300):
                acknowledged = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
            acknowledged = int(([*writer.stdout.read().split(), b"0"])[-2:][0] or acknowledged)
        log = open_log(tmp_path)
        assert log.last_index >= acknowledged
        assert all(command == b"%d" % index * 30 for command, index, _ in log[:])
        log.close()


def test_a_full_volume_stops_the_log_and_loses_nothing(tmp_path: Path) -> None:
    """A file size limit plays the volume: past it the kernel refuses, as when there is no room."""
    program = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "from pickbox.consensus.log import DurableLog, LogStopped, RealDisk\n"
        "log = DurableLog.open(RealDisk(), sys.argv[1], segment_bytes=65536)\n"
        "log.add(b'kept', 1, 1); log.sync()\n"
        "log.add(b'x' * 400_000, 2, 1)\n"
        "try: log.sync()\n"
        "except LogStopped as error: print(error); raise SystemExit(3)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "raft")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "the disk refused the log" in done.stdout
    log = open_log(tmp_path)
    assert log[:] == [(b"kept", 1, 1)]
    log.add(b"again", 2, 1)
    log.sync()


def test_a_directory_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "raft").write_text("a file")
    with pytest.raises(LogStopped, match="cannot be opened"):
        open_log(tmp_path)
