"""What no route can do is refused by a sentence that names what is wrong, in OpenAI's format of errors."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

EMBEDDED = {"model": "dense", "input": "cat"}
RANKED = {"query": "the cat", "documents": ["an owl", "the cat"]}
WRONG = {"must": [{"key": "x", "match": {"valu": 1}}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/search", {}, 400, "either `query` or `queries`"),
        ("/search", {"query": "a", "queries": ["b"]}, 400, "either `query` or `queries`"),
        ("/search", {"query": "a", "filters": {}}, 400, "no such key"),
        ("/search", {"query": "a", "limit": "3"}, 400, "a whole number"),
        ("/search", {"query": "a", "filter": WRONG}, 400, "filter is not a Qdrant filter"),
        ("/search", {"query": "a", "filter": {"mus": []}}, 400, 'do: write JSON such as {"must": [{"key"'),
        ("/search", {"query": "a", "pipeline": "dens"}, 400, "did you mean 'dense'?"),
        ("/search", {"query": "a", "pipeline": "dens", "explain": True}, 400, "did you mean 'dense'?"),
        ("/search", {"query": "a", "collection": "plants"}, 404, "expected: animals"),
        ("/search", {"query": "a", "collection": "animal"}, 404, "did you mean 'animals'?"),
        ("/search", {"query": "a", "limit": 99}, 400, "more hits than the pipeline passes on"),
        ("/search", {"query": "a", "pipeline": "dense", "limit": 20_000}, 422, "too many hits"),
        ("/search", {"query": "a", "explain": True, "limit": 101}, 422, "with explanations"),
        ("/search", {"query": "night", "pin": "cat"}, 400, "where: pin"),
        ("/search", {"query": "night", "exclude": [1]}, 400, "where: exclude.0"),
        ("/search", {"query": "night", "like": [{"id": "cat"}]}, 400, "like.0"),
        ("/search", {"query": "night", "like": ["unicorn"]}, 400, "there is no such document"),
        ("/search", {"query": "night", "pin": ["cat"], "exclude": ["cat"]}, 400, "pinned and excluded"),
        ("/search", {"query": "a", "boost": [{"kind": "recency", "field": "at", "scale": -1}]}, 400, "boost.scale"),
        ("/v1/embeddings", {**EMBEDDED, "model": "lexical"}, 400, "got: sparse"),
        ("/v1/embeddings", {**EMBEDDED, "input": [1, 2, 3]}, 400, "reads texts, not tokens"),
        ("/v1/embeddings", {**EMBEDDED, "input": [[1, 2], [3]]}, 400, "reads texts, not tokens"),
        ("/v1/embeddings", {**EMBEDDED, "input": []}, 400, "at least 1 item"),
        ("/v1/embeddings", {**EMBEDDED, "input": ["cat", ""]}, 400, "at least 1 character"),
        ("/v1/embeddings", {**EMBEDDED, "input_type": "passage"}, 400, "'query' or 'document'"),
        ("/v1/embeddings", {**EMBEDDED, "encoding_format": "int8"}, 400, "'float' or 'base64'"),
        ("/rerank", {**RANKED, "model": "dense"}, 400, "cannot do this"),
        ("/rerank", {**RANKED, "model": "nobody"}, 404, "expected: fake-reranker"),
        ("/rerank", {**RANKED, "documents": []}, 400, "at least 1 item"),
        ("/rerank", {**RANKED, "query": ""}, 400, "at least 1 character"),
        ("/rerank", {**RANKED, "top_n": 0}, 400, "at least 1"),
    ],
)
def test_what_cannot_be_done_says_why(client: httpx.Client, path: str, body: Any, status: int, text: str) -> None:
    answer = client.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, text in error["message"]) == (status, True), answer.text
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
