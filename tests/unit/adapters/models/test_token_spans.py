"""Where tokens of documents are, and how many of them a model reads: special tokens, prompts, routes, threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

from diptych.protocols import TokenLimit
from diptych.testing.checks import Conditions
from diptych.testing.checks.encoders import check_token_limit
from diptych_adapters.cross_encoder import CrossEncoderReranker
from diptych_adapters.engines.batches import DocumentTokens
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder
from diptych_adapters.sparse_encoders import LearnedSparseEncoder, SpladeEncoder
from diptych_adapters.token_vectors import LateInteractionEncoder, TokenVectorEncoder

Build = Callable[[str], Path]


@pytest.fixture(scope="module")
def minilm(minilm_folder: Path) -> str:
    return (minilm_folder / "tokenizer.json").read_text()


def words(text: str, spans: NDArray[np.int32]) -> list[str]:
    return [text[begin:end] for begin, end in spans.tolist()]


@pytest.mark.parametrize("prompt", ["", "passage: ", "passage"])
def test_spans_are_characters_of_the_text_itself(minilm: str, prompt: str) -> None:
    text = "Straße, café 🎈 unaffable"
    (spans,) = DocumentTokens(minilm, prompt).spans([text])
    expected = ["Straße", ",", "café", "🎈", "una", "ffa", "ble"]
    assert "".join(words(text, spans)) == "".join(expected)
    assert words(text, spans)[-3:] == expected[-3:]
    assert spans.dtype == np.int32


@pytest.mark.parametrize(
    ("adapter", "name", "kind", "room"),
    [
        (SentenceTransformerEncoder, "mean", "dense", 62),
        (SentenceTransformerEncoder, "prompted", "dense", 60),
        (TokenVectorEncoder, "mean", "multivector", 62),
        (SpladeEncoder, "masked", "sparse", 62),
        (LearnedSparseEncoder, "inference-free", "sparse", 62),
    ],
)
def test_each_adapter_reads_as_much_as_it_says(adapter: Any, name: str, kind: Any, room: int, tiny: Build) -> None:
    encoder = adapter.of(model=str(tiny(name)), device="cpu")
    assert isinstance(encoder, TokenLimit)
    assert encoder.max_tokens == room
    texts = ("audio convert files format package", "music play sound tool video", "files play")
    check_token_limit(encoder, Conditions(kind=kind, texts=texts))


def test_late_interaction_reads_its_own_length_of_documents(tiny: Build) -> None:
    encoder = LateInteractionEncoder.of(model=str(tiny("multivector")), device="cpu")
    encoder.model[0].document_length = 20
    assert encoder.max_tokens == 18  # without [CLS] and [SEP]
    texts = ("audio convert files format package", "music play sound tool video")
    check_token_limit(encoder, Conditions(kind="multivector", texts=texts))


def test_a_shorter_length_is_told(tiny: Build) -> None:
    assert SentenceTransformerEncoder.of(model=str(tiny("mean")), device="cpu", max_length=16).max_tokens == 14


def test_a_reranker_is_no_encoder_with_a_limit(tiny: Build) -> None:
    assert not isinstance(CrossEncoderReranker.of(model=str(tiny("reranker")), device="cpu"), TokenLimit)


def test_spans_do_not_disturb_encoding_in_other_threads(tiny: Build) -> None:
    encoder = SentenceTransformerEncoder.of(model=str(tiny("mean")), device="cpu")
    texts = ["audio convert files " * 40, "music"]
    expected = encoder.encode_document(texts)
    with ThreadPoolExecutor(2) as pool:
        spans = [pool.submit(encoder.token_spans, texts) for _ in range(30)]
        vectors = [encoder.encode_document(texts) for _ in range(30)]
    assert all(len(done.result()[0]) == 120 for done in spans)
    assert all(np.array_equal(found, expected) for found in vectors)
