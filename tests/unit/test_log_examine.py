"""A log looked at: what recovery would say, with nothing changed and no writer in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pickbox.consensus.log import (
    Damage,
    DurableLog,
    Examination,
    HardState,
    LogDamaged,
    ReadOnlyDisk,
    RealDisk,
    examine,
    recover,
)
from pickbox.consensus.log import examine as examining
from pickbox.consensus.log.records import SegmentHeader
from pickbox.consensus.log.recovery import Recovered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEGMENT = 2048
examine_module = sys.modules[examining.__module__]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A log of a node's ordinary life, in several segments."""
    log = open_log(tmp_path / "log")
    log.set_hard_state(2, "node2/ab")
    for index in range(1, 61):
        log.add((b"\x02" if index == 1 else b"\x00") + b"%d" % index * 40, index, 2)
        log.sync()
    log.set_hard_state(3, "node1/cd")
    log.truncate_from(59)
    log.add(b"\x01", 59, 3)
    log.setRaftCommitIndex(58)
    log.sync()
    log.close()
    return tmp_path / "log"


def open_log(place: Path) -> DurableLog:
    return DurableLog.open(RealDisk(), str(place), segment_bytes=SEGMENT)


def look(place: Path, last: int = 0) -> Examination:
    return examine(ReadOnlyDisk(), str(place), last=last)


def segments(place: Path) -> list[Path]:
    return sorted(place.glob("*.log"))


def stats(place: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        path.name: (path.stat().st_mtime_ns, path.stat().st_size, path.read_bytes())
        for path in place.iterdir()
    }


def test_what_the_log_says_is_told(place: Path) -> None:
    found = look(place, last=2)
    assert found.is_sound
    assert found.hard_state == HardState(3, "node1/cd")
    assert (found.first_index, found.last_index, found.commit) == (1, 59, 58)
    assert found.kinds == {b"\x00": 57, b"\x01": 1, b"\x02": 1}
    assert found.last_entries == ((b"\x00" + b"58" * 40, 58, 2), (b"\x01", 59, 3))
    assert [part.path for part in found.segments] == [str(path) for path in segments(place)]
    assert [part.sealed for part in found.segments] == [True] * (len(found.segments) - 1) + [False]
    assert found.segments[0].first_index == 1
    for one, next_one in zip(found.segments, found.segments[1:-1], strict=False):
        assert next_one.first_index == one.last_index + 1


def test_what_a_snapshot_holds_is_told(place: Path) -> None:
    log = open_log(place)
    log.compact_to(50, 2, keep_trailing=0)
    log.sync()
    log.close()
    found = look(place)
    assert found.is_sound
    assert found.compacted == (50, 2)
    assert 1 < found.first_index <= 51
    assert found.segments[0].path != str(place / "0000000000000001.log")


def test_looking_changes_nothing(place: Path) -> None:
    segments(place)[-1].open("ab").write(b"torn")
    before = stats(place)
    look(place, last=5)
    assert stats(place) == before


