"""Links, keyboard, screen readers, widths, keys and hostile texts: what every view of the page holds to."""

from __future__ import annotations

import base64
import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect
from qdrant_client.http.exceptions import ResponseHandlingException

import colour_plugin
import diptych_adapters.hooks
from browsing import Visit, overflow, violations
from colour_plugin import COLOURS
from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.swap import ApplyOptions
from diptych_serve.service.access import Keys
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.routes import studio
from serving import ANIMALS, animals, judged, served, until

pytestmark = pytest.mark.slow

VIEWS = ("compare", "queries", "evaluate", "judge", "swap", "health", "docs")
WIDTHS = (320, 768, 1440)
# Each would set `pwned`, open a dialog, load something or break out of an attribute, a script, JSON or a style.
HOSTILE = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "<svg onload=alert(1)><animate onbegin=alert(1) attributeName=x dur=1s>",
    '"><iframe src=javascript:alert(1)></iframe>',
    "'-window.pwned=1-'",
    "javascript:window.pwned=1",
    "{{constructor.constructor('window.pwned=1')()}}",
    "${window.pwned=1}`",
    "<!--<script>window.pwned=1//-->",
    "]]><x:script xmlns:x='http://www.w3.org/1999/xhtml'>window.pwned=1</x:script>",
    "</style><style>@import 'https://evil.example/x.css';*{display:none}</style>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    '<a href="data:text/html,<script>alert(1)</script>">x</a>',
    "<form action=https://evil.example><button>x",
    "<details open ontoggle=alert(1)>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--><img src onerror=alert(1)>'>",
    "&lt;script&gt;window.pwned=1&lt;/script&gt; &#x3c;b&#x3e;",
    "\u202egnp.exe \u2066\u200b\ufeff zero width and right to left",
    "\u2028window.pwned=1\u2029//",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 Z\u0351\u036b\u0343\u036aa\u0302\u036b\u0351l",
    "__proto__",
    "constructor",
    "%3Cscript%3Ewindow.pwned=1%3C/script%3E",
    "a" * 3000,
)


@contextmanager
def visiting(browser: Browser, served_by: Any, **options: Any) -> Iterator[Visit]:
    """A page on Studio of an application, or at the URL of one that runs."""
    with nullcontext(served_by) if isinstance(served_by, str) else served(served_by) as url:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(60_000)
        yield Visit(context.new_page(), f"{url}/studio/")
        context.close()


Filled = Callable[..., AbstractContextManager[Collection]]


