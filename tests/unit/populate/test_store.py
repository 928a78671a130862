from __future__ import annotations

import threading
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from diptych.errors import (
    CollectionError,
    CollectionNotFound,
    PopulateError,
    StoreError,
    StoreLocked,
    StoreReadOnly,
    StoreUnavailable,
    StoreUnsupported,
)
from diptych.populate.points import REQUEST_BYTES, requests
from diptych.populate.store import Store, may_pass, refuses_content


class GrpcFailure(grpc.RpcError):  # type: ignore[misc]
    def __init__(self, status: grpc.StatusCode) -> None:
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status


def response(status: int) -> UnexpectedResponse:
    return UnexpectedResponse(status, "", b"", httpx.Headers())


@pytest.mark.parametrize(
    "error",
    [
        response(500), response(502), response(503), response(429), response(408),
        ResponseHandlingException(httpx.ConnectError("refused")), ConnectionResetError(), TimeoutError(), OSError(28),
        StoreUnavailable("x"), StoreError("x"), GrpcFailure(grpc.StatusCode.UNAVAILABLE),
        GrpcFailure(grpc.StatusCode.DEADLINE_EXCEEDED), GrpcFailure(grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)  # fmt: skip
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    assert may_pass(error)
    assert not refuses_content(error)


@pytest.mark.parametrize(
    "error",
    [
        response(400), response(413), response(422), ValueError(), TypeError(), CollectionError("x"),
        GrpcFailure(grpc.StatusCode.INVALID_ARGUMENT),
    ],
)  # fmt: skip
def test_what_the_store_finds_wrong_with_points_is_a_refusal(error: Exception) -> None:
    assert not may_pass(error)
    assert refuses_content(error)


@pytest.mark.parametrize(
    "error",
    [
        response(401), response(403), response(404), CollectionNotFound("x"), StoreLocked("x"), StoreUnsupported("x"),
        StoreReadOnly("x"),
        GrpcFailure(grpc.StatusCode.NOT_FOUND), GrpcFailure(grpc.StatusCode.UNAUTHENTICATED), KeyboardInterrupt(),
    ],
)  # fmt: skip
def test_what_is_wrong_for_good_ends_the_run(error: BaseException) -> None:
    assert not may_pass(error)
    assert not refuses_content(error)


def test_a_set_stop_ends_the_tries() -> None:
    class Broken(QdrantClient):
        tries = 0

        def count(self, *args: Any, **kwargs: Any) -> Any:
            self.tries += 1
            stopped.set()
            raise ConnectionResetError

    stopped = threading.Event()
    client = Broken(":memory:")
    with pytest.raises(PopulateError, match=r"cannot read from the store\n  where: collection 'c'"):
        Store(client, "c", retries=100, stopped=stopped).count()
    assert client.tries == 1
    client.close()


def test_requests_stay_below_what_a_server_takes_and_keep_every_point() -> None:
    vector = np.zeros((256, 384), np.float32)
    sparse = models.SparseVector(indices=[1], values=[1.0])
    vectors: Any = {"m": vector, "s": sparse, "l": [[0.0] * 10]}
    points = [models.PointStruct.model_construct(id=i, vector=vectors, payload={"text": "x"}) for i in range(40)]
    batches = list(requests(points))
    assert [point.id for batch in batches for point in batch] == list(range(40))
    limit = REQUEST_BYTES // (vector.size * 12)
    assert {len(batch) for batch in batches[:-1]} == {limit}
    huge = models.PointStruct.model_construct(id=1, vector=[0.0] * REQUEST_BYTES, payload={"text": "x" * 2**25})
    assert [len(batch) for batch in requests([huge, huge])] == [1, 1]
