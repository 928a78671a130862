"""Pairs the vectors of a collection with the slots of a config: by kind, dimension and distance, or as stated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qdrant_client import models

from diptych.errors import CollectionError
from diptych.protocols import Kind, Similarity
from diptych.runtime.validation_messages import nearest
from diptych.slots.slot import Slot

Params = models.VectorParams | models.SparseVectorParams
_SIMILARITIES: Mapping[models.Distance, Similarity] = {
    models.Distance.COSINE: "cosine",
    models.Distance.DOT: "dot",
    models.Distance.EUCLID: "euclidean",
}


@dataclass(frozen=True, slots=True)
class Physical:
    """A vector of the collection: its name, "" for the unnamed one, and its parameters in Qdrant."""

    name: str
    params: Params

    @property
    def kind(self) -> Kind:
        """The contract of encoders that make such vectors."""
        if isinstance(self.params, models.SparseVectorParams):
            return "sparse"
        return "multivector" if self.params.multivector_config else "dense"

    @property
    def size(self) -> int | None:
        """Length of a vector, or of a token's in a multi-vector; None for sparse ones."""
        return None if isinstance(self.params, models.SparseVectorParams) else self.params.size

    @property
    def similarity(self) -> Similarity | None:
        """How Qdrant compares them; None for sparse vectors, and for a distance that no encoder declares."""
        if isinstance(self.params, models.SparseVectorParams):
            return None
        return _SIMILARITIES.get(self.params.distance)

    def __str__(self) -> str:
        name = repr(self.name) if self.name else "the unnamed vector"
        if isinstance(self.params, models.SparseVectorParams):
            return f"{name} (sparse)"
        return f"{name} ({self.kind}, {self.params.size}, {self.params.distance.value})"


def physical_vectors(params: models.CollectionParams) -> dict[str, Physical]:
    """All vectors of a collection by name."""
    dense = params.vectors or {}
    vectors: dict[str, Params] = {**dense} if isinstance(dense, dict) else {"": dense}
    vectors |= params.sparse_vectors or {}
    return {name: Physical(name, vector_params) for name, vector_params in vectors.items()}


def matched(
    slots: Mapping[str, Slot], available: Mapping[str, Physical], stated: Mapping[str, str], *, where: str
) -> dict[str, Physical]:
    """The vector of each slot.

    Args:
        stated: vectors by slot as the user says; the others are found.

    Raises:
        CollectionError: a slot has no vector that its encoder could have made, or several.
    """
    _require_known(slots, available, stated, where)
    pairs = {name: available[vector] for name, vector in stated.items()}
    for name, physical in pairs.items():
        _require_possible(slots[name], physical, where)
    open_slots = {name: slot for name, slot in slots.items() if name not in pairs}
    while open_slots:
        free = {
            key: physical_vector for key, physical_vector in available.items() if physical_vector not in pairs.values()
        }
        choices = {name: _candidates(slot, free) for name, slot in open_slots.items()}
        decided = next((name for name, physical_vector in choices.items() if len(physical_vector) == 1), None)
        if decided is None:
            name = next(iter(choices))
            raise _undecided(slots[name], choices[name], available, where)
        pairs[decided] = choices[decided][0]
        del open_slots[decided]
    return {name: pairs[name] for name in slots}


def _candidates(slot: Slot, free: Mapping[str, Physical]) -> list[Physical]:
    """The vectors that the slot's encoder could have made, those of its own similarity first."""
    fitting = [physical for physical in free.values() if _fits(slot, physical)]
    same_similarity = [
        physical for physical in fitting if physical.similarity == getattr(slot.encoder, "similarity", None)
    ]
    return same_similarity or fitting


def _fits(slot: Slot, physical: Physical) -> bool:
    if physical.kind != slot.kind or slot.kind == "sparse":
        return physical.kind == slot.kind
    return physical.size == slot.encoder.dimension and physical.similarity is not None


def _require_known(
    slots: Mapping[str, Slot], available: Mapping[str, Physical], stated: Mapping[str, str], where: str
) -> None:
    for name, vector in stated.items():
        if name not in slots:
            what, do = f"the config has no slot {name!r}", nearest(name, slots)
            raise CollectionError(what, where=where, expected=", ".join(slots), do=do)
        if vector not in available:
            raise CollectionError(
                f"the collection has no vector {vector!r}", where=f"{where}, slot {name!r}", expected=_listed(available)
            )
        if list(stated.values()).count(vector) > 1:
            raise CollectionError(f"two slots use the vector {vector!r}", where=where)


def _require_possible(slot: Slot, physical: Physical, where: str) -> None:
    if not _fits(slot, physical):
        raise CollectionError(
            "the slot's encoder cannot have made this vector",
            where=f"{where}, {slot.where}",
            got=str(physical),
            expected=_expected_vector(slot),
            do="name the encoder that filled the collection",
        )


def _undecided(slot: Slot, choices: list[Physical], available: Mapping[str, Physical], where: str) -> CollectionError:
    if choices:
        return CollectionError(
            "several vectors could belong to the slot",
            where=f"{where}, {slot.where}",
            got="; ".join(map(str, choices)),
            expected="one",
            do=f"say which: --slot {slot.name}={choices[0].name}",
        )
    return CollectionError(
        "the collection has no vector that the slot's encoder could have made",
        where=f"{where}, {slot.where}",
        got=_listed(available),
        expected=_expected_vector(slot),
        do="name the encoder that filled the collection, or leave the slot out; it can be added later: diptych plan",
    )


def _expected_vector(slot: Slot) -> str:
    return "sparse" if slot.kind == "sparse" else f"{slot.kind}, {slot.encoder.dimension}, {slot.encoder.similarity}"


def _listed(available: Mapping[str, Physical]) -> str:
    return "; ".join(map(str, available.values())) or "no vectors"
