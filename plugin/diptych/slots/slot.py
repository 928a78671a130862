"""A slot at work: its encoder, created when first needed and checked by the guard before it serves.

`vectors_of_queries` encodes queries of texts and media; `parts_of` says which parts of one the encoder takes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.config.models import SlotConfig
from diptych.config.storage import VectorStorage
from diptych.errors import CollectionError
from diptych.factory import vector_kind
from diptych.media import Media, MediaStore
from diptych.metadata.models import Generation, QueryEncoder, Reading, vector_name
from diptych.passages import MARK, OPTION
from diptych.protocols import Calibrated, Fingerprint, Kind, Similarity, Statistics
from diptych.registry import Registry
from diptych.runtime.phases import phase
from diptych.slots import guard
from diptych.slots.canaries import plain_documents
from diptych.slots.encode import (
    Input,
    QueryCache,
    Side,
    Texts,
    Vector,
    decoded,
    encode,
    provide_texts,
    require_finite,
    sample_size,
)
from diptych.specs import AdapterSpec
from diptych.types import Query, SparseVector

if TYPE_CHECKING:
    from diptych.slots.cache import EmbeddingCache, Namespace


class Slot:
    """One logical vector of a collection, with the encoder that fills or queries it.

    Args:
        name: the slot's name in the config.
        config: adapter and options.
        generation: what the collection says made its vectors; None while the collection does not exist.
        registry: where adapters come from.
        verify: whether the guard checks the encoder when it is made.
        asking: who makes the queries, where that is another encoder than the one of the documents.
        query_slot: the slot of that encoder.
        cache: where vectors of documents are kept; None encodes each time.
        texts: of the collection, for an encoder that wants to see some.
        media: reads the media that the encoder is given; a slot that only looks at its encoder needs none.

    `query_slot` is the slot whose encoder makes the queries instead, None where it is this one. `remote_check` checks
    repeatedly whether a remote encoder still makes the same vectors.
    """

    def __init__(
        self,
        name: str,
        config: SlotConfig,
        generation: Generation | None,
        registry: Registry,
        *,
        verify: bool = True,
        asking: QueryEncoder | None = None,
        query_slot: Slot | None = None,
        cache: EmbeddingCache | None = None,
        texts: Texts | None = None,
        media: MediaStore | None = None,
    ) -> None:
        self.name, self.config, self.generation = name, config, generation
        self.asking, self.query_slot = asking, query_slot
        self.where = f"slot {name!r}"  # in errors
        self._registry, self._texts, self._media, self._verify = registry, texts, media, verify
        self._encoder: Any = None
        self._borrowed: Any = None
        self.likeness: guard.Likeness | None = None  # of the canaries when it was last compared; None without vectors
        self._from_memory = False  # whether that may be of an earlier process
        self.remote_check = guard.RemoteCheck()
        self._remembered = QueryCache()
        self._cache = cache
        self._namespace: tuple[Generation, Namespace | None] | None = None
        self._lock = threading.RLock()

    @cached_property
    def kind(self) -> Kind:
        """The kind of the slot's vectors: that of its adapter, unless it makes a vector a passage.

        Releases up to 0.4.0 kept a reranker's scores of fixed queries in dense vectors.
        """
        if self.generation is not None and self.spec.kind == "reranker":
            return self.generation.kind
        return vector_kind(self.spec.kind, self.config.options)

    @cached_property
    def passages(self) -> bool:
        """Whether the slot's encoder reads documents passage by passage."""
        return self.config.options.get(OPTION) is not None

    @property
    def passage_vectors(self) -> bool:
        """Whether it holds a dense vector for each passage, and no token vectors or words of all passages."""
        return self.passages and self.spec.kind == "dense"

    @cached_property
    def spec(self) -> AdapterSpec:
        """What its plugin says about the slot's adapter."""
        return self._registry.spec(self.config.adapter, where=self.where).with_options(self.config.options)

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
        live, config = self.generation, self.config
        same = [] if live is None else self._registry.spellings(config.adapter, config.options)
        return live is not None and (live.adapter, live.options) not in same

    def __repr__(self) -> str:
        return f"Slot({self.name!r}, adapter={self.config.adapter!r}, vector={self.vector!r})"

    @property
    def fingerprint(self) -> Fingerprint:
        """Tells the encoder's vectors from those of other encoders. Loads the encoder."""
        return guard.fingerprint_of(self.encoder, self.config.adapter, self.config.options)

    @property
    def similarity(self) -> Similarity | None:
        """How the slot's vectors are compared; None where its kind has only one way."""
        recorded = self.generation.similarity if self.generation else None
        similarity: Similarity | None = recorded or getattr(self.encoder, "similarity", None)
        return similarity

    @property
    def proved(self) -> bool:
        """Whether the encoder, created or not, is known to be the generation's: by its config, or by the guard."""
        return not self.changed or self.likeness is not None

    @property
    def encoder(self) -> Any:
        """The encoder, created at the first access and, unless the slot was opened without, verified.

        Raises:
            FingerprintMismatch: it did not make the vectors of this collection.
        """
        with self._lock:
            if self._encoder is None:
                encoder = self._borrowed
                if encoder is None:
                    if self.spec.kind == "reranker":
                        what = "this slot holds a reranker's scores of an earlier release, which are made no more"
                        raise CollectionError(what, where=self.where, do="leave it out of the config: diptych apply")
                    with phase(f"{self.where}: load {self.config.adapter}"):
                        encoder = self._registry.create(self.config.adapter, self.config.options, where=self.where)
                        provide_texts(encoder, self._texts, self.reading.as_text())
                        if (made := self.generation) is not None and made.kind != self.kind:
                            raise guard.other_kind(f"{self.config.adapter} ({self.kind})", made, where=self.where)
                        if made is not None and made.statistics is not None and isinstance(encoder, Calibrated):
                            encoder.calibrate(made.statistics)
                if self._verify:
                    with phase(f"{self.where}: compare fingerprint and canaries"):
                        self._check(encoder, reuse=True)
                self._encoder = encoder
            return self._encoder

    def borrow(self, other: Slot) -> None:
        """Load no encoder if the other slot has one of the same adapter and options; it is verified at its first use.

        One that holds statistics or samples of its documents is not shared.
        """
        encoder, ours, theirs = other._encoder, self.config, other.config
        same = (ours.adapter, ours.options, ours.of) == (theirs.adapter, theirs.options, theirs.of)
        if self._encoder is None and same and not (isinstance(encoder, Calibrated) or sample_size(encoder)):
            self._borrowed = encoder

    def verify(self) -> guard.Likeness | None:
        """Create the encoder and compare its canaries with the collection's; None without vectors.

        They are encoded now, whatever is remembered of earlier checks.

        Raises:
            FingerprintMismatch: it did not make the vectors of this collection.
        """
        encoder = self.encoder
        if not self._verify or self._from_memory:
            self._check(encoder, reuse=False)
        return self.likeness

    @property
    def loaded(self) -> bool:
        """Whether the encoder for queries has been created."""
        return (self.query_slot or self)._encoder is not None

    def load(self) -> None:
        """Create and verify the encoders that queries need.

        Raises:
            FingerprintMismatch: one did not make the vectors of this collection.
        """
        _ = self.query_slot.encoder if self.query_slot else self.encoder

    def encode(self, side: Side, inputs: Sequence[Input], *, fresh: bool = False) -> list[Vector]:
        """One vector per input, in order. Those of queries are finite; those of documents may not be.

        Args:
            side: documents may come from the cache, once the encoder has proved itself.
            inputs: what the encoder reads: texts, and media, which are decoded here.
            fresh: call the encoder in any case, for those who want to see it at work.

        Raises:
            ContractError: the encoder breaks its contract.
            MediaError: media cannot be read or decoded, or have changed since they were indexed.
            FingerprintMismatch: it did not make the vectors of this collection, or, being remote, no longer does.
        """
        if self.query_slot is not None and side == "query":
            return self.query_slot.encode(side, inputs)
        if side == "document" and not fresh and (namespace := self.namespace) is not None:
            return namespace.encode(inputs, partial(self._call_encoder, "document"))
        vectors = self._call_encoder(side, inputs)
        if side == "query":
            require_finite(vectors, inputs, where=self.where)
        return vectors

    @cached_property
    def query_inputs(self) -> Sequence[str]:
        """The kinds of input that the encoder of queries takes."""
        return (self.query_slot or self).spec.accepts

    @cached_property
    def takes_texts(self) -> bool:
        """Whether queries can be texts; a slot that reads no media takes any string, even a file's name."""
        return "text" in self.query_inputs or not self.reads_media

    def encode_queries(self, texts: Sequence[Input], *, remember: int) -> list[Vector]:
        """The vectors of queries. The last `remember` of them are kept while this encoder serves this generation.

        Not those of a remote encoder, which `remote_check` must see at work, nor of names of files, which change.
        """
        if self.query_slot is not None:
            return self.query_slot.encode_queries(texts, remember=remember)
        if not remember or self.spec.remote or not (self.reads_texts or self.reads_media):
            return self.encode("query", texts)
        owner = {"encoder": self.encoder, "generation": self.generation}
        return self._remembered.encode(texts, partial(self.encode, "query"), size=remember, **owner)

    def try_out(self) -> None:
        """Encode a plain document, whatever is cached; raises what the encoder raises."""
        self._call_encoder("document", plain_documents(self.reading.modality))

    def use_cache(self, cache: EmbeddingCache | None) -> None:
        """Cache vectors of documents there from now on."""
        with self._lock:
            self._cache, self._namespace = cache, None

    @property
    def namespace(self) -> Namespace | None:
        """The slot's part of the cache, which counts hits and misses; None when its documents are not cached.

        Raises:
            FingerprintMismatch: the encoder did not make the vectors of this collection.
        """
        with self._lock:
            generation = self.generation
            if self._cache is None or generation is None:
                return None
            if self._namespace is None or self._namespace[0] is not generation:
                self._namespace = generation, self._namespace_of(self._cache, generation)
            return self._namespace[1]

    def keep(self, inputs: Sequence[Input], vectors: Sequence[Vector]) -> None:
        """Put vectors that this encoder made of documents into the cache, even before the slot has a generation."""
        if self._cache is None or isinstance(self.encoder, Calibrated):
            return
        made = self.generation or self.describe(number=1, vector=self.vector, reading=self.reading, statistics=None)
        if (namespace := self._namespace_of(self._cache, made)) is not None:
            namespace.keep(inputs, vectors)

    def describe(self, *, number: int, vector: str, reading: Reading, statistics: Statistics | None) -> Generation:
        """A generation record for this slot's encoder, which is calibrated before its canaries are taken."""
        with phase(f"{self.where}: encode canaries"):
            generation = described(
                self.encoder,
                self.kind,
                self.config,
                number=number,
                vector=vector,
                reading=reading,
                statistics=statistics,
                accepts=self.spec.accepts,
                where=self.where,
            )
        self.remote_check.proved()
        return generation

    def _namespace_of(self, cache: EmbeddingCache, generation: Generation) -> Namespace | None:
        spec, encoder = self.spec, self.encoder
        named = not (self.reads_texts or self.reads_media)  # behind the name of a file there may be another tomorrow
        if not spec.cached or named or isinstance(encoder, Calibrated):
            return None
        fingerprint = guard.fingerprint_of(encoder, self.config.adapter, self.config.options)
        return cache.namespace(generation, fingerprint, proven=self._verify, changeable=spec.remote)

    def _call_encoder(self, side: Side, inputs: Sequence[Any]) -> list[Vector]:
        """Call the encoder; a remote one only after it has proved that it still makes the same vectors."""
        encoder, generation = self.encoder, self.generation
        if Media in map(type, inputs):
            batches = decoded(inputs, self._media, where=self.where)
            return [v for batch in batches for v in encode(encoder, self.kind, side, batch, where=self.where)]
        if generation is None or not self._verify or not self.spec.remote:
            return encode(encoder, self.kind, side, inputs, where=self.where)
        fingerprint = guard.fingerprint_of(encoder, self.config.adapter, self.config.options)
        return self.remote_check.encode(encoder, fingerprint, generation, side, inputs, where=self.where)

    def _check(self, encoder: Any, *, reuse: bool) -> None:
        if self.generation is not None:
            fingerprint = guard.fingerprint_of(encoder, self.config.adapter, self.config.options)
            where = f"{self.where}{guard.config_difference(self.config, self.generation)}"
            self.likeness = guard.check(encoder, fingerprint, self.generation, where=where, reuse=reuse)
            self._from_memory = reuse
            self.remote_check.proved()


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


