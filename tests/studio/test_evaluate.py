"""Evaluate and list queries in the browser, on debian-mini: what the page says is what the library measures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from browsing import Visit, overflow, violations
from diptych import Collection, Run
from diptych.evaluate import Comparison, compare, evaluate, read_beir
from diptych.search import Pipeline
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.routes import studio
from serving import served

pytestmark = pytest.mark.slow

SIDES = {"a": "slot:dense", "b": "pipeline"}
METRIC = "nDCG@10"


@pytest.fixture(scope="module")
def packages_url(packages: Collection, few_queries: Path) -> Iterator[str]:
    """Studio over debian-mini, with 60 judged queries."""
    with served(application(Served([packages]), extension=studio(queries=[few_queries]))) as url:
        yield f"{url}/studio/"


@pytest.fixture(scope="module")
def comparison(packages: Collection, few_queries: Path) -> Comparison:
    """The whole pipeline against the dense slot, by the library."""
    queries, qrels = read_beir(few_queries)
    dense = Pipeline.of_slot("dense", packages.handle.search_config)
    runs = [
        Run.from_hits(name, queries, [packages.search(query.text, pipeline=side) for query in queries])
        for name, side in {"dense alone": dense, "whole pipeline": None}.items()
    ]
    return compare([evaluate(run, qrels, [METRIC]) for run in runs], "dense alone", METRIC)


def evaluated(visit: Visit, **params: str) -> Locator:
    """The result of an evaluation that somebody started with the button."""
    page = visit.open("evaluate", **SIDES, **params)
    page.get_by_role("button", name="Evaluate").click()
    return result_of(page)


def result_of(page: Page) -> Locator:
    found = page.get_by_role("region", name="Result")
    expect(found).to_be_visible(timeout=120_000)
    return found


def figure(text: str) -> float:
    return float(text.replace("−", "-"))


def test_the_verdict_comes_first_and_says_what_the_library_measures(visit: Visit, comparison: Comparison) -> None:
    result = evaluated(visit)
    first = result.locator("p").first.inner_text().replace("\u00a0", " ")
    sentence = re.sub(r"-(?=\d)", "−", f"{comparison.sentence('whole pipeline')}.")  # the page writes minus signs
    assert first.lower() == sentence.lower()
    effect = comparison.of("whole pipeline")
    said = result.get_by_role("img", name=re.compile(f"^difference in {METRIC}")).get_attribute("aria-label") or ""
    whole = re.search(r"all queries: (\S+) \[(\S+), (\S+)\]", said)
    assert whole is not None, said
    assert [figure(part) for part in whole.groups()] == pytest.approx([effect.mean, effect.low, effect.high], abs=5e-4)
    legend = result.locator(".chart-legend").inner_text()
    assert f"better on {effect.wins} " in legend
    assert f"worse on {effect.losses} " in legend
    assert f"equal on {effect.ties}" in legend


def test_groups_of_queries_stand_as_dots_and_as_a_table(visit: Visit) -> None:
    page = visit.open("evaluate", **SIDES)
    page.get_by_label("section").check()
    page.get_by_role("button", name="Evaluate").click()
    chart = result_of(page).locator("figure", has_text="Difference, over all and by group")
    said = chart.get_by_role("img").get_attribute("aria-label") or ""
    chart.get_by_text("Data as a table").press("Enter")
    expect(chart.get_by_role("table")).to_be_visible()
    rows = chart.get_by_role("row").all()[1:]
    assert rows
    for row in rows:
        group, _, difference, interval = (cell.inner_text() for cell in row.locator("th, td").all())
        assert f"{group}: {difference} {interval}" in said
    assert {row.locator("th").inner_text().partition(":")[0] for row in rows} <= {"length", "section"}


def shown(page: Page) -> list[tuple[int, str]]:
    """Place and query of the rows that are in the document."""
    rows = page.evaluate(
        """() => [...document.querySelectorAll('[role=option]')].map((row) =>
            [Number(row.getAttribute('aria-posinset')), row.querySelector('.query-text').textContent])"""
    )
    return [(place, text) for place, text in rows]


def listed(visit: Visit) -> Locator:
    evaluated(visit).get_by_role("link", name="as a list").click()
    found = visit.page.get_by_role("listbox")
    expect(found).to_be_visible()
    return found


def test_a_query_of_the_list_opens_its_comparison_and_back_returns_to_its_place(visit: Visit) -> None:
    rows, page = listed(visit), visit.page
    rows.focus()
    rows.press("PageDown")
    rows.press("ArrowDown")
    chosen = page.locator("[aria-selected=true]")
    expect(chosen).not_to_have_attribute("aria-posinset", "1")
    place, text = chosen.get_attribute("aria-posinset"), chosen.locator(".query-text").inner_text()
    rows.press("Enter")
    expect(page.get_by_role("searchbox", name="Query", exact=True)).to_have_value(text)
    page.go_back()
    expect(page.locator("[aria-selected=true]")).to_have_attribute("aria-posinset", place or "")
    expect(page.get_by_role("listbox")).to_be_focused()
    page.get_by_label("Only queries that contain").fill(text[3:12])
    assert all(text[3:12].lower() in other.lower() for _, other in shown(page))
    page.locator("[role=option]", has_text=text).first.click()
    expect(page.get_by_role("searchbox", name="Query", exact=True)).to_have_value(text)


def test_judged_hits_are_marked_and_relevant_ones_that_are_missing_are_found(
    visit: Visit, packages: Collection, few_queries: Path
) -> None:
    queries, qrels = read_beir(few_queries)
    dense = Pipeline.of_slot("dense", packages.handle.search_config)
    answers = {query.id: [packages.search(query.text, pipeline=side) for side in (dense, None)] for query in queries}
    found = {key: [[hit.id for hit in hits] for hits in sides] for key, sides in answers.items()}
    hidden = {key: {name for name in qrels.relevant(key) for ids in found[key] if name not in ids} for key in found}
    marked = next(own for own in queries if qrels.relevant(own.id) & set(found[own.id][1]))
    missed = next(own for own in queries if hidden[own.id])
    note = visit.page.get_by_role("region", name="Judged documents")
    for query in (marked, missed):
        page = visit.open(**SIDES, q=query.text)
        expect(note).to_contain_text("By the judgements in few: ")
        for side, ids in zip("ab", found[query.id], strict=True):
            assert visit.ids(side) == ids
            hits = page.locator(f"[data-column={side}] .hit:has(.grade-tag[data-kind=good])").all()
            assert [own.get_attribute("data-hit") for own in hits] == [i for i in ids if i in qrels.relevant(query.id)]
            graded = page.locator(f"[data-column={side}] .grade-tag").count()
            assert graded == sum(name in qrels.judgements[query.id] for name in ids)
        expect(note.get_by_role("listitem")).to_have_count(len(hidden[query.id]))
    link = note.get_by_role("link").first
    title = link.inner_text()
    link.click()
    why = visit.page.get_by_role("complementary")
    expect(why.get_by_role("heading", level=2)).to_have_text(title)
    expect(why.locator("[data-side=a].why-side")).to_contain_text("rank")
    assert violations(visit.page) == []
    visit.page.go_back()
    expect(why).to_have_count(0)
    visit.page.get_by_label("Query", exact=True).fill(f"{missed.text} x")
    expect(note).to_have_count(0)
    expect(visit.page.locator(".grade-tag")).to_have_count(0)


MANY = 10_000


IN_SIGHT = """() => {
    const list = document.querySelector('[role=listbox]');
    const { top, bottom } = list.getBoundingClientRect();
    const drawn = [...list.querySelectorAll('[role=option]')].map((row) => row.getBoundingClientRect());
    return Math.min(...drawn.map((row) => row.top)) <= top && Math.max(...drawn.map((row) => row.bottom)) >= bottom;
}"""


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_it_at_any_width(visit: Visit, width: int, scheme: Any) -> None:
    page = visit.page
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    result = evaluated(visit, slices="length,section")
    for table in result.get_by_text("Data as a table").all():
        table.click()
    assert (violations(page), overflow(page)) == ([], 0)
    result.get_by_role("link", name="as a list").click()
    expect(page.get_by_role("listbox")).to_be_visible()
    assert (violations(page), overflow(page)) == ([], 0)
