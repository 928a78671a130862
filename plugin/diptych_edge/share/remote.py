"""The store for a process that does not hold it: qdrant-client over the holder's socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import cache, partial
from itertools import repeat
from threading import Lock
from types import NoneType
from typing import Any, get_args, get_origin

import httpx
import numpy as np
import orjson
from pydantic import BaseModel
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from qdrant_client.http.models import QueryResponse

from diptych.errors import (
    CollectionError,
    DiptychError,
    SearchError,
    StoreDamaged,
    StoreLocked,
    StoreUnavailable,
)
from diptych.runtime.unchecked import unchecked
from diptych_edge.convert.points import FINITE, flaw_of_dense, flaw_of_sparse, jsonable, misfit, require_json
from diptych_edge.engine.optimization import OnStage
from diptych_edge.rest.connection import rebuilt
from diptych_edge.share.address import LIMITS, TOKEN_HEADER, Address, transport

_BULK = (models.PointStruct, models.PointVectors, models.Batch, models.SparseVector)
_POINTS = (models.PointStruct, models.PointVectors)

Build = Callable[[Any], Any]
_unchecked_record = unchecked(models.Record)
_unchecked_scored = unchecked(models.ScoredPoint)
_unchecked_sparse = unchecked(models.SparseVector)

PATIENCE = 300  # seconds for an answer: in one's own process nothing would end a slow call either
_MALFORMED = 400, 413, 422
# Failures before a request was sent, after which it can be repeated, and later ones: it may have been carried out.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_LOST = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError, httpx.CloseError)


class HolderGone(Exception):
    """The holder did not answer. `sent` says whether it may have done what was asked before it ended."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__("the holder of the embedded store has ended")
        self.sent = sent


class RemoteEdgeClient(QdrantClient):
    """An `EdgeClient` in another process: the same calls, the same errors.

    Raises:
        HolderGone: from any call.
    """

    def __init__(self, address: Address) -> None:
        headers = {TOKEN_HEADER: address.token} if address.port else None
        super().__init__(
            url=address.url if address.port else "http://edge",
            port=None,
            timeout=PATIENCE,
            check_compatibility=False,
            headers=headers,
            limits=LIMITS,
            transport=transport(address),
            cloud_inference=True,  # what is no vector goes to the holder, which refuses it as in its own process
            trust_env=False,  # proxies are not for one's own machine
        )
        self.address = address
        self._counting, self._in_flight, self._is_left = Lock(), 0, False
        api: Any = self.http.client
        api.middleware, api.send = self._counted, partial(_parse_answer, api.send, api)

    def close(self, grpc_grace: float | None = None, **kwargs: Any) -> None:
        """Send nothing more, and close the connections: at once, or with the last answer that another thread awaits."""
        with self._counting:
            self._is_left = True
            in_use = self._in_flight
        if not in_use:
            super().close(**kwargs)

    def _counted(self, request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]) -> httpx.Response:
        """The answer to a request, which is counted while it lasts: its connection must not be closed under it."""
        with self._counting:
            if self._is_left:
                raise HolderGone(sent=False)
            self._in_flight += 1
        try:
            return _send_request(request, send)
        finally:
            with self._counting:
                self._in_flight -= 1
                is_last = self._is_left and not self._in_flight
            if is_last:
                super().close()

    def upsert(  # type: ignore[override]  # what is not named here goes into the body as it is
        self,
        collection_name: str,
        points: models.Batch | Sequence[models.PointStruct],
        wait: bool = True,
        **options: Any,
    ) -> models.UpdateResult:
        """Write points, whose vectors may be numpy arrays."""
        content = {"batch": points} if isinstance(points, models.Batch) else {"points": list(points)}
        answer = self._points.upsert_points(collection_name, point_insert_operations=body({**content, **options}))
        return answer.result  # type: ignore[no-any-return]

    def update_vectors(  # type: ignore[override]  # as above
        self, collection_name: str, points: Iterable[models.PointVectors], wait: bool = True, **options: Any
    ) -> models.UpdateResult:
        """Replace vectors, which may be numpy arrays."""
        content = body({"points": list(points), **options})
        answer = self._points.update_vectors(collection_name, update_vectors=content)
        return answer.result  # type: ignore[no-any-return]

    def set_payload(self, collection_name: str, payload: models.Payload, *args: Any, **options: Any) -> Any:
        """Merge `payload` into that of the selected points."""
        return super().set_payload(collection_name, jsonable(payload), *args, **options)

    def overwrite_payload(self, collection_name: str, payload: models.Payload, *args: Any, **options: Any) -> Any:
        """Replace the whole payload of the selected points."""
        return super().overwrite_payload(collection_name, jsonable(payload), *args, **options)

    def batch_update_points(
        self, collection_name: str, update_operations: Sequence[Any], *args: Any, **options: Any
    ) -> list[models.UpdateResult]:
        """Apply several updates in order."""
        check(update_operations)
        return super().batch_update_points(collection_name, update_operations, *args, **options)

    def create_collection(self, collection_name: str, *args: Any, **options: Any) -> bool:
        """Make an empty collection."""
        return super().create_collection(collection_name, *args, **_with_json(options))

    def update_collection(self, collection_name: str, *args: Any, **options: Any) -> bool:
        """Change settings and metadata."""
        return super().update_collection(collection_name, *args, **_with_json(options))

    def query_batch_points(
        self, collection_name: str, requests: Sequence[models.QueryRequest], *args: Any, **options: Any
    ) -> list[models.QueryResponse]:
        """The best points for each query."""
        return super().query_batch_points(collection_name, requests, *args, **options) if requests else []

    def get_metadata(self, collection_name: str) -> models.Payload:
        """The metadata alone."""
        metadata: models.Payload = self._call_route("GET", collection_name, "metadata")
        return metadata

    def needs_optimizing(self, collection_name: str) -> bool:
        """Whether `optimize` would build an index."""
        return bool(self._call_route("GET", collection_name, "needs_optimizing"))

    def optimize(self, collection_name: str, *, wait: bool = True, on_stage: OnStage | None = None) -> Future[bool]:
        """Build missing indexes in the holder's process; see `EdgeClient.optimize`."""
        run = self._call_route("POST", collection_name, "optimize")
        future: Future[bool] = Future()
        while wait:
            state = self._call_route("GET", collection_name, f"optimize/{run}")
            if on_stage is not None:
                on_stage(state["stage"])
            if state["done"]:
                future.set_result(state["built"])
                return future
        future.set_result(False)
        return future

    def repair(self, collection_name: str) -> None:
        """Does nothing if the collection opens; only the process that holds the engine can rebuild one.

        Raises:
            StoreLocked: it is damaged.
        """
        try:
            self.get_collection(collection_name)
        except StoreDamaged as error:
            raise StoreLocked(
                "another process holds the store, so the damaged collection cannot be repaired",
                where=error.where,
                got=error.got,
                do="stop that process, such as diptych serve, then: diptych doctor --repair",
            ) from error

    def changed_files(self, collection_name: str) -> list[str]:
        """Empty: the holder has changed the files since it opened them."""
        return []

    @property
    def _points(self) -> Any:
        return self.http.points_api  # its annotations lack what its defaults allow

    def _call_route(self, method: str, collection_name: str, route: str) -> Any:
        """The result of a route that Qdrant does not have."""
        api: Any = self.http.client
        answer = api.request(
            type_=dict[str, Any],
            method=method,
            url=f"/edge/collections/{{collection_name}}/{route}",
            path_params={"collection_name": collection_name},
        )
        return answer["result"]


