"""Tune in the browser, on debian-mini."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from browsing import Visit, overflow, violations
from diptych import Collection
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.routes import studio
from serving import served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packages_url(packages: Collection, few_queries: Path) -> Iterator[str]:
    """Studio over debian-mini, with 60 judged queries."""
    with served(application(Served([packages]), extension=studio(queries=[few_queries]))) as url:
        yield f"{url}/studio/"


def tuned(visit: Visit) -> Locator:
    page = visit.open("tune")
    page.get_by_role("button", name="Tune").click()
    found = page.get_by_role("region", name="Result")
    expect(found).to_be_visible(timeout=400_000)
    return found


def test_trials_are_dots_that_keys_pick_and_the_change_of_one_is_copied(visit: Visit) -> None:
    """One tuning for all that its result shows: it takes long."""
    result, page = tuned(visit), visit.page
    assert "nDCG@10" in result.locator("p").first.inner_text()
    dots = result.get_by_role("radio")
    said = [dot.get_attribute("aria-label") or "" for dot in dots.all()]
    assert sum("recommended" in text for text in said) == 1
    assert sum("present" in text for text in said) == 1
    front = [milliseconds(text) for text in said if "on the front" in text or "recommended" in text]
    assert front == sorted(front), "from left to right"

    dots.locator("xpath=self::*[@tabindex='0']").focus()
    page.keyboard.press("Home")
    expect(dots.first).to_be_focused()
    expect(dots.first).to_have_attribute("aria-checked", "true")
    page.keyboard.press("ArrowRight")
    expect(dots.nth(1)).to_be_focused()

    index = next(n for n, text in enumerate(said) if "on the front" in text and "present" not in text)
    page.keyboard.press("Home")
    for _ in range(index):
        page.keyboard.press("ArrowRight")
    expect(dots.nth(index)).to_have_attribute("aria-checked", "true")
    diff = result.locator("pre.diff")
    expect(diff).to_be_visible()
    result.get_by_role("button", name="Copy").click()
    expect(page.locator(".toast")).to_contain_text("copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == diff.inner_text().strip()
    assert is_a_diff(copied)

    result.get_by_text("Data as a table").press("Enter")
    expect(result.get_by_role("row")).to_have_count(min(200, len(said)) + 1)
    for width, scheme in [(320, "light"), (1280, "dark")]:
        look(page, width, scheme)
        assert (violations(page), overflow(page)) == ([], 0)


def look(page: Page, width: int, scheme: Any) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)


def milliseconds(text: str) -> float:
    """What is said of a trial's time: rounded, so that trials of other qualities may share it."""
    words = text.rpartition(": nDCG@10 ")[2].replace(",", "").split()
    unit = "ms" if "ms" in words else "s"
    return float(words[words.index(unit) - 1]) * {"ms": 1, "s": 1000}[unit]


def is_a_diff(text: str) -> bool:
    lines = text.splitlines()
    changed = [line for line in lines if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    before, after = ([line[1:] for line in changed if line[0] == sign] for sign in "-+")
    return bool(changed) and list(difflib.unified_diff(before, after)) != []


def test_a_tuning_can_be_cancelled_and_says_what_it_does_meanwhile(visit: Visit) -> None:
    page = visit.open("tune")
    page.get_by_role("button", name="Tune").click()
    progress = page.get_by_role("region", name="Progress: Tuning")
    expect(progress.get_by_role("progressbar")).to_be_visible()
    progress.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled. Nothing was changed")).to_be_visible(timeout=120_000)
    expect(page.get_by_role("button", name="Tune")).to_be_enabled()


def test_a_budget_is_a_number_above_0(visit: Visit) -> None:
    page = visit.open("tune")
    budget, start = page.get_by_label("Time limit for the median query"), page.get_by_role("button", name="Tune")
    for wrong in ("-1", "0", "fast"):
        budget.fill(wrong)
        expect(start).to_be_disabled()
        expect(page.get_by_text("A number above 0")).to_be_visible()
    budget.fill("50")
    expect(start).to_be_enabled()
    budget.fill("")
    expect(start).to_be_enabled()
