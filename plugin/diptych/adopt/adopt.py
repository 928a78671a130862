"""`adopt`: checks a collection made by another program, and writes the metadata that lets diptych use it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.adopt.layouts import Physical, layouts_of, matched, physical_vectors, with_id
from diptych.adopt.verify_encoders import Sampled, Verified, Verifier, sampled
from diptych.config.models import Config
from diptych.errors import CollectionError, StoreUnavailable, StoreUnsupported
from diptych.handle.create import timestamp, vector_params, who
from diptych.handle.open_handle import media_of, reading_of, storage_of
from diptych.handle.view import tenancy_of
from diptych.media import MODALITIES
from diptych.metadata.models import CollectionMetadata, Event, Reading, State
from diptych.metadata.payloads import LLAMA_INDEX, NATIVE, Layout, head
from diptych.metadata.store import metadata_payload, read_metadata, update_metadata
from diptych.populate.read_ahead import batched, summed
from diptych.populate.store import store_references
from diptych.protocols import Calibrated, Statistics
from diptych.registry import Registry
from diptych.slots.encode import SAMPLE, provide_texts
from diptych.slots.encode import texts_of as texts_read
from diptych.slots.slot import Slot
from diptych.stores.scroll import pages
from diptych.stores.server_errors import needs_answers

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

PAGE = 512  # points read in one call
_STORED = {"hnsw_config", "quantization_config", "on_disk", "datatype", "index"}


@needs_answers("adopt it again once it does")
def adopt(
    client: QdrantBase,
    name: str,
    config: Config,
    *,
    vectors: Mapping[str, str] | None = None,
    layout: Layout | None = None,
    sample: int = SAMPLE,
    registry: Registry | None = None,
    media: Mapping[str, str] | None = None,
    again: bool = False,
) -> AdoptReport:
    """Adopt a collection that another program filled. Writes only metadata and, with `media`, references.

    Args:
        client, name: the collection.
        config: names the encoders that filled it; its `populate.input` says what they read.
        vectors: by slot, the name of its vector, "" for the unnamed one; where it cannot be told from the dimension.
        layout: where documents lie in the payloads; found in a sample unless given, see `stated_layout`.
        sample: points whose texts are encoded again to verify the encoders.
        registry: where adapters come from; everything installed unless given.
        media: for slots of media, the payload keys that hold paths or URLs, with their modalities: {"photo": "image"}.
            Each file is read once, and a reference to it is stored in the point's payload.
        again: whether a collection that was adopted before, without media, may be adopted anew, as long as no swap has
            begun since; where its layout, tenants or encoders were stated wrongly.

    Raises:
        FingerprintMismatch: an encoder did not make the vectors; the text has the cosine and what would fit.
        CollectionNotFound, CollectionError: the collection is not there, known already, or cannot be adopted.
    """
    keys: dict[str, str] = {}
    for key, modality in (media or {}).items():
        if modality not in MODALITIES or modality in keys:
            do = f"name one key for each of {', '.join(MODALITIES)}"
            raise CollectionError("--media is not usable", where=f"collection {name!r}", got=f"{key}={modality}", do=do)
        keys[modality] = key
    adoption = _Adoption(client, name, config, registry or Registry.default(), keys)
    return adoption.run(vectors or {}, layout, sample, again=again)


class _Adoption:
    """One adoption: the collection, and the slots for its vectors."""

    def __init__(
        self, client: QdrantBase, name: str, config: Config, registry: Registry, keys: Mapping[str, str]
    ) -> None:
        self._client, self._name, self._config, self._keys = client, name, config, keys
        self._registry, self._where = registry, f"collection {name!r}"
        self._reading, self._media = reading_of(config.populate), media_of(config)
        self._slots = {
            slot: Slot(slot, slot_config, None, registry, verify=False, media=self._media)
            for slot, slot_config in config.slots.items()
        }

    def _require_slots(self) -> None:
        """Raise CollectionError for slots without vectors to verify, or of media without a payload key of files."""
        read = {f"{name}: of {slot.of}": slot.of for name, slot in self._config.slots.items()}
        silent = {what: of for what, of in read.items() if of != "text" and of not in self._keys}
        if silent:
            raise CollectionError(
                "the media that the vectors were made from are unknown",
                where=self._where,
                got=", ".join(silent),
                do="name the payload key of their paths or URLs: "
                + " ".join(f"--media KEY={of}" for of in dict.fromkeys(silent.values())),
            )
        for slot in self._slots.values():
            if slot.kind == "text_index":
                raise CollectionError(
                    "a text index has no vectors that show what made it",
                    where=f"{self._where}, {slot.where}",
                    got=slot.config.adapter,
                    expected="a dense, sparse or multi-vector encoder",
                    do="adopt without this slot, and add it afterwards: diptych plan, then diptych apply",
                )

    def run(self, stated: Mapping[str, str], layout: Layout | None, size: int, *, again: bool) -> AdoptReport:
        """Inspect, verify, then write the metadata."""
        history = require_foreign(self._client, self._name, again=again)
        self._require_slots()
        available = physical_vectors(self._client.get_collection(self._name).config.params)
        vectors = matched(self._slots, available, stated, where=self._where)
        require_same_storage(self._slots, vectors, where=self._where)
        points = self._points(vectors, size)
        verifier = Verifier(self._slots, vectors, points, where=self._where, media=self._media)
        adopted_layout = self._layout(
            verifier, {p.id: p.payload for verified_slot in points.values() for p in verified_slot}, layout
        )
        statistics = calibrate(self._slots, texts_of(self._client, self._name, adopted_layout, self._reading))
        verified = verifier.require(adopted_layout, self._reading)
        # References come first: nobody sees them without the metadata, so the adoption can be run again after a kill.
        references = store_references(self._client, self._name, adopted_layout, self._media)
        metadata = self._metadata(vectors, available, adopted_layout, statistics, verified)
        metadata = metadata.model_copy(update={"history": (*history, *metadata.history)})
        try:
            update_metadata(self._client, self._name, metadata_payload(metadata))
        except StoreUnavailable:
            if read_metadata(self._client, self._name) is None:  # accepted, but not kept
                raise StoreUnsupported(
                    "the store keeps no metadata of collections",
                    where=self._where,
                    expected="a Qdrant server of release 1.16 or later, an Edge folder, or memory:",
                    do="upgrade the server, and adopt then: nothing was changed",
                ) from None
            raise
        warnings = warnings_of(self._client, self._name, self._slots, vectors, adopted_layout)
        return AdoptReport(
            collection=self._name,
            points=self._client.count(self._name, exact=True).count,
            layout=adopted_layout,
            slots=tuple(
                AdoptedSlot(
                    name=name,
                    vector=vectors[name].name,
                    adapter=self._slots[name].config.adapter,
                    sampled=len(own.likeness.values),
                    lowest=own.likeness.lowest,
                    median=own.likeness.median,
                )
                for name, own in verified.items()
            ),
            warnings=(
                *warnings,
                *(
                    f"{physical} belongs to no slot: documents that diptych writes do not get it"
                    for physical in available.values()
                    if physical not in vectors.values()
                ),
                *references.warnings(),
                *self._without_tenant(adopted_layout),
                *(warning for verified_slot in verified.values() for warning in verified_slot.warnings()),
            ),
            media=references.stored,
        )

    def _points(self, vectors: Mapping[str, Physical], size: int) -> dict[str, list[Sampled]]:
        """For each slot some points that have its vector."""
        general = sampled(self._client, self._name, size)
        if not general:
            raise CollectionError(
                "the collection is empty: there is nothing to adopt",
                where=self._where,
                do="delete it and fill it: diptych populate SOURCE",
            )
        points = {}
        for slot, physical in vectors.items():
            points[slot] = general
            if any(physical.name not in point.vectors for point in general):
                points[slot] = sampled(self._client, self._name, size, having=physical.name)
            if not points[slot]:
                raise CollectionError(
                    "no point has this vector",
                    where=f"{self._where}, slot {slot!r}",
                    got=str(physical),
                    do="adopt without this slot; it can be added later: diptych plan, then diptych apply",
                )
        return points

    def _layout(
        self, verifier: Verifier, payloads: Mapping[int | str, Mapping[str, Any]], stated: Layout | None
    ) -> Layout:
        """The stated layout, or the possible one that the encoders fit best."""
        stated = stated.model_copy(update={"media": dict(self._keys)}) if stated else None
        layouts = [stated] if stated else layouts_of(payloads, where=self._where, media=self._keys)
        if self._keys and layouts[0].origin in (LLAMA_INDEX, NATIVE.origin):
            what, do = "this layout has a place of its own for media", "populate the media into a new collection"
            raise CollectionError(what, where=self._where, got=layouts[0].origin, expected="another layout", do=do)
        documents = (layouts[0].read(point, payload) for point, payload in payloads.items())
        texts = texts_read(documents, self._reading)
        calibrate(self._slots, texts)
        for slot in self._slots.values():
            provide_texts(slot.encoder, lambda size, _: texts[:size], self._reading)
        closest = with_id(verifier.closest_layout(layouts, self._reading), payloads)
        if closest.id is None:
            return closest
        ids = [closest.read(point, payload).id for point, payload in payloads.items()]
        matching = self._client.count(self._name, count_filter=closest.id_filter(ids), exact=True).count
        if matching == len(ids) == len(set(ids)):
            return closest
        if stated is None:
            return closest.model_copy(update={"id": None, "integer_ids": False, "own_points": False})
        raise CollectionError(
            "not every point has an id of its own",
            where=f"{self._where}, payload key {closest.id!r}",
            do="name another key: --id KEY; without one the points' ids are the documents'",
        )

    def _metadata(
        self,
        vectors: Mapping[str, Physical],
        available: Mapping[str, Physical],
        layout: Layout,
        statistics: Mapping[str, Statistics],
        verified: Mapping[str, Verified],
    ) -> CollectionMetadata:
        generations = {}
        for name, slot in self._slots.items():
            reading = reading_of(self._config.populate, slot.config)
            generation = slot.describe(
                number=1, vector=vectors[name].name, reading=reading, statistics=statistics.get(name)
            )
            generations[name] = generation.model_copy(update={"similarity": vectors[name].similarity})
        # No new vector may take the name of one that there is.
        numbers = dict.fromkeys(generations, 1)
        for vector in available:
            name, _, number = vector.rpartition(".")
            if name in numbers and number.isdecimal():
                numbers[name] = max(numbers[name], int(number))
        live = State(slots=generations)
        why = f"written as {layout.origin}; " + "; ".join(
            f"{name}: {generation.likeness}" for name, generation in verified.items()
        )
        return CollectionMetadata(
            live=live,
            numbers=numbers,
            history=(Event(what="adopted", when=timestamp(), by=who(), why=why, slots=live.encoders()),),
            layout=layout,
            search=self._config.search.model_dump(mode="json"),
            tenancy=tenancy_of(self._config),
        )

    def _without_tenant(self, layout: Layout) -> list[str]:
        """A warning about points that no tenant's query finds."""
        tenancy = tenancy_of(self._config)
        if tenancy is None:
            return []
        field = layout.field(tenancy.field)
        empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=field))
        count = _count(self._client, self._name, must=[empty])
        return [f"{count:,} points name no tenant under {field!r}: no tenant's question finds them"] if count else []


