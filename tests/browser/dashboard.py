"""The dashboard as a person sees it: one page of one node in a real browser."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cluster import wait_until
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from cluster import Node
    from playwright.sync_api import ConsoleMessage, Locator, Page, Request

REFRESH = 5.0
"""Seconds between two samples, and between two questions of a page that has no event stream."""

NOT_READY = re.compile(r"status of 503 .*/api/health\)")
"""What Chromium writes to the console when a node is not ready; no script can stop it.

Any node may be that for a moment: a machine that stalls makes an election.
"""

UNWELL = re.compile(r"net::ERR_|status of 503 .*/api/events/stream\)")
"""What it writes when a node is gone, or has no stream to give."""

_REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.effectiveDirective} refused ${event.blockedURI}`);
});
"""


@dataclass
class Dashboard:
    """A page, and whatever went wrong in it, in two lists that are empty when all is well.

    Attributes:
        complaints: errors and warnings of the console, uncaught exceptions, policy violations.
        strangers: addresses that were asked for and are not the node's own.
    """

    page: Page
    node: Node
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Load the page and wait for its first answer."""
        self.page.add_init_script(_REPORT_VIOLATIONS)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)
        # Playwright takes choosers over from the first listener on, and not at once.
        self.page.on("filechooser", lambda _: None)
        self.page.goto(self.node.client + "/")
        expect(self.updated).to_contain_text("Updated")

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.text} ({message.location['url']})")

    def _asked(self, request: Request) -> None:
        address = urlsplit(request.url)
        if f"{address.scheme}://{address.netloc}" != self.node.client:
            self.strangers.append(request.url)

    def forgive(self, refusal: str) -> None:
        """Chromium's complaint that a request got the answer that the test is about."""
        found = [complaint for complaint in self.complaints if refusal in complaint]
        assert found, f"nothing was refused with {refusal}"
        self.complaints[:] = [c for c in self.complaints if c not in found]

    @property
    def updated(self) -> Locator:
        """When the page last had an answer."""
        return self.page.locator("#updated")

    @property
    def verdict(self) -> Locator:
        """The cluster's state in a word or two."""
        return self.page.locator("#verdict")

    @property
    def banner(self) -> Locator:
        """What is shown when the page's own node does not answer."""
        return self.page.get_by_role("alert")

    @property
    def cards(self) -> Locator:
        """One card a node."""
        return self.page.locator("article.node")

    def card(self, node: Node) -> Locator:
        """The card of `node`."""
        return self.cards.filter(has=self.page.get_by_role("heading", name=node.node_id))

    def figure(self, node: Node, name: str) -> str:
        """A figure on a node's card."""
        pair = self.card(node).locator("dl > div").filter(has_text=name)
        return pair.locator("dd").first.inner_text()

    def event(self, kind: str) -> Locator:
        """The events of a kind, newest first."""
        return self.page.locator(f"#events li[data-kind={kind}]")

    def graph(self, title: str) -> Locator:
        """A graph, with its figures above it."""
        return self.page.locator("figure.graph").filter(
            has=self.page.get_by_role("heading", name=title)
        )

    def row(self, name: str) -> Locator:
        """A row of the files browser."""
        cell = self.page.get_by_role("rowheader", name=name, exact=True)
        return self.page.locator("#entries tr").filter(has=cell)

    def upload(self, name: str, content: bytes) -> Locator:
        """Choose a file for upload; returns what is said of it."""
        file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        self._choose([file])
        return self.page.locator("#uploads li").filter(has_text=name).first

    def upload_from(self, path: Path) -> Locator:
        """Choose a file of the disk, which may be large."""
        self._choose([path])
        return self.page.locator("#uploads li").filter(has_text=path.name).first

    def wait_stored(self, upload: Locator, seconds: float = 20.0) -> None:
        """Until it is said of an upload that it is stored, and not only sent and being stored."""
        expect(upload.locator(".said")).to_have_text("stored", timeout=1000 * seconds)

    def _choose(self, files: list[Any]) -> None:
        with self.page.expect_file_chooser() as chosen:
            self.page.get_by_role("button", name="Upload files").click()
        chosen.value.set_files(files=files)

    def leaders(self) -> list[str]:
        """The nodes whose card says that they lead."""
        cards = [
            (card.locator("h3 > span").first, card.locator(".role")) for card in self.cards.all()
        ]
        return [name.inner_text() for name, role in cards if "Leader" in role.inner_text()]

    def refresh(self) -> None:
        """Press the button."""
        self.page.get_by_role("button", name="Refresh").click()

    def wait_verdict(self, text: str, seconds: float = 20.0) -> None:
        """Refresh until the verdict is `text`."""

        def said() -> bool:
            self.refresh()
            return self.verdict.inner_text() == text

        wait_until(said, f"the dashboard says {text!r}", seconds, pause=0.2)

    def hold_time(self) -> None:
        """Have time pass in the page by ``clock.run_for`` alone, after a reload too."""
        now = time.time()
        self.page.clock.install(time=now)
        self.page.clock.pause_at(now + REFRESH)  # to come yet, and the stream is not silent for it

    def picture(self, path: Path) -> None:
        """Save all of the page as an image."""
        path.parent.mkdir(exist_ok=True)
        self.page.evaluate("scrollTo(0, 0)")  # the bar at the top is wherever the page is scrolled
        self.page.screenshot(path=path, full_page=True)


def has_told(node: Node, what: str) -> bool:
    """Whether one of the node's events says this, or names this path."""
    events = node.request("GET", "/api/events").json()["events"]
    return any(what in event["text"] or what in event["paths"] for event in events)
