"""Volumes that can be filled, and disks whose power can be cut."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from faults.unsynced import COUNTS, CUT, WRITE_BACK_SECONDS

VOLUME_BYTES = 128 << 20


class Volume:
    """A small volume in memory, mounted at `path` from the beginning."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._memory = self._mount_memory(path)

    def fill(self) -> int:
        """Take all space that is left; return how many bytes that were."""
        chunk = bytes(1 << 20)
        with (
            contextlib.suppress(OSError),  # it is full
            (self._memory / "ballast").open("wb", buffering=0) as ballast,
        ):
            while ballast.write(chunk) == len(chunk):
                pass
        return (self._memory / "ballast").stat().st_size

    def empty(self) -> None:
        """Give the space back that `fill` took."""
        (self._memory / "ballast").unlink(missing_ok=True)

    def power_up(self) -> None:
        """Have it there again; this one has power always."""

    def remove(self) -> None:
        """Unmount; what was on it is gone."""
        _unmount(self._memory)

    @staticmethod
    def _mount_memory(path: Path) -> Path:
        path.mkdir(parents=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={VOLUME_BYTES}", "tmpfs", path)
        return path


class LossyVolume(Volume):
    """A volume in memory under a file system that loses what was not synced (`faults.lossy`).

    Args:
        path: where it is mounted.
        write_back_seconds: after that, everything is durable by itself.
    """

    def __init__(self, path: Path, write_back_seconds: float = WRITE_BACK_SECONDS) -> None:
        self.path = path
        self._write_back_seconds = write_back_seconds
        self._memory = self._mount_memory(path.with_name(f"{path.name}.disk"))
        self._process: subprocess.Popen[bytes] | None = None
        path.mkdir(parents=True)
        self.power_up()

    def power_up(self) -> None:
        """Mount it, with what is durable on it, unless it has power."""
        if self._process is not None:
            return
        command: list[str | Path] = [sys.executable, "-m", "faults.lossy"]
        command += [self._memory, self.path, str(self._write_back_seconds)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        self._process = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 30
        while not os.path.ismount(self.path):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.path}: the lossy file system does not come up")
            time.sleep(0.01)

    def cut_power(self, cut: str, seed: str) -> dict[str, int]:
        """Lose what is not durable as `cut` (of `faults.unsynced.CUTS`) says, and unmount.

        Returns:
            What was lost: ``names``, ``lost_names``, ``sectors``, ``lost_sectors``.
        """
        os.setxattr(self.path, CUT, f"{cut} {seed}".encode())
        self._power_down()
        counts: dict[str, int] = json.loads((self._memory / COUNTS).read_text())
        return counts

    def remove(self) -> None:
        """Unmount; what was on it is gone."""
        self._power_down()
        super().remove()

    def _power_down(self) -> None:
        if self._process is None:
            return
        self._process.kill()  # whoever still has a file open gets an error from now on
        self._process.wait()
        self._process = None
        _unmount(self.path)


def _unmount(path: Path) -> None:
    _run("umount", "--lazy", path)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)
