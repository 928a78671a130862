"""`SlotFacts`: what is known of a slot without its encoder, from the config and the collection's metadata.

`described` is what the metadata records of a slot's encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from diptych.config.models import SlotConfig
from diptych.metadata.models import Generation, QueryEncoder, Reading, vector_name
from diptych.passages import MARK, OPTION
from diptych.plugins.anchor_scores import anchored
from diptych.plugins.factory import vector_kind
from diptych.protocols import Kind, Statistics
from diptych.registry import Registry
from diptych.slots import guard
from diptych.specs import AdapterSpec


class SlotFacts:
    """The facts of a slot; `where` is how errors name it.

    Args:
        name: the slot's name in the config.
        config: adapter and options.
        generation: what the collection says made its vectors; None while the collection does not exist.
        asking: who makes the queries, where that is another encoder than the one of the documents.
        registry: where adapters come from.
    """

    def __init__(
        self,
        name: str,
        config: SlotConfig,
        generation: Generation | None,
        asking: QueryEncoder | None,
        registry: Registry,
    ) -> None:
        self.name, self.config, self.generation, self.asking = name, config, generation, asking
        self.where = f"slot {name!r}"
        self._registry = registry

    @cached_property
    def kind(self) -> Kind:
        """The kind of the slot's vectors: that of its adapter, unless it makes a vector a passage."""
        return vector_kind(self.spec.kind, self.config.options)

    @cached_property
    def passages(self) -> bool:
        """Whether the slot's encoder reads documents passage by passage."""
        return self.config.options.get(OPTION) is not None

    @property
    def passage_vectors(self) -> bool:
        """Whether it holds a dense vector for each passage, and no token vectors or words of all passages."""
        return self.passages and self.spec.kind == "dense"

    @property
    def anchored(self) -> bool:
        """Whether the slot holds a reranker's scores of anchors, for which a query's text has no vector."""
        return anchored(self.spec.kind, self.config.options)

    @cached_property
    def spec(self) -> AdapterSpec:
        """What its plugin says about the slot's adapter."""
        return self._registry.spec(self.config.adapter, where=self.where)

    @property
    def vector(self) -> str:
        """The physical vector name; for a text index the payload key that is indexed."""
        return self.generation.vector if self.generation else vector_name(self.name, self.kind, 1)

    @property
    def reading(self) -> Reading:
        """What the encoder reads of a document; with passages, title and text can be told apart."""
        reading = self.generation.reading if self.generation else Reading(modality=self.config.of)
        apart = self.passages and reading.input == ("title", "text")
        return reading.model_copy(update={"separator": MARK}) if apart else reading

    @cached_property
    def reads_texts(self) -> bool:
        """Whether all that it is given are texts, and not media or, as some plugins take them, names of files."""
        return self.spec.accepts == ("text",)

    @property
    def reads_media(self) -> bool:
        """Whether its vectors are of documents' media."""
        return self.reading.modality != "text"

    @property
    def changed(self) -> bool:
        """Whether the config differs in adapter or options from what filled the collection."""
        live = self.generation
        config = self.config
        return live is not None and (config.adapter, config.options) != (live.adapter, live.options)


def described(
    encoder: Any,
    kind: Kind,
    config: SlotConfig,
    *,
    number: int,
    vector: str,
    reading: Reading,
    statistics: Statistics | None,
    accepts: Sequence[str] = ("text",),
    where: str,
) -> Generation:
    """The generation's record. The encoder is calibrated before its canaries are taken."""
    if statistics is not None:
        encoder.calibrate(statistics)
    fingerprint = guard.fingerprint_of(encoder, config.adapter, config.options)
    canaries = guard.record_canaries(encoder, kind, reading.modality, accepts, where=where)
    return Generation(
        number=number,
        vector=vector,
        kind=kind,
        adapter=config.adapter,
        options=config.options,
        storage=config.storage.model_dump(mode="json", exclude_none=True),
        space=fingerprint.space,
        numerics=fingerprint.numerics,
        documents=fingerprint.documents,
        canaries=canaries,
        statistics=dict(statistics) if statistics is not None else None,
        reading=reading,
        dimension=getattr(encoder, "dimension", None),
        similarity=getattr(encoder, "similarity", None),
    )
