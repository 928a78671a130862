"""What notebooks show: texts stay texts, the sentence comes first, bars add up to scores, and no package is needed."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from diptych import Document, Hit
from diptych.errors import StoreError
from diptych.evaluate import Evaluation, SliceDifference, compare
from diptych.evaluate.comparison import Slice
from diptych.repr_html import ReprHtml
from diptych.search import Answers, HitGroup, HitGroups, Hits
from diptych.swap import Plan
from diptych.types import Highlight, Passage
from diptych_lab.notebook import MODULES, html
from diptych_lab.notebook.charts import COLOURS, Part, bar, extent, interval, scatter, strip
from diptych_lab.notebook.elements import BAD, GOOD, GREY, WARNING, foreign, marked, table, tag
from notebook_values import all_values, explanation, gate

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</td></tr></table><iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "</title></svg><svg onload=alert(1)>",
    "<!-- <b>",
    "]]><a href='javascript:alert(1)'>x</a>",
    "<style>*{display:none}</style>",
    "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#60;b&#62;",
    "`${alert(1)}` {{7*7}} <%= 1 %>",
    "\u202eright to left\u202c \u2066isolated",
    "url(javascript:alert(1)); background:url(//evil.example)",
]
UNSAFE = ["null\x00bell\x07escape\x1b[31m", "a lone surrogate \ud800 here", "\ufffe\uffff\x85"]
TAGS = {
    *("div", "span", "b", "bdi", "code", "mark", "img", "table", "thead", "tbody", "tr", "th", "td"),
    *("svg", "rect", "line", "circle", "path", "text", "title"),
}
ATTRIBUTES = {
    *(
        "style",
        "src",
        "alt",
        "role",
        "aria-label",
        "width",
        "height",
        "viewbox",
        "x",
        "y",
        "x1",
        "x2",
        "y1",
        "y2",
        "cx",
        "cy",
        "r",
    ),
    *("d", "fill", "stroke", "stroke-width", "stroke-dasharray", "text-anchor", "font-size"),
}
EMPTY = {"img"}


class Page(HTMLParser):
    """The elements, attributes and texts of a picture; an element that is not closed is an error."""

    def __init__(self, written: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(written)
        self.close()
        assert not self.open, "each element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        pytest.fail(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        pytest.fail(f"a declaration: {decl}")

    def unknown_decl(self, data: str) -> None:
        pytest.fail(f"a declaration: {data}")

    def handle_pi(self, data: str) -> None:
        pytest.fail(f"an instruction: {data}")

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def of(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def kind(value: ReprHtml) -> str:
    return type(value).__name__


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_documents_and_users_stay_texts_in_every_picture(text: str) -> None:
    line = " ".join(text.split())
    for value in all_values(text):
        page = Page(value._repr_html_())
        names = {name for name, _ in page.elements}
        assert names <= TAGS, kind(value)
        for _, attributes in page.elements:
            assert attributes.keys() <= ATTRIBUTES, kind(value)
            assert "alert" not in attributes.get("style", "") + attributes.get("src", ""), kind(value)
            assert "url(" not in attributes.get("style", ""), kind(value)
        shown = " ".join(page.text.split())
        assert line in shown, kind(value)


@pytest.mark.parametrize("text", UNSAFE)
def test_characters_that_html_cannot_hold_are_replaced(text: str) -> None:
    for value in all_values(text):
        written = value._repr_html_()
        assert written.encode().decode() == written
        assert not re.search("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffe\uffff]", written), kind(value)
        assert "\ufffd" in written, kind(value)


def test_a_picture_needs_nothing_from_outside_and_is_small() -> None:
    for value in all_values("word"):
        written = value._repr_html_()
        assert not re.search(r"https?:|//|<script|<style|<link|@import|class=", written), kind(value)
        assert len(written) < 20_000, kind(value)


def test_every_value_that_calls_for_a_picture_has_one() -> None:
    def below(parent: type[Any]) -> set[str]:
        return {name for own in parent.__subclasses__() for name in ({own.__name__} | below(own))}

    shown = {kind(value) for value in all_values("word")}
    assert shown == set(MODULES)
    assert {name for name in below(ReprHtml) if not name.startswith("Own")} == set(MODULES)


def test_a_class_of_ones_own_is_shown_like_its_parent() -> None:
    class OwnHits(Hits):
        pass

    found = [Hit(Document("a", "text"), 1.0)]
    assert html(OwnHits(found)) == html(Hits(found))


@pytest.mark.parametrize("value", all_values("a"), ids=kind)
def test_values_say_the_same_in_terminals_as_before(value: ReprHtml) -> None:
    assert repr(value).startswith("[" if isinstance(value, list) else f"{kind(value)}(")


def test_the_sentence_comes_first() -> None:
    sentences = {kind(value): Page(value._repr_html_()).texts for value in all_values("word")}
    first = {name: "".join(texts) for name, texts in sentences.items()}
    assert first["Hits"].startswith("2 hits for “word”")
    assert first["Explanation"].startswith("rank 1, score 1.0000")
    assert first["Evaluation"].startswith("word 0.4500 of word over 10 judged queries")
    assert first["Comparison"].startswith("word is better than word: nDCG@10 +0.1000 [+0.0500, +0.1500]")
    assert "same is not shown to differ from word" in first["Comparison"]
    assert first["Verdict"].startswith("word is better than word for all queries like these")
    assert first["GateReport"].startswith("worse: word")
    assert first["Plan"].startswith("word: diptych apply encodes 10 vectors of 1 slot, in about 2 s")
    assert first["ApplyReport"].startswith("word: cut over in 3 s")
    assert first["VerifyReport"].startswith("word: 3 documents have a fault, 1 file differs")
    assert first["SearchReport"].startswith("searching dense and lexical, 100 candidates each")
    assert first["EncoderReport"].startswith("word, 64 numbers, float32: nDCG@10 +0.1000 on held-out queries")
    assert first["IndexReport"].startswith("float32, searched with default: least memory")


def test_plans_say_when_there_is_nothing_to_do_and_what_is_under_way() -> None:
    assert "nothing to do, the collection of 1,000 documents matches" in html(Plan("c", 1000, ()))
    assert "a swap is under way" in html(Plan("c", 1000, (), under_way=True))
    assert "changes settings; nothing is encoded" in html(Plan("c", 1000, (), search=True, search_why="why"))


def drawn(written: str) -> list[float]:
    """The signed lengths of a bar's parts, in pixels: negative to the left of the line at zero."""
    page = Page(written)
    zero = float(page.of("line")[0]["x1"])
    return [float(own["width"]) * (1 if float(own["x"]) >= zero - 1e-6 else -1) for own in page.of("rect")]


