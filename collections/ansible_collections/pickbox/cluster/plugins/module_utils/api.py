# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Talks to the HTTP APIs of nodes: one after the other, again until a deadline, errors in words."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import ssl
import time
import urllib.error
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TypeVar

from ansible.module_utils.urls import open_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

TRY_AGAIN = (408, 429, 502, 503, 504)
"""Answers of a node, or of a load balancer before it, that say: not now."""

SHORTEST = 2.0
"""Seconds that a node has to answer at least: some answers wait a second for a node that hangs."""

PAUSE = 0.25
"""Seconds between two rounds of questions."""

ADVICE = {
    "https-required": "Begin the address with https://, and give the CA of the cluster as ca.",
    "unauthorized": "Give the admin token that the nodes were started with.",
    "not-ready": "Ask another node, or see what this one says with `pickbox doctor`.",
    "no-leader": "See with `pickbox status` that a majority of the nodes runs.",
    "directory-not-empty": "Set recursive to remove it with all that is in it.",
    "precondition-failed": "Nothing was overwritten; run it again to go by what is there now.",
    "change-too-early": "Run it again to go on waiting, or give it a longer timeout.",
}
"""What to do about a problem, where the node's own words do not say it."""

NO_ANSWER = (
    "See that the node runs, that this is the address of the right port, and that there was time "
    "enough."
)


UNTRUSTED = (
    "Give as ca the file with the CA of the cluster (pickbox_member.tls.ca on a node), and as the "
    "address the name that the inventory has for the node."
)
"""What to do about a node whose certificate is refused."""

NOT_HTTPS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""What OpenSSL says when the other side speaks plain HTTP."""


class Failed(Exception):
    """A request did not get what it asked for; the text says which, and what came instead."""

    document: dict[str, Any]
    type = ""
    """The stable name of the problem, such as ``no-leader``; empty when nobody answered."""

    def __init__(self, url: str, text: str, document: dict[str, Any] | None = None) -> None:
        super().__init__(text)
        self.url = url
        self.document = document or {}

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later, or at another node."""
        return True


class Silent(Failed):
    """No answer came. `why` says what happened instead."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(url, f"{url} does not answer ({why})")
        self.why = why


class Untrusted(Silent):
    """The node at an address shows no certificate that can be trusted, or does not speak HTTPS."""


class Refused(Failed):
    """A node answered with an error: a problem document, or at least a status."""

    def __init__(self, url: str, status: int, document: dict[str, Any]) -> None:
        self.status = status
        self.type = str(document.get("type", "")).rpartition(":")[2]
        self.detail = str(document.get("detail") or "it gives no reason").rstrip(".")
        kind = f"{status} {self.type}".rstrip()
        super().__init__(url, f"{url} answers {kind}: {self.detail}", document)

    @property
    def may_pass(self) -> bool:
        return self.status in TRY_AGAIN


class NoUrl(Failed):
    """What was given as a base URL is none."""

    def __init__(self, url: str) -> None:
        super().__init__(url, f"{url} is not an address such as http://127.0.0.1:9001")

    @property
    def may_pass(self) -> bool:
        return False


class Deadline:
    """Some seconds from now on."""

    def __init__(self, seconds: float) -> None:
        self._began = time.monotonic()
        self._seconds = seconds

    @property
    def left(self) -> float:
        """Seconds until it is over; negative afterwards."""
        return self._began + self._seconds - time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds since it began, for a result."""
        return round(time.monotonic() - self._began, 2)

    def pause(self) -> bool:
        """Wait a moment; says whether there is time for another try."""
        if self.left <= PAUSE:
            return False
        time.sleep(PAUSE)
        return True


def json_of(response: Any) -> Any:
    """The JSON document of an answer; None when it is empty."""
    content = response.read()
    return json.loads(content) if content else None


def ask(
    url: str,
    method: str = "GET",
    *,
    timeout: float,
    headers: dict[str, str] | None = None,
    body: Any = None,
    take: Callable[[Any], T] = json_of,
    ca: str | None = None,
) -> T:
    """Send one request; give what `take` makes of the answer.

    `timeout` bounds each silence. An answer that breaks off while it is taken counts as none. `ca`
    is a PEM file of the CAs to trust; without it those of the system are trusted.

    Raises:
        Refused: the node answers with an error.
        Silent: it does not answer, or not as a node does.
        Untrusted: nor can it be told whether it is one.
        NoUrl: there can be no node at `url`.
    """
    if not url.startswith(("http://", "https://")):
        raise NoUrl(url)
    try:
        # No netrc, which would replace the token; no redirect, which would carry it elsewhere; no
        # proxy of the environment, which would see it, and answer for a node.
        with open_url(
            url,
            method=method,
            data=body,
            headers=headers,
            timeout=timeout,
            use_netrc=False,
            use_proxy=False,
            follow_redirects="none",
            ca_path=ca,
        ) as response:
            return take(response)
    except urllib.error.HTTPError as answer:
        raise Refused(url, answer.code, _problem_in(answer)) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(error, ssl.SSLError) or isinstance(reason, ssl.SSLError):
            raise Untrusted(url, _words_of(error if reason is None else reason)) from None
        raise Silent(url, str(getattr(error, "reason", error)) or "the connection broke") from None
    except ValueError as error:
        raise Silent(url, f"not as a node does: {error}") from None


