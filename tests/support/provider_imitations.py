"""Imitations of embedding and rerank services, from their published interfaces as of 2026-11-27.

Each refuses what its model refuses, in its words: unknown fields, too large batches, missing input types, a wrong key.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from json_server import Reply, Request, vector_of

KEY = "key-of-the-imitation-0123456789"
Errors = Callable[[int, str], Any]


@dataclass
class Imitation:
    """One provider.

    Args:
        path: of its embeddings, below the server's address.
        fields: which requests may have, besides the model.
        texts: the field that holds the texts.
        most: texts in one request.
        side: the field that tells queries from documents, with its value for each; none where texts carry a prompt.
        error: the body of a refusal.
        rerank: path, fields and the name of the list in the answer; nothing without a reranker.
        keyless: whether it asks for no key.
    """

    path: str
    fields: frozenset[str]
    error: Errors
    texts: str = "input"
    most: int = 2048
    side: tuple[str, str, str] | None = None
    rerank: tuple[str, frozenset[str], str] | None = None
    keyless: bool = False
    dimension: int = 8
    seen: list[Request] = field(default_factory=list)
    slow_down: int = 0  # how many requests are answered by 429 first

    def answer(self, request: Request) -> Reply:
        self.seen.append(request)
        if not self.keyless and request.headers.get("authorization") != f"Bearer {KEY}":
            return Reply(self.error(401, f"invalid key {request.headers.get('authorization', '')[7:]}"), 401)
        if self.slow_down:
            self.slow_down -= 1
            headers = {"retry-after": "0", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1ms"}
            return Reply(self.error(429, "rate limit reached"), 429, headers)
        if self.rerank and request.path == self.rerank[0]:
            return self._ranked(request.body, *self.rerank[1:])
        if request.path != self.path or request.body is None:
            return Reply(self.error(404, f"no route {request.path}"), 404)
        return self._embedded(request.body)

    def _embedded(self, body: Mapping[str, Any]) -> Reply:
        if problem := self._problem(body):
            return Reply(self.error(422, problem), 422)
        width = body.get("dimensions") or body.get("output_dimension") or self.dimension
        vectors = [vector_of(self.label(body, text), width) for text in body[self.texts]]
        return Reply(self.shaped(body, vectors))

    def _problem(self, body: Mapping[str, Any]) -> str:
        if unknown := body.keys() - self.fields:
            return f"extra fields not permitted: {sorted(unknown)}"
        texts = body.get(self.texts)
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            return f"{self.texts} must be a list of non-empty strings"
        if len(texts) > self.most:
            return f"at most {self.most} texts"
        if self.side and body.get(self.side[0]) not in self.side[1:]:
            return f"{self.side[0]} must be one of {self.side[1:]}"
        return ""

    def label(self, body: Mapping[str, Any], text: str) -> str:
        """What the model reads: the text, and on which side it stands."""
        return f"{body[self.side[0]]}: {text}" if self.side else text

    def shaped(self, body: Mapping[str, Any], vectors: list[list[float]]) -> Any:
        """The answer as OpenAI shapes it."""
        packed: list[Any] = vectors
        if body.get("encoding_format") == "base64":
            packed = [base64.b64encode(np.array(row, "<f4").tobytes()).decode() for row in vectors]
        data = [{"object": "embedding", "index": n, "embedding": row} for n, row in enumerate(packed)]
        usage = {"prompt_tokens": 9, "total_tokens": 9}
        return {"object": "list", "data": data, "model": body.get("model", ""), "usage": usage}

    def _ranked(self, body: Mapping[str, Any], fields: frozenset[str], name: str) -> Reply:
        if unknown := body.keys() - fields:
            return Reply(self.error(400, f"unknown fields {sorted(unknown)}"), 400)
        texts = body.get("documents", body.get("texts"))
        score = "relevance_score" if name else "score"
        found = [{"index": n, score: score_of(body["query"], text)} for n, text in enumerate(texts)]
        found.sort(key=lambda item: -item[score])
        return Reply({"id": "r", name: found, "model": body.get("model")} if name else found)


class Cohere(Imitation):
    """Answers by type of embedding."""

    def shaped(self, body: Mapping[str, Any], vectors: list[list[float]]) -> Any:
        assert body["embedding_types"] == ["float"]
        return {
            "id": "e",
            "embeddings": {"float": vectors},
            "texts": body["texts"],
            "meta": {"api_version": {"version": "2"}},
        }


class Tei(Imitation):
    """Answers with the bare vectors."""

    def shaped(self, body: Mapping[str, Any], vectors: list[list[float]]) -> Any:
        return vectors


def score_of(query: str, text: str) -> float:
    """The share of the query's words in the text."""
    words = query.split()
    return sum(word in text.split() for word in words) / len(words)


