"""Where the hits of one query stood in each slot, and what that gave them.

Imports the Qdrant client, so commands import it only when they run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qdrant_client import models

from diptych.collection import Collection
from diptych.search import Pipeline, Rrf
from diptych.types import Hit

TERMS = 12  # of a sparse query that are shown


@dataclass(frozen=True, slots=True)
class Standing:
    """A hit's place among one slot's candidates. `contribution` is its part of an RRF score, None for other fusions."""

    rank: int
    score: float
    contribution: float | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """A hit with its standing in each slot that found it."""

    hit: Hit
    slots: Mapping[str, Standing]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer to one query, explained. `terms`: for each sparse slot, the query's words with their weights."""

    query: str
    pipeline: Pipeline
    hits: Sequence[Explained]
    terms: Mapping[str, Sequence[tuple[str, float]]]


def explain(
    collection: Collection, query: str, *, limit: int | None = None, filter: models.Filter | None = None
) -> Explanation:
    """Search by the collection's pipeline and by each of its slots alone.

    Raises:
        SearchError: a search that cannot be run as asked.
    """
    handle = collection.handle
    pipeline = Pipeline.from_config(handle.search_config, handle.slots)
    hits = collection.search(query, limit=limit, filter=filter)
    standings = _standings(collection, query, pipeline, filter)
    explained = [
        Explained(hit, {slot: found[hit.id] for slot, found in standings.items() if hit.id in found}) for hit in hits
    ]
    return Explanation(query, pipeline, explained, _terms(collection, query, pipeline))


def _standings(
    collection: Collection, query: str, pipeline: Pipeline, filter: models.Filter | None
) -> dict[str, dict[str, Standing]]:
    """For each slot, its candidates' standings by document id."""
    standings = {}
    for branch in pipeline.retrieve:
        alone = Pipeline((branch,))
        found = collection.search(query, pipeline=alone, limit=branch.candidates, filter=filter, with_payload=False)
        standings[branch.slot] = {
            hit.id: Standing(rank, hit.score, _contribution(pipeline, branch.slot, rank))
            for rank, hit in enumerate(found, 1)
        }
    return standings


def _contribution(pipeline: Pipeline, slot: str, rank: int) -> float | None:
    fuse = pipeline.fuse
    return fuse.weights.get(slot, 1.0) / (fuse.k + rank) if isinstance(fuse, Rrf) else None


def _terms(collection: Collection, query: str, pipeline: Pipeline) -> dict[str, list[tuple[str, float]]]:
    slots = [collection.handle.slot(name) for name in pipeline.slots]
    return {
        slot.name: slot.encoder.decode(slot.encoder.encode_query([query])[0], TERMS)
        for slot in slots
        if slot.kind == "sparse"
    }