def _send_request(request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]) -> httpx.Response:
    """The answer; failures are raised as they would be in the holder's process."""
    try:
        answer = send(request)
    except ResponseHandlingException as error:
        if isinstance(error.source, _NEVER_SENT):
            raise HolderGone(sent=False) from error
        if isinstance(error.source, _LOST):
            raise HolderGone(sent=True) from error
        if isinstance(error.source, DiptychError):
            raise error.source from error
        raise StoreUnavailable(
            "the process that holds the embedded store gave an unusable answer",
            got=f"{type(error.source).__name__}: {error.source}"[:200],
            do="check whether it hangs or runs another version of diptych",
        ) from error
    if answer.status_code >= 400:
        if (diptych_error := rebuilt(answer.json())) is not None:
            raise diptych_error
        if answer.status_code in _MALFORMED:  # a body that does not fit qdrant-client's models
            kind = SearchError if "/points/query" in request.url.path else CollectionError
            do = "fix the filter, the vector or the payload"
            raise kind("the embedded store refuses the request", got=answer.json()["status"]["error"], do=do)
    return answer


def _parse_answer(validated: Callable[..., Any], api: Any, request: httpx.Request, type_: Any) -> Any:
    """The answer as a model; points are not validated one by one."""
    if type_ is None or not holds_points(type_):
        return validated(request, type_)
    answer = api.middleware(request, api.send_inner)
    if answer.status_code != httpx.codes.OK:
        raise UnexpectedResponse.for_response(answer)
    return points_in(answer.content, type_)


