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
    ("passes", "refused", "errors"),
    [
        (
            True, False,
            [
                *map(response, (500, 502, 503, 429, 408)), ResponseHandlingException(httpx.ConnectError("refused")),
                ConnectionResetError(), TimeoutError(), OSError(28), StoreUnavailable("x"), StoreError("x"),
                GrpcFailure(grpc.StatusCode.UNAVAILABLE), GrpcFailure(grpc.StatusCode.DEADLINE_EXCEEDED),
                GrpcFailure(grpc.StatusCode.RESOURCE_EXHAUSTED),
            ],
        ),
        (
            False, True,
            [
                *map(response, (400, 413, 422)), ValueError(), TypeError(), CollectionError("x"),
                GrpcFailure(grpc.StatusCode.INVALID_ARGUMENT),
            ],
        ),
        (
            False, False,
            [
                *map(response, (401, 403, 404)), CollectionNotFound("x"), StoreLocked("x"), StoreUnsupported("x"),
                StoreReadOnly("x"), GrpcFailure(grpc.StatusCode.NOT_FOUND), KeyboardInterrupt(),
                GrpcFailure(grpc.StatusCode.UNAUTHENTICATED),
            ],
        ),
    ],
    ids=["may pass", "refuses the points", "ends the run"],
)  # fmt: skip
def test_an_error_is_tried_again_blamed_on_the_points_or_ends_the_run(
    passes: bool, refused: bool, errors: list[BaseException]
) -> None:
    for error in errors:
        assert (may_pass(error), refuses_content(error)) == (passes, refused), error


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
