"""The commands about files: ls, put, get, rm, mv, mkdir."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import click

from pickbox.cli import failures, listing, render, transfer, trees
from pickbox.cli.api import Persist, file_url, new_key, query
from pickbox.cli.failures import ExitCode, Failure
from pickbox.cli.progress import progress
from pickbox.cli.session import Command, pass_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pickbox.cli.session import Session

STDIO = b"-"

local_path = click.Path(path_type=bytes, allow_dash=True)
idempotency_key = click.option(
    "--idempotency-key",
    "key",
    metavar="KEY",
    help="Name of this request. Repeating a command with its key never applies it twice.",
)


def if_version(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option ``--if-version``."""
    option = click.option(
        "--if-version",
        type=click.IntRange(min=1),
        metavar="N",
        help="Only if this is the version that is there now; else exit 4.",
    )
    return option(command)


@click.command(cls=Command)
@click.argument("prefix", default="")
@click.option("-l", "long", is_flag=True, help="Also show mode, size, time, version.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many entries.")
@pass_session
def ls(session: Session, prefix: str, long: bool, limit: int | None) -> None:
    """List files.

    Everything whose path starts with PREFIX, in path order: all of it without one.
    """
    entries = listing.entries(session.client, os.fsencode(prefix), limit)
    if session.as_json:
        render.as_json({"entries": [entry.document for entry in entries]})
        return
    for entry in entries:
        render.path_line(entry.path, _details(entry) if long else "")


def _details(entry: listing.Listed) -> str:
    mode = render.mode_of(entry.kind, entry.mode)
    when = render.moment(entry.mtime_ns) if entry.mtime_ns else "-"
    return f"{mode} {entry.size:>12} {when:>19} {entry.version:>9}  "


@click.command(cls=Command)
@click.argument("local", type=local_path)
@click.argument("remote")
@if_version
@click.option("--if-absent", is_flag=True, help="Only if nothing is there; else exit 4.")
@click.option("-r", "--recursive", is_flag=True, help="Store what is in the directory LOCAL.")
@idempotency_key
@pass_session
def put(
    session: Session,
    *,
    local: bytes,
    remote: str,
    if_version: int | None,
    if_absent: bool,
    recursive: bool,
    key: str | None,
) -> None:
    """Store a file or a directory.

    LOCAL is a file, or - for stdin; its mode and time go with it. A REMOTE that ends in / takes
    LOCAL's name. Returns when a majority of the nodes has it.
    """
    destination = _destination(remote, local)
    if recursive:
        if if_version or if_absent or key or local == STDIO:
            raise click.UsageError("-r takes a directory, and none of the options for one file.")
        trees.put(session, local, os.fsencode(remote))
        return
    if if_version and if_absent:
        raise click.UsageError("--if-version and --if-absent exclude each other.")
    condition = _condition(if_version, if_absent=if_absent)
    with _repeatable(key) as key_header:
        headers = {**key_header, **condition}
        if local == STDIO:
            answer = _put_stdin(session, destination, headers)
        else:
            answer = _put_file(session, local, destination, headers)
    _tell_written(session, answer, destination)


