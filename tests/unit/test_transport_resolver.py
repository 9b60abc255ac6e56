"""Names that cannot be asked, and names of which some addresses lead nowhere."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pickbox.consensus.transport import peer as peers
from pickbox.consensus.transport.peer import Peer
from pickbox.consensus.transport.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Callable

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))]
NAME = "node-a.test:9"


def refuse_once(patch: pytest.MonkeyPatch) -> None:
    """Have the next thread not start, as where the process has its limit of them."""
    start = threading.Thread.start

    def refused(_: threading.Thread) -> None:
        patch.setattr(threading.Thread, "start", start)
        raise RuntimeError("can't start new thread")

    patch.setattr(threading.Thread, "start", refused)


def test_a_name_is_asked_again_after_no_thread_was_to_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ask() -> None:
        resolver = Resolver(lambda *_, **__: FOUND)
        refuse_once(monkeypatch)
        with pytest.raises(OSError, match="can't start new thread"):
            await resolver.endpoints(NAME)
        assert await resolver.endpoints(NAME) == [(socket.AF_INET, ("127.0.0.1", 9))]

    asyncio.run(ask())


def test_a_name_is_asked_again_after_a_lookup_that_failed_in_an_unknown_way() -> None:
    def lookup(*_: object, **__: object) -> list[Any]:
        answer: Callable[[], list[Any]] = answers.pop()
        return answer()

    answers: list[Callable[[], list[Any]]] = [lambda: FOUND, lambda: [{}["nothing"]]]

    async def ask() -> None:
        resolver = Resolver(lookup)
        with pytest.raises(OSError, match="nothing"):
            await resolver.endpoints(NAME)
        assert await resolver.endpoints(NAME) == [(socket.AF_INET, ("127.0.0.1", 9))]

    asyncio.run(ask())


def test_a_peer_is_dialed_again_after_no_thread_was_to_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def dial() -> None:
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def lookup(*_: object, **__: object) -> list[Any]:
            loop.call_soon_threadsafe(asked.set)
            return []

        async def introduce(*_: object) -> None: ...

        refuse_once(monkeypatch)
        peer = Peer("a", (NAME,), "b", Resolver(lookup), introduce)
        await asyncio.wait_for(asked.wait(), 10)
        peer.stop()

    asyncio.run(dial())


def test_addresses_behind_those_that_swallow_packets_are_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A try has time for two that do not answer, and then it is over."""
    monkeypatch.setattr(peers, "_CONNECT_SECONDS", 0.05)
    addresses = [f"192.0.2.{n}" for n in range(1, 6)]
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 9)) for a in addresses]

    async def dial() -> None:
        introduced: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def connect(_: socket.socket, endpoint: tuple[str, int]) -> None:
            if endpoint[0] != addresses[-1]:
                await asyncio.Event().wait()

        async def introduce(sock: socket.socket, address: str, _: Peer) -> None:
            sock.close()
            if not introduced.done():
                introduced.set_result(address)

        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", connect)
        peer = Peer("a", (NAME,), "b", Resolver(lambda *_, **__: infos), introduce)
        assert await asyncio.wait_for(introduced, 10) == f"{addresses[-1]}:9"
        peer.stop()

    asyncio.run(dial())