class SlotMaker:
    """Creates the slots of one collection.

    Args:
        registry: where adapters come from.
        cache: where document vectors are kept.
        texts: of the collection, for encoders that want to see some.
        media: reads the media of documents and queries.
        verify: whether encoders must prove themselves when they are loaded.
    """

    def __init__(
        self,
        registry: Registry,
        cache: EmbeddingCache | None,
        texts: Texts,
        media: MediaStore,
        *,
        verify: bool,
    ) -> None:
        self._registry, self._media = registry, media
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
        query_slots = [slot.query_slot for slot in existing if slot.query_slot is not None]
        return Slot(
            name,
            config,
            generation,
            self._registry,
            verify=self._verify,
            asking=asking,
            query_slot=self.stored(name, asking.generation, None, [*existing, *query_slots]) if asking else None,
            cache=self._cache,
            texts=self._texts,
            media=self._media,
        )


def slot_config(generation: Generation) -> SlotConfig:
    """The slot config that a generation was made with."""
    storage = VectorStorage.model_validate(generation.storage)
    of = generation.reading.modality
    return SlotConfig(adapter=generation.adapter, of=of, options=generation.options, storage=storage)


def answerable(names: Sequence[str], slots: Mapping[str, Slot], queries: Sequence[Query]) -> list[int]:
    """The places of the queries whose text or media one of the named slots takes."""
    searched = [slots[name] for name in names if name in slots]
    return [place for place, query in enumerate(queries) if any(parts_of(slot, query) for slot in searched)]


