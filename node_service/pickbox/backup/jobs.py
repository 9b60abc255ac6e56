"""Points and restores of a node by their names: one is made at a time, on a thread of its own.

What was made is known until it is removed or the node ends: at its start a node removes every
directory that an earlier process left, because nobody can say whether it is whole.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pickbox.backup.manifest import checked_folder
from pickbox.backup.point import remove_tree
from pickbox.errors import BadRequest, NotFound, NotReady, PickboxError
from pickbox.storage.disk import naming_refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.backup.point import PointMaker
    from pickbox.backup.restoring import Restorer

log = logging.getLogger(__name__)

POINTS: Final = b"backups"
RESTORES: Final = b"restores"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BARRIER_SECONDS: Final = 10.0
_STALE: Final = b".stale-"
_MAKING: Final = b".making-"


class BackupUnderWay(PickboxError):
    """The node makes a point or takes one in; it does one at a time."""

    type = "backup-under-way"
    status = 409


@dataclass(slots=True)
class Job:
    """Something that is made. `result` is there when it is, `error` when it failed.

    What is not `wanted` any more is removed at its end.
    """

    kind: str
    name: str
    directory: str
    began: float = field(default_factory=time.monotonic)
    entries_done: int = 0
    result: dict[str, Any] | None = None
    error: PickboxError | None = None
    finished: threading.Event = field(default_factory=threading.Event)
    seconds: float = 0.0
    wanted: bool = True

    def document(self) -> dict[str, Any]:
        """For the answer; raises what it failed with."""
        if self.error is not None:
            raise self.error
        return {
            "name": self.name,
            "state": "running" if self.result is None else "ready",
            "directory": self.directory,
            "entries_done": self.entries_done,
            "seconds": round(self.seconds or time.monotonic() - self.began, 2),
            **(self.result or {}),
        }


class Backups:
    """What operators do with points and restores on this node. Thread-safe.

    Args:
        base: the node's data directory.
        barrier: waits until this node has applied all that was committed.
        not_now: why the folder cannot be relied on now; empty if it can.
    """

    def __init__(
        self,
        base: bytes,
        maker: PointMaker,
        restorer: Restorer,
        *,
        barrier: Callable[[float], None],
        not_now: Callable[[], str],
        stopping: threading.Event,
    ) -> None:
        self._base = base
        self._maker = maker
        self._restorer = restorer
        self._barrier = barrier
        self._not_now = not_now
        self._stopping = stopping
        self._jobs: dict[tuple[str, str], Job] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Remove what an earlier process left. It is out of the way at once, and gone soon."""
        for name in (POINTS, RESTORES):
            path = os.path.join(self._base, name)
            if os.path.isdir(path) and os.listdir(path):
                self._move_aside(path)
        names = [name for name in os.listdir(self._base) if name.startswith(_STALE)]
        if names:
            paths = [os.path.join(self._base, name) for name in names]
            threading.Thread(
                target=_remove_all, args=(paths,), name="stale-backups", daemon=True
            ).start()
        for name in (POINTS, RESTORES):
            os.makedirs(os.path.join(self._base, name), mode=0o700, exist_ok=True)

    def stop(self, timeout: float) -> None:
        """Give up what is under way."""
        self._stopping.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    @property
    def point_directory(self) -> str:
        """Where points are, each under its name."""
        return os.fsdecode(os.path.join(self._base, POINTS))

    @property
    def restore_directory(self) -> str:
        """Where a point is put that is to be restored, under the name of the restore."""
        return os.fsdecode(os.path.join(self._base, RESTORES))

    def create(self, name: str, *, content_wait: float) -> Job:
        """Begin to make the point `name`, or give the one that is there."""
        _check_name(name)
        directory = os.path.join(self._base, POINTS, name.encode())

        def make(job: Job) -> dict[str, Any]:
            making = os.path.join(self._base, POINTS, _MAKING + name.encode())
            try:
                with naming_refusals():
                    remove_tree(making)
                    os.mkdir(making, 0o700)
                manifest = self._maker.make(making, content_wait, _count(job))
                with naming_refusals():
                    os.rename(making, directory)
            except BaseException:
                _remove_all([making])
                raise
            return asdict(manifest)

        return self._begin("point", name, directory, make)

    def restore(self, name: str, path: str, *, over: bool) -> Job:
        """Begin to take in what was put into the directory `name` of `restore_directory`."""
        _check_name(name)
        folder = checked_folder(path)
        directory = os.path.join(self._base, RESTORES, name.encode())
        if not os.path.isdir(directory):
            raise NotFound(
                f"Nothing was restored into {os.fsdecode(directory)} on this node.", field="name"
            )

        def take_in(job: Job) -> dict[str, Any]:
            return self._restorer.restore(directory, folder, over=over, done=_count(job))

        return self._begin("restore", name, directory, take_in)

    def get(self, kind: str, name: str) -> Job:
        """The point or restore of that name."""
        with self._lock:
            job = self._jobs.get((kind, name))
        if job is None:
            raise NotFound(f"This node has no {kind} {name!r}.", field="name")
        return job

    def list(self, kind: str) -> list[Job]:
        """All points or restores that did not fail, in the order of their names."""
        with self._lock:
            found = [job for (of, _), job in sorted(self._jobs.items()) if of == kind]
        return [job for job in found if job.error is None]

    def remove(self, kind: str, name: str) -> bool:
        """Remove the directory of a point or of a restore; one that is being made, when it is.

        Returns:
            Whether it is gone already.
        """
        _check_name(name)
        with self._lock:
            job = self._jobs.get((kind, name))
            if job is not None and not job.finished.is_set():
                job.wanted = False
                return False
            if job is None and not os.path.isdir(self._path(kind, name)):
                raise NotFound(f"This node has no {kind} {name!r}.", field="name")
            aside = self._take_away(kind, name)
        if aside is not None:
            with naming_refusals():
                remove_tree(aside)
        return True

    # -- inside

    def _begin(
        self, kind: str, name: str, directory: bytes, work: Callable[[Job], dict[str, Any]]
    ) -> Job:
        with self._lock:
            there = self._jobs.get((kind, name))
            if there is not None and there.error is None:
                there.wanted = True
                return there
            if self._stopping.is_set():
                raise NotReady("The node stops: ask another one.")
            if (reason := self._not_now()) != "":
                raise NotReady(reason)
            running = [job for job in self._jobs.values() if not job.finished.is_set()]
            if running:
                raise BackupUnderWay(
                    f"The node is busy with the {running[0].kind} {running[0].name}: wait for it."
                )
            self._jobs = {key: job for key, job in self._jobs.items() if job.error is None}
            job = Job(kind, name, os.fsdecode(directory))
            self._jobs[kind, name] = job
            self._thread = threading.Thread(
                target=self._run, args=(job, work), name="backup", daemon=True
            )
            self._thread.start()
        return job

    def _run(self, job: Job, work: Callable[[Job], dict[str, Any]]) -> None:
        fields: dict[str, Any] = {"kind": job.kind, "name": job.name}
        log.info("backup_job_started", extra={"fields": fields})
        try:
            self._barrier(_BARRIER_SECONDS)
            job.result = work(job)
            fields["index"] = job.result["index"]
            log.info("backup_job_done", extra={"fields": fields})
        except PickboxError as error:
            job.error = error
            log.warning("backup_job_failed", extra={"fields": {**fields, "why": error.detail}})
        except Exception as error:  # a thread that dies silently would leave its job running
            job.error = PickboxError(f"The {job.kind} failed: {error}")
            log.exception("backup_job_broke", extra={"fields": fields})
        finally:
            job.seconds = max(0.001, time.monotonic() - job.began)
            with self._lock:
                job.finished.set()
                aside = None if job.wanted else self._take_away(job.kind, job.name)
            if aside is not None:
                _remove_all([aside])

    def _take_away(self, kind: str, name: str) -> bytes | None:
        """Forget a job that has ended; its directory, out of the way, if it has one."""
        self._jobs.pop((kind, name), None)
        path = self._path(kind, name)
        return self._move_aside(path) if os.path.isdir(path) else None

    def _path(self, kind: str, name: str) -> bytes:
        return os.path.join(self._base, POINTS if kind == "point" else RESTORES, name.encode())

    def _move_aside(self, path: bytes) -> bytes:
        """Give `path` another name, so that nobody takes for whole what is being removed."""
        aside = os.path.join(self._base, _STALE + secrets.token_hex(8).encode())
        os.rename(path, aside)
        return aside


def _count(job: Job) -> Callable[[int], None]:
    def count(done: int) -> None:
        job.entries_done = done

    return count


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadRequest(
            "name must be 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first.",
            field="name",
        )


def _remove_all(directories: list[bytes]) -> None:
    for directory in directories:
        try:
            remove_tree(directory)
        except OSError as error:
            log.warning("stale_backup_stays", extra={"fields": {"why": str(error)}})
