"""`Inferring`: finds the inference objects in the arguments of a call, and has our encoders make their vectors."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

from pydantic import BaseModel
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from diptych.encoders import Encoders, NamedEncoder, adapter_for
from diptych.errors import AdapterOptionsError, UnknownAdapter
from diptych.slots.encode import Side, client_form, require_finite
from diptych.stores.cluster_client import ClusterClient
from diptych.stores.server_client import ServerClient

_CALLS: Mapping[str, tuple[Side, tuple[str, ...]]] = {
    "upsert": ("document", ("points",)),
    "update_vectors": ("document", ("points",)),
    "batch_update_points": ("document", ("update_operations",)),
    "query_points": ("query", ("query", "prefetch")),
    "query_points_groups": ("query", ("query", "prefetch")),
    "query_batch_points": ("query", ("requests",)),
}
_UPLOADS = {"upload_points": "points", "upload_collection": "vectors"}
_CORE_BM25 = "qdrant/bm25"  # qdrant-client's name for what the server computes

CHUNK = 256  # points of a stream whose inputs are encoded together; encoders sort and batch within
Inference: TypeAlias = models.Document | models.Image | models.InferenceObject
INFERENCE = (models.Document, models.Image, models.InferenceObject)
# Fields of qdrant-client's models that hold no vectors; a payload may hold anything, and stays as it is.
_OTHER = frozenset({"payload", "payloads", "filter", "query_filter", "params"})
_PLAIN = frozenset({int, float, str, list})  # a list of these alone is a vector, a multi-vector, or ids


class Inferring:
    """A client that encodes inference objects whose model `encoders` know; those of other models stay.

    `encoders` may be exchanged, say for those of a collection that is open. A slot goes before an adapter.
    """

    encoders: Encoders
    cloud_inference: bool = False

    def __init_subclass__(cls) -> None:
        for name, (side, arguments) in _CALLS.items():
            setattr(cls, name, _resolving(getattr(cls, name), side, arguments))
        for name, argument in _UPLOADS.items():
            setattr(cls, name, _uploading(getattr(cls, name), argument))

    def get_embedding_size(self, model_name: str) -> int:
        """Numbers in a vector of this model.

        Raises:
            UnknownAdapter: nobody knows it.
            AdapterOptionsError: it makes sparse vectors, which have no size.
        """
        if not self._is_ours(model_name):
            client: Any = super()
            return int(client.get_embedding_size(model_name))
        encoder = self._encoder(model_name, {})
        if encoder.kind == "sparse":
            what, got = "sparse vectors have no size", repr(model_name)
            do = "name it in sparse_vectors_config, which takes no size"
            raise AdapterOptionsError(what, where="get_embedding_size", got=got, do=do)
        return encoder.dimension

    def _goes_on(self, model: str) -> bool:
        """Whether qdrant-client, or the server, has a model of this name."""
        return self.cloud_inference or model.lower() == _CORE_BM25 or model.lower() in _of_fastembed()

    def _resolve(self, value: Any, side: Side) -> Any:
        """`value` with vectors instead of inference objects; objects of models that go on stay.

        Raises:
            UnknownAdapter: neither we nor the client know a model.
            AdapterOptionsError: an encoder does not take such an input or such options, or makes no vectors.
            ContractError, FingerprintMismatch, RegistryError: as encoders raise them.
        """
        items = {id(item): item for item in inference_objects(value)}
        ours = {name for name in dict.fromkeys(item.model for item in items.values()) if self._is_ours(name)}
        groups: dict[tuple[str, str], list[Inference]] = {}
        for item in items.values():
            if item.model in ours:
                key = item.model, json.dumps(_options(item), sort_keys=True, default=repr)
                groups.setdefault(key, []).append(item)
        made: dict[int, Any] = {}
        for group in groups.values():
            encoder = self._encoder(group[0].model, _options(group[0]))
            inputs = [_input(item, encoder) for item in group]
            vectors = (encoder.encode_query if side == "query" else encoder.encode_document)(inputs)
            require_finite(vectors, inputs, where=f"model {encoder.name!r}")
            made |= {id(item): client_form(vector) for item, vector in zip(group, vectors, strict=True)}
        return replaced(value, made) if made else value

    def _stream(self, values: Iterable[Any]) -> Iterator[Any]:
        """`_resolve` of each of many points or vectors, a chunk at a time."""
        source = iter(values)
        while chunk := list(islice(source, CHUNK)):
            yield from self._resolve(chunk, "document")

    def _is_ours(self, name: str) -> bool:
        if name in self.encoders:
            return True
        if self._goes_on(name):
            return False
        if self.encoders.at_hand(name):
            return True
        raise unknown(self.encoders, name)

    def _encoder(self, name: str, options: Mapping[str, Any]) -> NamedEncoder:
        """The encoder of a name that is ours: a slot, an adapter, or a model on this machine."""
        model = None if name in self.encoders else self.encoders.at_hand(name)
        adapter, own = model or (name, {})
        return self.encoders.with_options(adapter, {**own, **options})


class _Resolved(Sequence[Any]):
    """A sequence of vectors and inference objects that are encoded as it is gone through.

    qdrant-client compares its length with that of ids and payloads.
    """

    def __init__(self, values: Sequence[Any], client: Inferring) -> None:
        self._values, self._client = values, client

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        return self._client._resolve(self._values[index], "document")

    def __iter__(self) -> Iterator[Any]:
        return self._client._stream(self._values)


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
    where = f"models.{type(item).__name__}(model={item.model!r})"
    kind = "text" if isinstance(item, models.Document) else "image" if isinstance(item, models.Image) else None
    if kind is not None and kind not in encoder.accepts:
        what, got = f"{item.model!r} does not take a {type(item).__name__}", " and ".join(encoder.accepts)
        do = "name an encoder that takes it, or give an InferenceObject"
        raise AdapterOptionsError(what, where=where, got=f"an encoder of {got}", do=do)
    if isinstance(item, models.Document):
        return item.text
    content = item.image if isinstance(item, models.Image) else item.object
    if isinstance(content, str | os.PathLike):
        return os.fspath(content)
    what, do = "encoders take texts, and paths or URLs of files", "save it to a file and give its path"
    raise AdapterOptionsError(what, where=where, got=type(content).__name__, expected="str or a path", do=do)


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


def _resolving(method: Callable[..., Any], side: Side, names: Sequence[str]) -> Callable[..., Any]:
    """The method, which is given vectors in place of inference objects; an awaited one encodes in a thread."""
    arguments_of = _argument_names(method)

    @functools.wraps(method)
    def call(self: Inferring, *args: Any, **options: Any) -> Any:
        arguments = arguments_of(self, *args, **options)
        given = {name: arguments[name] for name in names if name in arguments}
        return method(self, **arguments | self._resolve(given, side))

    @functools.wraps(method)
    async def call_later(self: Inferring, *args: Any, **options: Any) -> Any:
        arguments = arguments_of(self, *args, **options)
        given = {name: arguments[name] for name in names if name in arguments}
        if any(True for _ in inference_objects(given)):
            arguments |= await asyncio.to_thread(self._resolve, given, side)
        return await method(self, **arguments)

    return call_later if inspect.iscoroutinefunction(method) else call


def _uploading(method: Callable[..., Any], argument: str) -> Callable[..., Any]:
    arguments_of = _argument_names(method)

    @functools.wraps(method)
    def call(self: Inferring, *args: Any, **options: Any) -> Any:
        arguments = arguments_of(self, *args, **options)
        values = arguments[argument]
        if not (isinstance(values, Mapping) or hasattr(values, "dtype")):  # columns or an array
            values = _Resolved(values, self) if isinstance(values, Sequence) else self._stream(values)
        return method(self, **arguments | {argument: values})

    return call


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


class InferenceClient(Inferring, QdrantClient):
    """A `QdrantClient` that encodes `models.Document`, `Image` and `InferenceObject` by encoders of diptych."""


class AsyncInferenceClient(Inferring, AsyncQdrantClient):
    """An `AsyncQdrantClient` that encodes inference objects by encoders of diptych, in a thread."""


class ServerInferenceClient(Inferring, ServerClient):
    """The client of a server that a config names."""


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