# Corpus statistics of an adopted collection, for encoders that live on them, such as BM25 on the average length.


def calibrate(slots: Mapping[str, Slot], texts: Iterable[str]) -> dict[str, Statistics]:
    """Measure the texts with each encoder that needs corpus statistics, and calibrate it."""
    calibrated = {name: slot for name, slot in slots.items() if isinstance(slot.encoder, Calibrated)}
    if not calibrated:
        return {}
    sums: dict[str, Statistics] = {name: {} for name in calibrated}
    for batch in batched(texts, PAGE):
        sums = {name: summed(sums[name], slot, batch) for name, slot in calibrated.items()}
    for name, slot in calibrated.items():
        slot.encoder.calibrate(sums[name])
    return sums


def texts_of(client: QdrantBase, name: str, layout: Layout, reading: Reading) -> Iterator[str]:
    """The encoders' input for each point of the collection with a text, page by page."""
    fields = layout.text_fields()
    for records, _ in pages(client, name, PAGE, payload=fields):
        for record in records:
            document = layout.read(record.id, record.payload)
            if text := reading.of(document.title, document.text):
                yield text


@dataclass(frozen=True, slots=True)
class AdoptedSlot:
    """A slot, its vector, and how similar the stored vectors are to those of the re-encoded texts.

    Args:
        vector: its name in the collection, "" for Qdrant's unnamed one.
        sampled: points whose texts were encoded again.
        lowest, median: cosine of stored and new vectors over them.
    """

    name: str
    vector: str
    adapter: str
    sampled: int
    lowest: float
    median: float


