"""What is shown of reports: texts stay texts in HTML and terminals, sentences come first, long lists are cut."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from diptych import Document, Hit
from diptych.display import Display, Displayed, Excerpt, Table, html, say, write
from diptych.errors import StoreError
from diptych.evaluate import Evaluation, compare
from diptych.search import Answers, HitGroup, HitGroups, Hits
from diptych.types import Highlight, Passage
from notebook_values import all_values, explanation, gate

HOSTILE = [
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</td></tr></table><iframe srcdoc='<script>alert(1)</script>'></iframe><!-- <b>",
    "]]><a href='javascript:alert(1)'>x</a><style>*{display:none}</style>",
    "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#60;b&#62; `${alert(1)}` {{7*7}}",
    "\u202eright to left\u202c \u2066isolated url(javascript:alert(1)); background:url(//evil.example)",
]
UNSAFE = ["null\x00bell\x07escape\x1b[31m", "a lone surrogate \ud800 here", "\ufffe\uffff\x85"]
TAGS = {"div", "bdi", "mark", "img", "table", "thead", "tbody", "tr", "th", "td"}


class Page(HTMLParser):
    """Elements and texts of a piece of HTML; comments, declarations and elements that stay open are errors."""

    def __init__(self, value: Displayed) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text, self.open = "", list[str]()
        self.feed(value._repr_html_())
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.open += [tag] if tag != "img" else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        pytest.fail(data)

    handle_decl = unknown_decl = handle_pi = handle_comment  # type: ignore[assignment]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def kind(value: Displayed) -> str:
    return type(value).__name__


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_documents_and_users_stay_texts(text: str) -> None:
    for value in all_values(text):
        page = Page(value)
        assert {name for name, _ in page.elements} <= TAGS, kind(value)
        for _, attributes in page.elements:
            assert attributes.keys() <= {"style", "src", "alt"}, kind(value)
            assert not re.search(r"alert|url\(", "".join(attributes.values())), kind(value)
        assert " ".join(text.split())[:60] in " ".join(page.text.split()), kind(value)


@pytest.mark.parametrize("text", UNSAFE)
def test_characters_that_html_or_a_terminal_cannot_hold_are_replaced(text: str) -> None:
    for value in all_values(text):
        written = value._repr_html_()
        assert written.encode().decode() == written
        assert not re.search("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffe\uffff]", written), kind(value)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800]", str(value.display())), kind(value)


def test_html_needs_nothing_from_outside_and_is_small() -> None:
    for value in all_values("word"):
        written = value._repr_html_()
        assert not re.search(r"https?:|//|<script|<style|<link|@import|class=", written), kind(value)
        assert len(written) < 20_000, kind(value)


def test_every_report_says_what_is_shown_of_it_and_its_repr_stays() -> None:
    def below(parent: type[Any]) -> set[str]:
        return {name for own in parent.__subclasses__() for name in ({own.__name__} | below(own))}

    assert below(Displayed) == {kind(value) for value in all_values("word")}
    for value in all_values("a"):
        assert repr(value).startswith("[" if isinstance(value, list) else f"{kind(value)}(")


def test_the_sentence_comes_first_in_html_and_terminals() -> None:
    for value in all_values("word"):
        sentence = " ".join(value.display().sentence.split())
        assert Page(value).text.startswith(sentence), kind(value)
        assert str(value.display()).startswith(sentence), kind(value)


def test_an_explanations_parts_add_up_and_its_words_are_marked() -> None:
    found = explanation("audio")
    assert sum(part.value for part in found.parts) == found.score == 1.0
    assert "the score is audio +0.5000, dense -0.2500, late +0.5000, audio +0.2500" in Page(found).text
    assert Page(found).count("mark") == 1


def test_marks_stand_on_the_words_and_long_texts_are_cut_around_the_first() -> None:
    first = Excerpt("convert audio files", ((8, 13),)).parts()
    assert first == [("convert ", False), ("audio", True), (" files", False)]
    late = Excerpt("x " * 400 + "audio", ((800, 805),)).parts()
    assert (late[0], late[2]) == (("…", False), ("audio", True))
    assert sum(len(text) for text, _ in Excerpt("audio " + "x " * 4000, ((0, 5),)).parts()) < 330
    others = Excerpt("short", ((3, 99), (-1, 2), (2, 2)))
    assert others.parts() == [("short", False)], "places of another text are ignored"


def test_a_highlight_is_shown_within_its_sentence() -> None:
    text = "First sentence. Here converts audio well. Last."
    at = text.index("converts")
    sentence = Passage(text[16:41], 16, 41, 0.5)
    found = Hit(Document("a", text), 1.0, highlight=Highlight(sentence, ((0, 5), (at, at + 8))))
    assert found.excerpt == Excerpt("Here converts audio well.", ((5, 13),))
    part = Hit(Document("a", ""), 1.0, passages=(Passage("a part of it", 0, 12, 0.5),))
    assert part.excerpt == Excerpt("a part of it"), "the text itself was not asked for"


def test_long_lists_are_cut_and_counted_in_html() -> None:
    found = Hits([Hit(Document(f"d{n}", "text"), 1.0) for n in range(120)])
    groups = HitGroups([HitGroup(n, tuple(found[:1])) for n in range(120)])
    for value in (found, Answers([Hits()] * 120), groups):
        assert "and 70 more" in Page(value).text
    assert Page(found).count("tr") == 51
    many = Page(Hit(Document("a", "text", metadata={f"k{n}": n for n in range(20)}), 1.0)).text
    assert "k7: 7, and 12 more" in many


def test_nothing_found_is_said() -> None:
    assert Page(Hits(query="nothing")).text == "no hits for “nothing”"
    assert "no hits" in Page(Answers([[]], queries=["a"])).text
    assert Page(Answers()).text == "0 queries"


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"\xff\xd8\xff\xe0jpeg", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"), (b"<svg onload=x>", "")],
)
def test_a_thumbnail_is_shown_if_it_is_a_picture_that_can_be_read(data: bytes, kind: str) -> None:
    class Stored:
        def read(self, points: list[int]) -> dict[int, bytes]:
            return dict.fromkeys(points, data)

    class Closed:
        def read(self, points: list[int]) -> dict[int, bytes]:
            raise StoreError("the store is closed")

    found = all_values("word")[0]
    assert isinstance(found, Hit)
    hit = replace(found, point=7)
    sources = [own["src"] for tag, own in Page(Hits([hit], store=Stored())).elements if tag == "img"]  # type: ignore[arg-type]
    assert [source.partition(";")[0] for source in sources] == ([f"data:{kind}"] if kind else [])
    closed = Page(Hits([hit], store=Closed())).text  # type: ignore[arg-type]
    assert "thumbnails cannot be read: the store is closed" in closed
    assert "word word" in closed


def test_only_the_packages_of_the_host_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("scipy", "scipy.special", "ir_measures", "pandas", "matplotlib", "PIL", "IPython", "jinja2"):
        monkeypatch.setitem(sys.modules, name, None)
    for value in all_values("word"):
        assert value._repr_html_()
    plain = Page(Evaluation("run", {"nDCG@10": {"a": 0.5, "b": 1.0}})).text
    assert "nDCG@10 0.7500 of run over 2 judged queries" in plain
    assert "interval" not in plain, "an interval needs scipy"


def test_no_figure_is_a_negative_zero() -> None:
    least, report = -0.00001, gate("word")
    assert report.judged is not None
    judged = replace(report.judged, difference=least, low=2 * least, high=least, slices=())
    items = tuple(replace(item, difference=least, low=2 * least, high=least) for item in report.known_items)
    runs = [Evaluation(name, {"P@1": dict.fromkeys("abc", 0.5 + shift)}) for name, shift in (("a", 0), ("b", least))]
    values = replace(report, judged=judged), replace(report, judged=None, known_items=items), compare(runs, "a", "P@1")
    for value in values:
        assert not re.search(r"-0\.0+(?!\d)", str(value.display())), kind(value)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_terminal_is_never_wider_than_it_is(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # rich takes a dumb one for 80 columns whatever it is told
    for value in all_values("東京の天気 and what else a document has to say, which is long " * 3):
        console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, markup=False)
        write(value.display(), console)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert max(cell_len(line) for line in text.splitlines()) <= width, kind(value)


@pytest.mark.parametrize(
    ("terminal", "lines"),
    [(True, ["  several words that", "  are too long"]), (False, ["  several words that are too long"])],
)
def test_a_sentence_breaks_between_words_on_a_terminal_only(terminal: bool, lines: list[str]) -> None:
    console = Console(file=io.StringIO(), width=22, force_terminal=terminal, color_system=None)
    say(console, "  several words that are too long")
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == lines  # type: ignore[attr-defined]


def test_pieces_escape_what_they_are_given() -> None:
    shown = html(Display("<i>", [Table(["<"], [["a\nb\t c"], ["x" * 400]], title="<t>"), "<n>"], ["<w>"]))
    assert not re.search("<[intw]>", shown)
    assert "<bdi>a b c</bdi>" in shown
    assert f"{'x' * 320}…" in shown
