"""restic, the program that keeps backups: deduplicated, encrypted, in any repository it can reach.

Where the repository is, and its secrets, are in restic's own environment variables; nothing of it
is ever an argument, which others on the machine could see.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pickbox.cli.failures import ExitCode, Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

CHECKED: Final = "pickbox"
"""Tag of a snapshot of which it is known that it has all of its point."""

UNCHECKED: Final = "pickbox-unchecked"
"""Tag of one that may lack something: its run has not ended, or was cut off."""

_REPOSITORY: Final = ("RESTIC_REPOSITORY", "RESTIC_REPOSITORY_FILE")
_PASSWORD: Final = ("RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD_COMMAND", "RESTIC_PASSWORD")
_TOLD: Final = 2000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A backup in the repository. `host` is the name of the cluster."""

    id: str
    time: str
    host: str
    tags: tuple[str, ...]

    def tagged(self, name: str) -> str:
        """The value of the tag ``name-value``; empty if there is none."""
        values = [t.removeprefix(f"{name}-") for t in self.tags if t.startswith(f"{name}-")]
        return values[0] if values else ""

    def document(self) -> dict[str, str]:
        """For JSON."""
        return {
            "snapshot": self.id[:8],
            "time": self.time,
            "cluster": self.host,
            "index": self.tagged("index"),
            "node": self.tagged("node"),
        }


class Restic:
    """Runs restic.

    Raises:
        Failure: it is not installed, or was not told where its repository is.
    """

    def __init__(self) -> None:
        program = shutil.which("restic")
        if program is None:
            raise _wrong("restic is not installed.", "Install the package restic.")
        for names in (_REPOSITORY, _PASSWORD):
            if not any(os.environ.get(name) for name in names):
                raise _wrong(
                    f"{names[0]} is not set.",
                    "Give restic its repository and password in its environment variables, as "
                    "the role pickbox.cluster.backup does.",
                )
        self._program = program
        # A line of progress a minute is enough; and what is not restic's is none of its business.
        self._environment = {
            **{name: value for name, value in os.environ.items() if "PICKBOX" not in name},
            "RESTIC_PROGRESS_FPS": "0.0167",
        }

    def make_repository(self) -> bool:
        """Make the repository if it is not there; whether it was made."""
        opened = self._run(["cat", "config", "--no-lock"])
        if opened.returncode == 0:
            return False
        made = self._run(["init"])
        if made.returncode:
            raise _wrong(
                f"The repository can neither be opened ({_last_words(opened.stderr)}) nor made "
                f"({_last_words(made.stderr)}).",
                "See that its address and password are right, and that it can be reached.",
            )
        return True

    def require_repository(self) -> None:
        """Fail, with what restic says, if the repository cannot be opened."""
        done = self._run(["cat", "config", "--no-lock"])
        if done.returncode:
            raise _wrong(
                f"The repository cannot be opened: {_last_words(done.stderr)}",
                "If it was never made: pickbox backup init. If it is a mounted directory, see "
                "that it is mounted.",
            )

    def run(self, *arguments: str, cwd: str | None = None) -> str:
        """Run it; return what it printed.

        Raises:
            Failure: it failed, with its last words.
        """
        done = self._run(arguments, cwd=cwd)
        if done.returncode:
            detail = f"restic {arguments[0]} failed ({done.returncode}): {_last_words(done.stderr)}"
            raise Failure(ExitCode.ERROR, {"type": "restic", "detail": detail})
        return done.stdout

    def backup(self, directory: str, names: Sequence[str], host: str, tags: Sequence[str]) -> Any:
        """Back up `names` in `directory`, reading all of it; return restic's summary.

        Every file is new to restic, which knows content by its own hashes: what was there before
        takes no room. Nothing is believed by size and time.
        """
        marks = [mark for tag in tags for mark in ("--tag", tag)]
        printed = self.run(
            *("backup", "--json", "--force", "--host", host), *marks, *names, cwd=directory
        )
        messages = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        return next(m for m in reversed(messages) if m.get("message_type") == "summary")

    def snapshots(self, *tags: str) -> list[Snapshot]:
        """Those that have all of `tags`, the oldest first."""
        printed = self.run("snapshots", "--json", "--no-lock", "--tag", ",".join(tags))
        found = [
            Snapshot(s["id"], s["time"], s["hostname"], tuple(s.get("tags") or ()))
            for s in json.loads(printed) or []
        ]
        return sorted(found, key=lambda snapshot: snapshot.time)

    def _run(
        self, arguments: Sequence[str], cwd: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - no shell, and the program is restic
            [self._program, *arguments],
            cwd=cwd,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return " ".join(lines)[-_TOLD:] or "it says nothing"


def _wrong(detail: str, advice: str) -> Failure:
    return Failure(ExitCode.CONFIGURATION, {"type": "backup-settings", "detail": detail}, advice)
