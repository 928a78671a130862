"""Queries encoded: for each text, what Qdrant is asked in each slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from qdrant_client import models

from diptych.slots.slot import Slot
from diptych.types import SparseVector

Input: TypeAlias = Any  # list of floats, list of lists, models.SparseVector or models.TextQuery
Inputs: TypeAlias = Mapping[str, Input]  # by slot; a slot to which the text says nothing is left out


def encode_inputs(slots: Sequence[Slot], texts: Sequence[str], *, remember: int = 0) -> list[Inputs]:
    """For each text, its query in each slot, without the slots where it says nothing, such as stop words to BM25.

    Args:
        slots: those that are asked.
        texts: of the queries.
        remember: how many vectors each slot holds, for queries that are asked again.

    Raises:
        ContractError: an encoder breaks its contract.
        FingerprintMismatch: an encoder did not make the vectors of its slot.
    """
    columns = {slot.name: _column(slot, texts, remember) for slot in slots}
    return [
        {name: column[row] for name, column in columns.items() if column[row] is not None} for row in range(len(texts))
    ]


def direction(slot: Slot) -> int:
    """-1 where Qdrant's score is a distance, so lower is better; else 1."""
    return -1 if slot.similarity == "euclidean" else 1


def using(slot: Slot) -> str | None:
    """What requests call the slot's vector: None is Qdrant's unnamed one, which adopted collections may have."""
    return slot.vector or None


def _column(slot: Slot, texts: Sequence[str], remember: int) -> list[Input]:
    if slot.kind == "text_index":
        return [slot.encoder.query(text) for text in texts]
    vectors = slot.encode_queries(texts, remember=remember)
    if slot.kind == "sparse":
        return [_sparse(vector) for vector in vectors if isinstance(vector, SparseVector)]
    return [vector.tolist() for vector in vectors if not isinstance(vector, SparseVector)]


def _sparse(vector: SparseVector) -> models.SparseVector | None:
    if not len(vector):
        return None
    # Built unchecked, as all of a request: the numbers are right, and checking each costs more than the search.
    return models.SparseVector.model_construct(indices=vector.indices.tolist(), values=vector.values.tolist())
