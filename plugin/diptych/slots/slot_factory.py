"""`SlotMaker`: creates the slots of a collection, and reuses loaded ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from diptych.config.models import SlotConfig, VectorStorage
from diptych.errors import CollectionError
from diptych.media import MediaStore
from diptych.metadata.models import Generation, QueryEncoder
from diptych.metadata.store import raw_metadata
from diptych.registry import Registry
from diptych.slots.calibration_texts import Texts
from diptych.slots.drift_maps import Map, load
from diptych.slots.slot import Slot

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.slots.cache import EmbeddingCache


class SlotMaker:
    """Creates the slots of one collection.

    Args:
        client, name: the collection, which keeps drift maps.
        registry: where adapters come from.
        cache: where document vectors are kept.
        texts: of the collection, for encoders that want to see some.
        media: reads the media of documents and queries.
        verify: whether encoders must prove themselves when they are loaded.
    """

    def __init__(
        self,
        client: QdrantBase,
        name: str,
        registry: Registry,
        cache: EmbeddingCache | None,
        texts: Texts,
        media: MediaStore,
        *,
        verify: bool,
    ) -> None:
        self._client, self._name, self._registry, self._media = client, name, registry, media
        self._verify, self._cache, self._texts = verify, cache, texts
        self.keeps_candidates, self._candidates = False, dict[tuple[str, bool], Slot]()

    def configured(
        self, name: str, config: SlotConfig, generation: Generation | None = None, asking: QueryEncoder | None = None
    ) -> Slot:
        """A slot as the config describes it, with the generation it matches or, before the first populate, none."""
        return self._make(name, config, generation, asking, ())

    def candidate(self, name: str, config: SlotConfig, *, student: bool = False) -> Slot:
        """A slot of a config, or its student, that is to be compared with the collection.

        A new one, since the files of a model may have changed; with `keeps_candidates`, the same one with its encoder
        until it has a generation.
        """
        slot = self._candidates.get((name, student)) if self.keeps_candidates else None
        if slot is None or slot.config != config or slot.generation is not None:
            slot = self.configured(name, config)
            if self.keeps_candidates:
                self._candidates[name, student] = slot
        return slot

    def stored(
        self, name: str, generation: Generation, asking: QueryEncoder | None, existing: Iterable[Slot] = ()
    ) -> Slot:
        """A slot as the collection describes it; an identical one of `existing`, best with its encoder, is reused."""
        slots = [*existing]
        same = [slot for slot in slots if (slot.name, slot.generation, slot.asking) == (name, generation, asking)]
        known = sorted((slot for slot in same if slot.proved), key=lambda slot: not slot.loaded)
        slot = known[0] if known else self._make(name, slot_config(generation), generation, asking, slots)
        if self.keeps_candidates:
            for other in (*slots, *self._candidates.values()):
                slot.borrow(other)
        return slot

    def _make(
        self,
        name: str,
        config: SlotConfig,
        generation: Generation | None,
        asking: QueryEncoder | None,
        existing: Iterable[Slot],
    ) -> Slot:
        askers = [slot.asker for slot in existing if slot.asker is not None]
        return Slot(
            name,
            config,
            generation,
            self._registry,
            verify=self._verify,
            asking=asking,
            asker=self.stored(name, asking.generation, None, [*existing, *askers]) if asking else None,
            drift=self._drift(asking.drift) if asking and asking.drift else None,
            cache=self._cache,
            texts=self._texts,
            media=self._media,
        )

    def _drift(self, key: str) -> Map:
        raw = raw_metadata(self._client, self._name).get(key)
        if raw is None:
            raise CollectionError(
                "the drift map that queries go through is gone",
                where=f"collection {self._name!r}, metadata key {key!r}",
                do="continue the swap: diptych apply; or abandon it: diptych rollback",
            )
        return load(raw)


def slot_config(generation: Generation) -> SlotConfig:
    """The slot config that a generation was made with."""
    storage = VectorStorage.model_validate(generation.storage)
    of = generation.reading.modality
    return SlotConfig(adapter=generation.adapter, of=of, options=generation.options, storage=storage)
