"""The models of a collection's metadata, by which it can be opened and searched without a config file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator

from diptych.media import Media, Readable
from diptych.metadata.payloads import Layout
from diptych.protocols import Fingerprint, Kind, Similarity
from diptych.types import Document

What: TypeAlias = Literal[
    "created",
    "adopted",
    "began",
    "switched queries",
    "changed settings",
    "cut over",
    "rolled back",
    "abandoned",
    "finished",
]
FORMAT = 2


class Record(BaseModel):
    """A part of the metadata: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Canaries(Record):
    """Vectors of the guard's texts, packed as text; see `diptych.slots.canaries`.

    Args:
        edition: which texts they were.
        steady: how alike the encoder made a text alone and among others; less than 1 where batches change vectors.
    """

    edition: int = 1
    query: list[str]
    document: list[str]
    steady: float = 1.0


class Reading(Record):
    """What an encoder reads of a document: its text, the parts of which are joined, or media of one modality."""

    input: tuple[Literal["title", "text"], ...] = ("title", "text")
    separator: str = " "
    modality: Readable = "text"

    def input_of(self, document: Document) -> str | Media | None:
        """The part of a document that an encoder reads; None if the document does not have it."""
        if self.modality == "text":
            return self.of(document.title, document.text) or None
        found = document.media.get(self.modality)
        return found if isinstance(found, Media) else None

    def as_text(self) -> Reading:
        """The same parts of texts, whatever this one reads."""
        return self if self.modality == "text" else self.model_copy(update={"modality": "text"})

    def of(self, title: str, text: str) -> str:
        """The text that an encoder reads of a document; empty if all parts are."""
        parts = {"title": title.strip(), "text": text.strip()}
        return self.separator.join(filter(None, map(parts.__getitem__, self.input)))


class Tenancy(Record):
    """How a collection separates tenants.

    Args:
        field: the metadata key that names a document's tenant.
        required: whether every question and every document must have one.
        shard_keys: whether each tenant's documents lie under a shard key of their own.
    """

    field: str
    required: bool = True
    shard_keys: bool = False


class Prefix(Record):
    """The named vector of a first stage: the first `dimension` numbers of each vector of a generation.

    Args:
        oversampling: candidates that it passes on to the whole vectors for each one wanted.
    """

    vector: str
    dimension: int
    oversampling: float

    @classmethod
    def of(cls, vector: str, storage: Mapping[str, Any]) -> Prefix | None:
        """The first stage of `vector`; None where the storage section has none."""
        first = storage.get("first_stage")
        if not first:
            return None
        return cls(vector=f"{vector}.first", dimension=first["dimension"], oversampling=first["oversampling"])


