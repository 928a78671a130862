"""Search, compare, explain and find in the browser, on debian-mini."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browsing import Visit
from diptych import Collection
from diptych.search import Retrieve
from diptych_serve.studio.display import name_of

pytestmark = pytest.mark.slow(first=True)  # fills the store that the other files of this folder wait for

QUERY = "play chess against the computer"


def ids_of(hits: Iterable[Any]) -> list[str]:
    return [hit.id for hit in hits]


def whole_and_dense(packages: Collection) -> tuple[list[str], list[str]]:
    return ids_of(packages.search(QUERY)), ids_of(packages.search(QUERY, pipeline=Retrieve("dense")))


def numbers(texts: Iterable[str]) -> list[float]:
    return [float(found.replace("−", "-")) for text in texts for found in re.findall(r"[-−]?\d+\.\d+", text)[:1]]


def test_both_sides_answer_as_the_collection_does_and_what_is_typed_on_is_asked_no_more(
    visit: Visit, packages: Collection
) -> None:
    page = visit.open()
    visit.type_query("play chess")
    page.get_by_label("Query", exact=True).press_sequentially(" against the computer", delay=5)
    assert (visit.ids("a"), visit.ids("b")) == whole_and_dense(packages)
    asked = [url for url in visit.requests if url.endswith("/search")]
    assert len(asked) < len(QUERY), "a request for each key"


def test_a_link_shows_the_same_in_another_browser(visit: Visit) -> None:
    page = visit.open()
    visit.type_query("edit sound files")
    page.get_by_label("Side B").select_option("slot:lexical")
    page.get_by_label("Hits").select_option("20")
    shown = visit.ids("a"), visit.ids("b")
    link = page.evaluate("location.href")
    other = page.context.browser.new_context().new_page()  # type: ignore[union-attr]
    other.goto(link)
    there = Visit(other, visit.url)
    assert (there.ids("a"), there.ids("b")) == shown
    assert len(shown[0]) == 20
    other.context.close()


def test_a_config_of_ones_own_is_a_side_and_a_wrong_one_says_what_is_wrong(visit: Visit, packages: Collection) -> None:
    page = visit.open(q=QUERY)
    page.get_by_label("Side B").select_option("edit")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill("retrieve: {lexical: 5}\nlimit: 3")
    dialog.get_by_role("button", name="Ask with it").click()
    assert visit.ids("b") == ids_of(packages.search(QUERY, pipeline=Retrieve("lexical")))
    page.get_by_label("Side B").select_option("edit")
    expect(dialog.get_by_role("textbox")).to_have_value("retrieve: {lexical: 5}\nlimit: 3")
    visit.open(q=QUERY, b="yaml:retrieve: {densse: 5}")
    alert = page.locator("[data-column=b]").get_by_role("alert")
    expect(alert).to_contain_text("did you mean 'dense'?")
    assert visit.ids("a")
    expect(page.locator(".venn")).to_have_count(0)
    visit.faults.clear()  # the browser's own line on the answer's status


def focused(page: Page) -> tuple[str | None, str | None]:
    """Side and document of the hit that has the focus."""
    found: list[str | None] = page.evaluate(
        """() => {
            const at = document.activeElement;
            return [at.closest("[data-column]")?.dataset.column ?? null, at.closest("[data-hit]")?.dataset.hit ?? null];
        }"""
    )
    return found[0], found[1]


def test_everything_can_be_done_by_keys(visit: Visit) -> None:
    page = visit.open(q=QUERY)
    a, b = visit.ids("a"), visit.ids("b")
    page.get_by_role("main").focus()
    page.keyboard.press("/")
    expect(page.get_by_label("Query", exact=True)).to_be_focused()
    page.keyboard.press("ArrowDown")
    assert focused(page) == ("a", a[0])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert focused(page) == ("a", a[2])
    page.keyboard.press("ArrowRight")
    assert focused(page) == ("b", a[2] if a[2] in b else b[2])
    here = focused(page)
    page.keyboard.press("Enter")
    why = page.get_by_role("complementary")
    expect(why.get_by_role("heading", level=2)).to_be_focused()
    page.keyboard.press("Escape")
    expect(why).to_have_count(0)
    assert focused(page)[1] == here[1]
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Go to the search box")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_parts_of_a_score_sum_to_it_and_matched_words_are_marked(visit: Visit, packages: Collection) -> None:
    page = visit.open(q=QUERY)
    rank = 2
    hit = packages.search(QUERY)[rank]
    page.locator("[data-column=a] .hit-title").nth(rank).click()
    side = page.get_by_role("complementary").locator("[data-side=a].why-side")
    rows = side.locator(".parts").first.locator("tbody tr")
    expect(rows.first).to_be_visible()
    parts = numbers(row.locator("td").nth(1).inner_text() for row in rows.all())
    total = numbers([side.locator(".parts tfoot td").first.inner_text()])[0]
    assert total == pytest.approx(hit.score, abs=1e-4)
    assert sum(parts) == pytest.approx(total, abs=len(parts) * 1e-4)
    widths = [float(box.get_attribute("width") or 0) for box in side.locator("svg").first.locator("rect").all()]
    assert widths[0] / widths[1] == pytest.approx(parts[0] / parts[1], rel=0.05)
    marked = {mark.inner_text().lower() for mark in page.locator(".why-text mark").all()}
    assert "chess" in marked
    words = {mark.inner_text().lower() for mark in side.locator(".words mark").all()}
    assert "chess" in words


def test_the_panel_says_why_one_document_is_above_another(visit: Visit, packages: Collection) -> None:
    hits = packages.search(QUERY)
    page = visit.open(q=QUERY, doc=hits[0].id)
    side = page.get_by_role("complementary").locator("[data-side=a].why-side")
    others = side.get_by_label("Lower bar: compared with")
    expect(others.locator("option")).to_have_count(1)
    others.focus()
    expect(others.locator("option")).to_have_count(9)
    others.select_option(hits[4].id)
    sentence = side.locator(".why-difference")
    expect(sentence).to_contain_text(f"Above “{name_of(hits[4].document)}” by")
    assert numbers([sentence.inner_text().rpartition("” by")[2]])[0] == pytest.approx(
        hits[0].score - hits[4].score, abs=1e-4
    )
    expect(page).to_have_url(re.compile("a-other="))
    page.reload()
    expect(sentence).to_contain_text(f"Above “{name_of(hits[4].document)}” by")
    page.get_by_role("button", name="Close the explanation").click()
    expect(page).not_to_have_url(re.compile("other"))


def test_the_query_can_be_copied_as_code(visit: Visit, packages: Collection) -> None:
    page = visit.open(q=QUERY)
    hits = visit.ids("b")
    page.get_by_role("button", name="Code").click()
    code = page.get_by_role("region", name="The query as code")
    for name, words in [("YAML", "retrieve:"), ("Python", "Collection.open(")]:
        code.get_by_role("button", name=name, exact=True).click()
        expect(code.locator("pre")).to_contain_text(words)
    code.get_by_role("button", name="B", exact=True).click()
    expect(code.locator("pre")).to_contain_text("Retrieve('dense'")
    code.get_by_role("button", name="Copy Python").click()
    expect(page.locator(".toast")).to_contain_text("copied")
    program = page.evaluate("navigator.clipboard.readText()").replace('Collection.open("diptych.yaml")', "opened")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(program, {"opened": packages})
    assert [line.split("  ")[1] for line in printed.getvalue().splitlines()] == hits
