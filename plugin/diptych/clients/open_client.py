"""`client` and `async_client`: qdrant-client's clients, in which encoders of diptych answer for inference objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack
from urllib.parse import urlsplit

from diptych.clients.inference import (
    AsyncInferenceClient,
    ClusterInferenceClient,
    InferenceClient,
    Inferring,
    ServerInferenceClient,
)
from diptych.config import Config
from diptych.encoders import Encoders
from diptych.errors import ConfigError, StoreUnsupported
from diptych.handle.open_handle import config_at
from diptych.registry import Registry
from diptych.runtime.environment import interpolate
from diptych.runtime.sockets import EVENT_HOOKS
from diptych.stores import Classes, key_headers, open_store, open_store_of, place_of

if TYPE_CHECKING:
    from diptych.clients.edge_inference import EdgeInferenceClient


def _edge(path: Path, **options: Any) -> EdgeInferenceClient:
    from diptych.clients.edge_inference import EdgeInferenceClient

    return EdgeInferenceClient(path, **options)


AnyClient: TypeAlias = "InferenceClient | ServerInferenceClient | EdgeInferenceClient"
_CLASSES = Classes(InferenceClient, _edge, ServerInferenceClient, ClusterInferenceClient)
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
