"""Token vectors of a real model, and passages pooled from them, against transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.passages import PassageOptions, with_passages
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder
from tiny_models import WORDS, encoder

TEXT = " ".join(WORDS[:25])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformerEncoder:
    folder = tmp_path_factory.mktemp("tiny") / "saved"
    encoder(folder.with_name("plain")).save(str(folder))
    return SentenceTransformerEncoder.of(model=str(folder), backend="torch", device="cpu")


def hidden(folder: Path, text: str) -> Any:
    """The last layer's vectors without those of the special tokens."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        return AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state[0, 1:-1].numpy()


def test_token_vectors_are_those_of_the_last_layer(tiny: SentenceTransformerEncoder) -> None:
    assert tiny.mean_pooled
    texts = [TEXT, "word1 word2"]
    for text, vectors in zip(texts, tiny.token_vectors(texts), strict=True):
        np.testing.assert_allclose(vectors, hidden(Path(tiny._folder.path), text), atol=1e-5)


def test_a_text_that_is_too_long_shows_the_vectors_of_its_beginning(tiny: SentenceTransformerEncoder) -> None:
    (vectors,) = tiny.token_vectors([" ".join(WORDS)])
    assert len(vectors) == tiny.max_tokens == 30
    np.testing.assert_allclose(vectors, hidden(Path(tiny._folder.path), " ".join(WORDS[:30])), atol=1e-5)


def test_late_passages_are_means_of_them(tiny: SentenceTransformerEncoder) -> None:
    encoder = with_passages(
        tiny, "dense", PassageOptions.model_construct(tokens=10, overlap=0, pooling="late"), where=""
    )
    (vectors,), (places,) = encoder.encode_document([TEXT]), encoder.places([TEXT])
    tokens = hidden(Path(tiny._folder.path), TEXT)
    assert len(places) == 3
    for vector, (begin, end) in zip(vectors, places, strict=True):
        first = len(TEXT[:begin].split())
        own = tokens[first : first + len(TEXT[begin:end].split())].mean(axis=0)
        np.testing.assert_allclose(vector, own, atol=1e-5)
