"""Rerankers behind HTTP."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from diptych.errors import ContractError
from diptych.protocols import Fingerprint, Pair
from diptych.types import Floats
from diptych_adapters.remote.endpoint import Endpoint
from diptych_adapters.remote.identity import space, tei_fingerprint, text_facts, truncation
from diptych_adapters.remote.json_answers import batches, in_order, items, matrix
from diptych_adapters.remote.options import RemoteRerankerOptions
from diptych_adapters.remote.secrets import checked_url


class _RemoteReranker(ABC):
    """The base of remote rerankers: pairs are sent query by query; subclasses build requests and read scores."""

    max_length: int | None = None  # the server's business
    independent = True
    lists: ClassVar[tuple[str, ...]]
    score: ClassVar[str]
    options: RemoteRerankerOptions
    endpoint: Endpoint

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`, higher is better."""
        groups = _positions_by_query(pairs, self.options.batch_size)
        bodies = [self._body(query, self._documents(pairs, rows)) for query, rows in groups]
        scores = np.zeros(len(pairs), np.float32)
        answers = self.endpoint.post_each(self._path, bodies, deadline=self.options.query_deadline)
        for (_, rows), answer in zip(groups, answers, strict=True):
            scores[rows] = self._scores(answer, len(rows))
        return scores

    @property
    @abstractmethod
    def _path(self) -> str: ...

    @abstractmethod
    def _body(self, query: str, documents: list[str]) -> dict[str, Any]: ...

    def _documents(self, pairs: Sequence[Pair], rows: list[int]) -> list[str]:
        return next(batches([pairs[row][1] for row in rows], len(rows), longest=self.options.max_characters))

    def _scores(self, answer: Any, count: int) -> Floats:
        entries = items(self.endpoint, self._path, answer, *self.lists)
        scores = in_order(self.endpoint, self._path, entries, self.score, count)
        values = matrix(self.endpoint, self._path, scores, count, 1)[:, 0]
        if not np.isfinite(values).all():
            where = f"{self.endpoint.url}{self._path}"
            raise ContractError("a score is NaN or infinite", where=where, got=str(values[~np.isfinite(values)][0]))
        return values


class TeiReranker(_RemoteReranker):
    """A cross-encoder behind text-embeddings-inference's `/rerank`; see `RemoteRerankerOptions`."""

    lists, score, _path = (), "score", "/rerank"

    def __init__(self, **options: Any) -> None:
        self.options = RemoteRerankerOptions(**options, api="tei")
        self.endpoint = Endpoint(self.options, name="tei-reranker")

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """Made from the model that `/info` names, or else the server's address, and all options that are sent."""
        return tei_fingerprint(self.endpoint, "tei-reranker", self.options, raw_scores=self.options.raw_scores)

    def _body(self, query: str, documents: list[str]) -> dict[str, Any]:
        raw = {"raw_scores": self.options.raw_scores}
        return {"query": query, "texts": documents, **raw, **truncation(self.options)}


class ApiReranker(_RemoteReranker):
    """A reranker behind an endpoint in the manner of Cohere, Jina, Voyage or vLLM; see `RemoteRerankerOptions`."""

    lists, score = ("results", "data"), "relevance_score"

    def __init__(self, **options: Any) -> None:
        self.options = RemoteRerankerOptions(**options, api="cohere")
        self.endpoint = Endpoint(self.options, name="rerank-api")
        checked_url(self.endpoint.url + self._path, where="adapter 'rerank-api', option 'path'")

    @property
    def fingerprint(self) -> Fingerprint:
        """Made from the model name and all that is sent. Only canaries prove that the name means this model."""
        return Fingerprint(space("rerank-api", self.options.model, self.options.fields, text_facts(self.options)))

    @property
    def _path(self) -> str:
        return str(self.options.path)

    def _body(self, query: str, documents: list[str]) -> dict[str, Any]:
        fields = {"model": self.options.model, "query": query, "documents": documents}
        return {**fields, str(self.options.count_field): len(documents), **(self.options.fields or {})}


def _positions_by_query(pairs: Sequence[Pair], size: int) -> list[tuple[str, list[int]]]:
    """For each query the positions of its pairs, at most `size` at once."""
    positions: dict[str, list[int]] = {}
    for position, (query, _) in enumerate(pairs):
        positions.setdefault(query, []).append(position)
    return [(query, rows[i : i + size]) for query, rows in positions.items() for i in range(0, len(rows), size)]


def remote_reranker(*, api: str, **options: Any) -> _RemoteReranker:
    """The adapter `remote-reranker` with one of its interfaces."""
    return TeiReranker(**options) if api == "tei" else ApiReranker(**options)