def parts_of(slot: Slot, query: Query) -> list[Any]:
    """The parts of a query that the slot's encoder takes: its text, its media, both or none."""
    has_text = bool(query.text.strip()) or not query.media
    media = [query.media[kind] for kind in slot.query_inputs if kind in query.media]
    return [*([query.text] if has_text and slot.takes_texts else []), *media]


def vectors_of_queries(slot: Slot, queries: Sequence[Query], remember: int) -> list[Any]:
    """For each query its vector, or None if the slot takes no part of it.

    The vector of a text and an image is their mean: of unit vectors if the slot compares by cosine, term by term if
    it is sparse. A multi-vector holds the token vectors of both. See docs/populate.md.

    Args:
        slot: whose encoder makes the vectors.
        queries: with their media read.
        remember: number of vectors that the slot caches for repeated queries.
    """
    parts = [parts_of(slot, query) for query in queries]
    if slot.kind == "text_index":
        return [slot.encoder.query(part[0]) if part else None for part in parts]
    inputs = [part for of_query in parts for part in of_query]
    vectors = iter(slot.encode_queries(inputs, remember=remember) if inputs else ())
    return [_together([next(vectors) for _ in part], slot) for part in parts]


def _together(vectors: Sequence[Any], slot: Slot) -> Any:
    if len(vectors) < 2:
        return vectors[0] if vectors else None
    if isinstance(vectors[0], SparseVector):
        weights: dict[int, float] = {}
        for vector in vectors:
            for index, value in zip(vector.indices.tolist(), vector.values.tolist(), strict=True):
                weights[index] = weights.get(index, 0.0) + value / len(vectors)
        return SparseVector.from_mapping(weights)
    if vectors[0].ndim == 2:
        return np.concatenate(vectors)
    lengths = [float(np.linalg.norm(vector)) for vector in vectors]
    scaled = slot.similarity == "cosine" and all(lengths)
    return np.mean([v / n if scaled else v for v, n in zip(vectors, lengths, strict=True)], axis=0).astype(np.float32)
