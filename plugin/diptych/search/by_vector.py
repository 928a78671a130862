"""Search in one slot with a vector of the caller's."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import SearchError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.registry import notifying_failure
from diptych.search.excerpts.passages import has_passages
from diptych.search.hits import Hits, hits_of
from diptych.search.options import VectorOptions, options_of
from diptych.search.pins import pinned_hits
from diptych.search.pipeline import Pipeline, Retrieve
from diptych.search.qdrant.query import Input
from diptych.search.qdrant.retrieval import retrieve
from diptych.search.request import SearchRequest
from diptych.search.retrieve import Clock, Retrieved
from diptych.search.run import notify_plugins, on_current_view, reranked
from diptych.slots.slot import Slot
from diptych.types import SparseVector

_UNKNOWN = "(a vector)"
_LARGEST_TERM = 2**32 - 1


def search_by_vector(
    handle: CollectionHandle | View,
    vector: ArrayLike | SparseVector,
    stages: Retrieve | Pipeline,
    **options: Unpack[VectorOptions],
) -> Hits:
    """Return the best documents for one vector, best first.

    Args:
        vector: of the space of the slot that `stages` retrieves from: `[dimension]`, also where documents have a
            vector for each passage; `[tokens, dimension]`; or sparse.
        stages: retrieval from one slot, and `Diversify` by the same slot if wanted.
        options: see `SearchOptions`; without `pipeline`.

    Raises:
        SearchError: a vector that does not fit the slot, or stages that need more than one slot or the query's text.
        CollectionNotFound: nothing has been populated yet.
    """
    asked = options_of(options, "search_by_vector", pipeline=stages, highlight=False)

    def once(view: View) -> Hits:
        request = SearchRequest.of(view, [_UNKNOWN], asked)
        slot = _slot_of(request)
        seconds: dict[str, float] = {}
        clock = Clock(seconds)
        query = _input(slot, vector)
        if has_passages(slot):
            request = replace(request, vector=np.asarray(query, np.float32))
        hits = retrieve([request], [[{slot.name: query}]])[0]
        pinned = pinned_hits(request) if request.pin else ()
        clock.passed("retrieve")
        array = reranked(request, Retrieved(hits, seconds, [{}], [[]], clock.began, pinned))
        notify_plugins(request, seconds, clock.began, len(array[0]))
        return hits_of(request, array[0], "")

    return notifying_failure(handle.registry, handle.name, "search", lambda: on_current_view(handle, once))


def _slot_of(request: SearchRequest) -> Slot:
    pipeline = request.pipeline
    if len(pipeline.slots) != 1 or pipeline.rerank:
        raise SearchError(
            "a vector can search one slot only",
            where=repr(pipeline),
            do='give Retrieve("SLOT"), perhaps with Diversify("SLOT")',
        )
    slot = request.view.slots[pipeline.slots[0]]
    if slot.kind == "text_index":
        raise SearchError("this slot has no vectors", where=slot.where, got="a text index", expected="a text to search")
    return slot


def _input(slot: Slot, vector: ArrayLike | SparseVector) -> Input:
    from qdrant_client import models

    if isinstance(vector, SparseVector) or slot.kind == "sparse":
        if not (isinstance(vector, SparseVector) and slot.kind == "sparse"):
            raise _unfit(slot, type(vector).__name__, "SparseVector" if slot.kind == "sparse" else "numbers")
        _require_sparse(vector, slot)
        return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())
    try:
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and are refused below
            array = np.asarray(vector, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise _unfit(slot, type(vector).__name__, "an array of numbers") from None
    if has_passages(slot) and array.ndim == 2 and len(array) == 1:  # the slot's encoder returns one row for a query
        array = array[0]
    axes = 1 if slot.kind == "dense" or has_passages(slot) else 2
    dimension = slot.generation.dimension if slot.generation else None
    if array.ndim != axes or (dimension is not None and array.shape[-1] != dimension) or not array.size:
        raise _unfit(slot, str(list(array.shape)), f"[{'tokens, ' if axes == 2 else ''}{dimension}]")
    if not np.isfinite(array).all():
        raise _unfit(slot, "NaN or infinity", "finite numbers")
    return [array.tolist()] if has_passages(slot) else array.tolist()


def _require_sparse(vector: SparseVector, slot: Slot) -> None:
    indices, values = vector.indices, vector.values
    if indices.size and not (np.diff(indices.astype(np.float64)) > 0).all():
        raise _unfit(slot, "indices unsorted or repeated", "ascending indices")
    if indices.size and not 0 <= int(indices[0]) <= int(indices[-1]) <= _LARGEST_TERM:
        raise _unfit(slot, f"indices {indices[0]} to {indices[-1]}", f"indices from 0 to {_LARGEST_TERM}")
    if not np.isfinite(values).all():
        raise _unfit(slot, "NaN or infinity", "finite numbers")


def _unfit(slot: Slot, got: str, expected: str) -> SearchError:
    return SearchError("the vector does not fit the slot", where=slot.where, got=got, expected=expected)
