"""Which failures of a store are the caller's, which are the store's, and which are tried again."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from qdrant_client import models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from diptych import Collection, Document
from diptych.errors import SearchError, StoreError
from diptych.populate.store import may_pass
from diptych.registry import Registry
from diptych.search.store_calls import PAUSES, is_refusal
from diptych.testing import fakes_plugin

MINE = [400, 404, 405, 409, 413, 415, 422]
ITS = [401, 403, 408, 425, 429, 500, 502, 503, 504]


def answered(status: int) -> UnexpectedResponse:
    return UnexpectedResponse(status, "reason", b"bad filter", httpx.Headers())


class GrpcError(Exception):
    """As grpc's, told by its shape."""

    def __init__(self, name: str) -> None:
        self.name = name

    def code(self) -> Any:
        return self


@pytest.mark.parametrize(("error", "expected"), [
    *((answered(status), True) for status in MINE),
    *((answered(status), False) for status in ITS),
    (GrpcError("INVALID_ARGUMENT"), True), (GrpcError("UNAVAILABLE"), False), (GrpcError("INTERNAL"), False),
    (ValueError("no such key"), True), (SearchError("no"), True), (StoreError("broken"), False),
    (ResponseHandlingException(httpx.ConnectError("refused")), False), (OSError("disk"), False),
], ids=lambda value: repr(value)[:40].replace(" ", "-"))  # fmt: skip
def test_a_refusal_is_told_from_a_fault_of_the_store(error: Exception, expected: bool) -> None:
    assert is_refusal(error) is expected


@pytest.mark.parametrize("error", [answered(400), answered(422), SearchError("no"), OverflowError(), RecursionError()])
def test_a_refusal_is_not_tried_again(error: Exception) -> None:
    assert not may_pass(error)


@pytest.mark.parametrize("error", [answered(503), answered(429), ResponseHandlingException(httpx.ConnectError("x"))])
def test_a_fault_that_may_pass_is_tried_again(error: Exception) -> None:
    assert may_pass(error)


class Refusing:
    """A store's client that answers every read with the status, and counts them."""

    def __init__(self, client: Any, status: int) -> None:
        self._client, self._status, self.asked = client, status, 0

    def __getattr__(self, name: str) -> Any:
        return self._refuse if name in ("scroll", "count", "query_batch_points") else getattr(self._client, name)

    def _refuse(self, *args: Any, **options: Any) -> Any:
        self.asked += 1
        raise answered(self._status)


FILTER = models.Filter(must=[models.FieldCondition(key="year", match=models.MatchValue(value=1))])


def refusing(status: int) -> tuple[Collection, Refusing]:
    registry = Registry(fakes_plugin, installed=False)
    config = {"store": "memory:", "collection": "c", "slots": {"lexical": {"adapter": "fake-sparse"}}}
    filled = Collection.open(config, registry=registry)
    filled.populate([Document("1", "words")])
    client: Any = Refusing(filled.handle.client, status)
    return Collection.open(client, "c", registry=registry), client


@pytest.mark.parametrize("status", [400, 422])
def test_a_filter_that_the_server_refuses_is_the_callers_error_after_one_request(status: int) -> None:
    collection, client = refusing(status)
    with pytest.raises(SearchError, match=r"the store refuses the filter(.|\n)*fix the filter"):
        list(collection.documents(FILTER))
    with pytest.raises(SearchError, match="the store refuses the search"):
        collection.count(FILTER)
    assert client.asked == 2
    with pytest.raises(SearchError, match="the store refuses the search"):
        collection.search("words", filter=FILTER)


def test_a_server_that_fails_is_not_blamed_on_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(PAUSES) > 3
    monkeypatch.setattr("diptych.search.store_calls.PAUSES", (0.0,) * len(PAUSES))
    collection, client = refusing(500)
    with pytest.raises(StoreError, match="the store failed during the search"):
        collection.search("words", filter=FILTER)
    assert client.asked == 1 + len(PAUSES), "it is tried again after each pause"
