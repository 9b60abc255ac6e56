"""Writes files through the followers, kills the leader meanwhile, and records what happened.

Every file whose writing was acknowledged is recorded with its digest, so that it can be looked for
on every node afterwards. Half of the files go through HTTP, where a 2xx answer acknowledges; the
other half through a folder of a node that is not killed, where the return of the write does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.pickbox.cluster.plugins.modules.port_owner import find_owners

FILES_PER_WRITER = 100
KILL_AFTER = 40
DEADLINE_SECONDS = 60.0


@dataclass
class Record:
    """What happened. `acknowledged` and `folder` give the SHA-256 of each file by its path."""

    leader: str
    term: int
    successor: str = ""
    term_after: int = 0
    pid: int = 0
    acknowledged: dict[str, str] = field(default_factory=dict)
    folder: dict[str, str] = field(default_factory=dict)
    after_kill: int = 0
    gap_seconds: float = 0.0


class Writers:
    """Threads that write until they have written all their files, or time is up."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._killed = False
        self.enough = threading.Event()

    def through_http(self, member: dict[str, Any]) -> None:
        for number in range(FILES_PER_WRITER):
            name = f"fire/http-{member['node_id']}-{number:04}"
            body = f"{name} {uuid.uuid4()}\n".encode() * (1 + number)
            if put_with_retries(member["client_url"], name, body):
                self._acknowledged(self._record.acknowledged, name, body)

    def through_folder(self, member: dict[str, Any]) -> None:
        folder = Path(member["files"], "fire")
        for number in range(FILES_PER_WRITER):
            name = f"folder-{member['node_id']}-{number:04}"
            body = f"{name} {uuid.uuid4()}\n".encode() * (1 + number)
            folder.mkdir(exist_ok=True)
            (folder / name).write_bytes(body)
            self._acknowledged(self._record.folder, f"fire/{name}", body)
            time.sleep(0.02)

    def leader_was_killed(self) -> None:
        self._killed = True

    def _acknowledged(self, into: dict[str, str], name: str, body: bytes) -> None:
        with self._lock:
            into[name] = hashlib.sha256(body).hexdigest()
            if into is not self._record.acknowledged:
                return
            now = time.monotonic()
            self._record.gap_seconds = round(max(self._record.gap_seconds, now - self._last), 2)
            self._last = now
            self._record.after_kill += self._killed
            if len(into) >= KILL_AFTER:
                self.enough.set()


def put_with_retries(url: str, name: str, body: bytes) -> bool:
    """Write a file, repeating the same request until it is acknowledged or time is up."""
    key, deadline = uuid.uuid4().hex, time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        request = urllib.request.Request(
            f"{url}/api/v1/files/{name}",
            data=body,
            method="PUT",
            headers={"Idempotency-Key": key, "Content-Type": "application/octet-stream"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10):
                return True
        except urllib.error.HTTPError as answer:
            if answer.code < 500:
                raise
        except OSError:
            pass
        time.sleep(0.1)
    return False


def leadership(member: dict[str, Any]) -> tuple[str, int]:
    """The leader that a node names, empty when there is none, and the term it is in."""
    try:
        with urllib.request.urlopen(f"{member['client_url']}/api/cluster", timeout=5) as answer:
            cluster = json.load(answer)
    except OSError:
        return "", 0
    return str(cluster["leader"] or ""), int(cluster["term"])


def wait_for_leader(member: dict[str, Any], *, after_term: int) -> tuple[str, int]:
    """The leader of a later term than that, and its term, once the node knows one."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        leader, term = leadership(member)
        if leader and term > after_term:
            return leader, term
        if time.monotonic() > deadline:
            raise SystemExit(f"{member['node_id']} knows no leader of a term after {after_term}")
        time.sleep(0.05)


def run(members: list[dict[str, Any]]) -> Record:
    """Write, kill, write on; all over again when others got to lead before the kill."""
    while not (record := attempt(members)).pid:
        pass
    return record


def attempt(members: list[dict[str, Any]]) -> Record:
    """The same once. Nobody is killed when the leader to be killed does not lead any more."""
    record = Record(*wait_for_leader(members[0], after_term=0))
    victim = next(member for member in members if member["node_id"] == record.leader)
    others = [member for member in members if member is not victim]
    writers = Writers(record)
    threads = [threading.Thread(target=writers.through_http, args=(m,)) for m in others]
    threads.append(threading.Thread(target=writers.through_folder, args=(others[0],)))
    for thread in threads:
        thread.start()
    if not writers.enough.wait(DEADLINE_SECONDS):
        raise SystemExit(f"only {len(record.acknowledged)} files were acknowledged before the kill")
    (owner,) = find_owners({"raft": victim["port"]})
    assert owner.pid is not None
    if wait_for_leader(victim, after_term=0) == (record.leader, record.term):
        os.kill(owner.pid, signal.SIGKILL)
        record.pid = owner.pid
        writers.leader_was_killed()
        record.successor, record.term_after = wait_for_leader(others[0], after_term=record.term)
    for thread in threads:
        thread.join()
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=json.loads, required=True)
    parser.add_argument("--record", type=Path, required=True)
    arguments = parser.parse_args()
    record = run(arguments.members)
    arguments.record.write_text(json.dumps(asdict(record)))
    print(  # noqa: T201 - the playbook shows it
        f"{record.leader} (pid {record.pid}) was killed; {len(record.acknowledged)} files were "
        f"acknowledged over HTTP, {record.after_kill} of them after the kill, and "
        f"{len(record.folder)} written into a folder; longest gap {record.gap_seconds} s"
    )


if __name__ == "__main__":
    main()
