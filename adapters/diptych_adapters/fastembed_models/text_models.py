"""FastEmbed's text models: dense, sparse and late-interaction encoders, and cross-encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastembed import LateInteractionTextEmbedding, SparseTextEmbedding, TextEmbedding
from fastembed.common.model_description import PoolingType
from fastembed.rerank.cross_encoder import TextCrossEncoder

from diptych.protocols import Fingerprint, Pair, Similarity
from diptych.types import Floats, SparseVector
from diptych_adapters.engines.batches import by_length
from diptych_adapters.engines.tokens import unread_share
from diptych_adapters.fastembed_models.model import EncoderModel, FastEmbedModel, custom_folder, is_folder, register
from diptych_adapters.model_options import FastEmbedDenseOptions, FastEmbedOptions, FastEmbedRerankerOptions
from diptych_adapters.models import ModelError

HASHED = 2**32  # models without a vocabulary hash words to 32 bits


class FastEmbedEncoder(EncoderModel):
    """A dense encoder of FastEmbed: a listed model, or a local folder with an ONNX file and a tokenizer.

    Raises:
        ModelError: see FastEmbedModel.
    """

    options_model = FastEmbedDenseOptions
    similarity: Similarity = "cosine"

    def __init__(self, options: FastEmbedDenseOptions) -> None:
        self._steps: list[str] = []
        name, path = options.model, options.path
        if is_folder(name):
            name, path = self._custom(options)
        super().__init__(TextEmbedding, name, path, options)
        self._prompts = (options.query_prompt, options.document_prompt)
        self._batch_size = options.batch_size
        self.dimension: int = self.probe()

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        return self.fingerprint_of(self._steps, self._prompts, self.dimension)

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """Vectors of queries, float32 `[n, dimension]`."""
        prompt = self._prompts[0]
        return self._stack(
            by_length(inputs, self._batch_size, lambda texts: self.model.query_embed([prompt + t for t in texts]))
        )

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors of documents, float32 `[n, dimension]`."""
        prompt = self._prompts[1]
        return self._stack(
            by_length(inputs, self._batch_size, lambda texts: self.model.passage_embed([prompt + t for t in texts]))
        )

    def unread_share(self, inputs: Sequence[str]) -> float:
        """The share of the letters that the tokenizer leaves unknown or reads in small pieces, 0 to 1."""
        return unread_share([self.folder], inputs)

    def _stack(self, vectors: list[Any]) -> Floats:
        return np.asarray(vectors, np.float32).reshape(len(vectors), self.dimension)

    def _custom(self, options: FastEmbedDenseOptions) -> tuple[str, str]:
        folder, file = custom_folder(options.model, options.model_file)
        facts = {
            "pooling": PoolingType[options.pooling.upper()],
            "normalization": options.normalize,
            "model_file": file,
            "output_name": options.output,
            "dim": 1,  # FastEmbed only repeats it; ours is measured
        }
        steps = [options.output, options.pooling, "normalize" if options.normalize else None]
        self._steps = [step for step in steps if step]
        return register(TextEmbedding, folder, facts), str(folder)


class FastEmbedSparseEncoder(EncoderModel):
    """A sparse encoder of FastEmbed: SPLADE++, inference-free SPLADE, BM42, miniCOIL.

    Raises:
        ModelError: see FastEmbedModel; also for Qdrant/bm25, whose average document length is a constant.
    """

    def __init__(self, options: FastEmbedOptions) -> None:
        if options.model.lower() == "qdrant/bm25":
            raise ModelError(
                "FastEmbed's BM25 takes the average document length as a constant",
                got=options.model,
                do="use adapter: bm25, which measures it; with compatible_with: fastembed it makes the same vectors",
            )
        super().__init__(SparseTextEmbedding, options.model, options.path, options)
        self._batch_size = options.batch_size
        self._vocabulary: int | None = self.description.vocab_size
        self.dimension: int = self._vocabulary or HASHED
        self.uses_idf: bool = bool(self.description.requires_idf)

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        return self.fingerprint_of([], ("", ""), self.dimension)

    def encode_query(self, inputs: Sequence[str]) -> list[SparseVector]:
        """Term weights of queries."""
        return [_sparse(embedding) for embedding in by_length(inputs, self._batch_size, self.model.query_embed)]

    def encode_document(self, inputs: Sequence[str]) -> list[SparseVector]:
        """Term weights of documents."""
        return [_sparse(embedding) for embedding in by_length(inputs, self._batch_size, self.model.passage_embed)]

    def decode(self, vector: SparseVector, top_k: int | None = None) -> list[tuple[str, float]]:
        """The vector's terms with their weights, heaviest first: tokens, or numbers where the model hashes words."""
        order = np.argsort(-vector.values, kind="stable")[:top_k]
        return [(self._term(int(vector.indices[i])), float(vector.values[i])) for i in order]

    def _term(self, index: int) -> str:
        token = self.tokenizer.id_to_token(index) if self._vocabulary and self.tokenizer is not None else None
        return token or f"term {index}"


def _sparse(embedding: Any) -> SparseVector:
    order = np.argsort(embedding.indices, kind="stable")
    return SparseVector(embedding.indices[order].astype(np.uint32), embedding.values[order].astype(np.float32))


class FastEmbedMultiVectorEncoder(EncoderModel):
    """A ColBERT model of FastEmbed: a vector per token.

    A document of which no token is kept gives one zero vector, which is similar to nothing: Qdrant takes no empty
    multivector.

    Raises:
        ModelError: see FastEmbedModel.
    """

    similarity: Similarity = "cosine"

    def __init__(self, options: FastEmbedOptions) -> None:
        super().__init__(LateInteractionTextEmbedding, options.model, options.path, options)
        self._batch_size = options.batch_size
        self.dimension: int = self.probe()

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        return self.fingerprint_of([], ("", ""), self.dimension)

    def encode_query(self, inputs: Sequence[str]) -> list[Floats]:
        """Token vectors of queries, each float32 `[tokens_i, dimension]`."""
        return [self._checked(vectors) for vectors in by_length(inputs, self._batch_size, self.model.query_embed)]

    def encode_document(self, inputs: Sequence[str]) -> list[Floats]:
        """Token vectors of documents, each float32 `[tokens_i, dimension]`."""
        return [self._checked(vectors) for vectors in by_length(inputs, self._batch_size, self.model.passage_embed)]

    def _checked(self, vectors: Any) -> Floats:
        return np.ascontiguousarray(vectors, np.float32) if len(vectors) else np.zeros((1, self.dimension), np.float32)


class FastEmbedReranker(FastEmbedModel):
    """A cross-encoder of FastEmbed: a listed model, or a local folder with an ONNX file and a tokenizer.

    Raises:
        ModelError: see FastEmbedModel.
    """

    options_model = FastEmbedRerankerOptions
    independent = True

    def __init__(self, options: FastEmbedRerankerOptions) -> None:
        name, path = options.model, options.path
        if is_folder(name):
            folder, file = custom_folder(options.model, options.model_file)
            name, path = register(TextCrossEncoder, folder, {"model_file": file}), str(folder)
        super().__init__(TextCrossEncoder, name, path, options)
        self._batch_size = options.batch_size

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`, higher is better."""
        order = sorted(range(len(pairs)), key=lambda place: -sum(map(len, pairs[place])))
        scores = np.zeros(len(pairs), np.float32)
        ordered = [(pairs[index][0], pairs[index][1]) for index in order]
        scores[order] = list(self.model.rerank_pairs(ordered, batch_size=self._batch_size))
        return scores