@pytest.fixture
def filled(tmp_path: Path, fakes: Registry) -> Filled:
    """Fills a collection by fakes with documents."""

    @contextmanager
    def fill(documents: list[dict[str, Any]], registry: Registry = fakes, **config: Any) -> Iterator[Collection]:
        base: dict[str, Any] = {
            "store": f"edge:{tmp_path / 'qdrant'}",
            "collection": "small",
            "slots": {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-sparse"}},
            "cache": {"enabled": False},
        }
        with Collection.open(parse_config({**base, **config}), registry=registry) as collection:
            collection.populate(documents)
            yield collection

    return fill


@pytest.fixture(scope="module")
def url(fakes: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with Studio over four animals."""
    collection = animals(tmp_path_factory.mktemp("beasts"), fakes)
    with served(application(Served([collection], registry=fakes), extension=studio())) as address:
        yield address


def over(collection: Collection, registry: Registry, **options: Any) -> Any:
    """The application of Studio over a collection."""
    return application(Served([collection], registry=registry), extension=studio(**options))


def ready(page: Page) -> None:
    """Wait until a view shows what it has."""
    expect(page.get_by_role("main")).not_to_be_empty()
    expect(page.locator(".loading")).to_have_count(0)


def test_each_view_has_a_link_a_title_and_keys(browser: Browser, url: str) -> None:
    with visiting(browser, url) as visit:
        page = visit.open("health")
        for label in page.get_by_role("navigation").get_by_role("link").all_inner_texts():
            page.get_by_role("link", name=label, exact=True).click()
            expect(page).to_have_title(f"{label} · diptych Studio")
            expect(page.get_by_role("main", name=label)).to_be_focused()
            expect(page.get_by_role("heading", level=1)).to_have_count(1)
            expect(page.get_by_role("link", name=label, exact=True)).to_have_attribute("aria-current", "page")
            page.reload()
            expect(page.get_by_role("main", name=label)).to_be_visible()
        page.get_by_role("main").focus()
        page.keyboard.press("g")
        page.keyboard.press("h")
        expect(page.get_by_role("main", name="Health")).to_be_focused()
        page.go_back()
        expect(page.get_by_role("main", name="API")).to_be_visible()
        assert visit.other_hosts() == visit.faults == []


@pytest.mark.parametrize("view", VIEWS)
def test_everybody_can_read_a_view_at_any_width(browser: Browser, url: str, view: str) -> None:
    with visiting(browser, url, color_scheme="light") as visit:
        page = visit.open(view, q="cat", doc="cat", code="qdrant", f='[["letter","is","c"]]', op="post /search")
        ready(page)
        assert violations(page) == []
        page.emulate_media(color_scheme="dark")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            assert overflow(page) == 0, width
        page.set_viewport_size({"width": 320, "height": 700})
        assert violations(page) == []
        page.keyboard.press("Escape")  # the explanation lies over the header of a narrow window
        page.get_by_role("button", name="Help and keyboard shortcuts").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert violations(page) == []
        page.keyboard.press("Escape")
        assert visit.faults == []


def test_a_link_to_what_is_not_there_says_so(browser: Browser, url: str) -> None:
    with visiting(browser, url) as visit:
        main = visit.open(q="cat", b="state:building").get_by_role("main")
        expect(main).to_contain_text("as it will be after a swap (“state:building”), but no swap is under way. B is “")
        assert visit.ids("b")
        main = visit.open(q="cat", collection="plants").get_by_role("main")
        expect(main).to_contain_text("names the collection “plants”, which is not served here. Shown is “animals”")


def test_filters_that_a_link_brings_are_shown(browser: Browser, url: str) -> None:
    with visiting(browser, url) as visit:
        page = visit.open(q="cat")
        filters = page.get_by_role("group", name="Filters")
        expect(page.get_by_role("button", name="Filters")).to_have_attribute("aria-expanded", "false")
        assert len(visit.ids("a")) == 4
        visit.open(q="cat", f='[["letter","is","o"]]')  # in the same tab: the page is not loaded anew
        expect(filters.get_by_label("Value of filter 1")).to_have_value("o")
        assert visit.ids("a") == ["owl"]
        page.get_by_role("button", name="Filters (1)").click()
        expect(filters).to_have_count(0)
        visit.type_query("dog")
        assert visit.ids("a") == ["owl"]
        expect(filters).to_have_count(0)  # somebody has closed it
        visit.open(q="cat", f='[["letter","is","d"]]')
        expect(filters.get_by_label("Value of filter 1")).to_have_value("d")
        assert visit.faults == []


def test_a_tab_leads_back_to_what_was_left(browser: Browser, url: str) -> None:
    with visiting(browser, url) as visit:
        page = visit.open()
        visit.type_query("the owl hunts")
        page.get_by_role("link", name="Health", exact=True).click()
        page.go_back()  # at once: what was typed is in the address all the same
        expect(page.get_by_label("Query", exact=True)).to_have_value("the owl hunts")
        page.get_by_role("link", name="API", exact=True).click()
        page.get_by_role("link", name="Compare", exact=True).click()
        expect(page.get_by_label("Query", exact=True)).to_have_value("the owl hunts")
        assert visit.ids("a")[0] == "owl"


def test_what_changes_is_said_to_screen_readers(browser: Browser, url: str) -> None:
    with visiting(browser, url) as visit:
        page = visit.open(q="cat")
        said = page.locator("[role=status][aria-live=polite]")
        expect(said).to_have_text(re.compile(r"^A: 4 hits in .+\. B: 4 hits in .+\. 4 in both\.$"))
        page.get_by_label("Side B").select_option("none")
        expect(said).to_have_text(re.compile(r"^4 hits in [^A]+\.$"))
        page.get_by_role("button", name="Theme: system. Change it").click()
        expect(said).to_have_text("Theme: light")
        page.get_by_role("button", name="Link", exact=True).click()
        expect(said).to_contain_text(re.compile("copied|Copy the link"))
        expect(page.locator(".toast")).to_have_attribute("aria-hidden", "true")  # else it would be read twice
        page.get_by_role("link", name="API", exact=True).click()
        expect(page.get_by_role("main", name="API")).to_be_focused()
        expect(said).to_be_empty()  # of the view before
        page.go_back()
        expect(said).to_have_text(re.compile(r"^4 hits in"))
        assert visit.faults == []


def test_the_theme_is_the_systems_until_one_is_chosen(browser: Browser, url: str) -> None:
    with visiting(browser, url, color_scheme="dark") as visit:
        page = visit.open()

        def ground() -> str:
            return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

        dark = ground()
        page.get_by_role("button", name="Theme: system. Change it").click()
        light = ground()
        assert light != dark
        page.reload()
        expect(page.get_by_role("button", name="Theme: light. Change it")).to_be_visible()
        assert ground() == light
        page.get_by_role("button", name="Theme: light. Change it").click()
        assert ground() == dark


def test_a_page_that_is_closed_cancels_what_it_asked(
    browser: Browser, fakes: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, free = threading.Event(), threading.Event()
    collection = animals(tmp_path, fakes)
    with served(application(Served([collection], registry=fakes), extension=studio())) as url:
        with visiting(browser, url) as visit:
            visit.open(q="dog")
            visit.settle()
            ask = collection.client.query_batch_points

            def held(*args: Any, **options: Any) -> Any:
                begun.set()
                assert free.wait(60)
                return ask(*args, **options)

            monkeypatch.setattr(collection.client, "query_batch_points", held)
            visit.page.get_by_label("Query", exact=True).fill("cat")
            assert begun.wait(30)
            assert under_way(url) > 1
        try:
            until(lambda: under_way(url) == 1)
        finally:
            free.set()


def under_way(url: str) -> float:
    """Requests that the server works on, this one included."""
    found = re.search(r"^diptych_requests_in_flight (\S+)", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    assert found
    return float(found[1])


def test_a_long_document_is_shown_by_its_best_passage(browser: Browser, filled: Filled, fakes: Registry) -> None:
    slots = {"dense": {"adapter": "fake-dense", "passages": {"tokens": 24, "overlap": 4}}}
    lines = [f"Part {n} says words{n} and more{n} once again." for n in range(400)]
    lines[300] = "The player can convert audio files to any format."
    document = {"id": "1", "title": "A long manual", "text": " ".join(lines), "section": "manuals"}
    with filled([document], slots=slots) as collection, visiting(browser, over(collection, fakes)) as visit:
        page = visit.open(q="convert audio files")
        visit.settle()
        card = page.locator("[data-column=a] .hit")
        expect(card.locator(".hit-title")).to_contain_text("A long manual")
        expect(card.locator(".hit-text")).to_contain_text("convert audio files")
        expect(page.locator("[data-column]")).to_have_count(1)  # one slot is compared with nothing
        card.locator(".hit-title").click()
        why = page.get_by_role("complementary")
        expect(why.locator(".payload")).to_contain_text("manuals")
        text, more = why.locator(".why-text"), why.get_by_role("button", name=re.compile("^Show all"))
        expect(text).to_contain_text("convert audio files")
        assert len(text.inner_text()) < 4_100
        more.click()
        expect(text).to_contain_text("Part 399 says")
        expect(text).to_contain_text("Part 0 says")
        expect(more).to_have_count(0)
        assert visit.faults == []


def test_a_collection_that_is_filled_while_the_page_is_open_is_shown(
    browser: Browser, filled: Filled, fakes: Registry
) -> None:
    with filled([]) as collection, visiting(browser, over(collection, fakes)) as visit:
        page = visit.open()
        expect(page.get_by_role("main")).to_contain_text("Nothing has been populated yet")
        collection.populate([{"id": "sox", "text": "converts audio files"}])
        expect(page.get_by_role("searchbox", name="Query")).to_be_visible()
        page.keyboard.type("/sox")  # the box has the focus already
        expect(page.get_by_role("searchbox", name="Query")).to_have_value("sox")
        page.keyboard.type("/")
        expect(page.get_by_role("searchbox", name="Query")).to_have_value("sox/")
        assert visit.faults == []


def test_the_help_leads_to_the_guide(browser: Browser, url: str) -> None:
    with visiting(browser, url) as visit:
        page = visit.open()
        page.get_by_role("button", name="Help and keyboard shortcuts").click()
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="The guide").click()
        guide = opened.value
        expect(guide.get_by_role("heading", level=1)).to_have_text("Studio: see what a collection answers")
        guide.get_by_role("navigation", name="Contents").get_by_role("link", name="What can be asked").click()
        expect(guide.get_by_role("heading", name="What can be asked")).to_be_in_viewport()
        for scheme in ("light", "dark"):
            guide.emulate_media(color_scheme=scheme)
            for width in WIDTHS:
                guide.set_viewport_size({"width": width, "height": 800})
                assert (violations(guide), overflow(guide)) == ([], 0), width
        guide.get_by_role("link", name="Back to Studio").click()
        expect(guide.get_by_role("searchbox", name="Query")).to_be_visible()
        assert visit.other_hosts() == visit.faults == []


def test_scores_before_a_reranker_are_compared_and_every_key_is_listed(browser: Browser, url: str) -> None:
    with visiting(browser, url) as visit:
        page = visit.open(q="the cat", doc="cat")
        why = page.get_by_role("complementary")
        side = why.locator("[data-side=a].why-side")
        expect(side.get_by_text("gives the whole score")).to_be_visible()
        before = side.get_by_role("group", name="The score before the last stage")
        expect(before.get_by_text("What counts most")).to_be_visible()
        expect(before.get_by_role("columnheader", name="other")).to_be_visible()
        assert violations(page) == []
        page.get_by_role("button", name="Close the explanation").click()
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_contain_text("Close the explanation")


def test_the_page_asks_for_the_key_and_keeps_it_to_itself(browser: Browser, fakes: Registry, tmp_path: Path) -> None:
    collections = Served([animals(tmp_path, fakes)], registry=fakes)
    app = application(collections, keys=Keys(["open sesame"]), extension=studio())
    with visiting(browser, app) as visit:
        page = visit.open(q="cat")
        dialog = page.get_by_role("dialog")
        for _ in range(2):  # the same key again is asked again
            dialog.get_by_label("API key").fill("wrong")
            page.keyboard.press("Enter")
            expect(dialog).to_contain_text("refused the key")
        dialog.get_by_label("API key").fill("open sesame")
        page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)
        assert visit.ids("a")[0] == "cat"
        expect(page.get_by_label("Query", exact=True)).to_be_focused()
        page.reload()
        assert visit.ids("a")[0] == "cat"
        assert "sesame" not in page.content() + page.url
        assert page.evaluate("JSON.stringify({...localStorage})") == "{}"
        assert not any("sesame" in url for url in visit.requests)


def literal(text: str) -> str:
    """Without the spaces that differ."""
    return " ".join(text.split())


def pwned(page: Page) -> Any:
    return page.evaluate(
        "[window.pwned ?? null, document.querySelectorAll('iframe, base, form[action], object').length]"
    )


@pytest.mark.parametrize("place", ["title", "text", "payload", "id"])
def test_what_documents_say_is_shown_and_never_run(
    browser: Browser, filled: Filled, tmp_path: Path, fakes: Registry, place: str
) -> None:
    documents: list[dict[str, Any]] = [{"id": f"d{n}", "text": "the same words"} for n in range(len(HOSTILE))]
    for document, text in zip(documents, HOSTILE, strict=True):
        own: dict[str, dict[str, Any]] = {
            "payload": {"note": text, "list": [text], "key": {text: 1}},
            "text": {"text": f"the same words {text}"},
        }
        document.update(own.get(place, {place: text[:400]}))
    with filled(documents) as collection, visiting(browser, over(collection, fakes)) as visit:
        page = visit.open(q="the same words", limit="100", b="none")
        ids = visit.ids("a")
        assert len(ids) == len(HOSTILE)
        shown = literal(page.locator(".hits").text_content() or "")
        for text in HOSTILE if place in ("title", "id") else ():
            assert literal(text[:60]) in shown, text
        for rank in range(0, len(ids), 1 if place == "payload" else 6):
            page.locator(".hit-title").nth(rank).click()
            expect(page.get_by_role("complementary").locator(".why-text")).to_be_visible()
        if place == "payload":
            cells = literal(page.get_by_role("complementary").locator(".payload").inner_text())
            assert literal(documents[int(ids[-1][1:])]["note"])[:60] in cells
        assert pwned(page) == [None, 0]
        assert visit.faults == visit.other_hosts() == []


def test_what_a_link_says_is_shown_and_never_run(browser: Browser, url: str) -> None:
    names = ("doc", "b", "f", "limit", "code", "of", "tenant", "op", "judged")
    with visiting(browser, url) as visit:
        for text in HOSTILE:
            page = visit.open(q=f"cat {text}", **dict.fromkeys(names, text))
            visit.settle()
            assert pwned(page) == [None, 0], text
        refused = "Failed to load resource"  # the browser's line on an answer that refuses such a document or tenant
        assert [fault for fault in visit.faults if refused not in fault] == visit.other_hosts() == []


def test_every_route_of_the_interface_is_described(browser: Browser, url: str) -> None:
    with visiting(browser, url) as visit:
        document = httpx.get(visit.url.replace("/studio/", "/openapi.json")).json()
        page = visit.page
        page.goto(visit.url.replace("/studio/", "/docs"))
        wanted = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
        expect(page.locator(".route")).to_have_count(len(wanted))
        shown = {" ".join(route.inner_text().split()[:2]) for route in page.locator(".route").all()}
        assert shown == wanted
        page.get_by_label("Find a route").fill("/v1/embeddings")
        page.locator(".route").click()
        fields = document["components"]["schemas"]["EmbeddingsRequest"]["properties"]
        for field in fields:
            expect(page.locator(".fields").first.locator("th code", has_text=re.compile(f"^{field}$"))).to_be_visible()
        expect(page.get_by_role("region", name="curl command")).to_contain_text("/v1/embeddings")
        assert visit.faults == []


def test_with_the_key_a_tenant_finds_nothing_of_another(browser: Browser, filled: Filled, fakes: Registry) -> None:
    documents = [
        {"id": f"{name}-{n}", "text": f"word {n} of {name}", "customer": name}
        for name in ("ann", "bob")
        for n in (1, 2)
    ]
    with filled(documents, tenant={"field": "customer"}) as collection:
        app = application(Served([collection], registry=fakes), keys=Keys(["open sesame"]), extension=studio())
        with visiting(browser, app) as visit:
            page = visit.open(q="word")
            page.get_by_label("API key").fill("open sesame")
            page.keyboard.press("Enter")
            expect(page.get_by_role("main")).to_contain_text("name one above")
            page.get_by_label("Tenant").fill("ann")
            assert sorted(visit.ids("a")) == ["ann-1", "ann-2"]
            assert "bob-1" not in page.content()
            page.get_by_label("Where is document…?").fill("bob-1")
            page.keyboard.press("Enter")
            side = page.get_by_role("complementary").locator("[data-side=a].why-side")
            expect(side).to_contain_text("holds no document of tenant 'ann' with the id 'bob-1'")
            page.keyboard.press("Escape")
            page.get_by_role("button", name="Filters").click()
            page.get_by_role("button", name="Add a filter").click()
            page.get_by_label("Field of filter 1").fill("customer")
            page.get_by_label("Value of filter 1").fill("bob")
            expect(page.locator("[data-column=a]")).to_contain_text("Nothing found")
            page.get_by_label("Tenant").fill("nobody")
            page.get_by_role("button", name="Remove filter 1").click()
            expect(page.locator("[data-column=a]")).to_contain_text(
                "No document of the tenant “nobody” answers this query"
            )
            assert not any("sesame" in url for url in visit.requests)


def test_a_store_that_goes_away_is_said_and_asked_again(
    browser: Browser, fakes: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection, is_away = animals(tmp_path, fakes), threading.Event()

    def fails_while_away(ask: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if is_away.is_set():
                raise ResponseHandlingException(httpx.ConnectError("refused"))
            return ask(*args, **options)

        return call

    for name in ("scroll", "retrieve", "get_collection", "query_batch_points", "count"):
        monkeypatch.setattr(collection.client, name, fails_while_away(getattr(collection.client, name)))
    with visiting(browser, application(Served([collection], registry=fakes), extension=studio())) as visit:
        page = visit.open(q="cat")
        assert visit.ids("a")[0] == "cat"
        is_away.set()
        page.get_by_label("Query", exact=True).fill("dog")
        alert = page.locator("[data-column=a]").get_by_role("alert")
        expect(alert).to_contain_text("the store does not answer")
        is_away.clear()
        alert.get_by_role("button", name="Try again").click()
        expect(page.locator("[data-column=a] .hit").first).to_have_attribute("data-hit", "dog")
        is_away.set()
        page.get_by_role("link", name="Swap", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("the store does not answer")
        expect(page.get_by_role("heading", level=1)).to_have_text("Swap")
        is_away.clear()  # nobody presses a button: whoever follows a swap sees it go on
        expect(page.get_by_role("table", name="Generations of vectors")).to_be_visible(timeout=60_000)


def test_it_says_how_many_judged_documents_the_collection_holds_and_lacks(
    browser: Browser, fakes: Registry, tmp_path: Path
) -> None:
    relevant = {"cat": 1, "dog": 1, "elk": 1, "emu": 2}
    said = "2 relevant documents. A shows 2, B 2. 2 more relevant documents are not in this collection."
    queries = [judged(tmp_path / "judged", {"q1": ("the cat", relevant)})]
    with visiting(browser, over(animals(tmp_path, fakes), fakes, queries=queries)) as visit:
        note = visit.open(q="the cat").get_by_role("region", name="Judged documents")
        expect(note.get_by_role("paragraph").first).to_have_text(f"By the judgements in judged: {said}")
        assert visit.faults == []


def test_an_evaluation_of_vectors_that_are_not_live_any_more_says_so(
    browser: Browser, fakes: Registry, tmp_path: Path
) -> None:
    collection = animals(tmp_path, fakes)
    queries = [judged(tmp_path / "judged", {name: (f"the {name}", {name: 1}) for name in ANIMALS})]
    config = collection.handle.config
    assert config is not None
    raw = config.model_dump(mode="json", exclude_unset=True, exclude={"source"})
    slots = {**raw["slots"], "dense": {"adapter": "fake-dense", "dimension": 24}}
    with visiting(browser, over(collection, fakes, queries=queries)) as visit:
        page = visit.open("evaluate", a="slot:dense", b="slot:lexical")
        page.get_by_role("button", name="Evaluate", exact=True).click()
        result = page.get_by_role("region", name="Result")
        earlier = page.get_by_text("This evaluation is not of the vectors that are live now.")
        expect(result).to_be_visible(timeout=120_000)
        expect(earlier).to_have_count(0)
        collection.apply(parse_config({**raw, "slots": slots}), ApplyOptions(gate=False))
        page.get_by_role("link", name="Queries", exact=True).click()
        expect(earlier).to_contain_text("It asked generation 1 of dense (now generation 2 is live).")
        page.get_by_role("link", name="Evaluate", exact=True).click()
        expect(result).to_be_visible()
        expect(earlier).to_be_visible()
        assert violations(page) == []
        collection.rollback()
        page.get_by_role("link", name="Queries", exact=True).click()
        expect(page.get_by_role("listbox")).to_be_visible()
        expect(earlier).to_have_count(0)
        assert visit.faults == []


def test_a_picture_is_made_small_and_finds_its_like(browser: Browser, filled: Filled, tmp_path: Path) -> None:
    registry = Registry(colour_plugin, diptych_adapters.hooks, installed=False)
    for name, colour in COLOURS.items():
        Image.new("RGB", (24, 16), colour).save(tmp_path / f"{name}.png")
    documents = [{"id": name, "text": f"{name} plain", "media": {"image": f"{name}.png"}} for name in COLOURS]
    slots = {"lexical": {"adapter": "bm25"}, "picture": {"adapter": "colours", "of": "image"}}
    options: dict[str, Any] = {"slots": slots, "media": {"root": str(tmp_path)}}
    with filled(documents, registry, **options) as collection, visiting(browser, over(collection, registry)) as visit:
        page = visit.open(a="slot:picture", b="none")
        bodies: list[Any] = []
        page.on("request", lambda request: bodies.append(request.post_data_json) if request.post_data else None)
        large = io.BytesIO()
        Image.new("RGB", (2000, 1000), COLOURS["red"]).save(large, "PNG")
        choose = page.get_by_label("Picture of the query")
        choose.set_input_files(FilePayload(name="large.png", mimeType="image/png", buffer=large.getvalue()))
        expect(page.locator("[data-column=a] .hit").first).to_have_attribute("data-hit", "red")
        sent = base64.b64decode(bodies[-1]["query"]["media"]["image"].partition(",")[2])
        assert Image.open(io.BytesIO(sent)).size == (512, 256)
        expect(page.locator("[data-hit=red] .thumbnail img")).to_be_visible()
        page.get_by_role("button", name="Remove the picture from the query").click()
        expect(page.get_by_text("Type a query", exact=True)).to_be_visible()
        choose.set_input_files(FilePayload(name="no.png", mimeType="image/png", buffer=b"no picture"))
        expect(page.locator(".toast")).to_contain_text("no picture that this browser can read")
        assert visit.faults == []
        visit.open(q="red", a="slot:lexical", b="none")
        expect(page.locator("[data-hit=red] .thumbnail img")).to_be_visible()
