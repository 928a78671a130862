"""Studio over pictures: emoji of one artist, found by words and by another artist's pictures."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import colour_plugin
import diptych_adapters.hooks
from browsing import Visit, alone, exported, overflow, violations
from diptych import Collection, Query, Registry
from diptych.config import parse_config
from diptych.search import Retrieve
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.routes import studio
from pages import ROOT
from serving import served

pytestmark = pytest.mark.slow

EMOJI = ROOT / "examples" / "emoji"
QUERY = "red apple"
SLOTS = {
    "words": {"adapter": "bm25", "language": "english"},
    "picture": {"adapter": "colours", "grid": 6, "of": "image"},
    "hues": {"adapter": "colour-words", "of": "image"},
}
SEARCH = {"retrieve": {"words": 50, "picture": 50}, "limit": 10}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures of both artists."""
    folder = tmp_path_factory.mktemp("pictures")
    with zipfile.ZipFile(EMOJI / "pictures.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def emoji(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """Food, animals and places as Noto draws them, with their English names and keywords."""
    store = f"edge:{tmp_path_factory.mktemp('emoji') / 'qdrant'}"
    media = {"root": str(pictures), "store": "thumbnail"}
    config = parse_config({"store": store, "collection": "emoji", "slots": SLOTS, "search": SEARCH, "media": media})
    with gzip.open(EMOJI / "emoji.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    documents = [
        {
            "id": row["id"],
            "title": row["texts"]["en"][0],
            "text": ", ".join(row["texts"]["en"][1:]),
            "category": row["category"],
            "media": {"image": f"noto/{row['id']}.png"},
        }
        for row in rows
        if row["category"] in ("Food & Drink", "Animals & Nature")
    ]
    with Collection.open(config, registry=Registry(colour_plugin, diptych_adapters.hooks, installed=False)) as made:
        report = made.populate(documents)
        assert report.new == len(documents) > 200
        yield made


@pytest.fixture(scope="module")
def packages_url(emoji: Collection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Studio over the emoji, where people may judge."""
    folder = tmp_path_factory.mktemp("judge") / "judgements"
    with served(application(Served([emoji]), extension=studio(judgements=folder))) as url:
        yield f"{url}/studio/"


def test_words_find_pictures_that_are_shown_small_beside_their_names(visit: Visit, emoji: Collection) -> None:
    page = visit.page
    page.set_viewport_size({"width": 1280, "height": 4000})  # else only pictures in sight are drawn
    visit.open(q=QUERY)
    hits = emoji.search(QUERY)
    assert visit.ids("a") == [hit.id for hit in hits]
    titles = page.locator("[data-column=a] .hit-title")
    names = [(title.text_content() or "").partition(": ")[2].strip() for title in titles.all()]
    assert names == [hit.document.title for hit in hits]
    shown = page.locator("[data-column=a] .thumbnail img")
    expect(shown).to_have_count(len(hits))
    sizes = shown.evaluate_all("all => all.map((one) => [one.complete, one.naturalWidth, one.naturalHeight])")
    assert {tuple(size) for size in sizes} == {(True, 48, 48)}


def test_a_picture_of_another_artist_finds_its_like(visit: Visit, emoji: Collection, pictures: Path) -> None:
    page = visit.open(a="slot:picture", b="slot:hues")
    tomato = pictures / "twemoji" / "1f345.png"
    page.get_by_label("Picture of the query").set_input_files(tomato)
    expect(page.locator("[data-column=a] .hit").first).to_be_visible()
    query = Query(media={"image": "twemoji/1f345.png"})
    assert visit.ids("a") == [hit.id for hit in emoji.search(query, pipeline=Retrieve("picture", 50))]
    assert "1f345" in visit.ids("a")
    page.locator("[data-hit='1f345'] .hit-title").first.click()
    why = page.get_by_role("complementary")
    expect(why.get_by_role("img", name="tomato").first).to_be_visible()
    expect(why.locator("[data-side=b] .parts").get_by_role("cell", name="red")).to_be_visible()


def test_pictures_are_judged_as_they_look(visit: Visit) -> None:
    page = visit.open("judge", a="slot:words", b="slot:picture")
    page.get_by_label("Your name").fill("anna")
    page.get_by_label("Queries, one a line").fill("red fruit")
    page.get_by_role("button", name="Start judging").click()
    card = page.get_by_role("article")
    expect(card.locator(".thumbnail img")).to_be_visible()
    first = card.get_by_role("heading", level=3).inner_text()
    page.keyboard.press("2")
    expect(card.get_by_role("heading", level=3)).not_to_have_text(first)
    expect(card.locator(".thumbnail img")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_fit_any_window(visit: Visit, scheme: Any) -> None:
    page = visit.open(q=QUERY)
    visit.settle()
    page.emulate_media(color_scheme=scheme)
    for width in (320, 768, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        assert (violations(page), overflow(page)) == ([], 0), width
        assert cut_off(page) == []


def cut_off(page: Page) -> list[str]:
    """Pictures that reach beyond their card."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(".hit")].filter((hit) => {
            const card = hit.getBoundingClientRect(), picture = hit.querySelector("img")?.getBoundingClientRect();
            return picture && (picture.right > card.right || picture.bottom > card.bottom || picture.width < 32);
        }).map((hit) => hit.dataset.hit)"""
    )
    return found


def test_an_exported_comparison_holds_its_pictures(visit: Visit, tmp_path: Path) -> None:
    page = visit.open(q=QUERY)
    shown = visit.ids("a")
    file = exported(page, tmp_path)
    browser = page.context.browser
    assert browser is not None
    with alone(browser, file, viewport={"width": 1280, "height": 4000}) as offline:  # else not all are drawn
        assert offline.ids("a") == shown
        expect(offline.page.locator("[data-column=a] .thumbnail img")).to_have_count(len(shown))
