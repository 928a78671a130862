from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("fastembed", reason="needs diptych[fastembed]")

from diptych_adapters.fastembed_models import (
    FastEmbedEncoder,
    FastEmbedMultiVectorEncoder,
    FastEmbedReranker,
    FastEmbedSparseEncoder,
)
from diptych_adapters.models import ModelError
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder

Onnx: TypeAlias = Callable[[str, NDArray[np.float32], bool], Path]
TEXTS = ["convert audio files", "", "Übersicht 漢字 🎵", "play music . " * 40]
ROWS = 49  # rows of the tables: VOCABULARY of conftest.py


def table(width: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(0).normal(size=(ROWS, width)).astype(np.float32)
    rows[0] = 0  # [PAD], so that a sum does not depend on padding
    return rows


@pytest.fixture(scope="module")
def paraphrase(paraphrase_folder: Path) -> FastEmbedEncoder:
    return FastEmbedEncoder.of(model=str(paraphrase_folder), output="461", pooling="disabled", batch_size=2)


def test_a_local_onnx_folder_serves_as_a_dense_encoder(paraphrase: FastEmbedEncoder) -> None:
    vectors = paraphrase.encode_document(TEXTS)
    assert vectors.shape == (4, paraphrase.dimension) == (4, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    single = np.concatenate([paraphrase.encode_document([text]) for text in TEXTS])
    np.testing.assert_allclose(vectors, single, atol=1e-5)
    assert paraphrase.encode_query([]).shape == (0, 384)


def test_pooling_inside_and_outside_the_graph_give_the_same_vectors(
    paraphrase: FastEmbedEncoder, paraphrase_folder: Path
) -> None:
    outside = FastEmbedEncoder.of(model=str(paraphrase_folder), output="onnx::Shape_422", pooling="mean")
    np.testing.assert_allclose(outside.encode_query(TEXTS), paraphrase.encode_query(TEXTS), atol=1e-5)


def test_another_model_of_the_same_size_has_another_space(paraphrase: FastEmbedEncoder, minilm_folder: Path) -> None:
    minilm = SentenceTransformerEncoder.of(model=str(minilm_folder), device="cpu")
    assert minilm.dimension == paraphrase.dimension
    assert minilm.fingerprint.space != paraphrase.fingerprint.space
    assert np.abs(minilm.encode_query(TEXTS) - paraphrase.encode_query(TEXTS)).max() > 0.1


@pytest.mark.slow
def test_prompts_and_pooling_change_the_space_and_the_batch_size_does_not(paraphrase_folder: Path) -> None:
    def space(**options: object) -> str:
        default = {"model": str(paraphrase_folder), "output": "onnx::Shape_422"}
        return FastEmbedEncoder.of(**(default | options)).fingerprint.space

    assert space() == space(batch_size=3, threads=1)
    different = [
        space(),
        space(query_prompt="a"),
        space(document_prompt="a"),
        space(pooling="cls"),
        space(normalize=False),
    ]
    assert len(set(different)) == 5


@pytest.mark.parametrize("options", [{"output": "sentence"}, {}, {"output": "461"}])
def test_the_outputs_of_a_graph_with_several_are_listed(paraphrase_folder: Path, options: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=r"(?s)(does not work as configured|cannot open).*onnx::Shape_422.*461"):
        FastEmbedEncoder.of(model=str(paraphrase_folder), **options)


def test_a_folder_with_two_graphs_needs_a_choice(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"(?s)got: a.onnx, b.onnx.*name one of them as model_file"):
        FastEmbedEncoder.of(model=str(tmp_path))


def test_a_name_that_is_not_listed_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"expected: .*BAAI/bge-small-en-v1\.5"):
        FastEmbedEncoder.of(model="bge-small-en-v1.5")


def test_a_listed_model_that_cannot_be_had_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"(?s)cannot open model 'BAAI/bge-small-en-v1.5'.*give path"):
        FastEmbedEncoder.of(model="BAAI/bge-small-en-v1.5", local_files_only=True, cache_dir=str(tmp_path))


def test_a_reranker_from_a_folder_keeps_the_order_of_the_pairs(onnx_folder: Onnx) -> None:
    rows = table(1)
    reranker = FastEmbedReranker.of(model=str(onnx_folder("model.onnx", rows, True)), batch_size=2)
    pairs = [("audio", "video"), ("audio", ""), ("convert audio files", "play music . " * 20), ("audio", "video tool")]
    ends, audio, video, tool = rows[4, 0] + 2 * rows[5, 0], rows[7, 0], rows[16, 0], rows[15, 0]
    expected = [ends + audio + video, ends + audio, ends + audio + video + tool]
    scores = reranker.predict(pairs)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores[[0, 1, 3]], expected, rtol=1e-5)
    np.testing.assert_allclose(scores, [reranker.predict([pair])[0] for pair in pairs], rtol=1e-5)
    assert reranker.predict([]).shape == (0,)


def test_a_listed_splade_model_is_read_from_a_folder_and_decodes_to_words(onnx_folder: Onnx) -> None:
    rows = table(ROWS)
    folder = onnx_folder("model.onnx", rows, False)
    encoder = FastEmbedSparseEncoder.of(model="prithivida/Splade_PP_en_v1", path=str(folder), batch_size=2)
    assert not encoder.uses_idf
    [found] = encoder.encode_document(["audio video"])
    expected = np.log1p(np.maximum(rows[[4, 7, 16, 5]], 0).max(axis=0))
    np.testing.assert_array_equal(found.indices, np.flatnonzero(expected))
    np.testing.assert_allclose(found.values, expected[expected > 0], rtol=1e-5)
    heaviest = encoder.decode(found, 3)
    assert len(heaviest) == 3
    assert heaviest[0][1] == pytest.approx(expected.max())
    texts = ["audio", "convert audio files", ""]
    assert encoder.encode_query(texts) == [encoder.encode_query([text])[0] for text in texts]


def test_fastembeds_bm25_is_refused_for_ours() -> None:
    with pytest.raises(ModelError, match=r"(?s)average document length.*use adapter: bm25"):
        FastEmbedSparseEncoder.of(model="Qdrant/bm25")


def test_a_listed_colbert_model_is_read_from_a_folder(onnx_folder: Onnx) -> None:
    folder = onnx_folder("model.onnx", table(128), False)
    encoder = FastEmbedMultiVectorEncoder.of(model="colbert-ir/colbertv2.0", path=str(folder), batch_size=2)
    assert (encoder.dimension, encoder.similarity) == (128, "cosine")
    texts = ["audio video", "convert audio files", "play . music"]
    documents = encoder.encode_document(texts)
    assert [len(vectors) for vectors in documents] == [5, 6, 5]  # [CLS] [D] words [SEP], without the full stop
    for vectors, text in zip(documents, texts, strict=True):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, encoder.encode_document([text])[0], atol=1e-6)
    assert encoder.encode_query(["audio"])[0].shape[1] == 128