def _with_json(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a collection, with metadata of JSON values."""
    return {**options, "metadata": jsonable(options["metadata"], "the metadata")} if "metadata" in options else options


# Points in the holder's answers, built without validation: the holder made them of the same models. Validating 256
# records took longer than reading, sending and parsing them.


def holds_points(kind: Any) -> bool:
    """Whether answers of this kind hold points; `kind` is qdrant-client's model, whose `result` says what is in it."""
    return _result_of(kind) in _BUILD


def points_in(content: bytes, kind: Any) -> Any:
    """An answer that holds points, as a model."""
    raw = orjson.loads(content)
    return kind.model_construct(**{**raw, "result": _BUILD[_result_of(kind)](raw["result"])})


@cache
def _result_of(kind: Any) -> tuple[Any, ...]:
    """What an answer holds. qdrant-client numbers its models of answers anew in each release."""
    field = getattr(kind, "model_fields", {}).get("result")
    result = next((part for part in get_args(field.annotation) if part is not NoneType), None) if field else None
    return (list, *get_args(result)) if get_origin(result) is list else (result,)


def _with_vectors(make: Build, raw: dict[str, Any]) -> Any:
    raw["vector"] = _vectors(raw["vector"])
    return make(raw)


def _vectors(raw: Any) -> Any:
    """Vectors of a point: sparse ones are objects in JSON."""
    if not isinstance(raw, dict):
        return raw
    return {name: _unchecked_sparse(vector) if isinstance(vector, dict) else vector for name, vector in raw.items()}


def _records(raw: list[Any]) -> list[models.Record]:
    return [_with_vectors(_unchecked_record, item) for item in raw]


def _scroll(raw: dict[str, Any]) -> models.ScrollResult:
    return models.ScrollResult.model_construct(**{**raw, "points": _records(raw["points"])})


def _response(raw: dict[str, Any]) -> QueryResponse:
    return QueryResponse.model_construct(points=[_with_vectors(_unchecked_scored, item) for item in raw["points"]])


_BUILD: dict[tuple[Any, ...], Build] = {
    (list, models.Record): _records,
    (models.ScrollResult,): _scroll,
    (QueryResponse,): _response,
    (list, QueryResponse): lambda raw: [_response(item) for item in raw],
}


# Points as JSON, checked as the holder's process checks them. JSON has no NaN and no infinity. Sent as null they would
# be stored as null, or refused in other words than the engine's.


class Json:
    """A body that is JSON already, with the method that qdrant-client calls on its own models."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def model_dump_json(self, **_: Any) -> bytes:
        """The JSON."""
        return self._content


def body(content: dict[str, Any]) -> Json:
    """The body of a write.

    Raises:
        CollectionError: a vector or payload that the engine would refuse, or that is not JSON.
    """
    names = {"shard_key_selector": "shard_key"}
    given = {name: value for name, value in content.items() if name not in ("ordering", "timeout", "wait")}
    fields = {names.get(name, name): value for name, value in given.items() if value is not None}
    check(fields.get("points", ()))
    check([fields["batch"]] if "batch" in fields else ())
    try:
        return Json(orjson.dumps(fields, default=_serializable, option=orjson.OPT_SERIALIZE_NUMPY))
    except TypeError:  # integers over 64 bit, keys that are no text, many levels, or what is not JSON at all
        return Json(_slow_json(fields))


def check(items: Iterable[Any]) -> None:
    """Check points, batches and update operations, as far as JSON would change them.

    Raises:
        CollectionError: see `body`.
    """
    for item in items:
        if isinstance(item, _POINTS):
            payload = getattr(item, "payload", None)
            if payload:
                require_json(payload, f"point {item.id}")
            for name, vector in (item.vector if isinstance(item.vector, dict) else {"": item.vector}).items():
                _check_vector(name, vector, item.id)
        elif isinstance(item, models.Batch):
            _check_batch(item)
        elif isinstance(item, models.SetPayload):
            require_json(item.payload or {}, "the payload")
        elif isinstance(item, models.PointsList | models.UpdateVectors):
            check(item.points)
        elif isinstance(item, models.PointsBatch):
            check([item.batch])
        elif isinstance(item, BaseModel) and type(item).__name__.endswith("Operation"):
            check(item.__dict__.values())


def _check_batch(batch: models.Batch) -> None:
    vectors: Any = batch.vectors
    for name, column in (vectors if isinstance(vectors, dict) else {"": vectors}).items():
        for identifier, vector in zip(batch.ids, column, strict=False):
            _check_vector(name, vector, identifier)
    for identifier, payload in zip(batch.ids, batch.payloads or repeat(None), strict=False):
        require_json(payload or {}, f"point {identifier}")


def _check_vector(name: str, vector: Any, identifier: Any) -> None:
    flaw = ""
    if isinstance(vector, models.SparseVector):
        flaw = flaw_of_sparse(vector.indices, vector.values)
    elif isinstance(vector, list | np.ndarray):
        flaw = flaw_of_dense(vector)
    if flaw:
        raise misfit(name, identifier, flaw, FINITE)


def _slow_json(content: dict[str, Any]) -> bytes:
    """The JSON of values that orjson rejects but the engine accepts, or rejects with a text of its own."""

    def listed(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray | np.generic) else _serializable(value)

    try:
        return json.dumps(content, default=listed, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CollectionError("a point has a vector or payload that Qdrant cannot keep", got=error) from error


def _serializable(value: Any) -> Any:
    if isinstance(value, np.ndarray):  # only one that lies in pieces comes here
        return np.ascontiguousarray(value, np.float32)
    if isinstance(value, _BULK):
        return {name: part for name, part in value.__dict__.items() if part is not None}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, tuple | set):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")
