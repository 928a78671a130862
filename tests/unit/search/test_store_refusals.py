"""Which failures of a store are the caller's, which are the store's, and which are tried again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from qdrant_client import models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from diptych import Collection, Document
from diptych.errors import SearchError, StoreError
from diptych.registry import Registry
from diptych.search.store_calls import PAUSES
from diptych.stores.server_errors import is_refusal
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


class Refusing:
    """A store's client that answers its first reads with the error, and counts them."""

    def __init__(self, client: Any, error: Exception, times: int = 1000) -> None:
        self._client, self._error, self._times, self.asked = client, error, times, 0

    def __getattr__(self, name: str) -> Any:
        answer = getattr(self._client, name)
        return partial(self._refuse, answer) if name in ("scroll", "count", "query_batch_points") else answer

    def _refuse(self, answer: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.asked += 1
        if self.asked <= self._times:
            raise self._error
        return answer(*args, **options)


FILTER = models.Filter(must=[models.FieldCondition(key="year", match=models.MatchValue(value=1))])


def refusing(error: Exception, times: int = 1000) -> tuple[Collection, Refusing]:
    registry = Registry(fakes_plugin, installed=False)
    config = {"store": "memory:", "collection": "c", "slots": {"lexical": {"adapter": "fake-sparse"}}}
    filled = Collection.open(config, registry=registry)
    filled.populate([Document("1", "words")])
    client: Any = Refusing(filled.handle.client, error, times)
    return Collection.open(client, "c", registry=registry), client


@pytest.mark.parametrize("status", [400, 422])
def test_a_filter_that_the_server_refuses_is_the_callers_error_after_one_request(status: int) -> None:
    collection, client = refusing(answered(status))
    with pytest.raises(SearchError, match=r"the store refuses the filter(.|\n)*fix the filter"):
        list(collection.documents(FILTER))
    with pytest.raises(SearchError, match="the store refuses the search"):
        collection.count(FILTER)
    assert client.asked == 2
    with pytest.raises(SearchError, match="the store refuses the search"):
        collection.search("words", filter=FILTER)


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, which take no time."""
    pauses = list[float]()
    monkeypatch.setattr("diptych.search.store_calls.time", SimpleNamespace(sleep=pauses.append))
    return pauses


def test_a_server_that_fails_is_not_blamed_on_the_caller(waited: list[float]) -> None:
    collection, client = refusing(answered(500))
    with pytest.raises(StoreError, match="the store failed during the search"):
        collection.search("words", filter=FILTER)
    assert waited == [*PAUSES]
    assert client.asked == 1 + len(PAUSES), "it is tried again after each pause"


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (answered(429), PAUSES[:2]),
        (GrpcError("RESOURCE_EXHAUSTED"), PAUSES[:2]),
        (ResourceExhaustedResponse("too many", 3), (3, 3)),
    ],
    ids=["without a time", "over gRPC", "with a time"],
)
def test_a_read_is_repeated_when_the_server_takes_requests_again(
    waited: list[float], error: Exception, pauses: Sequence[float]
) -> None:
    collection, client = refusing(error, times=2)
    assert [hit.id for hit in collection.search("words")] == ["1"]
    assert (waited, client.asked) == ([*pauses], 3)


def test_a_read_is_not_repeated_after_its_deadline(waited: list[float]) -> None:
    collection, client = refusing(ResourceExhaustedResponse("too many", 3600))
    with pytest.raises(StoreError, match="too many requests, again in 3600 s"):
        collection.search("words")
    assert (waited, client.asked) == ([], 1)
