"""Writes files through the nodes of a deployment while something is done to them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

import urllib3

if TYPE_CHECKING:
    from pathlib import Path

    from deployed import Deployment


class Writer:
    """A client that tries the next node when one does not take a write."""

    def __init__(self, deployment: Deployment) -> None:
        ports = [node["pickbox_dashboard_port"] for node in deployment.nodes.values()]
        self._urls = [f"http://127.0.0.1:{port}/api/v1/files" for port in ports]
        self._pool = urllib3.PoolManager(retries=False, timeout=5.0)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.acknowledged: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def missing_in(self, folder: Path) -> list[str]:
        """The acknowledged files that the folder lacks."""
        return [
            name
            for name in self.acknowledged
            if not (folder / name).is_file() or (folder / name).read_text() != name
        ]

    def _write(self) -> None:
        number = 0
        while not self._end.wait(0.05):
            name = f"written-{number}"
            if any(self._put(url, name) for url in self._urls):
                self.acknowledged.append(name)
                number += 1

    def _put(self, url: str, name: str) -> bool:
        try:
            answer = self._pool.request("PUT", f"{url}/{name}", body=name.encode())
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status in (200, 201)
