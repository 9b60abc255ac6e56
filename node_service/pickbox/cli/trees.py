"""Whole directories: ``put -r`` and ``get -r``, several files at a time.

What cannot be moved is told and counted, and the rest goes on; when the node itself cannot be
reached, everything stops.
"""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pickbox.cli import failures, listing, render, transfer
from pickbox.cli.api import Persist, file_url, new_key
from pickbox.cli.failures import ExitCode, Failure
from pickbox.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pickbox.cli.api import Endpoint
    from pickbox.cli.progress import Bar
    from pickbox.cli.session import Session

WORKERS: Final = 8
"""Files under way at once: a small file's time is mostly waiting for the commit."""

_FATAL: Final = frozenset({ExitCode.UNREACHABLE, ExitCode.TRY_AGAIN, ExitCode.UNAUTHORIZED})


@dataclass
class Tally:
    """What became of each path of a tree. `done` counts files, directories and links."""

    done: int = 0
    size: int = 0
    failed: list[tuple[bytes, Failure]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def attempt(self, path: bytes, action: Callable[[], int]) -> None:
        """Run `action`, which returns the bytes it moved, and note how it went.

        Raises:
            Failure: no other path would fare better.
        """
        try:
            moved = action()
        except OSError as error:
            reason = f"{os.fsdecode(error.filename or path)}: {error.strerror}."
            self._note(path, failures.local(reason))
        except Failure as failure:
            if failure.exit_code in _FATAL:
                raise
            self._note(path, failure)
        else:
            self.done += 1
            self.size += moved

    def _note(self, path: bytes, failure: Failure) -> None:
        if self.stopped.is_set():
            return
        self.failed.append((path, failure))
        render.warning(f"{os.fsdecode(path)}: {failure.detail}")

    def finish(self, session: Session) -> None:
        """Print the sums; end with the exit code of what failed (1 if codes differ)."""
        if session.as_json:
            failed = [{**listing.path_document(p), "problem": f.document()} for p, f in self.failed]
            render.as_json({"done": self.done, "bytes": self.size, "failed": failed})
        if self.failed:
            codes = {failure.exit_code for _, failure in self.failed}
            raise SystemExit(int(codes.pop() if len(codes) == 1 else ExitCode.ERROR))


@dataclass(frozen=True)
class _Part:
    """One file's part of a tree's progress; it ends the transfer once the tree is given up."""

    bar: Bar
    tally: Tally

    def expect(self, total: int) -> None:
        """The bar knows the tree's total already."""

    def advance(self, count: int) -> None:
        """Count, or stop.

        Raises:
            Failure: another transfer failed for good, or the user interrupted.
        """
        if self.tally.stopped.is_set():
            raise failures.local("It was given up.")
        self.bar.advance(count)


def metadata(status: os.stat_result) -> dict[str, str]:
    """A file's mode and modification time as request headers."""
    return {**mode_header(status), "X-Pickbox-Mtime": str(status.st_mtime_ns)}


def mode_header(status: os.stat_result) -> dict[str, str]:
    """The mode alone: the times of directories are not kept."""
    return {"X-Pickbox-Mode": f"{status.st_mode & 0o777:04o}"}


def make_directory(endpoint: Endpoint, path: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """Make the directory `path`; `headers` name the request."""
    url = file_url(path) + "?kind=directory"
    answer: dict[str, Any] = endpoint.json("PUT", url, headers=headers, persist=Persist.ALWAYS)
    return answer


def put(session: Session, local: bytes, remote: bytes) -> None:
    """Store what is in the directory `local` under `remote` (``/`` or nothing: the top)."""
    found = list(_walk(local))
    base = remote.strip(b"/")
    tally = Tally()
    total = sum(status.st_size for _, status in found if stat.S_ISREG(status.st_mode))
    with progress(os.fsdecode(local), total) as bar:
        store = _Store(session.client, local, base, _Part(bar, tally))
        directories = [item for item in found if stat.S_ISDIR(item[1].st_mode)]
        others = [item for item in found if not stat.S_ISDIR(item[1].st_mode)]
        for name, status in directories:
            tally.attempt(_join(base, name), partial(store, name, status))
        _run(tally, ((_join(base, name), partial(store, name, s)) for name, s in others))
    tally.finish(session)


def _walk(root: bytes, inside: bytes = b"") -> Iterator[tuple[bytes, os.stat_result]]:
    """Everything in `root`, parents first: path relative to it, and its ``lstat``."""
    with os.scandir(os.path.join(root, inside)) as items:
        children = sorted(items, key=lambda item: item.name)
    for child in children:
        path = _join(inside, child.name)
        yield path, child.stat(follow_symlinks=False)
        if child.is_dir(follow_symlinks=False):
            yield from _walk(root, path)


@dataclass(frozen=True)
class _Store:
    """Stores one thing of the directory `root` under `base`."""

    endpoint: Endpoint
    root: bytes
    base: bytes
    bar: Bar

    def __call__(self, name: bytes, status: os.stat_result) -> int:
        remote = _join(self.base, name)
        if stat.S_ISDIR(status.st_mode):
            headers = {**mode_header(status), "Idempotency-Key": new_key()}
            make_directory(self.endpoint, remote, headers)
            return 0
        if stat.S_ISLNK(status.st_mode):
            raise failures.local(
                "It is a symbolic link, which HTTP does not take; copy it into a node's folder."
            )
        if not stat.S_ISREG(status.st_mode):
            raise failures.local("It is neither a file nor a directory, and never replicated.")
        with open(os.path.join(self.root, name), "rb") as file:
            now = os.fstat(file.fileno())
            body = transfer.FileBody(file, now.st_size, name, self.bar)
            headers = {**metadata(now), "Idempotency-Key": new_key()}
            transfer.upload(self.endpoint, remote, body, headers)
        return now.st_size


def get(session: Session, remote: bytes, local: bytes, *, linearizable: bool) -> None:
    """Fetch everything under `remote` (``/`` or nothing: the top) into the directory `local`."""
    base = remote.strip(b"/")
    prefix = base + b"/" if base else b""
    entries = list(listing.entries(session.client, prefix))
    if not entries:
        _check_directory(session.client, base)
    tally = Tally()
    os.makedirs(local, exist_ok=True)
    total = sum(entry.size for entry in entries if entry.kind == "file")
    with progress(os.fsdecode(remote), total) as bar:
        fetch = _Fetch(session, prefix, local, _Part(bar, tally), linearizable)
        for kind in ("directory", "file", "symlink"):
            chosen = (entry for entry in entries if entry.kind == kind)
            _run(tally, ((entry.path, partial(fetch, entry)) for entry in chosen), kind=kind)
        for entry in reversed(entries):
            if entry.kind == "directory":
                os.chmod(fetch.target(entry), entry.mode)
    tally.finish(session)


def _check_directory(endpoint: Endpoint, path: bytes) -> None:
    """Nothing is under `path`: raise unless it is an empty directory."""
    at_path = [e for e in listing.entries(endpoint, path, 1) if e.path == path] if path else []
    if at_path and at_path[0].kind != "directory":
        problem = {"type": "path-taken", "detail": f"{os.fsdecode(path)} is not a directory."}
        raise Failure(ExitCode.CONFLICT, problem, "Leave out -r.")
    if path and not at_path:
        problem = {"type": "not-found", "detail": f"Nothing is at {os.fsdecode(path)}."}
        raise Failure(ExitCode.NOT_FOUND, problem)


@dataclass(frozen=True)
class _Fetch:
    """Makes one entry below `local`."""

    session: Session
    prefix: bytes
    local: bytes
    bar: Bar
    linearizable: bool

    def target(self, entry: listing.Listed) -> bytes:
        """Where `entry` goes.

        Raises:
            Failure: its path leads out of the directory; a node never lists such a path.
        """
        inside = entry.path.removeprefix(self.prefix)
        if any(part in {b"", b".", b".."} for part in inside.split(b"/")) or b"\0" in inside:
            raise failures.local("The node lists a path that leads out of the directory.")
        return os.path.join(self.local, inside)

    def __call__(self, entry: listing.Listed) -> int:
        target = self.target(entry)
        if entry.kind == "directory":
            os.makedirs(target, exist_ok=True)
            os.chmod(target, entry.mode | 0o700)
            return 0
        if entry.kind == "symlink":
            _replace_link(entry.target, target)
            return 0
        received = transfer.download_to_file(
            self.session.client,
            entry.path,
            target,
            self.bar,
            linearizable=self.linearizable,
            timeout=self.session.options.timeout,
        )
        return received.size


def _replace_link(to: bytes, target: bytes) -> None:
    if os.path.islink(target):
        os.unlink(target)
    os.symlink(to, target)


def _run(
    tally: Tally, actions: Iterable[tuple[bytes, Callable[[], int]]], *, kind: str = "file"
) -> None:
    """Run the actions, files several at a time; the first fatal failure ends them all."""
    if kind != "file":
        for path, action in actions:
            tally.attempt(path, action)
        return
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(tally.attempt, path, action) for path, action in actions]
        try:
            for future in futures:
                future.result()
        except BaseException:
            tally.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name