def _openai_error(status: int, text: str) -> Any:
    return {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}}


def _message(status: int, text: str) -> Any:
    return {"id": "x", "message": text}


def _detail(status: int, text: str) -> Any:
    return {"detail": text}


def _mistral_error(status: int, text: str) -> Any:
    return {"object": "error", "message": {"detail": [{"msg": text}]}, "type": "invalid_request_error", "code": status}


def _tei_error(status: int, text: str) -> Any:
    return {"error": text, "error_type": "Validation"}


def imitations() -> dict[str, Imitation]:
    """A fresh imitation of each provider, by its name."""
    openai = frozenset({"model", "input", "dimensions", "encoding_format", "user"})
    jina = frozenset(
        {"model", "input", "task", "dimensions", "normalized", "embedding_type", "late_chunking", "truncate"}
    )
    voyage = frozenset(
        {"model", "input", "input_type", "truncation", "output_dimension", "output_dtype", "encoding_format"}
    )
    rerank = frozenset({"model", "query", "documents", "top_n"})
    tei = frozenset({"inputs", "normalize", "truncate", "truncation_direction", "prompt_name", "dimensions"})
    tei_rerank = frozenset({"query", "texts", "raw_scores", "return_text", "truncate", "truncation_direction"})
    return {
        "openai": Imitation("/v1/embeddings", openai, _openai_error),
        "cohere": Cohere(
            "/v2/embed",
            frozenset(
                {"model", "texts", "input_type", "embedding_types", "output_dimension", "truncate", "max_tokens"}
            ),
            _message,
            texts="texts",
            most=96,
            side=("input_type", "search_query", "search_document"),
            rerank=("/v2/rerank", rerank | {"max_tokens_per_doc"}, "results"),
        ),
        "jina": Imitation(
            "/v1/embeddings",
            jina,
            _detail,
            side=("task", "retrieval.query", "retrieval.passage"),
            rerank=("/v1/rerank", rerank | {"return_documents"}, "results"),
        ),
        "voyage": Imitation(
            "/v1/embeddings",
            voyage,
            _detail,
            most=1000,
            side=("input_type", "query", "document"),
            rerank=("/v1/rerank", (rerank - {"top_n"}) | {"top_k", "return_documents", "truncation"}, "data"),
        ),
        "mistral": Imitation(
            "/v1/embeddings",
            frozenset({"model", "input", "encoding_format", "output_dimension", "output_dtype"}),
            _mistral_error,
            most=64,
        ),
        "ollama": Imitation("/v1/embeddings", openai, _openai_error, keyless=True),
        "vllm": Imitation(
            "/v1/embeddings",
            openai | {"truncate_prompt_tokens", "additional_data", "priority"},
            _openai_error,
            rerank=("/v1/rerank", rerank | {"truncate_prompt_tokens", "priority"}, "results"),
            keyless=True,
        ),
        "tei": Tei(
            "/embed", tei, _tei_error, texts="inputs", most=32, rerank=("/rerank", tei_rerank, ""), keyless=True
        ),
    }
