from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

import torch
from transformers.utils import logging as transformers_logging

from diptych.registry import Registry
from diptych.types import Floats
from diptych_adapters.models import ModelError
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder

TEXTS = ["convert audio files", "", " ", "Übersicht 漢字 🎵\x00\n", "a much longer text about packages " * 60]


@pytest.fixture(scope="module")
def minilm(minilm_folder: Path) -> SentenceTransformerEncoder:
    return SentenceTransformerEncoder.of(model=str(minilm_folder), device="cpu")


def cosines(a: Floats, b: Floats) -> Floats:
    return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1), np.float32)


def test_a_model_that_normalises_itself_cannot_be_told_not_to(minilm_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"(?s)normalises its vectors itself.*leave the option out"):
        SentenceTransformerEncoder.of(model=str(minilm_folder), normalize=False)


def test_minilm_gives_the_pooled_and_normalised_vectors_of_its_transformer(
    minilm: SentenceTransformerEncoder, minilm_folder: Path
) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(minilm_folder), AutoModel.from_pretrained(minilm_folder).eval()
    tokens = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    np.testing.assert_allclose(minilm.encode_query(TEXTS), expected.numpy(), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "least"), [("bfloat16", 0.999), ("float16", 0.99999)])
def test_a_lower_precision_keeps_the_space_and_nearly_the_vectors(
    minilm: SentenceTransformerEncoder, minilm_folder: Path, precision: str, least: float
) -> None:
    lower = SentenceTransformerEncoder.of(model=str(minilm_folder), device="cpu", precision=precision)
    vectors = lower.encode_document(TEXTS)
    assert vectors.dtype == np.float32
    assert cosines(vectors, minilm.encode_document(TEXTS)).min() > least
    assert lower.fingerprint.space == minilm.fingerprint.space
    assert lower.fingerprint.numerics == f"torch {precision} cpu"
    assert minilm.fingerprint.numerics == "torch float32 cpu"


def test_truncated_vectors_are_the_first_dimensions_made_unit_length_again(
    minilm: SentenceTransformerEncoder, minilm_folder: Path
) -> None:
    short = SentenceTransformerEncoder.of(model=str(minilm_folder), device="cpu", truncate_dim=64)
    vectors = short.encode_document(TEXTS)
    assert vectors.shape == (5, short.dimension) == (5, 64)
    full = minilm.encode_document(TEXTS)[:, :64]
    np.testing.assert_allclose(vectors, full / np.linalg.norm(full, axis=1, keepdims=True), atol=1e-6)


def test_max_length_cuts_a_text_to_its_first_tokens(tiny: Callable[[str], Path]) -> None:
    short = SentenceTransformerEncoder.of(model=str(tiny("mean")), device="cpu", max_length=4)
    assert short.max_length == 4
    vectors = short.encode_document(["audio video", "audio video music tool"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_prompts_of_the_model_are_used_and_can_be_replaced(tiny: Callable[[str], Path]) -> None:
    own = SentenceTransformerEncoder.of(model=str(tiny("prompted")), device="cpu")
    plain = SentenceTransformerEncoder.of(
        model=str(tiny("prompted")), device="cpu", query_prompt="", document_prompt=""
    )
    np.testing.assert_allclose(own.encode_query(["audio"]), plain.encode_query(["find: audio"]), atol=1e-6)
    np.testing.assert_allclose(own.encode_document(["audio"]), plain.encode_query(["text: audio"]), atol=1e-6)
    given = SentenceTransformerEncoder.of(model=str(tiny("mean")), device="cpu", query_prompt="find: ")
    np.testing.assert_allclose(given.encode_query(["audio"]), own.encode_query(["audio"]), atol=1e-6)
    np.testing.assert_allclose(given.encode_document(["audio"]), plain.encode_query(["audio"]), atol=1e-6)


def test_normalisation_can_be_switched_on(tiny: Callable[[str], Path]) -> None:
    bare = SentenceTransformerEncoder.of(model=str(tiny("bare")), device="cpu")
    unit = SentenceTransformerEncoder.of(model=str(tiny("bare")), device="cpu", normalize=True)
    assert np.abs(np.linalg.norm(bare.encode_query(TEXTS), axis=1) - 1).max() > 0.1
    np.testing.assert_allclose(np.linalg.norm(unit.encode_query(TEXTS), axis=1), 1, atol=1e-6)
    assert unit.fingerprint.space != bare.fingerprint.space
    assert unit.fingerprint == SentenceTransformerEncoder.of(model=str(tiny("mean")), device="cpu").fingerprint


@pytest.mark.parametrize(
    ("name", "adapter"), [("multivector", "sentence-transformers-multivector"), ("reranker", "cross-encoder")]
)
def test_a_model_of_another_kind_names_its_adapter(tiny: Callable[[str], Path], name: str, adapter: str) -> None:
    with pytest.raises(ModelError, match=f"(?s)not a dense encoder.*use adapter: {adapter}"):
        SentenceTransformerEncoder.of(model=str(tiny(name)))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"truncate_dim": 17}, "(?s)truncate_dim.*got: 17.*at most 16"),
        ({"max_length": 65}, "(?s)max_length.*got: 65.*at most 64 tokens"),
    ],
)
def test_a_limit_beyond_the_model_is_refused(tiny: Callable[[str], Path], options: dict[str, int], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        SentenceTransformerEncoder.of(model=str(tiny("mean")), device="cpu", **options)


def test_a_measure_that_qdrant_has_not_is_refused(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(tiny("mean")), device="cpu", similarity_fn_name="manhattan").save(str(tmp_path))
    with pytest.raises(ModelError, match=r"(?s)got: manhattan.*cosine, dot, euclidean"):
        SentenceTransformerEncoder.of(model=str(tmp_path), device="cpu")


def test_loading_is_silent_and_leaves_the_libraries_settings(
    tiny: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    before = (transformers_logging.get_verbosity(), logging.getLogger("sentence_transformers").level)
    path = tiny("mean")
    capfd.readouterr()
    SentenceTransformerEncoder.of(model=str(path), device="cpu").encode_query(TEXTS)
    assert capfd.readouterr() == ("", "")
    assert before == (transformers_logging.get_verbosity(), logging.getLogger("sentence_transformers").level)


def test_a_static_embedding_loads_here_too_and_reads_everything(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny("bare") / "tokenizer.json"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu").save(str(tmp_path))
    encoder = SentenceTransformerEncoder.of(model=str(tmp_path), device="cpu")
    assert (encoder.dimension, encoder.max_length, encoder.normalized) == (8, None, False)
    assert "length:all" in encoder.fingerprint.space
    assert encoder.encode_query(TEXTS).shape == (5, 8)


def test_a_config_without_a_batch_size_leaves_batches_to_their_tokens(tiny: Callable[[str], Path]) -> None:
    texts = ["short"] * 100

    def batches(**options: Any) -> list[int]:
        encoder: Any = Registry().create("sentence-transformers", {"model": str(tiny("mean")), **options})
        rows, graph = [], encoder.runner.graph

        class Counted:
            numerics = graph.numerics

            def __call__(self, inputs: Any, mask: Any) -> Any:
                rows.append(len(mask))
                return graph(inputs, mask)

        encoder.runner.graph = Counted()
        encoder.encode_document(texts)
        return rows

    assert batches() == [100]
    assert batches(batch_size=32) == [32, 32, 32, 4]
