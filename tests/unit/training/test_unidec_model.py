"""The model of UniDEC is one of sentence-transformers: it saves, loads and serves without foreign code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from diptych.errors import ContractError
from diptych_training.models.unidec import CLASSIFIER, export, served, table_of, with_classifier
from tiny_models import bert

LABELS = ["play music", "convert  audio\nfiles", "play music", "", "video"]


@pytest.fixture
def model(tmp_path: Path) -> SentenceTransformer:
    return with_classifier(SentenceTransformer(str(bert(tmp_path / "bert")), device="cpu"), len(LABELS))


def both(model: SentenceTransformer, texts: list[str]) -> tuple[Any, Any]:
    found: Any = model.encode(texts, output_value=None, show_progress_bar=False)
    dense, asked = (torch.stack([one[name] for one in found]).numpy() for name in ("sentence_embedding", CLASSIFIER))
    return dense, asked


def test_the_dual_encoder_starts_as_the_encoder_with_tanh(model: SentenceTransformer, tmp_path: Path) -> None:
    plain = SentenceTransformer(str(tmp_path / "bert"), device="cpu").encode(["word1 word2", "word3"])
    wanted = np.tanh(plain) / np.linalg.norm(np.tanh(plain), axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode(["word1 word2", "word3"]), wanted, atol=1e-6)


def test_heads_of_other_sizes_are_made(tmp_path: Path) -> None:
    base = SentenceTransformer(str(bert(tmp_path / "bert")), device="cpu")
    dense, asked = both(with_classifier(base, 3, dimension=8, classifier_dimension=5), ["word1"])
    assert (dense.shape, asked.shape) == ((1, 8), (1, 5))


def test_what_is_exported_answers_as_the_trained_model_and_needs_no_foreign_code(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    export(model, LABELS, tmp_path / "out")
    loaded = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    for ours, theirs in zip(both(model, ["word1 word9", ""]), both(loaded, ["word1 word9", ""]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert not [file for file in (tmp_path / "out").rglob("*") if file.suffix in (".bin", ".pt", ".pkl", ".py")]
    with pytest.raises(ContractError, match="has no classifier"):
        table_of(loaded)
    assert table_of(model) is table_of(model)
    assert len(list(served(model).children())) == len(list(model.children())) - 1


def test_free_vectors_are_found_by_the_text_and_other_texts_have_none(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    export(model, LABELS, tmp_path / "out")
    labels = SentenceTransformer(str(tmp_path / "out" / "labels"), device="cpu")
    rows = table_of(model).weight.detach().numpy()
    wanted = {"play music": rows[[0, 2]].mean(0), " convert audio files ": rows[1], "video": rows[4]}
    for text, row in wanted.items():
        np.testing.assert_allclose(labels.encode([text])[0], row / np.linalg.norm(row), atol=1e-6)
    assert not labels.encode(["play", "play music now", "[UNK]", "Video"]).any()


def test_texts_of_another_number_than_rows_are_refused(model: SentenceTransformer, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"(?s)differs from the number of rows.*1 texts.*5, one per row"):
        export(model, ["one"], tmp_path / "out")