@pytest.mark.parametrize(
    "values", [[0.5, 0.25], [1.5, -0.5, 0.25, -0.1], [-1.0], [0.0, 2.0], [-0.3, -0.2], [1e-9, 1e6]], ids=repr
)
def test_the_lengths_of_a_bar_add_up_to_the_whole_and_its_parts_touch(values: list[float]) -> None:
    parts = [Part(f"p{n}", value) for n, value in enumerate(values)]
    low, high = extent([parts])
    lengths = drawn(bar(parts, low=low, high=high))
    pixel = 420 / (high - low)
    assert [length / pixel for length in lengths] == pytest.approx(values, abs=0.002 / pixel)
    assert sum(lengths) / pixel == pytest.approx(sum(values), abs=0.01 / pixel)
    rects = Page(bar(parts, low=low, high=high)).of("rect")
    assert all(float(own["x"]) >= -1e-6 and float(own["x"]) + float(own["width"]) <= 420.001 for own in rects)


def test_an_explanations_bar_adds_up_to_its_score_and_has_its_words_marked() -> None:
    found = explanation("audio")
    page = Page(html(found))
    assert sum(part.value for part in found.parts) == found.score == 1.0
    lengths = drawn(html(found))
    low, high = extent([[Part(part.name, part.value) for part in found.parts]])
    assert sum(lengths) * (high - low) / 420 == pytest.approx(1.0, abs=1e-3)
    assert "audio +0.5000" in page.text
    assert "dense -0.2500" in page.text
    assert "<mark" in html(found)


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#111111", "#1e1e1e"])
def test_colours_are_seen_on_light_and_dark_pages(page: str) -> None:
    for colour in (*COLOURS, GOOD, BAD, GREY, WARNING):
        assert contrast(colour, page) >= 3, colour