def _words_of(error: Any) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    reason = error.reason if isinstance(error, ssl.SSLError) else error
    return "it does not speak HTTPS" if reason in NOT_HTTPS else f"TLS fails: {reason}"


def _problem_in(answer: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        document = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    return document if isinstance(document, dict) else {}


class Nodes:
    """One API at the base URLs of some nodes, which are asked in turn, from the last that answered.

    A `token` is sent with each request; `ca` is the file of the CAs to trust. `deadline` bounds
    everything that is asked.
    """

    def __init__(
        self,
        urls: Sequence[str],
        deadline: Deadline,
        token: str | None = None,
        ca: str | None = None,
    ) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._ca = ca
        self.deadline = deadline

    @property
    def url(self) -> str:
        """The node that answered last."""
        return self._urls[0]

    def json(self, method: str, path: str, document: Any = None) -> dict[str, Any]:
        """Ask with a JSON document, if there is one; give the JSON object of the answer."""
        content = b"" if document is None else json.dumps(document).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        answer: dict[str, Any] = self.ask(
            method,
            path,
            headers=headers if content else {},
            body=(lambda: io.BytesIO(content)) if content else None,
        )
        return answer

    def once(self, method: str, path: str, document: Any) -> Any:
        """Make a request that is not to be made twice, of the node that answered last.

        Raises:
            Failed: it was refused, or nobody knows what became of it.
        """
        return ask(
            self.url + path,
            method,
            timeout=max(self.deadline.left, SHORTEST),
            headers={**self._headers, "Content-Type": "application/json"},
            body=json.dumps(document).encode(),
            ca=self._ca,
        )

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: Callable[[], BinaryIO] | None = None,
        take: Callable[[Any], T] = json_of,
    ) -> T:
        """Ask until a node answers; `body` is opened anew for each try.

        So the request is to be one that may be made twice: a read, one with an Idempotency-Key, or
        one that asks for a state. Every node is asked at least once.

        Raises:
            Failed: a refusal that would be the same later and elsewhere, or time ran out.
        """
        told: dict[str, Failed] = {}
        while True:
            for number, url in enumerate(list(self._urls)):
                # One that hangs leaves the others their share of the time.
                share = self.deadline.left / (len(self._urls) - number)
                everything = {**self._headers, **(headers or {})}
                try:
                    with body() if body else contextlib.nullcontext() as content:
                        answer = ask(
                            url + path,
                            method,
                            timeout=max(share, SHORTEST),
                            headers=everything,
                            body=content,
                            take=take,
                            ca=self._ca,
                        )
                except Failed as failure:
                    if not failure.may_pass:
                        self._prefer(url)
                        raise
                    # What a node has said tells more than that it was cut short when time ran out.
                    if isinstance(failure, Refused) or not isinstance(told.get(url), Refused):
                        told[url] = failure
                else:
                    self._prefer(url)
                    return answer
            hopeless = all(isinstance(failure, Untrusted) for failure in told.values())
            if hopeless or not self.deadline.pause():
                raise _all_of(list(told.values()))

    def _prefer(self, url: str) -> None:
        """Begin with the node that answered: those before it cost time."""
        self._urls.sort(key=lambda other: other != url)


def _all_of(failures: list[Failed]) -> Failed:
    """The failure that tells most, in the words of all."""
    refusals = [failure for failure in failures if isinstance(failure, Refused)]
    most = (refusals or failures)[0]
    most.args = ("; ".join(str(failure) for failure in failures),)
    return most


def explain(module: Any, failed: Failed, aim: str, deadline: Deadline) -> NoReturn:
    """End the module: what it was about to do, what the cluster answered where, and what to do."""
    advice = NO_ANSWER if isinstance(failed, Silent) else ADVICE.get(failed.type, "")
    if isinstance(failed, Untrusted):
        advice = UNTRUSTED
    said = f"{aim} failed after {deadline.spent:g} s: {failed}. {advice}".rstrip()
    module.fail_json(msg=said, url=failed.url, problem=failed.document)
    raise AssertionError("fail_json returned")
