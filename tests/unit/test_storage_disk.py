"""The disk guard, on real volumes where the machine allows them."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from pickbox.errors import DiskFull
from pickbox.storage import disk
from pickbox.storage.disk import DiskGuard, sync_filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20


class Volume:
    """A small volume: `fill` leaves that many bytes free."""

    def __init__(self, directory: Path) -> None:
        self.path = os.fsencode(directory)

    def fill(self, free: int) -> None:
        volume = os.statvfs(self.path)
        with open(os.path.join(self.path, b"ballast"), "ab") as file:
            file.write(bytes(volume.f_bavail * volume.f_frsize - free))

    def clear(self) -> None:
        os.unlink(os.path.join(self.path, b"ballast"))


class ReportedVolume(Volume):
    """A volume that only reports itself small, for users who may not mount one."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(directory)
        self._real = os.statvfs(directory)
        self._free = 8 * MIB
        monkeypatch.setattr(disk.os, "statvfs", self._report)

    def fill(self, free: int) -> None:
        self._free = free

    def clear(self) -> None:
        self._free = 8 * MIB

    def _report(self, _path: bytes) -> os.statvfs_result:
        fields = list(self._real)
        fields[0] = fields[1] = 4096
        fields[2] = 8 * MIB // 4096
        fields[3] = fields[4] = self._free // 4096
        return os.statvfs_result(fields)


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Volume]:
    """Eight MiB, empty."""
    options = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)]
    mounted = os.geteuid() == 0 and subprocess.run(options, check=False).returncode == 0
    try:
        yield Volume(tmp_path) if mounted else ReportedVolume(tmp_path, monkeypatch)
    finally:
        if mounted:
            subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "FRESH_SECONDS", 0.0)


@pytest.mark.usefixtures("no_cache")
def test_writing_goes_on_while_the_reserve_is_free_and_resumes_when_it_is_again(
    volume: Volume,
) -> None:
    guard = DiskGuard(volume.path, reserve_bytes=256 * 1024)
    guard.check()
    volume.fill(free=128 * 1024)
    assert not guard.ok()
    with pytest.raises(DiskFull) as caught:
        guard.check()
    assert "131072 bytes free" in caught.value.detail
    assert "keeps 262144 in reserve" in caught.value.detail
    volume.clear()
    assert guard.ok()
    guard.check()


def test_what_would_eat_into_the_reserve_is_refused_before_it_is_written(volume: Volume) -> None:
    guard = DiskGuard(volume.path, reserve_bytes=256 * 1024)
    free = guard.free()
    guard.check(extra=free - 256 * 1024)
    too_much = free - 256 * 1024 + 1
    with pytest.raises(DiskFull, match=f"and {too_much} more are wanted"):
        guard.check(extra=too_much)


def test_the_reserve_is_at_most_a_twentieth_of_a_small_volume(volume: Volume) -> None:
    guard = DiskGuard(volume.path, reserve_bytes=1 << 40)
    assert guard.ok()
    assert (guard.size(), guard.reserve()) == (8 * MIB, 8 * MIB // 20)
    guard.check(extra=7 * MIB)
    with pytest.raises(DiskFull):
        guard.check(extra=8 * MIB - 8 * MIB // 20 + 4096)


def test_the_volume_is_not_asked_anew_within_a_fifth_of_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    now = 100.0
    real = os.statvfs

    def counting(path: bytes) -> os.statvfs_result:
        nonlocal asked
        asked += 1
        return real(path)

    monkeypatch.setattr(disk.os, "statvfs", counting)
    monkeypatch.setattr(disk.time, "monotonic", lambda: now)
    guard = DiskGuard(os.fsencode(tmp_path), reserve_bytes=0)
    for _ in range(10):
        guard.check()
    assert asked == 1
    now += 0.21
    guard.check()
    assert asked == 2


def test_a_file_system_is_synced_and_a_missing_one_reported(tmp_path: Path) -> None:
    sync_filesystem(os.fsencode(tmp_path))
    with pytest.raises(FileNotFoundError):
        sync_filesystem(os.fsencode(tmp_path / "missing"))
