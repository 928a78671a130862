"""Highlights: the sentence nearest to the query and the words that match, where they stand in the text."""

from __future__ import annotations

import numpy as np
import pytest

from diptych import Collection, Document, Hit, Registry
from diptych.errors import SearchError
from diptych.testing import FakeDenseEncoder
from long_documents import QUERY, SENTENCES, SLOTS, manuals

from .conftest import Open

WHOLE = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-calibrated", "uses_idf": True}}


@pytest.fixture(scope="module", params=["passages", "whole"])
def long(opened: Open, request: pytest.FixtureRequest) -> Collection:
    collection = opened({"slots": SLOTS if request.param == "passages" else WHOLE})
    collection.populate(manuals())
    return collection


def words_of(hit: Hit) -> list[str]:
    assert hit.highlight is not None
    return [hit.document.text[start:end] for start, end in hit.highlight.words]


def test_the_sentence_is_the_nearest_by_the_slots_own_encoder(long: Collection) -> None:
    encoder = FakeDenseEncoder()
    (query,) = encoder.encode_query([QUERY])
    for hit in long.search(QUERY, highlight=True, limit=2):
        assert hit.highlight is not None
        best = hit.highlight.sentence
        assert best is not None
        assert best.text == SENTENCES[hit.id] == hit.document.text[best.start : best.end]
        (vector,) = encoder.encode_document([best.text])
        assert best.score == pytest.approx(float(np.dot(query, vector)), abs=1e-5)


def test_the_words_that_match_are_marked_where_they_stand(long: Collection) -> None:
    hits = {hit.id: hit for hit in long.search("Convert AUDIO files", highlight=True)}
    assert words_of(hits["sox"]) == ["convert", "audio", "files"]
    assert words_of(hits["lame"]) == ["audio", "files"] or words_of(hits["lame"]) == ["audio"]
    assert words_of(hits["mutt"]) == []


@pytest.mark.parametrize(
    ("text", "query", "words"),
    [
        ("用于转换音频文件的WAV程序。音乐。", "音频文件 wav", ["音频文件", "WAV"]),
        ("用于转换音频文件的程序", "音频", ["音频"]),
        ("音の編集ソフト", "編集ソフト", ["編集ソフト"]),
        ("Программа записи звука", "запись звука", ["звука"]),
    ],
)
def test_words_of_scripts_without_spaces_are_marked_too(text: str, query: str, words: list[str]) -> None:
    slots = {"lexical": {"adapter": "bm25", "language": "none"}}
    with Collection.open({"store": "memory:", "collection": "c", "slots": slots}) as collection:
        collection.populate([Document("a", text)])
        (hit,) = collection.search(query, highlight=True)
        assert words_of(hit) == words


def test_no_highlight_is_made_unless_asked_for(long: Collection) -> None:
    assert all(hit.highlight is None for hit in long.search(QUERY))
    with pytest.raises(SearchError, match="highlight is not usable"):
        long.search(QUERY, highlight="yes")  # type: ignore[arg-type]


def test_highlights_do_not_depend_on_the_payload_or_on_the_passages_that_are_shown(long: Collection) -> None:
    expected = [hit.highlight for hit in long.search(QUERY, highlight=True)]
    for options in ({"with_payload": False}, {"passages": 0}, {"with_payload": ["section"], "passages": 1}):
        hits = long.search(QUERY, highlight=True, **options)
        assert [hit.highlight and hit.highlight.words for hit in hits] == [own and own.words for own in expected]
        assert options.get("passages") != 0 or not any(hit.passages for hit in hits)


def test_the_config_can_ask_for_them_and_all_sentences_are_encoded_in_one_call(opened: Open) -> None:
    collection = opened({"slots": {"dense": SLOTS["dense"]}, "search": {"highlight": True}})
    collection.populate(manuals())
    collection.search(QUERY)
    encoder = collection.handle.now().slots["dense"].encoder.inner
    before = len(encoder.calls)
    hits = collection.search(QUERY)
    assert all(hit.highlight is not None and hit.highlight.sentence is not None for hit in hits)
    assert len(encoder.calls) - before == 1


def test_a_sparse_slot_alone_marks_words_only_and_a_stem_marks_its_forms(opened: Open) -> None:
    slots = {"lexical": {"adapter": "bm25", "language": "english"}}
    collection = opened({"slots": slots}, Registry.default())
    collection.populate([Document("a", "It converts files. A file was converted, by a converter."), Document("b", "x")])
    (hit,) = collection.search("converting file", highlight=True)
    assert hit.highlight is not None
    assert hit.highlight.sentence is None
    assert words_of(hit)[:4] == ["converts", "files", "file", "converted"]


def test_sentences_beyond_what_the_encoder_reads_are_not_shown(opened: Open) -> None:
    collection = opened({"slots": {"dense": {"adapter": "fake-dense", "max_tokens": 20}}})
    collection.populate(manuals())
    for hit in collection.search(QUERY, highlight=True):
        assert hit.highlight is not None
        assert hit.highlight.sentence is not None
        assert hit.highlight.sentence.end < hit.document.text.index(SENTENCES[hit.id])
