"""`Served`: the open collections of a server, and its encoders and rerankers, whose calls `Batches` joins."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from diptych import Collection, Registry
from diptych.collection.queries import check
from diptych.config import Config
from diptych.config.models import SlotConfig
from diptych.encoders import Encoders
from diptych.errors import AdapterOptionsError, CollectionError, CollectionNotFound, ConfigError, UnknownAdapter
from diptych.factory import check_requirements, validate_options
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.open_handle import config_at
from diptych.protocols import Kind, Pair
from diptych.runtime.environment import interpolate
from diptych.runtime.validation_messages import nearest
from diptych.search.microbatch import MicroBatcher
from diptych.search.rerank import score_pairs
from diptych.slots.encode import Side, Vector, require_finite
from diptych.slots.slot import Slot
from diptych.specs import AdapterSpec
from diptych.stores.nodes import deadline
from diptych.types import Floats

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_TEXT = "warm"

_WITHIN = ("edge:", "local:", "memory:")  # stores that one client holds: collections in one of them share it


class Served:
    """Open collections by name, with all encoders and rerankers that serve them.

    Args:
        collections: open ones; they are closed with this.
        encoders: those of configs that are served without their collections, by name.
        adapters: further adapters to serve: NAME, with its default options, or NAME:MODEL.
        registry: where adapters come from; everything installed unless given.

    Raises:
        ConfigError: two collections have one name.
        RegistryError: an adapter is unknown, or needs packages or options that are not there.
    """

    def __init__(
        self,
        collections: Iterable[Collection] = (),
        *,
        encoders: Mapping[str, Encoders] | None = None,
        adapters: Sequence[str] = (),
        registry: Registry | None = None,
    ) -> None:
        registry = registry or Registry.default()
        self.collections: dict[str, Collection] = {}
        for collection in collections:
            if collection.name in self.collections:
                raise _twice(collection.name)
            self.collections[collection.name] = collection
        self._encoders = {name: collection.encoders for name, collection in self.collections.items()} | dict(
            encoders or {}
        )
        if adapters:
            self._encoders = {"": _alone(adapters, registry), **self._encoders}

    @classmethod
    def open(
        cls,
        configs: Sequence[str | Path | Config],
        *,
        adapters: Sequence[str] = (),
        registry: Registry | None = None,
        create: bool = False,
    ) -> Served:
        """Open the collections of config files. Collections in one embedded store share it.

        Args:
            configs: files or `Config`s.
            adapters, registry: as above.
            create: whether the folder of an embedded store is made when it is not there.

        Raises:
            ConfigError, StoreError, CollectionError: see diptych.errors.
        """
        registry = registry or Registry.default()
        loaded = [config_at(config, registry) for config in configs]
        with ExitStack() as stack:
            opened: list[Collection] = []
            for config in loaded:
                opened.append(_opened(config, opened, registry, create))
                stack.callback(opened[-1].close)
            served = cls(opened, adapters=adapters, registry=registry)
            stack.pop_all()
            return served

    @classmethod
    def stored(
        cls, store: str, names: Sequence[str], *, adapters: Sequence[str] = (), registry: Registry | None = None
    ) -> Served:
        """Open collections of one store with the encoders they have; arguments as in `open`."""
        registry = registry or Registry.default()
        if not names:
            raise CollectionError("no collection is named", where=f"--store {store}", do="add --collection NAME")
        first = Collection.open(store, names[0], registry=registry, create=False)
        try:
            further = [Collection.open(first.client, name, registry=registry) for name in names[1:]]
            return cls([first, *further], adapters=adapters, registry=registry)
        except BaseException:
            first.close()
            raise

    @classmethod
    def of_encoders(
        cls, configs: Sequence[str | Path | Config], *, adapters: Sequence[str] = (), registry: Registry | None = None
    ) -> Served:
        """The encoders and rerankers of configs, without any store; arguments as in `open`."""
        registry = registry or Registry.default()
        encoders: dict[str, Encoders] = {}
        for config in (config_at(config, registry) for config in configs):
            if config.collection in encoders:
                raise _twice(config.collection)
            encoders[config.collection] = Encoders.open(config, registry=registry)
        return cls(encoders=encoders, adapters=adapters, registry=registry)

    def close(self) -> None:
        """Close the collections; those that share a store before the one that opened it."""
        with ExitStack() as stack:
            for collection in self.collections.values():
                stack.callback(collection.close)

    def collection(self, name: str | None) -> Collection:
        """The collection of this name; for None the only one.

        Raises:
            CollectionNotFound: there is none.
            CollectionError: there are several to choose from.
        """
        names = ", ".join(self.collections) or "none: only encoders are served"
        if name is None and len(self.collections) == 1:
            return next(iter(self.collections.values()))
        if name is None and self.collections:
            raise CollectionError("the request names no collection", got="no `collection`", expected=names)
        if name is None or name not in self.collections:
            do = nearest(name, self.collections)
            raise CollectionNotFound(f"no collection is called {name!r}", where="this server", expected=names, do=do)
        return self.collections[name]

    def models(self) -> list[Model]:
        """The further adapters, the current slots, and the rerankers of the pipelines."""
        # The rerankers; if several pipelines have the same one, that of the first.
        rerankers: dict[str, Model] = {}
        for collection, encoders in self._encoders.items():
            for name in encoders.rerankers:
                rerankers.setdefault(name, Model(name, "reranker", collection, name, encoders))
        slots = (
            Model(name, kind, collection, name, encoders)
            for collection, encoders in self._encoders.items()
            for name, kind in encoders.kinds.items()
        )
        models = [*slots, *rerankers.values()]
        names = [model.name for model in models]
        return [
            own if not own.collection or names.count(own.name) == 1 else replace(own, id=f"{own.collection}/{own.name}")
            for own in models
        ]

    def model(self, id: str, *kinds: Kind) -> Model:
        """The model of this name, which must be of one of `kinds`. `COLLECTION/SLOT` always names a slot.

        Raises:
            UnknownAdapter: there is none; the text names the nearest.
            AdapterOptionsError: it is of another kind.
        """
        models = self.models()
        by_id = {**{f"{m.collection}/{m.name}": m for m in models if m.collection}, **{m.id: m for m in models}}
        served_model = by_id.get(id)
        fitting = [model.id for model in models if model.kind in kinds]
        if served_model is None:
            names = ", ".join(fitting) or "none is served"
            raise UnknownAdapter(f"no model is called {id!r}", expected=names, do=nearest(id, fitting))
        if served_model.kind not in kinds:
            raise AdapterOptionsError(
                f"model {id!r} cannot do this",
                got=served_model.kind.replace("_", " "),
                expected=f"a model that is {' or '.join(kinds)}: {', '.join(fitting) or 'none is served'}",
            )
        return served_model

    def check(self, name: str, *, thorough: bool = False) -> None:
        """Make the smallest possible call to the store and the encoders of a collection or config, if these are local.

        Args:
            name: of a collection or config; "" for the further adapters.
            thorough: load everything that they need; see `Collection.warm`.

        Raises:
            DiptychError: its queries would fail now.
        """
        if name in self.collections:
            return self.collections[name].warm() if thorough else check(self.collections[name].handle)
        for model in (model for model in self.models() if model.collection == name):
            if thorough or (model.kind != "reranker" and not model.encoders.slot(model.name).spec.remote):
                model.try_out()
        return None

    def stores_answer(self, seconds: float) -> bool:
        """Whether each store answers the smallest possible call; servers within that time."""
        stores = {id(collection.client): collection for collection in self.collections.values()}
        try:
            with deadline(seconds):
                for collection in stores.values():
                    collection.client.collection_exists(collection.name)
        except Exception:  # whatever it is, a search would fail
            return False
        return True

    @property
    def names(self) -> list[str]:
        """The collections, or the configs served without collections; "" stands for the further adapters."""
        return list(self._encoders)


def _opened(config: Config, before: Sequence[Collection], registry: Registry, create: bool) -> Collection:
    for collection in before:
        other_config: Any = collection.handle.config
        if config.urls[0].startswith(_WITHIN) and other_config is not None and other_config.store == config.store:
            return Collection(CollectionHandle(collection.client, config.collection, config, registry))
    return Collection.open(config, registry=registry, create=create)


def _alone(adapters: Sequence[str], registry: Registry) -> Encoders:
    """Encoders of adapters without a config: NAME or NAME:MODEL."""
    slots: dict[str, Slot] = {}
    rerankers: dict[str, dict[str, Any]] = {}
    for name, colon, chosen in (text.partition(":") for text in adapters):
        options = {"model": chosen} if colon else {}
        spec = registry.spec(name, where="--adapter")
        _require_usable(spec, options)
        if spec.kind == "reranker":
            rerankers[name] = options
        else:
            slots[name] = Slot(name, SlotConfig(adapter=name, options=options), None, registry)
    return Encoders(lambda: slots, registry, rerankers)


def _require_usable(spec: AdapterSpec, options: Mapping[str, Any]) -> None:
    """Raise at once for missing packages or options, which would prevent the service from ever being ready."""
    where = f"--adapter {spec.name}"
    check_requirements(spec, options, where=where)
    try:
        validate_options(spec, interpolate(dict(options), where=where), where=where, raw=options)
    except AdapterOptionsError as error:
        missing = error.context.get("key")
        if missing in options:
            raise
        expected = f"{where}:MODEL" if missing == "model" else "a slot of a config, which can give it"
        raise AdapterOptionsError(error.what, where=where, expected=expected, do=error.do, key=missing) from error


def _twice(name: str) -> ConfigError:
    return ConfigError("two collections have one name", got=name, do="serve them by two processes")


class Batches:
    """Encodes texts and scores pairs for many clients; see `diptych.search.microbatch` for the rules of waiting.

    Args:
        metrics: receives the counts.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._batchers: dict[tuple[int, str, str, str], MicroBatcher[Any, Any]] = {}
        self._lock = threading.Lock()

    async def encode(self, model: Model, side: Side, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text.

        Raises:
            ContractError, FingerprintMismatch, RegistryError: see diptych.errors.
        """
        batcher = self._batcher(model, side, lambda requests: self._encoded(model, side, requests))
        vectors: list[Vector] = await asyncio.wrap_future(batcher.later(texts))
        return vectors

    async def score(self, model: Model, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` of the pairs.

        Raises:
            ContractError, RegistryError: see diptych.errors.
        """
        batcher = self._batcher(model, "", lambda requests: self._scored(model, requests))
        scores: Floats = await asyncio.wrap_future(batcher.later(pairs))
        return scores

    def _batcher(
        self, model: Model, side: str, work: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> MicroBatcher[Any, Any]:
        with self._lock:
            key = id(model.encoders), model.kind, model.name, side
            return self._batchers.setdefault(key, MicroBatcher(work))

    def _encoded(self, model: Model, side: Side, requests: Sequence[Sequence[str]]) -> list[list[Vector]]:
        texts = [text for request in requests for text in request]
        encoder = model.encoders[model.name]
        vectors = encoder.encode_query(texts) if side == "query" else encoder.encode_document(texts)
        require_finite(vectors, texts, where=f"model {model.id!r}")
        self._metrics.texts.labels(model.id, side).inc(len(texts))
        self._metrics.batches.labels(model.id).observe(len(texts))
        ends = accumulate(map(len, requests), initial=0)
        return [list(vectors[start:end]) for start, end in pairwise(ends)]

    def _scored(self, model: Model, requests: Sequence[Sequence[Pair]]) -> list[Floats]:
        scores = score_pairs(model.encoders.reranker(model.name), requests, where=f"model {model.id!r}")
        count = sum(map(len, requests))
        self._metrics.pairs.labels(model.id).inc(count)
        self._metrics.batches.labels(model.id).observe(count)
        return scores


@dataclass(frozen=True, slots=True)
class Model:
    """A slot or adapter that clients can name.

    Args:
        id: its name here: the slot's or adapter's own, or `COLLECTION/SLOT` where that would mean several.
        kind: its contract.
        collection: whose slot it is; "" for an adapter.
        name: the slot's or adapter's own name.
        encoders: make it.
    """

    id: str
    kind: Kind
    collection: str
    name: str
    encoders: Encoders

    def try_out(self) -> None:
        """Encode or score one word, as a test.

        Raises:
            DiptychError: it cannot.
        """
        if self.kind == "reranker":
            score_pairs(self.encoders.reranker(self.name), [[(_TEXT, _TEXT)]], where=f"model {self.id!r}")
        else:
            self.encoders[self.name].encode_query([_TEXT])


class Metrics:
    """The metrics of one service, in a registry of their own. Needs `diptych[serve]`, which the MCP server does not."""

    def __init__(self) -> None:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram

        self.content_type = CONTENT_TYPE_LATEST
        self._registry = CollectorRegistry()
        gauge, counter = partial(Gauge, registry=self._registry), partial(Counter, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry)
        self.requests = counter("diptych_requests", "Requests answered.", ["route", "status"])
        seconds = "Seconds from request to answer."
        self.seconds = histogram("diptych_request_seconds", seconds, ["route"], buckets=SECONDS)
        self.in_flight = gauge("diptych_requests_in_flight", "Requests under way.")
        self.texts = counter("diptych_texts_encoded", "Texts encoded by /v1/embeddings.", ["model", "side"])
        self.pairs = counter("diptych_pairs_scored", "Pairs of query and document reranked.", ["model"])
        self.queries = counter("diptych_queries", "Queries searched.", ["collection"])
        sizes = "Texts or pairs in a call of a model."
        self.batches = histogram("diptych_encode_batch_size", sizes, ["model"], buckets=SIZES)
        self.ready = gauge("diptych_ready", "1 once everything that is served has been warmed.")

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)
