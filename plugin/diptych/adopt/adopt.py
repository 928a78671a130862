"""`adopt`: writes the metadata that lets diptych use a collection made by another program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.adopt.checks import (
    Physical,
    matched,
    media_keys,
    physical_vectors,
    require_foreign,
    require_kept,
    require_same_storage,
    require_vectors,
    warnings_of,
)
from diptych.adopt.layouts import layouts_of, with_id
from diptych.adopt.verify_encoders import Sampled, Verified, Verifier, sampled
from diptych.config.models import Config
from diptych.errors import CollectionError, StoreUnavailable
from diptych.handle.create import timestamp, who
from diptych.handle.open_handle import media_of, reading_of
from diptych.handle.tenancy import tenancy_of
from diptych.metadata.models import CollectionMetadata, Event, Reading, State
from diptych.metadata.payloads import LLAMA_INDEX, NATIVE, Layout
from diptych.metadata.store import metadata_payload, update_metadata
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
    keys = media_keys(media or {}, where=f"collection {name!r}")
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

    def _require_keys(self) -> None:
        """Raise CollectionError if no payload key is given for the files of a slot of media."""
        silent = {f"{name}: of {slot.of}": slot.of for name, slot in self._config.slots.items()}
        silent = {what: of for what, of in silent.items() if of != "text" and of not in self._keys}
        if silent:
            raise CollectionError(
                "the media that the vectors were made from are unknown",
                where=self._where,
                got=", ".join(silent),
                do="name the payload key of their paths or URLs: "
                + " ".join(f"--media KEY={of}" for of in dict.fromkeys(silent.values())),
            )

    def run(self, stated: Mapping[str, str], layout: Layout | None, size: int, *, again: bool) -> AdoptReport:
        """Inspect, verify, then write the metadata."""
        history = require_foreign(self._client, self._name, again=again)
        self._require_keys()
        require_vectors(self._slots, where=self._where)
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
            require_kept(self._client, self._name)
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
        live = State(slots=generations)
        why = f"written as {layout.origin}; " + "; ".join(
            f"{name}: {generation.likeness}" for name, generation in verified.items()
        )
        return CollectionMetadata(
            live=live,
            numbers={name: _highest(name, available) for name in generations},
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
        count = self._client.count(self._name, count_filter=models.Filter(must=[empty]), exact=True).count
        return [f"{count:,} points name no tenant under {field!r}: no tenant's question finds them"] if count else []


def _highest(slot: str, available: Mapping[str, Physical]) -> int:
    """The number at which the slot's generations start, so that no new vector takes an existing name."""
    numbers = [key.removeprefix(f"{slot}.") for key in available if key.startswith(f"{slot}.")]
    return max([1, *(int(number) for number in numbers if number.isdecimal())])


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
