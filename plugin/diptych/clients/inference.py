"""`Resolver`: finds the inference objects in the arguments of a call, and has our encoders make their vectors."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from diptych.encoders import Encoders, NamedEncoder, adapter_for
from diptych.errors import AdapterOptionsError, UnknownAdapter
from diptych.slots.encode import Side, Vector, require_finite
from diptych.stores.cluster_client import ClusterClient
from diptych.stores.server_client import ServerClient
from diptych.types import SparseVector

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

CHUNK = 256  # points of a stream whose inputs are encoded together; encoders sort and batch within
Inference: TypeAlias = models.Document | models.Image | models.InferenceObject
INFERENCE = (models.Document, models.Image, models.InferenceObject)
# Fields of qdrant-client's models that hold no vectors; a payload may hold anything, and stays as it is.
_OTHER = frozenset({"payload", "payloads", "filter", "query_filter", "params"})
_PLAIN = frozenset({int, float, str, list})  # a list of these alone is a vector, a multi-vector, or ids


class Resolver:
    """Replaces inference objects whose model our encoders know.

    Args:
        encoders: who makes the vectors.
        goes_on: whether the client itself knows what to do with a model of this name.
    """

    def __init__(self, encoders: Encoders, goes_on: Callable[[str], bool]) -> None:
        self._encoders, self._goes_on = encoders, goes_on

    def resolve(self, value: Any, side: Side) -> Any:
        """`value` with vectors instead of inference objects; objects of models that go on stay.

        Raises:
            UnknownAdapter: neither we nor the client know a model.
            AdapterOptionsError: an encoder does not take such an input or such options, or makes no vectors.
            ContractError, FingerprintMismatch, RegistryError: as encoders raise them.
        """
        items = list(inference_objects(value))
        ours = {name for name in dict.fromkeys(item.model for item in items) if self._is_ours(name)}
        groups: dict[tuple[str, str], list[Inference]] = {}
        for item in items:
            if item.model in ours:
                key = item.model, json.dumps(_options(item), sort_keys=True, default=repr)
                groups.setdefault(key, []).append(item)
        vectors: dict[int, Any] = {}
        for group in groups.values():
            vectors |= self._encoded(group, side)
        return replaced(value, vectors) if vectors else value

    def stream(self, values: Iterable[Any]) -> Iterator[Any]:
        """`resolve` of each of many points or vectors, a chunk at a time."""
        source = iter(values)
        while chunk := list(islice(source, CHUNK)):
            yield from self.resolve(chunk, "document")

    def uploaded(self, values: Any) -> Any:
        """`stream`, of a sequence as a sequence, whose length qdrant-client compares with that of ids and payloads."""
        return _Resolved(values, self) if isinstance(values, Sequence) else self.stream(values)

    def size(self, name: str) -> int | None:
        """Numbers in a vector of this model; None where the client knows it.

        Raises:
            UnknownAdapter: nobody knows it.
            AdapterOptionsError: it makes sparse vectors, which have no size.
        """
        if not self._is_ours(name):
            return None
        encoder = self._encoder(name, {})
        if encoder.kind == "sparse":
            do = "name it in sparse_vectors_config, which takes no size"
            raise AdapterOptionsError("sparse vectors have no size", where="get_embedding_size", got=repr(name), do=do)
        return encoder.dimension

    def _is_ours(self, name: str) -> bool:
        if name in self._encoders:
            return True
        if self._goes_on(name):
            return False
        if self._encoders.at_hand(name):
            return True
        raise unknown(self._encoders, name)

    def _encoder(self, name: str, options: Mapping[str, Any]) -> NamedEncoder:
        """The encoder of a name that is ours: a slot, an adapter, or a model on this machine."""
        model = None if name in self._encoders else self._encoders.at_hand(name)
        adapter, own = model or (name, {})
        return self._encoders.with_options(adapter, {**own, **options})

    def _encoded(self, items: Sequence[Inference], side: Side) -> dict[int, Any]:
        encoder = self._encoder(items[0].model, _options(items[0]))
        distinct = list({id(item): item for item in items}.values())
        inputs = [_input(item, encoder) for item in distinct]
        encode = encoder.encode_query if side == "query" else encoder.encode_document
        vectors = encode(inputs)
        require_finite(vectors, inputs, where=f"model {encoder.name!r}")
        return {id(item): _client_vector(vector) for item, vector in zip(distinct, vectors, strict=True)}


class _Resolved(Sequence[Any]):
    """A sequence of vectors and inference objects that are encoded as it is gone through."""

    def __init__(self, values: Sequence[Any], resolver: Resolver) -> None:
        self._values, self._resolver = values, resolver

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        return self._resolver.resolve(self._values[index], "document")

    def __iter__(self) -> Iterator[Any]:
        return self._resolver.stream(self._values)


def unknown(encoders: Encoders, name: str) -> UnknownAdapter:
    """The error for an unknown model."""
    try:
        encoders.slot(name)
    except UnknownAdapter as error:
        hint = f"{error.do} " if error.do else ""
        if "/" in name:
            hint = f'write model="{adapter_for(name)}", options={{"model": "{name}"}}. '
        do = (
            f"{hint}Models of FastEmbed need a QdrantClient and pip install 'diptych[fastembed]'; those of the server "
            "need cloud_inference=True"
        )
        where = f"the inference object's model {name!r}"
        return UnknownAdapter(error.what, where=where, expected=error.expected, do=do, model=name)
    raise AssertionError(f"{name} is known")


def _options(item: Inference) -> dict[str, Any]:
    options: Any = item.options
    if isinstance(options, BaseModel):
        return options.model_dump(exclude_none=True)
    return dict(options or {})


def _input(item: Inference, encoder: NamedEncoder) -> str:
    """What the encoder is given: a text, or the path or URL of a file."""
    if isinstance(item, models.Document):
        _require_accepted(item, encoder, "text" in encoder.accepts)
        return item.text
    content = item.image if isinstance(item, models.Image) else item.object
    if isinstance(item, models.Image):
        _require_accepted(item, encoder, "image" in encoder.accepts)
    if isinstance(content, str | os.PathLike):
        return os.fspath(content)
    raise AdapterOptionsError(
        "encoders take texts, and paths or URLs of files",
        where=f"models.{type(item).__name__}(model={item.model!r})",
        got=type(content).__name__,
        expected="str or a path",
        do="save it to a file and give its path",
    )


def _require_accepted(item: Inference, encoder: NamedEncoder, accepted: bool) -> None:
    if not accepted:
        raise AdapterOptionsError(
            f"{item.model!r} does not take a {type(item).__name__}",
            where=f"models.{type(item).__name__}(model={item.model!r})",
            got=f"an encoder of {' and '.join(encoder.accepts)}",
            do="name an encoder that takes it, or give an InferenceObject",
        )


def _client_vector(vector: Vector) -> Any:
    """The vector as qdrant-client's models hold it."""
    if isinstance(vector, SparseVector):
        return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())
    return vector.tolist()


