"""Names to addresses, asked anew at each connect, in threads that may hang."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

Endpoint: TypeAlias = tuple[socket.AddressFamily, tuple[Any, ...]]
_PATIENCE: Final = 2.0


class Resolver:
    """Resolves for one event loop. A name that hangs holds up one thread and nobody else.

    Args:
        lookup: `socket.getaddrinfo`, or what stands in for it.
    """

    def __init__(self, lookup: Callable[..., Any] = socket.getaddrinfo) -> None:
        self._lookup = lookup
        self._under_way: dict[str, asyncio.Future[list[Endpoint]]] = {}
        self._known: dict[str, list[Endpoint]] = {}

    async def endpoints(self, address: str) -> list[Endpoint]:
        """Where ``host:port`` is now. If the name cannot be asked: where it was last.

        Raises:
            OSError: the name is not known and never was.
            TimeoutError: nobody answers, and nobody ever did.
        """
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        if literal := _literal(host, int(port)):
            return [literal]
        answer = self._under_way.get(address) or self._start(address, host, int(port))
        try:
            found = await asyncio.wait_for(asyncio.shield(answer), _PATIENCE)
        except OSError as error:  # a TimeoutError is one
            if address not in self._known:
                raise
            fields = {"address": address, "why": str(error) or "no answer"}
            log.warning("name_not_resolved", extra={"fields": fields})
            return self._known[address]
        self._known[address] = found
        return found

    def forget(self, address: str) -> None:
        """Nobody will ask for `address` again."""
        self._known.pop(address, None)

    def _start(self, address: str, host: str, port: int) -> asyncio.Future[list[Endpoint]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Endpoint]] = loop.create_future()
        self._under_way[address] = answer

        def settle(found: list[Endpoint] | OSError) -> None:
            self._under_way.pop(address, None)
            if isinstance(found, OSError):
                answer.set_exception(found)
                answer.exception()  # nobody may be waiting any more
            else:
                answer.set_result(found)

        def ask() -> None:
            found: list[Endpoint] | OSError
            try:
                infos = self._lookup(host, port, type=socket.SOCK_STREAM)
                found = [(info[0], info[4]) for info in infos]
            except OSError as error:
                found = error
            except Exception as error:  # a label that is too long is a UnicodeError, for one
                found = OSError(str(error))
            try:
                loop.call_soon_threadsafe(settle, found)
            except RuntimeError:
                return  # the loop ended while the name hung

        try:
            threading.Thread(target=ask, name=f"resolve-{host}", daemon=True).start()
        except RuntimeError as error:  # no thread is to be had; the next connect asks again
            settle(OSError(str(error)))
        return answer


def _literal(host: str, port: int) -> Endpoint | None:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return (socket.AF_INET, (host, port)) if version == 4 else (socket.AF_INET6, (host, port))
