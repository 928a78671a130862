"""Links, keyboard, screen readers, widths, keys and hostile texts: what every view of the page holds to."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect

import colour_plugin
import diptych_adapters.hooks
from browsing import Visit, overflow, violations
from colour_plugin import COLOURS
from diptych import Collection, Registry
from diptych.config import parse_config
from diptych_serve.service.access import Keys
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.routes import studio
from serving import animals, served

pytestmark = pytest.mark.slow

VIEWS = ("compare", "queries", "evaluate", "judge", "collection", "docs")
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
        page = visit.open("collection")
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
        page.keyboard.press("s")
        expect(page.get_by_role("main", name="Collection")).to_be_focused()
        page.go_back()
        expect(page.get_by_role("main", name="API")).to_be_visible()
        assert visit.other_hosts() == visit.faults == []


@pytest.mark.parametrize("view", VIEWS)
def test_everybody_can_read_a_view_at_any_width(browser: Browser, url: str, view: str) -> None:
    with visiting(browser, url, color_scheme="light") as visit:
        page = visit.open(view, q="cat", doc="cat", code="python", f='[["letter","is","c"]]', op="post /search")
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
        page.get_by_role("link", name="Collection", exact=True).click()
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
