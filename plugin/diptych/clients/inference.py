"""`client` and `async_client`: qdrant-client's clients, in which encoders of diptych answer for inference objects.

`Inferring` finds these objects in the arguments of a call, and has our encoders make their vectors.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack
from urllib.parse import urlsplit

from pydantic import BaseModel
from qdrant_client import AsyncQdrantClient, QdrantClient, models

from diptych.config import Config
from diptych.encoders import Encoders, NamedEncoder, adapter_for
from diptych.errors import AdapterOptionsError, ConfigError, StoreUnsupported, UnknownAdapter
from diptych.handle.open_handle import config_at
from diptych.registry import Registry
from diptych.runtime.environment import interpolate
from diptych.runtime.sockets import EVENT_HOOKS
from diptych.slots.encode import Side, client_form, require_finite
from diptych.stores import Classes, key_headers, open_store, open_store_of, place_of
from diptych.stores.cluster_client import ClusterClient
from diptych.stores.server_client import ServerClient

if TYPE_CHECKING:
    from diptych_edge import SharedEdgeClient

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
            resolve = functools.partial(cls._resolve, side=side)
            setattr(cls, name, _changing(getattr(cls, name), arguments, resolve))
        for name, argument in _UPLOADS.items():
            setattr(cls, name, _changing(getattr(cls, name), (argument,), cls._uploaded))

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
        """Whether qdrant-client, which runs FastEmbed's where that is installed, or the server has such a model."""
        if self.cloud_inference or model.lower() == _CORE_BM25:
            return True
        kinds = ("text", "sparse", "image", "late_interaction_text", "late_interaction_multimodal")
        names = (name for kind in kinds for name in getattr(QdrantClient, f"list_{kind}_models")())
        return any(model.lower() == name.lower() for name in names)

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

    def _uploaded(self, given: dict[str, Any]) -> dict[str, Any]:
        """The values, encoded as they are gone through; columns and arrays hold no inference objects."""
        for name, values in given.items():
            if not isinstance(values, Mapping) and not hasattr(values, "dtype"):
                given[name] = _Resolved(values, self) if isinstance(values, Sequence) else self._stream(values)
        return given

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