def _put_stdin(session: Session, remote: bytes, headers: dict[str, str]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as copy:
        size = transfer.spool(sys.stdin.buffer, copy)
        with progress("stdin", size) as bar:
            body = transfer.FileBody(copy, size, STDIO, bar)
            return transfer.upload(session.client, remote, body, headers)


def _put_file(
    session: Session, local: bytes, remote: bytes, headers: dict[str, str]
) -> dict[str, Any]:
    with open(local, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise failures.local(
                f"{os.fsdecode(local)} is not a regular file.", "Use - to read a pipe from stdin."
            )
        with progress(os.fsdecode(local), status.st_size) as bar:
            body = transfer.FileBody(file, status.st_size, local, bar)
            metadata = trees.metadata(status)
            return transfer.upload(session.client, remote, body, {**metadata, **headers})


@click.command(cls=Command)
@click.argument("remote")
@click.argument("local", type=local_path, required=False)
@click.option("--linearizable", is_flag=True, help="Ask the leader first: never an old version.")
@click.option("-r", "--recursive", is_flag=True, help="Fetch the directory REMOTE into LOCAL.")
@pass_session
def get(
    session: Session, remote: str, local: bytes | None, linearizable: bool, recursive: bool
) -> None:
    """Fetch a file or a directory.

    LOCAL is where to; - is stdout, and without it the name is kept. Mode and time are kept. The
    content is checked against its BLAKE3 digest before it takes the place of what was there; a
    lost connection is resumed.
    """
    path = os.fsencode(remote)
    if recursive:
        if local == STDIO:
            raise click.UsageError("-r needs a directory to write to.")
        trees.get(session, path, local or _name_of(path), linearizable=linearizable)
        return
    if local == STDIO:
        _get_to_stdout(session, path, linearizable=linearizable)
        return
    target = _local_target(local, path)
    with progress(remote) as bar:
        received = transfer.download_to_file(
            session.client,
            path,
            target,
            bar,
            linearizable=linearizable,
            timeout=session.options.timeout,
        )
    if session.as_json:
        render.as_json(
            {
                **listing.path_document(path),
                "local": os.fsdecode(target),
                "size": received.size,
                "version": received.version,
                "digest": received.digest,
            }
        )


def _get_to_stdout(session: Session, path: bytes, *, linearizable: bool) -> None:
    if session.as_json:
        raise click.UsageError("--json and content cannot both go to stdout.")
    with progress(os.fsdecode(path)) as bar:
        sink = transfer.Sink(sys.stdout.buffer, bar, restartable=False)
        transfer.download(
            session.client, path, sink, linearizable=linearizable, timeout=session.options.timeout
        )
        sys.stdout.buffer.flush()


@click.command(cls=Command)
@click.argument("path")
@click.option("-r", "--recursive", is_flag=True, help="Remove a directory with all that is in it.")
@if_version
@idempotency_key
@pass_session
def rm(
    session: Session, path: str, recursive: bool, if_version: int | None, key: str | None
) -> None:
    """Remove a file or a directory.

    It goes on every node. A directory must be empty, or go with -r.
    """
    target = _nonempty(path)
    url = file_url(target) + query(recursive="true" if recursive else None)
    with _repeatable(key) as key_header:
        headers = {**key_header, **_condition(if_version)}
        answer = session.client.json("DELETE", url, headers=headers, persist=Persist.ALWAYS)
    _tell_written(session, answer, target)


@click.command(cls=Command)
@click.argument("source")
@click.argument("destination")
@idempotency_key
@pass_session
def mv(session: Session, source: str, destination: str, key: str | None) -> None:
    """Rename a file or a directory.

    Nothing may be at DESTINATION yet. One that ends in / keeps SOURCE's name.
    """
    path = _nonempty(source)
    target = _destination(destination, path)
    wanted = {
        **listing.path_member(path, "source"),
        **listing.path_member(target, "destination"),
    }
    with _repeatable(key) as headers:
        answer = session.client.json(
            "POST", "/api/v1/move", wanted, headers=headers, persist=Persist.ALWAYS
        )
    _tell_written(session, answer, target)


@click.command(cls=Command)
@click.argument("path")
@idempotency_key
@pass_session
def mkdir(session: Session, path: str, key: str | None) -> None:
    """Make a directory, with the parents that it lacks."""
    target = _nonempty(path.rstrip("/"))
    with _repeatable(key) as headers:
        answer = trees.make_directory(session.client, target, headers)
    _tell_written(session, answer, target)


@contextlib.contextmanager
def _repeatable(key: str | None) -> Iterator[dict[str, str]]:
    """The header that names a write; a failure that leaves its outcome open says how to repeat."""
    name = key or new_key()
    try:
        yield {"Idempotency-Key": name}
    except Failure as failure:
        if failure.exit_code in {ExitCode.TRY_AGAIN, ExitCode.UNREACHABLE}:
            failure.problem["idempotency_key"] = name
            again = f"To repeat exactly this write safely, add: --idempotency-key {name}"
            failure.advice = f"{failure.advice}\n{again}".strip()
        raise


def _tell_written(session: Session, answer: dict[str, Any], path: bytes) -> None:
    if session.as_json:
        render.as_json({**listing.path_document(path), **answer})


def _condition(version: int | None, *, if_absent: bool = False) -> dict[str, str]:
    if if_absent:
        return {"If-None-Match": "*"}
    return {"If-Match": f'"{version}"'} if version else {}


def _destination(text: str, source: bytes) -> bytes:
    path = os.fsencode(text)
    return path + _name_of(source) if path.endswith(b"/") and path != b"/" else _nonempty(text)


def _local_target(local: bytes | None, remote: bytes) -> bytes:
    if local is None:
        return _name_of(remote)
    return os.path.join(local, _name_of(remote)) if os.path.isdir(local) else local


def _name_of(path: bytes) -> bytes:
    name = os.path.basename(path.rstrip(b"/"))
    if name in {b"", b".", b".."}:
        raise click.UsageError("Say under which name: the path itself has none.")
    return name


def _nonempty(text: str) -> bytes:
    if not text:
        raise click.UsageError("The path is empty.")
    return os.fsencode(text)