@pytest.mark.parametrize("method", ["make_directory", "remove", "sync_directory", "lock"])
def test_a_read_only_disk_changes_nothing(method: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Read-only"):
        getattr(ReadOnlyDisk(), method)(str(tmp_path))
    with pytest.raises(OSError, match="Read-only"):
        ReadOnlyDisk().open(str(tmp_path / "new"), create=True)
    (tmp_path / "file").write_bytes(b"as it was")
    file = ReadOnlyDisk().open(str(tmp_path / "file"), create=False)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write(0, b"other")
    file.close()


def test_a_torn_tail_is_what_the_next_start_cuts(place: Path) -> None:
    newest = segments(place)[-1]
    data = bytearray(newest.read_bytes())
    torn_at = look(place).segments[-1].end - 10
    data[torn_at:] = bytes(len(data) - torn_at)
    newest.write_bytes(data)
    found = look(place)
    assert not found.damages
    part = found.segments[-1]
    assert part.torn == len(data) - part.end
    assert found.last_index == 60, "the last batch is gone, with its truncation"
    log = open_log(place)
    assert log.last_index == 60
    log.close()
    assert look(place).is_sound


def test_a_segment_whose_making_was_cut_short_is_told(place: Path) -> None:
    segments(place)[-1].write_bytes(bytes(100))
    found = look(place)
    assert not found.damages
    assert [part.unfinished for part in found.segments][-2:] == [False, True]
    open_log(place).close()
    assert look(place).is_sound


def test_damage_is_told_and_what_follows_is_still_looked_at(place: Path) -> None:
    second, fourth = segments(place)[1], segments(place)[3]
    flip(second, 700)
    flip(fourth, 0)
    found = look(place)
    assert [os.path.basename(d.path) for d in found.damages] == [second.name, fourth.name]
    assert 0 < found.damages[0].offset <= 700
    assert "a later batch follows at" in found.damages[0].found
    assert found.damages[1].found.endswith("where a segment's magic belongs")
    assert len(found.segments) == len(segments(place))
    assert found.segments[2].last_index > found.segments[2].first_index
    assert found.segments[3].end == 0
    assert found.last_index < found.segments[2].first_index, "the state ends at the damage"


def test_a_missing_segment_is_told(place: Path) -> None:
    gone = segments(place)[2]
    gone.unlink()
    [damage] = look(place).damages
    assert (damage.path, damage.offset, damage.found) == (str(gone), 0, "the file is missing")


def test_missing_first_segments_are_told_if_no_snapshot_holds_them(place: Path) -> None:
    segments(place)[0].unlink()
    [damage] = look(place).damages
    assert "and with it entries before" in damage.found


def test_a_newer_format_is_no_damage_and_not_read(place: Path) -> None:
    third = segments(place)[2]
    with third.open("r+b") as file:
        file.write(SegmentHeader(3, b"salt" * 2, version=2).encode())
    found = look(place)
    assert not found.damages
    assert "format 2, and this release knows 1: start the release that wrote it" in found.too_new
    assert len(found.segments) == 2


def test_an_empty_directory_has_no_log(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert (found.segments, found.is_sound, found.last_index) == ((), True, 0)


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        look(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        look(tmp_path / "file")


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def every_flip(place: Path) -> Iterator[tuple[Path, int]]:
    """Each eleventh byte of the log that was written, one at a time."""
    written = {part.path: part.end for part in look(place).segments}
    for path in segments(place):
        for offset in range(0, written[str(path)], 11):
            flip(path, offset)
            yield path, offset
            flip(path, offset)


def recovery(place: Path) -> Recovered | LogDamaged:
    """What a start would find."""
    try:
        recovered = recover(RealDisk(), str(place))
    except LogDamaged as damage:
        return damage
    for segment in recovered.segments.values():
        segment.close()
    return recovered


def test_it_finds_what_recovery_finds_whatever_byte_is_flipped(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine_module, "_PAUSE", 0.0)
    outcomes: Counter[type] = Counter()
    for path, offset in every_flip(place):
        found, started = look(place), recovery(place)
        outcomes[type(started)] += 1
        if isinstance(started, LogDamaged):
            told = Damage(started.path, started.offset, started.found)
            assert found.damages[0] == told, (path, offset)
        else:
            assert not found.damages, (path, offset)
            assert found.segments[-1].torn == started.torn > 0
            assert found.last_index == started.state.last_index
            assert found.hard_state == started.state.hard_state
    assert outcomes[LogDamaged] > 300
    assert outcomes[Recovered] > 5


WRITER = """
import os, sys
from pickbox.consensus.log import DurableLog, RealDisk
os.fdatasync = os.fsync = lambda _: None  # as fast as it can
log = DurableLog.open(RealDisk(), sys.argv[1], segment_bytes=65536)
for index in range(1, 100_000_000):
    log.add(b"\\x00" + b"%d" % index * 100, index, 1)
    if index % 3 == 0:
        log.setRaftCommitIndex(index)
        log.sync()
    if index % 500 == 0:
        log.compact_to(index - 100, 1, keep_trailing=200)
        log.sync()
        os.write(1, b".")
"""


def test_a_log_that_is_being_written_is_read_as_sound(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.read(2)
        try:
            looks = first = last = 0
            while looks < 60 or last < first + 3000:
                found = look(tmp_path / "log", last=1)
                assert found.is_sound, found
                assert found.last_index >= last
                last = found.last_index
                assert found.last_entries[0][0] == b"\x00" + b"%d" % last * 100
                first = first or last
                looks += 1
            assert writer.poll() is None, "it had its log for itself all the time"
        finally:
            writer.kill()