class Generation(Record):
    """One physical named vector of a slot, with that of its first stage if it has one, and what made it.

    Args:
        number: counts a slot's generations from 1; never given twice.
        vector: name of the named vector, "" for Qdrant's unnamed one; of a text index the payload key that is indexed.
        adapter, options: as written in the config, `${NAME}` unfilled.
        storage: how Qdrant keeps the vectors, as written in the config.
        space, numerics, documents: the encoder's fingerprint.
        dimension, similarity: facts of the encoder; None where its kind has none.
    """

    number: int
    vector: str
    kind: Kind
    adapter: str
    options: dict[str, Any]
    storage: dict[str, Any] = {}
    space: str
    numerics: str
    documents: str = ""
    canaries: Canaries | None = None
    statistics: dict[str, float] | None = None
    reading: Reading = Reading()
    dimension: int | None = None
    similarity: Similarity | None = None

    @property
    def first_stage(self) -> Prefix | None:
        """The named vector that is searched first; None without a first stage."""
        return Prefix.of(self.vector, self.storage)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Its named vectors; for a text index its payload key."""
        first = self.first_stage
        return (self.vector,) if first is None else (self.vector, first.vector)

    @property
    def fingerprint(self) -> Fingerprint:
        """Space, numerics and documents as one value."""
        return Fingerprint(self.space, self.numerics, self.documents)


class QueryEncoder(Record):
    """Another encoder for a slot's queries than for its documents: until the swap's cut-over, or a student for good.

    Args:
        generation: whose encoder makes the queries; of a student with the vector and number of the documents' one.
        why: the measurement that allowed it.
        student: whether the config names it, so that it stays.
    """

    generation: Generation
    why: str = ""
    student: bool = False


class State(Record):
    """Everything that decides answers: a live generation for each slot, and query encoders that differ from it."""

    slots: dict[str, Generation]
    asking: dict[str, QueryEncoder] = {}  # by slot, what makes its queries instead of its generation

    @field_validator("asking", mode="before")
    @classmethod
    def _without_drift(cls, asking: Any) -> Any:
        """Leave out queries through a drift map, which releases up to 0.4.0 wrote: unmapped they would find nothing."""
        stored = {slot: dict(one) if isinstance(one, Mapping) else one for slot, one in dict(asking).items()}
        for slot in [slot for slot, one in stored.items() if isinstance(one, dict) and one.pop("drift", None)]:
            del stored[slot]
            warnings.warn(
                f"slot {slot!r}: an earlier release searched it through a drift map, which is not read any more; its "
                "own encoder makes the queries until the swap ends: diptych apply, or diptych rollback",
                stacklevel=2,
            )
        return stored

    def without_temporary_queries(self) -> State:
        """The state without the query encoders that last until a cut-over; students stay."""
        return State(slots=self.slots, asking={name: asking for name, asking in self.asking.items() if asking.student})

    def vectors(self) -> set[str]:
        """The physical names in use."""
        return {generation.vector for generation in self.slots.values()}

    def encoders(self) -> dict[str, str]:
        """By slot, its adapter and the number of its generation, as the history says it."""
        return {
            name: f"{generation.adapter}, generation {generation.number}" for name, generation in self.slots.items()
        }


class Event(Record):
    """One entry of the history: what was done to which generations, by whom, when, why, and by which config."""

    what: What
    when: str
    by: str
    why: str = ""
    config: str = ""
    slots: dict[str, str] = {}
    gate: str = ""


def _without_explore(search: Any) -> Any:
    """The pipeline without `explore` of its rerank stages, null or not, which releases up to 0.4.0 stored."""
    if not isinstance(search, Mapping) or not isinstance(search.get("rerank"), list | tuple):
        return search
    stages = [dict(stage) if isinstance(stage, Mapping) else stage for stage in search["rerank"]]
    explored = [stage.pop("explore", None) for stage in stages if isinstance(stage, dict)]
    if any(explored):
        warnings.warn(
            "the stored pipeline has `explore` of an earlier release, which is not read any more: it reranks its "
            "candidates alone; take `explore` and its slot out of the config: diptych apply",
            stacklevel=2,
        )
    return {**search, "rerank": stages}


StoredSearch: TypeAlias = Annotated[dict[str, Any], BeforeValidator(_without_explore)]


class Swap(Record):
    """A swap under way.

    Args:
        building: the generations that are being filled, by slot; populates write them too.
        target: what becomes live at the cut-over, `building` included.
        search: the pipeline that goes with it.
        config: hash of the config that requested it.
    """

    building: dict[str, Generation]
    target: State
    search: StoredSearch | None = None
    config: str = ""
    began: str = ""
    by: str = ""
    why: str = ""


class CollectionMetadata(Record):
    """Everything that diptych stores about a collection.

    Args:
        live: what answers queries.
        swap: what is being built to replace it.
        previous: what was live before the last cut-over; its vectors are still updated, until `finish`.
        previous_search: the pipeline that went with it.
        numbers: the highest generation number that each slot ever had.
        leftover: vectors, and payload keys of text indexes, that diptych made, or is about to make, and that no state
            needs, with the kind to drop them by. A vector that is neither here nor in a state belongs to others.
        history: what was done, oldest first.
        layout: where documents lie in payloads.
        search: the pipeline, for those who open the collection by name.
        behind: vectors of `previous` that miss documents, since a populate could not write them.
        tenancy: how documents belong to tenants; None without tenants.
    """

    format: int = FORMAT
    live: State
    swap: Swap | None = None
    previous: State | None = None
    previous_search: StoredSearch | None = None
    numbers: dict[str, int] = {}
    leftover: dict[str, Kind] = {}
    history: tuple[Event, ...] = ()
    layout: Layout = Layout()
    search: StoredSearch | None = None
    behind: tuple[str, ...] = ()
    tenancy: Tenancy | None = None

    @property
    def reading(self) -> Reading:
        """The parts of texts that the live encoders read."""
        return next(iter(self.live.slots.values())).reading.as_text() if self.live.slots else Reading()

    def needed(self) -> set[str]:
        """All named vectors, and payload keys of text indexes, that a state needs."""
        return {vector for _, generation in self.written().values() for vector in generation.vectors}

    @property
    def copies(self) -> tuple[str, ...]:
        """The payload keys in which texts are copied for text indexes, live ones and others."""
        return tuple(generation.vector for _, generation in self.written().values() if generation.kind == "text_index")

    def written(self) -> dict[str, tuple[str, Generation]]:
        """The vectors that populate must write: slot and generation by physical vector, the live ones first."""
        states: Iterable[Mapping[str, Generation] | None] = (
            self.live.slots,
            self.swap.building if self.swap else None,
            self.previous.slots if self.previous else None,
        )
        written: dict[str, tuple[str, Generation]] = {}
        for slots in states:
            for name, generation in (slots or {}).items():
                written.setdefault(generation.vector, (name, generation))
        return written


def vector_name(slot: str, kind: Kind, number: int) -> str:
    """The physical name of a generation; for a text index a payload key, in which a dot would be a path."""
    if kind == "text_index":
        return f"_{slot}" if number == 1 else f"_{slot}_{number}"
    return f"{slot}.{number}"
