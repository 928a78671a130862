"""The test collection of long documents: its pages as Markdown, and its queries, which the model cannot have read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from corpora import read_documents
from diptych.evaluate import read_beir
from diptych.types import Document, Query
from manual_pages.queries import READ, words
from manual_pages.tokens import minilm_tokens

PAGES = Path(__file__).parents[2] / "data/manual_pages"


def committed() -> tuple[list[Query], dict[str, str], dict[str, Document]]:
    """Queries of the committed collection, the document of each, and the documents."""
    queries, qrels = read_beir(PAGES)
    return queries, {name: next(iter(own)) for name, own in qrels.judgements.items()}, read_documents(PAGES)


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
