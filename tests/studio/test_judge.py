"""Judge by keys in the browser, on debian-mini."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browsing import Visit, overflow, violations
from diptych import Collection
from diptych.evaluate import read_beir
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.routes import studio
from serving import served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where judgements are saved. Each test judges other queries: what is judged is not asked again."""
    return tmp_path_factory.mktemp("judge") / "judgements"


@pytest.fixture(scope="module")
def packages_url(packages: Collection, folder: Path) -> Iterator[str]:
    """Studio over debian-mini, where people may judge queries of their own."""
    with served(application(Served([packages]), extension=studio(judgements=folder))) as url:
        yield f"{url}/studio/"


def start(visit: Visit, queries: str, who: str = "anna") -> Page:
    page = visit.open("judge", a="slot:dense", b="slot:lexical")
    page.get_by_label("Your name").fill(who)
    if (own := page.get_by_role("button", name="My own queries")).count():  # once something is judged
        own.click()
    page.get_by_label("Queries, one a line").fill(queries)
    page.get_by_role("button", name="Start judging").click()
    expect(page.get_by_role("group", name="Grade")).to_be_visible(timeout=60_000)
    return page


def pair(page: Page) -> tuple[str, str]:
    """The query and the title of the document that are shown."""
    card = page.get_by_role("article")
    return card.get_by_role("heading", level=2).inner_text(), card.get_by_role("heading", level=3).inner_text()


def press(page: Page, key: str) -> None:
    """Press a key, and wait until another document is shown, or the end."""
    before = json.dumps(pair(page))
    page.keyboard.press(key)
    page.wait_for_function(
        """(before) => {
            const of = (level) => document.querySelector(`article ${level}`)?.innerText;
            return !of("h2") || JSON.stringify([of("h2"), of("h3")]) !== before;
        }""",
        arg=json.dumps(json.loads(before), ensure_ascii=False, separators=(",", ":")),
    )


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "judgements.jsonl").read_text().splitlines()]


def grades(folder: Path, who: str) -> list[int | None]:
    return [event["grade"] for event in events(folder) if "grade" in event and event["judge"] == who]


def test_keys_grade_until_all_is_judged_and_every_grade_is_saved_at_once(visit: Visit, folder: Path) -> None:
    asked = "play chess against the computer\nedit sound files"
    page = start(visit, asked)
    given: list[int | None] = []
    queries = {pair(page)[0]}
    while page.get_by_role("article").count():
        queries.add(pair(page)[0])
        key = "0123s"[len(given) % 5]
        press(page, key)
        given.append(None if key == "s" else int(key))
        assert grades(folder, "anna") == given
    assert queries <= set(asked.splitlines())
    expect(page.get_by_text(f"{len(given)} judgements")).to_be_visible()
    expect(page.locator(".outcome")).to_be_focused()
    found, qrels = read_beir(folder)
    assert {query.text for query in found} == queries
    saved = [grade for name in qrels.judgements for grade in qrels.judgements[name].values()]
    assert sorted(grade for grade in saved if grade) == sorted(grade for grade in given if grade)


def test_undo_brings_back_the_document_that_was_graded_last(visit: Visit, folder: Path) -> None:
    page = start(visit, "draw diagrams", "bob")
    page.keyboard.press("u")
    expect(page.locator(".toast")).to_contain_text("no grade here to undo")
    press(page, "0")
    last = pair(page)
    press(page, "3")
    press(page, "u")
    assert pair(page) == last
    press(page, "2")
    assert grades(folder, "bob") == [0, 3, 2]
    assert "undo" in json.dumps(events(folder))
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".toast")).to_contain_text("every grade is saved")
    expect(page.get_by_label("Your name")).to_have_value("bob")


def test_a_key_that_is_held_down_grades_one_document(visit: Visit, folder: Path) -> None:
    page = start(visit, "a text editor", "cleo")
    page.keyboard.down("2")
    for _ in range(5):
        page.keyboard.down("2")  # repeats, as the system does
        page.wait_for_timeout(50)
    page.keyboard.up("2")
    press(page, "1")
    assert grades(folder, "cleo") == [2, 1]


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_judge_at_any_width(visit: Visit, width: int, scheme: Any) -> None:
    page = visit.page
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    visit.open("judge")
    expect(page.get_by_role("button", name="Start judging")).to_be_visible()
    assert (violations(page), overflow(page)) == ([], 0)
    start(visit, f"a compiler, {width} {scheme}")
    assert (violations(page), overflow(page)) == ([], 0)
