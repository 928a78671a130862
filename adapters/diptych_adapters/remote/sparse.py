"""A sparse encoder behind HTTP."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diptych.errors import ContractError, RemoteError
from diptych.protocols import Fingerprint
from diptych.types import SparseVector
from diptych_adapters.remote.endpoint import Endpoint
from diptych_adapters.remote.identity import tei_fingerprint, truncation
from diptych_adapters.remote.json_answers import as_text, batches, items
from diptych_adapters.remote.options import TeiSparseOptions

_PATH, _DECODE = "/embed_sparse", "/decode"


class TeiSparseEncoder:
    """A SPLADE model behind text-embeddings-inference's `/embed_sparse`; see `TeiSparseOptions` for the options."""

    def __init__(self, **options: Any) -> None:
        self.options = TeiSparseOptions(**options)
        self.endpoint = Endpoint(self.options, name="tei-sparse")
        self.dimension, self.uses_idf = self.options.dimension, self.options.uses_idf
        self._words: dict[int, str] = {}

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """Made from the model that `/info` names, or else the server's address, and all options that are sent."""
        return tei_fingerprint(self.endpoint, "tei-sparse", self.options)

    def encode_query(self, inputs: Sequence[str]) -> list[SparseVector]:
        """Term weights of queries."""
        options = self.options
        return self._encode(inputs, options.query_prompt, options.query_fields, options.query_deadline)

    def encode_document(self, inputs: Sequence[str]) -> list[SparseVector]:
        """Term weights of documents."""
        return self._encode(inputs, self.options.document_prompt, self.options.document_fields)

    def decode(self, vector: SparseVector, top_k: int | None = None) -> list[tuple[str, float]]:
        """The terms as words of the server's tokenizer, heaviest first; `#id` when the server has no `/decode`."""
        order = np.argsort(-vector.values, kind="stable")[:top_k]
        ids = [int(vector.indices[position]) for position in order]
        self._fetch_words([term for term in ids if term not in self._words])
        return [(self._words[term], float(vector.values[position])) for term, position in zip(ids, order, strict=True)]

    def _encode(
        self, inputs: Sequence[str], prompt: str, fields: Mapping[str, Any], deadline: float | None = None
    ) -> list[SparseVector]:
        text_batches = list(
            batches(inputs, self.options.batch_size, prompt=prompt, longest=self.options.max_characters)
        )
        bodies = [{"inputs": texts, **truncation(self.options), **fields} for texts in text_batches]
        answers = self.endpoint.post_each(_PATH, bodies, deadline=deadline)
        return [
            vector
            for texts, answer in zip(text_batches, answers, strict=True)
            for vector in self._vectors(answer, len(texts))
        ]

    def _vectors(self, answer: Any, count: int) -> list[SparseVector]:
        rows = items(self.endpoint, _PATH, answer)
        if len(rows) != count:
            where = f"{self.endpoint.url}{_PATH}"
            raise ContractError(
                "wrong number of vectors", where=where, got=len(rows), expected=f"{count}, one per input"
            )
        return [self._vector(row) for row in rows]

    def _vector(self, row: Any) -> SparseVector:
        try:
            weights = {item["index"]: item["value"] for item in row}
            if not all(type(term) is int and type(weight) in (int, float) for term, weight in weights.items()):
                raise TypeError
            vector = SparseVector.from_mapping(weights)
        except (TypeError, KeyError, ValueError, OverflowError):
            expected = "a list of {index, value}"
            raise self.endpoint.error(
                "a sparse vector is malformed", _PATH, got=as_text(row), expected=expected
            ) from None
        if len(weights) != len(row):
            raise ContractError("a sparse vector names a term twice", where=f"{self.endpoint.url}{_PATH}")
        return vector

    def _fetch_words(self, ids: list[int]) -> None:
        if not ids:
            return
        try:
            words = items(self.endpoint, _DECODE, self.endpoint.post(_DECODE, {"ids": [[term] for term in ids]}))
        except RemoteError as error:
            if error.context.get("status") not in (404, 405):
                raise
            words = []
        names = words if len(words) == len(ids) else [f"#{term}" for term in ids]
        self._words.update(zip(ids, map(str, names), strict=True))
