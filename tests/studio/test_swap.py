"""A collection and its swaps in the browser, on debian-mini."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from browsing import Visit, violations
from diptych import Collection, Registry
from diptych.config import Config, parse_config
from diptych.swap import ApplyOptions, status
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.routes import studio
from serving import animals, served

pytestmark = pytest.mark.slow(first=True)

STEPS = ["Plan", "Back-fill", "Gate", "Cut-over"]


@pytest.fixture(scope="module")
def packages_url(packages: Collection) -> Iterator[str]:
    """Studio over debian-mini, where rollbacks are allowed."""
    with served(application(Served([packages]), extension=studio(writes=True))) as url:
        yield f"{url}/studio/"


class Held:
    """The progress of an apply that stops in the middle of the back-fill until it is let go."""

    def __init__(self) -> None:
        self.is_held, self.let_go = threading.Event(), threading.Event()

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, stage: str, n: int) -> None:
        """Waits once vectors are written."""
        if stage == "fill" and not self.let_go.is_set():
            self.is_held.set()
            self.let_go.wait(300)


def changed(collection: Collection, slot: str, **options: Any) -> Config:
    """The config of the collection with another encoder for a slot."""
    config = collection.handle.config
    assert config is not None
    raw = config.model_dump(mode="json", exclude_unset=True, exclude={"source"})
    return parse_config({**raw, "slots": {**raw["slots"], slot: options}})


@contextmanager
def swapping(collection: Collection) -> Iterator[Held]:
    """A swap that is in the middle of its back-fill during the block, and cut over after it."""
    held = Held()
    with ThreadPoolExecutor(1) as pool:
        options = ApplyOptions(gate=False, why="another language")
        config = changed(collection, "lexical", adapter="bm25", language="german")  # quick to fill
        applied = pool.submit(collection.apply, config, options, progress=held)
        try:
            assert held.is_held.wait(120) or applied.result(1) is None, "it was never held"
            yield held
        finally:
            held.let_go.set()
        assert applied.result(300).outcome == "cut over"


def live(collection: Collection) -> str:
    return next(own.vector for own in status(collection.handle).vectors if own.slot == "lexical" and own.role == "live")


def states(page: Page) -> list[str]:
    steps = page.get_by_role("region", name="Steps of the swap").get_by_role("listitem")
    return [str(step.get_attribute("data-state")) for step in steps.all()]


def test_a_swap_is_followed_searched_and_rolled_back_by_keys(visit: Visit, packages: Collection) -> None:
    page = visit.open("collection")
    expect(page.get_by_text("No encoder was ever swapped here")).to_be_visible()
    expect(page.get_by_text("No rollback from here.")).to_be_visible()
    before = live(packages)
    with swapping(packages):
        page.reload()
        steps = page.get_by_role("region", name="Steps of the swap")
        expect(steps.get_by_role("heading", level=2)).to_have_count(len(STEPS))
        assert [step.inner_text().split()[0] for step in steps.get_by_role("heading", level=2).all()] == STEPS
        assert states(page) == ["done", "running", "waiting", "waiting"]
        expect(steps.get_by_role("progressbar")).to_be_visible()
        expect(steps.get_by_text("of 2,000 documents")).to_be_visible()
        expect(page.get_by_role("button", name="Roll back")).to_have_count(0)
        page.get_by_role("link", name="Compare generations 1 and 2 of lexical").click()
        page.get_by_role("searchbox", name="Query", exact=True).fill("editor")
        assert visit.ids("a")
        visit.ids("b")  # answers, with as many documents as are filled
        page.go_back()
        expect(steps).to_be_visible()

    expect(page.get_by_role("button", name="Roll back")).to_be_visible(timeout=60_000)
    assert states(page) == ["done"] * 4
    assert live(packages) != before
    page.get_by_role("button", name="Roll back").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("make generation 1 of lexical (bm25, language: english) live again, in one update")
    expect(dialog.get_by_role("button", name="Keep it as it is")).to_be_focused()
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Roll back")).to_be_focused()
    assert live(packages) != before
    page.keyboard.press("Enter")
    dialog.get_by_label("Why? Kept in the history").fill("users find less")
    dialog.get_by_role("button", name="Roll back").press("Enter")
    expect(page.get_by_text("Rolled back", exact=False).first).to_be_visible()
    expect(dialog).to_have_count(0)
    assert live(packages) == before
    expect(page.get_by_role("button", name="Go forward again")).to_be_visible()
    assert states(page) == ["done", "done", "done", "undone"]
    table = page.get_by_role("table", name="Vectors")
    expect(table).to_contain_text("bm25, language: german")
    expect(table).to_contain_text("bm25, language: english")
    page.get_by_text("What was done before").press("Enter")
    expect(page.get_by_role("table", name="History of this collection's encoders")).to_contain_text("another language")
    expect(page.get_by_role("cell", name="users find less")).to_be_visible()


def test_without_leave_to_write_there_is_a_reason_and_no_button(
    browser: Browser, fakes: Registry, tmp_path: Path
) -> None:
    with animals(tmp_path, fakes) as collection:
        collection.apply(changed(collection, "dense", adapter="fake-dense", seed=7), ApplyOptions(gate=False))
        with served(application(Served([collection], registry=fakes), extension=studio())) as url:
            context = browser.new_context()
            page = Visit(context.new_page(), f"{url}/studio/").open("collection")
            expect(page.get_by_text("start it with --allow-writes")).to_be_visible()
            expect(page.get_by_role("button", name="Roll back")).to_have_count(0)
            context.close()


def test_health_says_who_made_each_vector(visit: Visit) -> None:
    page = visit.open("collection")
    table = page.get_by_role("table", name="Vectors")
    for text in ("sentence-transformers, model: all-MiniLM-L6-v2", "bm25", "0 of 2,000"):
        expect(table).to_contain_text(text)
    expect(table).to_contain_text("the encoder makes the same vectors: lowest cosine")


def test_health_says_which_documents_lack_a_vector(visit: Visit, packages: Collection) -> None:
    point = packages.client.scroll(packages.name, limit=1)[0][0].id
    packages.client.delete_vectors(packages.name, [live(packages)], [point])
    page = visit.open("collection")
    expect(page.get_by_role("table", name="Vectors")).to_contain_text("1 of 2,000")
    expect(page.get_by_text("1 of 2,000 documents have no vector")).to_be_visible()