def test_a_bar_without_length_is_a_list_of_its_parts() -> None:
    assert "<svg" not in bar([Part("dense", 0.0)], low=0.0, high=0.0)
    assert "dense</bdi> +0.0000" in bar([Part("dense", 0.0)], low=0.0, high=0.0)


def test_intervals_are_drawn_where_they_are_and_coloured_by_their_side_of_zero() -> None:
    for low, high, colour in ((0.1, 0.3, "#2f9e63"), (-0.3, -0.1, "#d1495b"), (-0.1, 0.1, "#7d8590")):
        page = Page(interval((low + high) / 2, low, high, ends=(-1.0, 1.0), limit=-0.5))
        zero, margin, whisker = page.of("line")
        assert (float(zero["x1"]), float(margin["x1"])) == (90.0, 48.0)
        assert (float(whisker["x1"]), float(whisker["x2"])) == pytest.approx((90 + 84 * low, 90 + 84 * high))
        assert whisker["stroke"] == colour
    assert interval(0.0, 0.0, 0.0, ends=(0.0, 0.0)) == ""
    whole = Page(interval(0.0, float("-inf"), float("inf"), ends=(-1.0, 1.0))).of("line")[-1]
    assert (whole["x1"], whole["x2"]) == ("6.00", "174.00"), "what has no end reaches to the edges"


def test_drawings_that_stand_alone_fit_a_narrow_page_and_those_in_cells_keep_their_width() -> None:
    (alone,) = Page(bar([Part("dense", 1.0)], low=0.0, high=1.0)).of("svg")
    assert "max-width:100%;height:auto" in alone["style"]
    assert alone["viewbox"] == "0 0 420 16"
    for written in (interval(0.1, 0.0, 0.2, ends=(0.0, 1.0)), strip([0.1, -0.1])):
        (cell,) = Page(written).of("svg")
        assert "max-width:none" in cell["style"]


def test_ten_thousand_queries_are_drawn_in_a_few_kilobytes() -> None:
    written = strip([n / 10_000 - 0.4 for n in range(10_000)])
    assert len(written) < 10_000
    assert len(Page(written).of("path")) == 3
    assert strip([0.0, 0.0]) == ""


def test_the_chosen_point_of_a_trade_off_has_a_ring_and_the_front_is_filled() -> None:
    page = Page(scatter([(1.0, 0.5), (2.0, 0.7), (3.0, 0.6)], chosen=1, front=[0, 1], names=("ms", "nDCG@10")))
    circles = page.of("circle")
    assert [own["fill"] != "none" for own in circles] == [False, True, True, False]
    assert (circles[2]["cx"], circles[2]["cy"]) == (circles[3]["cx"], circles[3]["cy"])
    assert Page(scatter([(1.0, 0.5)], chosen=0, front=[0], names=("ms", "x"))).of("circle")


def test_marks_stand_on_the_words_and_long_texts_are_cut_around_the_first() -> None:
    assert Page(marked("convert audio files", [(8, 13)])).of("mark")
    assert "<mark" in marked("x " * 400 + "audio", [(800, 805)])
    assert ">audio</mark>" in marked("x " * 400 + "audio", [(800, 805)])
    long = marked("audio " + "x " * 4000, [(0, 5)])
    assert len(Page(long).text) < 330
    assert long.endswith("…</bdi>")
    assert "<mark" not in marked("short", [(3, 99), (-1, 2), (2, 2)]), "places of another text are ignored"


def test_a_highlight_is_shown_within_its_sentence() -> None:
    text = "First sentence. Here converts audio well. Last."
    at = text.index("converts")
    sentence = Passage(text[16:41], 16, 41, 0.5)
    found = Hit(Document("a", text), 1.0, highlight=Highlight(sentence, ((0, 5), (at, at + 8))))
    page = html(found)
    assert ">converts</mark>" in page
    assert page.count("<mark") == 1
    assert "First" not in page
    assert "audio well." in page
    part = Hit(Document("a", ""), 1.0, passages=(Passage("a part of it", 0, 12, 0.5),))
    assert "a part of it" in html(part), "the text itself was not asked for"