@dataclass(frozen=True, slots=True)
class AdoptReport:
    """An adopted collection: its points, the layout of its documents, its slots, and warnings.

    Args:
        media: how many references to media were stored, by modality.
    """

    collection: str
    points: int
    layout: Layout
    slots: tuple[AdoptedSlot, ...]
    warnings: tuple[str, ...] = ()
    media: Mapping[str, int] = field(default_factory=dict)


# Preconditions of an adoption, and warnings about adopted collections.


def require_foreign(client: QdrantBase, name: str, *, again: bool) -> tuple[Event, ...]:
    """Raise CollectionError for a collection that diptych already knows; else return its history.

    Args:
        client, name: the collection.
        again: whether it may be one that was adopted before and has not been changed by diptych since.

    Raises:
        CollectionNotFound: there is none of the name.
    """
    metadata = read_metadata(client, name)
    if metadata is None:
        return ()
    unchanged = bool(metadata.history) and all(event.what == "adopted" for event in metadata.history)
    unchanged = unchanged and metadata.swap is None and not metadata.layout.media
    if again and unchanged:
        return metadata.history
    first = metadata.history[0] if metadata.history else None
    do = "open it as it is: diptych info; to change an encoder: diptych plan, then diptych apply"
    raise CollectionError(
        "the collection is already managed by diptych",
        where=f"collection {name!r}",
        got=f"{first.what} by {first.by} at {first.when}" if first else "made by diptych",
        expected="a collection adopted without media, and with no swap since" if again else "one that it does not know",
        do=f"{do}; if the adoption was wrong: diptych adopt --again" if unchanged else do,
    )


