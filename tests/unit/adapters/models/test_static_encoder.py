from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("model2vec", reason="needs diptych[static]")

from diptych.protocols import DenseEncoder
from diptych_adapters.models import ModelError
from diptych_adapters.static import StaticEncoder

TEXTS = ["convert audio files", "", "unseenword 漢字 audio", "play music . " * 400]


def table() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(49, 24)).astype(np.float32)


@pytest.fixture(scope="module")
def model2vec_folder(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[[str], Path]) -> Path:
    from model2vec import StaticModel
    from tokenizers import Tokenizer

    folder = tmp_path_factory.mktemp("model2vec")
    tokenizer = Tokenizer.from_file(str(tiny("bare") / "tokenizer.json"))
    StaticModel(table(), tokenizer, normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def library_folder(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[[str], Path]) -> Path:
    pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    folder = tmp_path_factory.mktemp("static")
    tokenizer = Tokenizer.from_file(str(tiny("bare") / "tokenizer.json"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table())], device="cpu").save(str(folder))
    return folder


def test_a_model2vec_folder_gives_the_mean_of_known_words_made_unit_length(model2vec_folder: Path) -> None:
    encoder, rows = StaticEncoder(model=str(model2vec_folder)), table()
    assert isinstance(encoder, DenseEncoder)
    assert (encoder.dimension, encoder.max_length) == (24, 512)
    vectors = encoder.encode_document(TEXTS)
    expected = rows[[8, 7, 9]].mean(axis=0)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[0], expected / np.linalg.norm(expected), atol=1e-6)
    np.testing.assert_array_equal(vectors[1], np.zeros(24))
    np.testing.assert_allclose(vectors[2], rows[7] / np.linalg.norm(rows[7]), atol=1e-6)


def test_a_sentence_transformers_folder_gives_that_librarys_vectors_without_torch(library_folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = StaticEncoder(model=str(library_folder))
    expected = SentenceTransformer(str(library_folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(encoder.encode_query(TEXTS), expected, atol=1e-6)
    assert encoder.max_length is None


def test_options_that_change_vectors_change_the_space(model2vec_folder: Path) -> None:
    def space(**options: Any) -> str:
        return StaticEncoder(model=str(model2vec_folder), **options).fingerprint.space

    assert space() == space(batch_size=1) == space(normalize=True, max_length=512)
    changes: list[dict[str, Any]] = [{"query_prompt": "a"}, {"document_prompt": "a"}, {"max_length": 3}]
    changes += [{"truncate_dim": 8}, {"normalize": False}]
    assert len({space(), *(space(**change) for change in changes)}) == 6


def test_dimensions_are_cut_and_prompts_put_before(model2vec_folder: Path) -> None:
    encoder = StaticEncoder(model=str(model2vec_folder), truncate_dim=8, normalize=False, query_prompt="video ")
    rows = table()
    assert encoder.encode_query(["audio tool"]).shape == (1, encoder.dimension) == (1, 8)
    np.testing.assert_allclose(encoder.encode_query(["audio tool"])[0], rows[[16, 7, 15], :8].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(encoder.encode_document(["audio tool"])[0], rows[[7, 15], :8].mean(axis=0), atol=1e-6)


def test_more_dimensions_than_the_table_has_are_refused(model2vec_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"(?s)truncate_dim.*got: 25.*at most 24"):
        StaticEncoder(model=str(model2vec_folder), truncate_dim=25)


def test_a_transformer_is_no_static_embedding(minilm_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"(?s)not a static embedding.*Transformer \+ Pooling.*sentence-transformers"):
        StaticEncoder(model=str(minilm_folder))


@pytest.mark.parametrize(
    ("content", "got", "lacking"),
    [
        ({}, "an empty folder", "model.safetensors and tokenizer.json and config.json"),
        ({"config.json": "{}", "tokenizer.json": "{}"}, "config.json, tokenizer.json", "model.safetensors"),
        ({"config.json": "{}", "model.safetensors": ""}, "config.json, model.safetensors", "tokenizer.json"),
        ({"model.safetensors": "", "tokenizer.json": "{}"}, "model.safetensors, tokenizer.json", "config.json"),
    ],
)
def test_a_folder_without_a_model_is_told_what_is_missing(
    content: dict[str, str], got: str, lacking: str, tmp_path: Path
) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelError) as refused:
        StaticEncoder(model=str(tmp_path))
    assert refused.value.what.endswith(f"holds no static embedding: it lacks {lacking}")
    assert (refused.value.where, refused.value.got) == (str(tmp_path), got)
    assert refused.value.do.startswith("name the folder that holds these files"), "no other adapter reads it either"


def test_a_model_of_transformers_is_for_another_adapter(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"], "model_type": "bert"}')
    with pytest.raises(
        ModelError, match=r"(?s)not a static.*transformers: BertModel.*use adapter: sentence-transformers"
    ):
        StaticEncoder(model=str(tmp_path))
