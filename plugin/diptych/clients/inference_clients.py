"""The clients of each kind of store, in which inference objects are encoded here."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from qdrant_client import AsyncQdrantClient, QdrantClient

from diptych.clients.inference import Resolver, inference_objects
from diptych.encoders import Encoders
from diptych.slots.encode import Side
from diptych.stores.cluster_client import ClusterClient
from diptych.stores.server_client import ServerClient

C = TypeVar("C", bound=type[Any])
_CALLS: Mapping[str, tuple[Side, tuple[str, ...]]] = {
    "upsert": ("document", ("points",)),
    "update_vectors": ("document", ("points",)),
    "batch_update_points": ("document", ("update_operations",)),
    "query_points": ("query", ("query", "prefetch")),
    "query_points_groups": ("query", ("query", "prefetch")),
    "query_batch_points": ("query", ("requests",)),
}
_CORE_BM25 = "qdrant/bm25"  # qdrant-client's name for what the server computes


def infers(client: C) -> C:
    """Have the calls of a client class replace inference objects; `_resolver` of an instance says by what."""
    for name, (side, arguments) in _CALLS.items():
        setattr(client, name, _resolving(getattr(client, name), side, arguments))
    return _with_uploads(client)


def infers_later(client: C) -> C:
    """`infers` for an asyncio client: encodes in a thread, without blocking the event loop."""
    for name, (side, arguments) in _CALLS.items():
        setattr(client, name, _resolving_later(getattr(client, name), side, arguments))
    return _with_uploads(client)


def _with_uploads(client: C) -> C:
    client.upload_points = _uploading(client.upload_points, "points")
    client.upload_collection = _uploading(client.upload_collection, "vectors")
    client.get_embedding_size = _sized(client.get_embedding_size)
    return client


def _resolving(method: Callable[..., Any], side: Side, names: Sequence[str]) -> Callable[..., Any]:
    arguments_of = _argument_names(method)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        arguments = arguments_of(self, *args, **options)
        return method(self, **arguments | _resolved(self._resolver, arguments, side, names))

    return call


def _resolving_later(method: Callable[..., Any], side: Side, names: Sequence[str]) -> Callable[..., Any]:
    arguments_of = _argument_names(method)

    @functools.wraps(method)
    async def call(self: Any, *args: Any, **options: Any) -> Any:
        arguments = arguments_of(self, *args, **options)
        if any(True for _ in inference_objects(_selected(arguments, names))):
            arguments |= await asyncio.to_thread(_resolved, self._resolver, arguments, side, names)
        return await method(self, **arguments)

    return call


def _uploading(method: Callable[..., Any], argument: str) -> Callable[..., Any]:
    arguments_of = _argument_names(method)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        arguments = arguments_of(self, *args, **options)
        values = arguments[argument]
        is_numeric = isinstance(values, Mapping) or hasattr(values, "dtype")  # columns or an array
        return method(self, **arguments | {argument: values if is_numeric else self._resolver.uploaded(values)})

    return call


def _sized(method: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(method)
    def call(self: Any, model_name: str) -> int:
        size: int | None = self._resolver.size(model_name)
        return method(self, model_name) if size is None else size

    return call


def _resolved(resolver: Resolver, arguments: Mapping[str, Any], side: Side, names: Sequence[str]) -> dict[str, Any]:
    resolved: dict[str, Any] = resolver.resolve(_selected(arguments, names), side)
    return resolved


def _selected(arguments: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {argument: arguments[argument] for argument in names if argument in arguments}


def _argument_names(method: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """What gives the arguments of a call, without `self`, by their names."""
    signature = inspect.signature(method)
    keyword_parameters = [
        parameter.name for parameter in signature.parameters.values() if parameter.kind is parameter.VAR_KEYWORD
    ]

    def arguments_of(self: Any, *args: Any, **options: Any) -> dict[str, Any]:
        arguments = signature.bind(self, *args, **options).arguments
        del arguments["self"]
        for name in keyword_parameters:
            arguments |= arguments.pop(name, {})
        return arguments

    return arguments_of


class Inferring:
    """What the clients share: `encoders`, which may be exchanged, say for those of a collection that is open."""

    _encoders: Encoders
    cloud_inference: bool = False

    @property
    def encoders(self) -> Encoders:
        """Who encodes, by the names that inference objects call their model; a slot goes before an adapter."""
        return self._encoders

    @encoders.setter
    def encoders(self, encoders: Encoders) -> None:
        self._encoders = encoders

    @property
    def _resolver(self) -> Resolver:
        return Resolver(self._encoders, self._goes_on)

    def _goes_on(self, model: str) -> bool:
        """Whether qdrant-client, or the server, has a model of this name."""
        return self.cloud_inference or model.lower() == _CORE_BM25 or model.lower() in _of_fastembed()


@infers
class InferenceClient(Inferring, QdrantClient):
    """A `QdrantClient` that encodes `models.Document`, `Image` and `InferenceObject` by encoders of diptych."""


@infers_later
class AsyncInferenceClient(Inferring, AsyncQdrantClient):
    """An `AsyncQdrantClient` that encodes inference objects by encoders of diptych, in a thread."""


@infers
class ServerInferenceClient(Inferring, ServerClient):
    """The client of a server that a config names."""


@infers
class ClusterInferenceClient(Inferring, ClusterClient):
    """The client of a cluster that a config describes."""


def _of_fastembed() -> frozenset[str]:
    """The models of FastEmbed that qdrant-client would run, in small letters; none where it is not installed."""
    lists: tuple[dict[str, Any], ...] = (
        QdrantClient.list_text_models(),
        QdrantClient.list_sparse_models(),
        QdrantClient.list_image_models(),
        QdrantClient.list_late_interaction_text_models(),
        QdrantClient.list_late_interaction_multimodal_models(),
    )
    return frozenset(name.lower() for models in lists for name in models)
