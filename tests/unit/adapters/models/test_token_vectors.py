from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

import torch

from diptych.protocols import MultiVectorEncoder
from diptych_adapters.models import ModelError
from diptych_adapters.token_vectors import TokenVectorEncoder

TEXTS = ["convert audio files", "", "漢字 🎵", "a much longer text about packages " * 60]


@pytest.fixture(scope="module")
def encoder(minilm_folder: Path) -> TokenVectorEncoder:
    return TokenVectorEncoder.of(model=str(minilm_folder), device="cpu", batch_size=2)


def test_each_token_gets_the_unit_vector_of_the_last_layer(encoder: TokenVectorEncoder, minilm_folder: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    assert isinstance(encoder, MultiVectorEncoder)
    tokenizer, model = AutoTokenizer.from_pretrained(minilm_folder), AutoModel.from_pretrained(minilm_folder).eval()
    for text, vectors in zip(TEXTS, encoder.encode_document(TEXTS), strict=True):
        tokens = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            expected = torch.nn.functional.normalize(model(**tokens).last_hidden_state[0], dim=1)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, expected.numpy(), atol=2e-6)


def test_special_tokens_can_be_left_out_and_unknown_words_stay(
    minilm_folder: Path, encoder: TokenVectorEncoder
) -> None:
    words = TokenVectorEncoder.of(model=str(minilm_folder), device="cpu", special_tokens=False)
    kept, everything = words.encode_query(TEXTS), encoder.encode_query(TEXTS)
    np.testing.assert_allclose(kept[0], everything[0][1:-1], atol=2e-6)
    assert [len(vectors) for vectors in everything] == [5, 2, 5, 256]
    assert [len(vectors) for vectors in kept] == [3, 1, 3, 254]
    np.testing.assert_array_equal(kept[1], np.zeros((1, 384)))
    assert words.fingerprint.space != encoder.fingerprint.space


def test_truncated_token_vectors_are_unit_length(minilm_folder: Path, encoder: TokenVectorEncoder) -> None:
    short = TokenVectorEncoder.of(model=str(minilm_folder), device="cpu", truncate_dim=64)
    [vectors], [full] = short.encode_query(["audio"]), encoder.encode_query(["audio"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors * np.linalg.norm(full[:, :64], axis=1)[:, None], full[:, :64], atol=1e-6)
    with pytest.raises(ModelError, match=r"(?s)truncate_dim.*at most 384"):
        TokenVectorEncoder.of(model=str(minilm_folder), truncate_dim=385)


def test_pooling_does_not_count_for_the_space_of_token_vectors(tiny: object) -> None:
    assert callable(tiny)
    spaces = {TokenVectorEncoder.of(model=str(tiny(name)), device="cpu").fingerprint.space for name in ("mean", "cls")}
    assert len(spaces) == 1


def test_maxsim_finds_the_document_that_says_it_in_other_words(encoder: TokenVectorEncoder) -> None:
    documents = encoder.encode_document(["a tool that transcodes sound", "a spreadsheet for accounting"])
    [query] = encoder.encode_query(["convert audio"])
    near, far = [(query @ document.T).max(axis=1).sum() for document in documents]
    assert near > far