def require_same_storage(slots: Mapping[str, Slot], vectors: Mapping[str, Physical], *, where: str) -> None:
    """Raise CollectionError where the config's storage differs from that of the vectors."""
    for name, slot in slots.items():
        if not storage_of(slot.config):
            continue
        configured = vector_params(slot.encoder, slot.kind, slot.config.storage).model_dump(
            mode="json", exclude_none=True, include=_STORED
        )
        actual = vectors[name].params.model_dump(mode="json", exclude_none=True, include=_STORED)
        if slot.config.storage.first_stage:
            configured["first_stage"] = slot.config.storage.first_stage.model_dump(mode="json", exclude_none=True)
        if not _within(configured, actual):
            raise CollectionError(
                "the config's storage differs from that of the vectors",
                where=f"{where}, {slot.where}, storage",
                got=configured,
                expected=actual or "Qdrant's defaults",
                do="leave the storage out, adopt, and change it afterwards: diptych plan, then diptych apply",
            )


def warnings_of(
    client: QdrantBase,
    name: str,
    slots: Mapping[str, Slot],
    vectors: Mapping[str, Physical],
    layout: Layout,
) -> Iterator[str]:
    """Sentences about what does not prevent the adoption but may be surprising."""
    key = head(layout.text) if layout.origin == "llama-index" else layout.text
    reads_texts = not all(slot.reads_media for slot in slots.values())
    empty = models.FieldCondition(key=key, match=models.MatchValue(value=""))
    without_text = [models.IsEmptyCondition(is_empty=models.PayloadField(key=key)), empty]
    if reads_texts and (count := _count(client, name, should=without_text)):
        yield f"{count:,} points have no text under {key!r}: they are searched, but no other encoder can encode them"
    for slot_name, physical in vectors.items():
        if count := _count(client, name, must_not=[models.HasVectorCondition(has_vector=physical.name)]):
            yield f"{count:,} points have no {physical}: slot {slot_name!r} does not find them"
        slot = slots[slot_name]
        if isinstance(physical.params, models.SparseVectorParams):
            idf = physical.params.modifier == models.Modifier.IDF
            if idf != slot.encoder.uses_idf:
                has, wants = ("an", "without it") if idf else ("no", "with it; on a server, update_collection adds one")
                yield f"{slot.where}: {physical} has {has} IDF modifier, and the encoder's scores are meant {wants}"
        elif physical.similarity != slot.encoder.similarity:
            yield (
                f"{slot.where}: {physical} is compared by {physical.similarity}, and the encoder's vectors are meant "
                f"for {slot.encoder.similarity}; the collection's way stays"
            )


def _count(client: QdrantBase, name: str, **condition: Any) -> int:
    return client.count(name, count_filter=models.Filter.model_validate(condition), exact=True).count


def _within(expected: Any, actual: Any) -> bool:
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(_within(value, actual.get(key)) for key, value in expected.items())
    return bool(expected == actual)
