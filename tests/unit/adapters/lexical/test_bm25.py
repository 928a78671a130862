from __future__ import annotations

import math
import threading

import pytest

from diptych.errors import AdapterOptionsError, ContractError
from diptych.registry import Registry
from diptych.types import SparseVector
from diptych_adapters import hooks
from diptych_adapters.lexical import Analyzer, Bm25, Lexicon
from diptych_adapters.model_options import Bm25Options

term_id = Analyzer(Bm25Options()).term_id
CORPUS = [
    "Convert audio files between formats, fast conversion of audio.",
    "A fast editor of text files",
    "Play music and audio streams over the network, audio mixing included",
    "",
    "the and of",
]


@pytest.fixture
def encoder() -> Bm25:
    made = Bm25()
    made.calibrate(made.measure(CORPUS))
    return made


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"k": 1}, "did you mean 'k1'"),
        ({"k1": -1}, "at least 0"),
        ({"b": 1.5}, "at most 1"),
        ({"language": "vietnamese"}, "expected: none for a language without a stemmer.* or arabic, .*, english, "),
        ({"min_token_length": 5, "max_token_length": 3}, "min_token_length 5 is above max_token_length 3"),
    ],
)
def test_wrong_options_are_refused_with_a_reason(options: dict[str, object], text: str) -> None:
    with pytest.raises(AdapterOptionsError, match=text):
        Registry(hooks, installed=False).create("bm25", options)


def test_a_query_says_how_often_it_says_each_word(encoder: Bm25) -> None:
    (vector,) = encoder.encode_query(["audio audios to the text"])
    assert vector == SparseVector.from_mapping({term_id("audio"): 2.0, term_id("text"): 1.0})


def test_the_average_length_counts_every_document_and_only_words_that_count(encoder: Bm25) -> None:
    assert encoder.measure(CORPUS) == {"documents": 5.0, "tokens": 21.0}
    assert encoder.average_length == 4.2


def test_a_document_does_not_depend_on_its_batch(encoder: Bm25) -> None:
    many = CORPUS * 500
    assert encoder.encode_document(many) == encoder.encode_document(CORPUS) * 500
    assert encoder.encode_document([CORPUS[2]]) == [encoder.encode_document(CORPUS)[2]]
    assert encoder.encode_document([]) == []
    assert encoder.encode_query([]) == []


def test_encoding_documents_before_calibration_is_refused() -> None:
    with pytest.raises(
        ContractError, match=r"average length yet\n.*calibrate\(statistics\)[^\n]*\n.*populate measures"
    ):
        Bm25().encode_document(CORPUS)


def test_queries_need_no_calibration(encoder: Bm25) -> None:
    assert Bm25().encode_query(["audio"]) == encoder.encode_query(["audio"])


@pytest.mark.parametrize(
    "statistics",
    [
        {},
        {"documents": 3.0},
        {"documents": 0.0, "tokens": 0.0},
        {"documents": 3.0, "tokens": -1.0},
        {"documents": math.nan, "tokens": 1.0},
    ],
)
def test_statistics_without_an_average_are_refused(statistics: dict[str, float]) -> None:
    with pytest.raises(ContractError, match="documents > 0 and tokens >= 0"):
        Bm25().calibrate(statistics)


def test_a_corpus_without_words_leaves_lengths_out() -> None:
    encoder = Bm25()
    encoder.calibrate(encoder.measure(["the", ""]))
    (vector,) = encoder.encode_document(["audio"])
    assert vector.values.tolist() == pytest.approx([1.0])


def test_decode_gives_words_heaviest_first(encoder: Bm25) -> None:
    (vector,) = encoder.encode_document(CORPUS[:1])
    words = encoder.decode(vector)
    assert {word for word, _ in words} == {"convert", "audio", "files", "between", "formats", "fast", "conversion"}
    assert [weight for _, weight in words] == sorted(vector.values.tolist(), reverse=True)
    assert encoder.decode(vector, 2) == words[:2]


def test_another_process_decodes_after_reading_the_text(encoder: Bm25) -> None:
    (vector,) = encoder.encode_document(CORPUS[:1])
    other = Bm25()
    assert all(word.startswith("#") for word, _ in other.decode(vector))
    other.remember(CORPUS[:1])
    assert other.decode(vector) == encoder.decode(vector)


def test_ids_do_not_change_between_machines_and_versions() -> None:
    assert [term_id(stem) for stem in ("audio", "файл", "convert")] == [1768659361, 2229171188, 196814171]


def test_two_stems_with_one_id_are_both_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Analyzer, "term_id", lambda self, stem: len(stem))
    words = Lexicon(Analyzer(Bm25Options(language="none", stopwords=[])))
    words.remember(["audio video sound text"])
    assert words.word(5) == "audio|sound|video"


def test_memory_of_words_is_bounded_and_keeps_the_last_call() -> None:
    words = Lexicon(Analyzer(Bm25Options()), cached_words=50)
    for start in range(0, 1000, 20):
        batch = [f"word{n}" for n in range(start, start + 20)]
        ids, _ = words.term_ids(batch)
        assert [words.word(int(i)) for i in ids] == batch
        assert start == 0 or words.word(term_id(f"word{start - 1}")) == f"word{start - 1}"
    assert words.word(term_id("word1")).startswith("#")


def test_the_fingerprint_changes_with_every_option_that_changes_vectors() -> None:
    changes: list[dict[str, object]] = [
        {},
        {"k1": 1.3},
        {"b": 0.7},
        {"language": "german"},
        {"stopwords": []},
        {"stopwords": ["the"]},
        {"ascii_folding": True},
        {"min_token_length": 1},
        {"max_token_length": 30},
        {"compatible_with": "fastembed"},
        {"compatible_with": "fastembed", "average_length": 100},
    ]
    spaces = [Bm25(**options).fingerprint.space for options in changes]
    assert len(set(spaces)) == len(spaces)
    assert Bm25().fingerprint == Bm25(k1=1.2, language="english").fingerprint


def test_the_fingerprint_does_not_change_with_the_corpus(encoder: Bm25) -> None:
    assert encoder.fingerprint == Bm25().fingerprint


def test_threads_share_an_encoder(encoder: Bm25) -> None:
    texts = [f"{word}ing {word}ed files number{n}" for n in range(300) for word in ("play", "convert", "index")]
    expected = encoder.encode_document(texts)
    fresh = Bm25()
    fresh.calibrate({"documents": 5.0, "tokens": 21.0})
    found: list[list[SparseVector]] = []
    threads = [threading.Thread(target=lambda: found.append(fresh.encode_document(texts))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4
