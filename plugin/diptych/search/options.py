"""`SearchOptions`: what a search takes besides its queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

from qdrant_client import models

from diptych.search.filters import FilterLike, Where
from diptych.search.pipeline import Pipeline, Retrieve


class ScopedOptions(TypedDict, total=False):
    """How many hits, and which documents count.

    Args:
        limit: how many hits; the config's unless given.
        filter: which documents count, in every slot: Qdrant's filter, or a mapping as its REST interface takes it.
        where: the same in short; all of it must hold: `{"section": "mail", "kind": ["a", "b"], "year": {"lt": 9}}`.
        params: Qdrant's search parameters instead of the pipeline's, for every slot.
        tenant: whose documents are looked at, in a collection with tenants.
    """

    limit: int | None
    filter: FilterLike | None
    where: Where | None
    params: models.SearchParams | None
    tenant: str | None


class GroupOptions(ScopedOptions, total=False):
    """Which stages, and what comes back.

    Args:
        pipeline: stages instead of the config's; or the name of a slot alone, such as `dense`, or of a part of the
            config's pipeline as `diptych evaluate` shows it, such as `rrf`.
        score_threshold: hits whose final score is lower are dropped; the config's unless given.
        with_payload: False fetches ids alone; a list only these keys: `text`, `title` and metadata.
    """

    pipeline: Pipeline | Retrieve | str | None
    score_threshold: float | None
    with_payload: bool | Sequence[str]


class VectorOptions(ScopedOptions, total=False):
    """As `SearchOptions`, where the stages are given with the vector."""

    score_threshold: float | None
    with_payload: bool | Sequence[str]
    offset: int


class SearchOptions(GroupOptions, total=False):
    """What every search takes besides its queries.

    Args:
        offset: how many hits to leave out at the top.
    """

    offset: int


class Options(NamedTuple):
    """`SearchOptions` with their defaults, unchecked."""

    pipeline: Pipeline | Retrieve | str | None = None
    limit: int | None = None
    offset: int = 0
    filter: FilterLike | None = None
    score_threshold: float | None = None
    params: models.SearchParams | None = None
    with_payload: bool | Sequence[str] = True
    tenant: str | None = None
    where: Where | None = None
