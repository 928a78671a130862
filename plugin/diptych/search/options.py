"""`SearchOptions`: what a search takes besides its queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypedDict

from qdrant_client import models

from diptych.search.boost import Boost
from diptych.search.boost_parts import BoostPart
from diptych.search.filters import FilterLike, Where
from diptych.search.pipeline import Pipeline, Retrieve

BoostLike: TypeAlias = Boost | Sequence[BoostPart | Mapping[str, Any]]


class ScopedOptions(TypedDict, total=False):
    """Number of hits, and the documents that are searched.

    Args:
        limit: number of hits, by default the config's.
        filter: documents to search, in every slot: Qdrant's filter, or a mapping as its REST interface takes it.
        where: short form; all conditions must hold: `{"section": "mail", "kind": ["a", "b"], "year": {"lt": 9}}`.
        params: Qdrant's search parameters instead of the pipeline's, for every slot.
        tenant: the tenant whose documents are searched, in a collection with tenants.
        boost: what raises or lowers scores by metadata, instead of the pipeline's own: `Boost(...)`, or a list of its
            parts or of mappings as in the config; an empty list boosts nothing.
    """

    limit: int | None
    filter: FilterLike | None
    where: Where | None
    params: models.SearchParams | None
    tenant: str | None
    boost: BoostLike | None


class GroupOptions(ScopedOptions, total=False):
    """The stages, and the parts of documents that are returned.

    Args:
        pipeline: stages instead of the config's; or the name of a slot alone, such as `dense`, or of a part of the
            config's pipeline as `diptych evaluate` shows it, such as `rrf`.
        score_threshold: hits whose final score is lower are dropped; by default the config's.
        with_payload: False fetches ids only; a list only these keys: `text`, `title` and metadata.
    """

    pipeline: Pipeline | Retrieve | str | None
    score_threshold: float | None
    with_payload: bool | Sequence[str]


class VectorOptions(ScopedOptions, total=False):
    """`SearchOptions` without `pipeline`: the stages are an argument beside the vector."""

    score_threshold: float | None
    with_payload: bool | Sequence[str]
    offset: int


class SearchOptions(GroupOptions, total=False):
    """What every search takes besides its queries.

    Args:
        offset: number of hits to leave out at the top.
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
    boost: BoostLike | None = None