def inference_objects(value: Any) -> Iterator[Inference]:
    """The inference objects in `value`: a model, or lists and mappings of models, however deep."""
    if isinstance(value, INFERENCE):
        yield value
    else:
        for _, part in _parts(value):
            yield from inference_objects(part)


def replaced(value: Any, vectors: Mapping[int, Any]) -> Any:
    """`value` with vectors instead of its inference objects; what holds none is the same object, and none is changed.

    Args:
        vectors: by the `id()` of the object whose place they take.
    """
    if isinstance(value, INFERENCE):
        return vectors.get(id(value), value)
    changes = {key: new for key, part in _parts(value) if (new := replaced(part, vectors)) is not part}
    if not changes:
        return value
    if isinstance(value, BaseModel):
        return value.model_copy(update=changes)
    if isinstance(value, Mapping):
        return {**value, **changes}
    return [changes.get(index, part) for index, part in enumerate(value)]


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where inference objects may be in a value, with the key of each."""
    if isinstance(value, BaseModel):
        return ((name, part) for name, part in vars(value).items() if name not in _OTHER)
    if isinstance(value, Mapping):
        return iter(value.items())
    if isinstance(value, list | tuple) and not _PLAIN.issuperset(map(type, value)):
        return iter(enumerate(value))
    return iter(())


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
