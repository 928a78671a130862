"""The hooks that a plugin may implement. Mark an implementation with `@diptych.hookimpl`.

A plugin is a module or object found through the entry-point group `diptych`. A hook takes any subset of the arguments
listed here, by name; plugin order never changes a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from diptych.generation import JudgeRequest, QueryRequest
from diptych.passages import ContextRequest, SplitRequest
from diptych.specs import AdapterSpec, RecipeSpec
from diptych.types import Document

if TYPE_CHECKING:
    from qdrant_client import models
    from qdrant_client.client_base import QdrantBase

    from diptych.reports import FailureReport, PopulateReport, SearchReport, SwapReport

PROJECT = "diptych"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def diptych_register_adapters() -> Iterable[AdapterSpec]:  # type: ignore[empty-body]
    """Name the adapters that this plugin brings. Return data; import no model."""


@hookspec
def diptych_register_recipes() -> Iterable[RecipeSpec]:  # type: ignore[empty-body]
    """Name the recipes that this plugin brings, with which `diptych train` trains. Return data; import no model."""


@hookspec(firstresult=True)
def diptych_open_store(url: str) -> QdrantBase | None:
    """Open the store behind `url`, or return None when the URL is not this plugin's. The first answer counts."""


@hookspec(firstresult=True)
def diptych_vector_params(
    spec: AdapterSpec, params: models.VectorParams | models.SparseVectorParams
) -> models.VectorParams | models.SparseVectorParams | None:
    """Change how the vectors of adapter `spec` are stored: return other `params`, or None to leave them."""


@hookspec(firstresult=True)
def diptych_point_id(document: Document) -> int | str | None:
    """Choose the point id of `document` (unsigned integer or UUID text), or return None for the default."""


@hookspec(firstresult=True)
def diptych_split_document(request: SplitRequest) -> Sequence[tuple[int, int]] | None:
    """Cut a document into passages: begin and end of each in characters of its text; None for diptych's own rules."""


@hookspec(firstresult=True)
def diptych_passage_context(request: ContextRequest) -> Sequence[str] | None:
    """Write what stands before each passage when it is encoded, such as a sentence on its place; None for nothing."""


@hookspec
def diptych_listens(hook: str) -> bool:  # type: ignore[empty-body]
    """Say whether this plugin wants `hook`, one of those below, to be called now. Without it: always."""


@hookspec
def diptych_after_populate(report: PopulateReport) -> Any:
    """Receive the report of a populate."""


@hookspec
def diptych_after_search(report: SearchReport) -> Any:
    """Receive the report of a search, with the time of each stage."""


@hookspec
def diptych_after_swap(report: SwapReport) -> Any:
    """Receive the report of an apply, whether it cut over or not."""


@hookspec
def diptych_after_failure(report: FailureReport) -> Any:
    """Receive the report of a search, populate or apply that raised an error."""


@hookspec(firstresult=True)
def diptych_generate_queries(request: QueryRequest) -> Sequence[Sequence[str]] | None:
    """Write queries for documents: for each document a list, perhaps an empty one; None for another's generator."""


@hookspec(firstresult=True)
def diptych_judge(request: JudgeRequest) -> Sequence[float] | None:
    """Judge pairs: for each a score from 0 to 1, higher is more relevant; None for another's generator."""