def test_long_lists_are_cut_and_counted() -> None:
    found = Hits([Hit(Document(f"d{n}", "text"), 1.0) for n in range(120)])
    assert "and 70 more" in html(found)
    assert len(Page(html(found)).of("tr")) == 51
    assert "and 70 more queries" in html(Answers([Hits()] * 120))
    assert "and 70 more groups" in html(HitGroups([HitGroup(n, tuple(found[:1])) for n in range(120)]))
    many = Hit(Document("a", "text", metadata={f"k{n}": n for n in range(20)}), 1.0)
    assert "and 12 more" in html(many)
    assert "k7" in html(many)
    assert "k8" not in html(many)


def test_nothing_found_is_said() -> None:
    assert Page(html(Hits(query="nothing"))).text == "no hits for “nothing”nothing was found"
    assert "no hits" in html(Answers([[]], queries=["a"]))
    assert Page(html(Answers())).text == "0 queries"


def test_thumbnails_that_cannot_be_read_leave_the_hits() -> None:
    class Closed:
        def read(self, points: list[int]) -> dict[int, bytes]:
            raise StoreError("the store is closed")

    found = all_values("word")[0]
    assert isinstance(found, Hit)
    with_point = Hit(found.document, 1.0, point=7)
    page = Page(html(Hits([with_point], store=Closed())))  # type: ignore[arg-type]
    assert "thumbnails cannot be read: the store is closed" in page.text
    assert "word word" in page.text


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"\xff\xd8\xff\xe0jpeg", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"), (b"<svg onload=x>", "")],
)
def test_a_thumbnail_is_shown_if_it_is_a_picture(data: bytes, kind: str) -> None:
    class Stored:
        def read(self, points: list[int]) -> dict[int, bytes]:
            return dict.fromkeys(points, data)

    found = all_values("word")[0]
    assert isinstance(found, Hit)
    page = Page(html(Hits([Hit(found.document, 1.0, point=7)], store=Stored())))  # type: ignore[arg-type]
    sources = [own["src"] for own in page.of("img")]
    assert [source.partition(";")[0] for source in sources] == ([f"data:{kind}"] if kind else [])


def test_only_the_packages_of_the_host_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("scipy", "scipy.special", "ir_measures", "pandas", "matplotlib", "PIL", "IPython", "jinja2"):
        monkeypatch.setitem(sys.modules, name, None)
    for value in all_values("word"):
        assert html(value)
    plain = Page(html(Evaluation("run", {"nDCG@10": {"a": 0.5, "b": 1.0}})))
    assert "nDCG@10 0.7500 of run over 2 judged queries" in plain.text
    assert not plain.of("svg"), "an interval needs scipy"


def test_pieces_escape_what_they_are_given() -> None:
    assert tag("b", "<i>", title='"') == '<b title="&quot;">&lt;i&gt;</b>'
    assert tag("b", tag("i", "x"), None) == "<b><i>x</i></b>"
    assert foreign("a\nb\t c") == "<bdi>a b c</bdi>"
    assert foreign("x" * 400, limit=10) == f"<bdi>{'x' * 10}…</bdi>"
    assert "&lt;" in table(["<"], [["<"]])


def test_no_figure_is_a_negative_zero() -> None:
    least, report = -0.00001, gate("word")
    assert report.judged is not None
    part = SliceDifference(Slice("section", "word", ("q1", "q2")), least, 2 * least, least)
    judged = replace(report.judged, difference=least, low=2 * least, high=least, slices=(part,))
    items = tuple(replace(item, difference=least, low=2 * least, high=least) for item in report.known_items)
    runs = [Evaluation(name, {"P@1": dict.fromkeys("abc", 0.5 + shift)}) for name, shift in (("a", 0), ("b", least))]
    values = [
        replace(report, judged=judged),
        replace(report, judged=None, known_items=items),
        compare(runs, "a", "P@1"),
    ]
    for value in values:
        assert not re.search(r"-0\.0+(?!\d)", html(value)), kind(value)


def test_a_gate_shows_its_margin_and_what_it_compared_without_judgements() -> None:
    judged, unjudged = Page(html(gate("word"))), Page(html(gate("word", judged=False)))
    assert "the dashed line is the margin of 0.02" in judged.text
    assert [own for own in judged.of("line") if "stroke-dasharray" in own]
    assert "queries that lost most" in judged.text
    assert "90.0% -> 80.0%" in unjudged.text
    assert "50% in common" in unjudged.text
    assert "cosine 0.9999" in unjudged.text
