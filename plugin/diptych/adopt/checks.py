"""Preconditions of an adoption, and warnings about adopted collections.

Vectors are paired with the slots of a config by kind, dimension and distance, or as stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.errors import CollectionError, StoreUnsupported
from diptych.handle.create import vector_params
from diptych.handle.open_handle import storage_of
from diptych.media import MODALITIES
from diptych.metadata.models import Event
from diptych.metadata.payloads import Layout, head
from diptych.metadata.store import read_metadata
from diptych.protocols import Kind, Similarity
from diptych.runtime.validation_messages import nearest
from diptych.slots.slot import Slot

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

Params = models.VectorParams | models.SparseVectorParams
_SIMILARITIES: Mapping[models.Distance, Similarity] = {
    models.Distance.COSINE: "cosine",
    models.Distance.DOT: "dot",
    models.Distance.EUCLID: "euclidean",
}

_STORED = {"hnsw_config", "quantization_config", "on_disk", "datatype", "index"}


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


def media_keys(media: Mapping[str, str], *, where: str) -> dict[str, str]:
    """The payload key of each modality.

    Raises:
        CollectionError: two keys have one modality, or a modality is unknown.
    """
    keys: dict[str, str] = {}
    for key, modality in media.items():
        if modality not in MODALITIES or modality in keys:
            do = f"name one key for each of {', '.join(MODALITIES)}"
            raise CollectionError("--media is not usable", where=where, got=f"{key}={modality}", do=do)
        keys[modality] = key
    return keys


def require_vectors(slots: Mapping[str, Slot], *, where: str) -> None:
    """Raise CollectionError for slots without vectors to verify."""
    for slot in slots.values():
        if slot.kind == "text_index":
            raise CollectionError(
                "a text index has no vectors that show what made it",
                where=f"{where}, {slot.where}",
                got=slot.config.adapter,
                expected="a dense, sparse or multi-vector encoder",
                do="adopt without this slot, and add it afterwards: diptych plan, then diptych apply",
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


def require_kept(client: QdrantBase, name: str) -> None:
    """Raise StoreUnsupported if the store accepted the metadata but did not keep it, as old servers do."""
    if read_metadata(client, name) is None:
        raise StoreUnsupported(
            "the store keeps no metadata of collections",
            where=f"collection {name!r}",
            expected="a Qdrant server of release 1.16 or later, an Edge folder, or memory:",
            do="upgrade the server, and adopt then: nothing was changed",
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
    for slot, physical in vectors.items():
        if count := _count(client, name, must_not=[models.HasVectorCondition(has_vector=physical.name)]):
            yield f"{count:,} points have no {physical}: slot {slot!r} does not find them"
        yield from _differences(slots[slot], physical)


def _differences(slot: Slot, physical: Physical) -> Iterator[str]:
    if isinstance(physical.params, models.SparseVectorParams):
        idf = physical.params.modifier == models.Modifier.IDF
        if idf != slot.encoder.uses_idf:
            has, wants = ("an", "without it") if idf else ("no", "with it; on a server, update_collection adds one")
            yield f"{slot.where}: {physical} has {has} IDF modifier, and the encoder's scores are meant {wants}"
    elif physical.similarity != slot.encoder.similarity:
        yield (
            f"{slot.where}: {physical} is compared by {physical.similarity}, and the encoder's vectors are meant for "
            f"{slot.encoder.similarity}; the collection's way stays"
        )


def _count(client: QdrantBase, name: str, *, should: Any = None, must_not: Any = None) -> int:
    return client.count(name, count_filter=models.Filter(should=should, must_not=must_not), exact=True).count


def _within(expected: Any, actual: Any) -> bool:
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(_within(value, actual.get(key)) for key, value in expected.items())
    return bool(expected == actual)


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
