"""Character n-grams: which a word has, what they find, and that other settings are another space."""

from __future__ import annotations

import numpy as np
import pytest

from diptych import Registry
from diptych.errors import AdapterOptionsError
from diptych.protocols import Fingerprint
from diptych.types import SparseVector
from diptych_adapters.lexical import NGrams

TEXTS = ["convert audio files between formats", "an editor of text files", "a mail server for small networks"]


def overlap(query: SparseVector, document: SparseVector) -> float:
    _, left, right = np.intersect1d(query.indices, document.indices, return_indices=True)
    return float(query.values[left] @ document.values[right])


def filled(**options: int) -> NGrams:
    encoder = NGrams(**options)
    encoder.calibrate(encoder.measure(TEXTS))
    return encoder


def test_the_ngrams_of_a_word_know_its_beginning_and_end() -> None:
    words = NGrams(minimum=3, maximum=4).lexicon.analyzer.words
    assert words("Mail") == ["_ma", "mai", "ail", "il_", "_mai", "mail", "ail_"]
    assert words("a") == ["_a_"]
    assert NGrams().lexicon.analyzer.words("a of mail") == ["_a_", "_of_", "_mai", "mail", "ail_"]


@pytest.mark.parametrize(("query", "found"), [("covnert adio fiels", 0), ("etditor", 1), ("mailserver", 2)])
def test_a_word_is_found_in_spite_of_typing_errors_and_inside_longer_words(query: str, found: int) -> None:
    encoder = filled()
    (asked,) = encoder.encode_query([query])
    scores = [overlap(asked, document) for document in encoder.encode_document(TEXTS)]
    assert int(np.argmax(scores)) == found
    assert scores[found] > 0


def test_a_vector_can_be_read() -> None:
    encoder = filled(minimum=3, maximum=3)
    (vector,) = encoder.encode_query(["mail"])
    assert sorted(ngram for ngram, _ in encoder.decode(vector)) == ["_ma", "ail", "il_", "mai"]


def test_other_lengths_are_another_space_and_another_average_is_not() -> None:
    prints = {NGrams(minimum=low, maximum=high).fingerprint for low, high in ((4, 4), (3, 4), (3, 3))}
    assert len(prints) == 3
    assert NGrams(average_length=9.0).fingerprint == NGrams().fingerprint


def test_lengths_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(AdapterOptionsError, match="minimum 5 is above maximum 4"):
        Registry().create("bm25", {"terms": "ngrams", "minimum": 5, "maximum": 4})


def test_first_words_of_a_document_are_read_and_queries_whole() -> None:
    name, encoder = NGrams(average_length=5.0), NGrams(average_length=5.0, first_words=2)
    documents = ["bolt-m3 steel a bolt of steel", "bolt-m3\nsteel", " bolt-m3 ", ""]
    wanted = name.encode_document(["bolt-m3 steel", "bolt-m3 steel", "bolt-m3", ""])
    for found, own in zip(encoder.encode_document(documents), wanted, strict=True):
        assert found.indices.tolist() == own.indices.tolist()
        assert found.values.tolist() == own.values.tolist()
    assert encoder.measure(documents) == name.measure(["bolt-m3 steel", "bolt-m3 steel", "bolt-m3", ""])
    (asked,) = encoder.encode_query(documents[:1])
    assert asked.indices.tolist() == name.encode_query(documents[:1])[0].indices.tolist()


def test_first_words_are_another_space_and_without_them_older_collections_keep_theirs() -> None:
    prints = [NGrams(first_words=count).fingerprint for count in (None, 1, 2)]
    assert len(set(prints)) == 3
    assert prints[0] == Fingerprint("708c9b55739c162d9b71253a7dff2af0")
    with pytest.raises(AdapterOptionsError, match="first_words"):
        Registry().create("bm25", {"terms": "ngrams", "first_words": 0})
