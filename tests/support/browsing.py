"""Chromium, driven as a person would drive it, on Studio's page: what it shows, and what it must never do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SERIOUS = ("serious", "critical")


def chromium() -> str:
    """The path of a Chromium; skips the test where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: `make browser` installs one where it may")
    return found


@contextmanager
def browsing() -> Iterator[Browser]:
    """A headless Chromium. Root, as in a container, has no sandbox."""
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page, and what it did that it should not.

    Args:
        page: the page.
        url: of Studio, with a slash at the end.
    """

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("console", self._note_message)
        self.page.on("dialog", self._note_dialog)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.faults.append(message.text)

    def _note_dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, view: str = "compare", **params: str) -> Page:
        """Open a view by its link."""
        given = "&".join(f"{name}={quote(value)}" for name, value in params.items())
        self.page.goto(f"{self.url}#/{view}{'?' if given else ''}{given}")
        return self.page

    def type_query(self, text: str) -> None:
        """Type into the search box, key by key."""
        box = self.page.get_by_label("Query", exact=True)
        box.fill("")
        box.press_sequentially(text, delay=15)

    def ids(self, side: str) -> list[str]:
        """Ids of a side's hits, once it is not searching."""
        self.settle()
        return [str(hit.get_attribute("data-hit")) for hit in self.page.locator(f"[data-column={side}] .hit").all()]

    def settle(self) -> None:
        """Wait until both sides have answered what the box says."""
        self.page.wait_for_timeout(400)  # the pauses after the last key
        self.page.locator(".columns[aria-busy=false]").wait_for()

    def other_hosts(self) -> list[str]:
        """What was asked of another host than Studio's."""
        own = urlsplit(self.url).netloc
        asked = {urlsplit(url) for url in self.requests}
        return sorted(url.geturl()[:100] for url in asked if url.scheme not in {"data", "blob"} and url.netloc != own)


def violations(page: Page) -> list[dict[str, Any]]:
    """What axe finds serious or critical: its rule, and where."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        {"rule": one["id"], "help": one["help"], "where": [node["target"] for node in one["nodes"][:5]]}
        for one in found
        if one["impact"] in SERIOUS
    ]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