def _changing(
    method: Callable[..., Any], names: Sequence[str], change: Callable[[Inferring, dict[str, Any]], dict[str, Any]]
) -> Callable[..., Any]:
    """The method, with some of its arguments changed first: by their names; those of an awaited one in a thread."""
    signature = inspect.signature(method)
    keywords = [own.name for own in signature.parameters.values() if own.kind is own.VAR_KEYWORD]

    def bound(self: Inferring, *args: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        arguments = signature.bind(self, *args, **options).arguments
        del arguments["self"]
        for name in keywords:
            arguments |= arguments.pop(name, {})
        return arguments, {name: arguments[name] for name in names if name in arguments}

    @functools.wraps(method)
    def call(self: Inferring, *args: Any, **options: Any) -> Any:
        arguments, given = bound(self, *args, **options)
        return method(self, **arguments | change(self, given))

    @functools.wraps(method)
    async def call_later(self: Inferring, *args: Any, **options: Any) -> Any:
        arguments, given = bound(self, *args, **options)
        if any(True for _ in inference_objects(given)):
            given = await asyncio.to_thread(change, self, given)
        return await method(self, **arguments | given)

    return call_later if inspect.iscoroutinefunction(method) else call


class InferenceClient(Inferring, QdrantClient):
    """A `QdrantClient` that encodes `models.Document`, `Image` and `InferenceObject` by encoders of diptych."""


class AsyncInferenceClient(Inferring, AsyncQdrantClient):
    """An `AsyncQdrantClient` that encodes inference objects by encoders of diptych, in a thread."""


class ServerInferenceClient(Inferring, ServerClient):
    """The client of a server that a config names."""


class ClusterInferenceClient(Inferring, ClusterClient):
    """The client of a cluster that a config describes."""


if TYPE_CHECKING:

    class EdgeInferenceClient(Inferring, SharedEdgeClient):
        """A `SharedEdgeClient` that encodes inference objects by encoders of diptych; it has no other models."""


@functools.cache
def _edge_client() -> type[EdgeInferenceClient]:
    """Its class, made when the first store is opened: who uses servers alone never imports the embedded one."""
    from diptych_edge import SharedEdgeClient

    own = {"_goes_on": lambda self, model: False}
    return type("EdgeInferenceClient", (Inferring, SharedEdgeClient), own)


AnyClient: TypeAlias = "InferenceClient | ServerInferenceClient | EdgeInferenceClient"
_CLASSES = Classes(
    InferenceClient,
    lambda path, **options: _edge_client()(path, **options),
    ServerInferenceClient,
    ClusterInferenceClient,
)
_OWN_URLS = ("edge", "local", "memory", "grpc", "grpcs")  # store URLs of diptych that qdrant-client does not read
_PLACES = ("url", "host", "path")


class ClientOptions(TypedDict, total=False):
    """The arguments of `QdrantClient` and `AsyncQdrantClient` after `location`, with their meaning there."""

    url: str | None
    host: str | None
    path: str | None
    port: int | None
    grpc_port: int
    prefer_grpc: bool
    https: bool | None
    api_key: str | None
    prefix: str | None
    timeout: int | None
    force_disable_check_same_thread: bool
    grpc_options: dict[str, Any] | None
    auth_token_provider: Callable[[], str] | Callable[[], Awaitable[str]] | None
    cloud_inference: bool
    local_inference_batch_size: int | None
    check_compatibility: bool
    pool_size: int | None
    headers: dict[str, str] | None


def client(
    location: str | None = None,
    *,
    config: str | Path | Config | None = None,
    encoders: Encoders | None = None,
    registry: Registry | None = None,
    **options: Unpack[ClientOptions],
) -> AnyClient:
    """A `QdrantClient`, or for `edge:PATH` an `EdgeClient`, that takes our encoders' names as models.

    `models.Document(text=..., model=NAME)`, `models.Image` and `models.InferenceObject` are encoded here wherever
    qdrant-client takes them, if NAME is a slot or an adapter of `encoders`. Other names are qdrant-client's own affair.

    Args:
        location: as `QdrantClient` takes it (`:memory:`, a URL), or `edge:PATH`, `memory:` or `grpc://HOST:PORT`.
        config: names slots, and the store where neither `location` nor url, host or path does.
        encoders: who encodes; those of the config, or of what is installed, unless given.
        registry: where adapters come from; everything installed unless given.
        options: of `QdrantClient`.

    Raises:
        ConfigError, StoreError: see diptych.errors.
    """
    registry = registry or Registry.default()
    loaded = None if config is None else config_at(config, registry)
    opened: Any
    if loaded is not None and not _is_placed(location, options):
        _refuse(options, f"store: {loaded.place}")
        opened = open_store_of(loaded, registry=registry, classes=_CLASSES)
        if not isinstance(opened, Inferring):
            raise StoreUnsupported(
                "this store's client is a plugin's, which diptych.client cannot extend",
                where="client",
                got=f"store: {_scheme(loaded.urls[0])}:..., answered by {type(opened).__name__}",
                do="open the collection: Collection.open(config); or name a store of diptych's own",
            )
    elif location is not None and _scheme(location) in _OWN_URLS:
        _refuse({key: value for key, value in options.items() if key not in ("api_key", "timeout")}, location)
        timeout = options.get("timeout")
        key = options.get("api_key")
        opened = open_store(location, api_key=key, timeout=60 if timeout is None else timeout, classes=_CLASSES)
    else:
        opened = InferenceClient(location, event_hooks=EVENT_HOOKS, **options)
    opened.encoders = encoders or Encoders.open(loaded, registry=registry)
    return opened  # type: ignore[no-any-return]


def async_client(
    location: str | None = None,
    *,
    config: str | Path | Config | None = None,
    encoders: Encoders | None = None,
    registry: Registry | None = None,
    **options: Unpack[ClientOptions],
) -> AsyncInferenceClient:
    """An `AsyncQdrantClient` that takes our encoders' names as models, as `client` does; they encode in a thread.

    Args:
        location, config, encoders, registry, options: as in `client`, but for `edge:PATH`.

    Raises:
        ConfigError: see diptych.errors.
        StoreUnsupported: the store is embedded, or a cluster that the config describes.
    """
    registry = registry or Registry.default()
    loaded = None if config is None else config_at(config, registry)
    if loaded is not None and not _is_placed(location, options):
        _refuse(options, f"store: {loaded.place}")
        if loaded.cluster.given:
            raise StoreUnsupported(
                "the asyncio client does not support a config's cluster section",
                where="async_client",
                got=f"cluster.{next(iter(loaded.cluster.given))}",
                do="diptych.client(config=...), in asyncio.to_thread",
            )
        key = interpolate(loaded.api_key.get_secret_value(), where="api_key") if loaded.api_key else None
        opened = _later_at(loaded.urls[0], {"api_key": key, "timeout": loaded.timeout})
    elif location is not None and _scheme(location) in _OWN_URLS:
        opened = _later_at(location, options)
    else:
        opened = AsyncInferenceClient(location, event_hooks=EVENT_HOOKS, **options)
    opened.encoders = encoders or Encoders.open(loaded, registry=registry)
    return opened


def _later_at(url: str, options: ClientOptions) -> AsyncInferenceClient:
    url = interpolate(url, where="store")
    scheme = _scheme(url)
    if scheme == "memory":
        return AsyncInferenceClient(":memory:")
    if scheme not in ("http", "https", "grpc", "grpcs"):
        raise StoreUnsupported(
            "this store has no asyncio client",
            where="async_client",
            got=scheme + ":",
            expected="http(s):, grpc(s): or memory:",
            do="diptych.client(...), its calls in asyncio.to_thread",
        )
    place: dict[str, Any] = {**options, **place_of(url)}
    place["headers"] = {**(options.get("headers") or {}), **key_headers([url], place.pop("api_key", None))}
    grpc = place.pop("grpc")
    return AsyncInferenceClient(prefer_grpc=grpc, check_compatibility=False, event_hooks=EVENT_HOOKS, **place)


def _is_placed(location: str | None, options: Mapping[str, Any]) -> bool:
    return location is not None or any(options.get(name) is not None for name in _PLACES)


def _refuse(options: Mapping[str, Any], url: str) -> None:
    if options:
        raise ConfigError(
            "these arguments are for QdrantClient only",
            where=f"client, {_scheme(url) or url}: store",
            got=", ".join(sorted(options)),
            do="leave them out, or name the place as QdrantClient takes it: location, url, host or path",
        )


def _scheme(url: str) -> str:
    return urlsplit(url).scheme
