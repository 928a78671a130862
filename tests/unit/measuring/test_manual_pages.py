"""The test collection of long documents: its pages as Markdown, and its queries, which the model cannot have read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from corpora import read_documents
from diptych.evaluate import read_beir
from diptych.types import Document, Query
from manual_pages.pages import Page, page_of
from manual_pages.queries import READ, known_items, words
from manual_pages.tokens import minilm_tokens

PAGES = Path(__file__).parents[2] / "data/manual_pages"
LONG = " ".join(f"filler{number}" for number in range(READ + 10))
SENTENCE = "Sorts every listed archive member alphabetically before extraction begins, ignoring hidden directories."
HTML = f"""
<table class="head"><tr><td>TOOL(1)</td></tr></table>
<section class="Sh"><h1 class="Sh"><a href="#NAME">NAME</a></h1><p class="Pp">tool - does   things</p></section>
<section class="Sh"><h1 class="Sh">OPTIONS</h1><p class="Pp">{LONG}</p>
<dl class="Bl-tag"><dt><b>--order</b></dt><dd>{SENTENCE} More of it.<pre>a  b
c</pre></dd></dl></section>
"""


def split_at_blanks() -> Tokenizer:
    """A tokenizer whose tokens are words."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def page(name: str = "tool.1", rendered: str = HTML) -> Page:
    found = page_of(name, rendered)
    assert found is not None
    return found


def committed() -> tuple[list[Query], dict[str, str], dict[str, Document]]:
    """Queries of the committed collection, the document of each, and the documents."""
    queries, qrels = read_beir(PAGES)
    return queries, {name: next(iter(own)) for name, own in qrels.judgements.items()}, read_documents(PAGES)


def test_a_page_keeps_headings_options_and_code_as_markdown() -> None:
    found = page()
    assert found.title == "tool(1): does things"
    assert [(block.kind, block.text) for block in found.blocks] == [
        ("heading", "# NAME"),
        ("paragraph", "tool - does things"),
        ("heading", "# OPTIONS"),
        ("paragraph", LONG),
        ("term", "--order"),
        ("description", f"{SENTENCE} More of it."),
        ("code", "```\na  b\nc\n```"),
    ]
    assert all(found.text[block.start : block.end] == block.text for block in found.blocks)


def test_an_option_gives_its_sentence_and_every_second_content_word() -> None:
    items = known_items({"a/tool.1": page()}, split_at_blanks(), most=5)
    assert [(item.kind, item.text) for item in items] == [
        ("sentence", SENTENCE),
        ("keywords", "sorts listed member extraction ignoring directories"),
    ]
    start, end = items[0].sentence
    assert page().text[start:end] == SENTENCE


@pytest.mark.parametrize(
    "other", [f"<p>{SENTENCE}</p>", "<p>archive member alphabetically before extraction begins</p>"]
)
def test_what_another_page_says_in_the_same_six_words_is_no_query(other: str) -> None:
    pages = {"a/tool.1": page(), "b/other.1": page("other.1", other)}
    assert known_items(pages, split_at_blanks(), most=5) == []


def test_committed_answers_begin_beyond_what_minilm_reads() -> None:
    queries, documents, corpus = committed()
    tokenizer = minilm_tokens()
    for query in queries:
        text = corpus[documents[query.id]].text
        start = query.metadata["sentence"][0]
        assert len(tokenizer.encode(text[:start], add_special_tokens=False)) >= READ, query.id


def test_committed_queries_are_in_no_other_document() -> None:
    queries, documents, corpus = committed()
    texts = {name: f" {' '.join(words(document.text))} " for name, document in corpus.items()}
    for query in queries:
        phrase = f" {' '.join(words(query.text))} "
        inside = {name for name, text in texts.items() if phrase in text}
        assert inside <= {documents[query.id]}, query.id
        assert inside or query.metadata["kind"] == "keywords", query.id


def test_committed_pages_are_long_and_their_licences_are_stated() -> None:
    manifest: Any = json.loads((PAGES / "manifest.json").read_text())
    *_, corpus = committed()
    assert manifest["documents"] == len(corpus) == 50
    assert manifest["words"]["median"] > 1_000
    for package in {document.metadata["package"] for document in corpus.values()}:
        assert manifest["packages"][package]["licence"]
        assert (PAGES / "copyright" / package).read_text("utf-8")
    assert gzip.decompress((PAGES / "corpus.jsonl.gz").read_bytes()).count(b"\n") == 50
