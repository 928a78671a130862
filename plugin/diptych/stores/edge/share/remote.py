"""The store for a process that does not hold it: qdrant-client over the holder's socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Any

import httpx
import numpy as np
import orjson
from pydantic import BaseModel
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException

from diptych.errors import CollectionError, StoreDamaged, StoreLocked, StoreUnavailable
from diptych.stores.edge.optimize import OnStage
from diptych.stores.edge.rest.answers import rebuilt
from diptych.stores.edge.share.address import TOKEN_HEADER, Address
from diptych.stores.edge.share.transport import LIMITS, transport

PATIENCE = 300  # seconds for an answer: in one's own process nothing would end a slow call either
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BULK = (models.PointStruct, models.PointVectors, models.Batch, models.SparseVector)
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
        self.http.client.middleware = self._counted

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
            return _asked(request, send)
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
        kept = {"batch": points} if isinstance(points, models.Batch) else {"points": list(points)}
        answer = self._points.upsert_points(collection_name, point_insert_operations=_body({**kept, **options}))
        return answer.result  # type: ignore[no-any-return]

    def update_vectors(  # type: ignore[override]  # as above
        self, collection_name: str, points: Iterable[models.PointVectors], wait: bool = True, **options: Any
    ) -> models.UpdateResult:
        """Replace vectors, which may be numpy arrays."""
        body = _body({"points": list(points), **options})
        answer = self._points.update_vectors(collection_name, update_vectors=body)
        return answer.result  # type: ignore[no-any-return]

    def query_batch_points(
        self, collection_name: str, requests: Sequence[models.QueryRequest], *args: Any, **options: Any
    ) -> list[models.QueryResponse]:
        """The best points for each query."""
        return super().query_batch_points(collection_name, requests, *args, **options) if requests else []

    def get_metadata(self, collection_name: str) -> models.Payload:
        """The metadata alone."""
        found: models.Payload = self._own("GET", collection_name, "metadata")
        return found

    def needs_optimizing(self, collection_name: str) -> bool:
        """Whether `optimize` would build an index."""
        return bool(self._own("GET", collection_name, "needs_optimizing"))

    def optimize(self, collection_name: str, *, wait: bool = True, on_stage: OnStage | None = None) -> Future[bool]:
        """Build missing indexes in the holder's process; see `EdgeClient.optimize`."""
        run = self._own("POST", collection_name, "optimize")
        done: Future[bool] = Future()
        while wait:
            state = self._own("GET", collection_name, f"optimize/{run}")
            if on_stage is not None:
                on_stage(state["stage"])
            if state["done"]:
                done.set_result(state["built"])
                return done
        done.set_result(False)
        return done

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

    def _own(self, method: str, collection_name: str, what: str) -> Any:
        """The result of a route that Qdrant does not have."""
        api: Any = self.http.client
        answer = api.request(
            type_=dict[str, Any],
            method=method,
            url=f"/edge/collections/{{collection_name}}/{what}",
            path_params={"collection_name": collection_name},
        )
        return answer["result"]


def _asked(request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]) -> httpx.Response:
    """The answer; failures are raised as they would be in the holder's process."""
    try:
        answer = send(request)
    except ResponseHandlingException as error:
        if isinstance(error.source, _NEVER_SENT):
            raise HolderGone(sent=False) from error
        if isinstance(error.source, _LOST):
            raise HolderGone(sent=True) from error
        raise _no_answer(error) from error
    if answer.status_code >= 400:
        error_of_ours = rebuilt(answer.json())
        if error_of_ours is not None:
            raise error_of_ours
    return answer


def _no_answer(error: ResponseHandlingException) -> StoreUnavailable:
    return StoreUnavailable(
        "the process that holds the embedded store gave an unusable answer",
        got=f"{type(error.source).__name__}: {error.source}"[:200],
        do="check whether it hangs or runs another version of diptych",
    )


class _Json:
    """A body that is JSON already, with the method that qdrant-client calls on its own models."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def model_dump_json(self, **_: Any) -> bytes:
        """The JSON."""
        return self._content


def _body(content: dict[str, Any]) -> _Json:
    names = {"shard_key_selector": "shard_key"}
    given = {names.get(name, name): value for name, value in content.items() if value is not None}
    given = {name: value for name, value in given.items() if name not in ("ordering", "timeout", "wait")}
    try:
        return _Json(orjson.dumps(given, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY))
    except TypeError:  # integers over 64 bit, keys that are no text, many levels, or what is no JSON at all
        return _Json(_slowly(given))


def _slowly(given: dict[str, Any]) -> bytes:
    """The JSON of what orjson does not take and the engine does, or refuses with a text of its own."""
    try:
        return json.dumps(given, default=_listed, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CollectionError("a point has a vector or payload that Qdrant cannot keep", got=error) from error


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):  # only one that lies in pieces comes here
        return np.ascontiguousarray(value, np.float32)
    if isinstance(value, _BULK):
        return {name: part for name, part in value.__dict__.items() if part is not None}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, tuple | set):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")
