"""`Searching`: the query methods of `Collection`, and search in one slot with a vector of the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import ArrayLike

from diptych.collection.documents import CollectionDocuments
from diptych.encoders import Encoders
from diptych.errors import SearchError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.view import View, whole
from diptych.media import RawMedia
from diptych.media.values import media_canaries
from diptych.search import search_groups
from diptych.search.excerpts import has_passages
from diptych.search.options import ExplainOptions, GroupOptions, SearchOptions, VectorOptions, check_options
from diptych.search.pipeline import Pipeline, Retrieve
from diptych.search.query import Input
from diptych.search.request import SearchRequest
from diptych.search.retrieve import retrieve_together
from diptych.search.run import (
    Answers,
    HitGroups,
    Hits,
    asearch_outcome,
    final_hits,
    finish_search,
    hits_of,
    on_current_view,
    one_question,
    search_outcome,
)
from diptych.search.store_calls import read_store
from diptych.slots.canaries import TEXTS
from diptych.slots.encode import client_form
from diptych.slots.slot import Slot
from diptych.types import Query, SparseVector

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.collection.explain import Explanations

QUERIES = TEXTS[:4]  # of the lengths that queries have

_UNKNOWN = "(a vector)"
_LARGEST_TERM = 2**32 - 1


class Searching(CollectionDocuments):
    """The part of `Collection` that searches and explains."""

    def _options(self, **options: Unpack[SearchOptions]) -> SearchOptions:
        """The options of a search."""
        options["tenant"] = self._tenant(options.get("tenant"))
        return check_options(options)

    @property
    def name(self) -> str:
        """The collection's name in the store."""
        return self.handle.name

    @property
    def client(self) -> QdrantBase:
        """The Qdrant client, for everything that diptych does not cover; it knows no tenant."""
        return self.handle.client

    @property
    def encoders(self) -> Encoders:
        """The encoders and rerankers that serve the collection, for programs that call them directly."""
        return Encoders.of(self.handle)

    def warm(self) -> None:
        """Load and check what queries need, and search, so that the first user does not wait longer than others.

        Plugins are not notified, and the texts are not cached.

        Raises:
            CollectionNotFound, FingerprintMismatch, SearchError, ContractError, RegistryError: as every query would.
        """

        def search_all(view: View) -> None:
            view = whole(view).unremembered()
            queries = _queries(view)
            for some in (*([query] for query in queries), queries):
                request = SearchRequest.of(view, some, {})
                final_hits(request, retrieve_together([request])[0])

        on_current_view(self.handle, search_all)

    def search(self, query: str | Query, **options: Unpack[SearchOptions]) -> Hits:
        """The best documents for one query, best first.

        Args:
            query: its words, or a `Query`.
            options: `limit`, `offset`, `filter`, `where`, `score_threshold`, `pipeline`, `params`, `with_payload`,
                `passages`, `highlight`, `tenant`, `boost`, `pin`, `exclude`, `like` and `unlike`; see
                `diptych.search.SearchOptions`.

        Raises:
            SearchError: something that cannot be searched as asked.
            TenantError: no tenant where the collection requires one, or one where it has none.
            CollectionNotFound: nothing has been populated yet.
            FingerprintMismatch, ContractError, RegistryError: an encoder cannot serve.
        """
        found = search_outcome(self.handle, [query], self._options(**options))
        return hits_of(found.request, found.hits[0], query)

    def search_batch(self, queries: Sequence[str | Query], **options: Unpack[SearchOptions]) -> Answers:
        """The best documents for each of many queries, encoded, retrieved and reranked together.

        Args:
            queries: their words, or `Query`.
            options: as in `search`.
        """
        return search_outcome(self.handle, queries, self._options(**options)).answers(queries)

    async def asearch(self, query: str | Query, **options: Unpack[SearchOptions]) -> Hits:
        """`search` without blocking the event loop. Queries that arrive at the same time are answered together.

        Args:
            query: its words, or a `Query`.
            options: as in `search`.
        """
        found = await asearch_outcome(self.handle, query, self._options(**options))
        return hits_of(found.request, found.hits[0], query)

    def search_by_vector(
        self,
        vector: ArrayLike | SparseVector,
        stages: Retrieve | Pipeline,
        **options: Unpack[VectorOptions],
    ) -> Hits:
        """The best documents for a vector of a slot's space.

        Args:
            vector: of the space of the slot that `stages` retrieves from: `[dimension]`, also where documents have a
                vector for each passage; `[tokens, dimension]`; or sparse.
            stages: `Retrieve("SLOT")`, perhaps `>> Diversify("SLOT")`.
            options: as in `search`, without `pipeline`.

        Raises:
            SearchError: the vector does not fit the slot, or the stages need more than it.
            CollectionNotFound: nothing has been populated yet.
        """
        options["tenant"] = self._tenant(options.get("tenant"))
        checked = check_options(options, VectorOptions, "search_by_vector")
        asked: SearchOptions = {**checked, "pipeline": stages, "highlight": False}

        def once(view: View) -> Hits:
            request = SearchRequest.of(view, [_UNKNOWN], asked)
            pipeline = request.pipeline
            if len(pipeline.slots) != 1 or pipeline.rerank:
                what, do = "a vector can search one slot only", 'give Retrieve("SLOT"), perhaps with Diversify("SLOT")'
                raise SearchError(what, where=repr(pipeline), do=do)
            slot = view.slots[pipeline.slots[0]]
            if slot.kind == "text_index":
                what, expected = "this slot has no vectors", "a text to search"
                raise SearchError(what, where=slot.where, got="a text index", expected=expected)
            query = _input(slot, vector)
            if has_passages(slot):
                request = replace(request, vector=np.asarray(query, np.float32))
            (hits,) = finish_search(request, retrieve_together([request], [[{slot.name: query}]])[0])
            return hits_of(request, hits, "")

        with one_question(self.handle, 1):
            return on_current_view(self.handle, once)

    def search_groups(
        self,
        query: str | Query,
        *,
        group_by: str,
        group_size: int = 3,
        **options: Unpack[GroupOptions],
    ) -> HitGroups:
        """The best groups of hits that share a value of a payload key.

        Args:
            query: its words, or a `Query`.
            group_by: the payload key, dots between nested ones; documents without it are in no group.
            group_size: hits that a group has at most.
            options: as in `search`, without `offset`; `limit` counts groups.
        """
        options["tenant"] = self._tenant(options.get("tenant"))
        found = search_groups(self.handle, [query], group_by=group_by, group_size=group_size, **options)
        return HitGroups(found[0], query=query)

    def scores(
        self,
        queries: Sequence[str | Query],
        ids: Sequence[Sequence[str]],
        *,
        slot: str,
        tenant: str | None = None,
    ) -> list[dict[str, float]]:
        """For each query the score of each of its documents in one slot, in one request; higher is better.

        Without a score, and so left out, are documents that the collection does not hold, or that have no term in
        common with the query where the slot is sparse.

        Args:
            queries: their words, or `Query`.
            ids: for each query, the documents to score.
            slot: by whose vectors.
            tenant: as in `search`.

        Raises:
            SearchError: not one list for each query, or something that cannot be searched.
            CollectionError: ids that are not texts; CollectionNotFound: nothing has been populated yet.
        """
        if len(ids) != len(queries):
            got = f"{len(queries)} queries, {len(ids)} lists of ids"
            raise SearchError("the number of id lists is not the number of queries", where="scores", got=got)
        options: SearchOptions = {"pipeline": Retrieve(slot), "with_payload": False, "tenant": self._tenant(tenant)}

        def score_all(view: View) -> list[dict[str, float]]:
            requests: dict[int, SearchRequest] = {}
            for position, (query, documents) in enumerate(zip(queries, ids, strict=True)):
                if documents:
                    chosen = self.having(documents, tenant=tenant)
                    own: SearchOptions = {**options, "limit": len(set(documents)), "filter": chosen}
                    requests[position] = SearchRequest.of(view, [query], own)
            retrieved = retrieve_together([*requests.values()]) if requests else []
            found = {position: one.hits[0] for position, one in zip(requests, retrieved, strict=True)}
            return [{hit.id: hit.score for hit in found.get(position, ())} for position in range(len(ids))]

        with one_question(self.handle, len(queries)):
            return on_current_view(self.handle, score_all)

    def explain(
        self,
        query: str | Query,
        *,
        ids: Sequence[str] | None = None,
        **options: Unpack[ExplainOptions],
    ) -> Explanations:
        """Why each hit, or each document of `ids`, has its rank. See `diptych.collection.explain`.

        Args:
            query: its words, or a `Query`.
            ids: documents to explain, hits or not; the hits unless given.
            options: as in `search`, without `offset`, `score_threshold` and `with_payload`.
        """
        from diptych.collection.explain import explain

        options["tenant"] = self._tenant(options.get("tenant"))
        return explain(self.handle, query, ids=ids, **options)


def _input(slot: Slot, vector: ArrayLike | SparseVector) -> Input:
    if isinstance(vector, SparseVector) or slot.kind == "sparse":
        if not (isinstance(vector, SparseVector) and slot.kind == "sparse"):
            raise _unfit(slot, type(vector).__name__, "SparseVector" if slot.kind == "sparse" else "numbers")
        indices = vector.indices
        if indices.size and not (np.diff(indices.astype(np.float64)) > 0).all():
            raise _unfit(slot, "indices unsorted or repeated", "ascending indices")
        if indices.size and not 0 <= int(indices[0]) <= int(indices[-1]) <= _LARGEST_TERM:
            raise _unfit(slot, f"indices {indices[0]} to {indices[-1]}", f"indices from 0 to {_LARGEST_TERM}")
        if not np.isfinite(vector.values).all():
            raise _unfit(slot, "NaN or infinity", "finite numbers")
        return client_form(vector)
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


def _unfit(slot: Slot, got: str, expected: str) -> SearchError:
    return SearchError("the vector does not fit the slot", where=slot.where, got=got, expected=expected)


def check(handle: CollectionHandle) -> None:
    """Search for one hit without rerankers: cheap enough to be run every few seconds while a service runs.

    Encoders behind a network cost money and have limits, so a pipeline with one only asks the store.

    Raises:
        CollectionNotFound, StoreUnavailable, SearchError, ContractError, AdapterCrashed: queries fail now.
    """

    def search_one(view: View) -> None:
        pipeline = replace(Pipeline.from_config(view.search_config, view.slots), rerank=())
        if any((view.slots[name].query_slot or view.slots[name]).spec.remote for name in pipeline.slots):
            read_store(view, lambda: view.client.count(view.name, exact=False))
        else:
            options: SearchOptions = {"pipeline": pipeline, "limit": 1}
            retrieve_together([SearchRequest.of(whole(view).unremembered(), _queries(view)[:1], options)])

    on_current_view(handle, search_one)


def _queries(view: View) -> list[Query]:
    """Queries that every slot of the pipeline can be asked: texts, with media beside them for slots without texts."""
    slots = [view.slots[name] for name in Pipeline.from_config(view.search_config, view.slots).slots]
    media: dict[str, RawMedia] = {
        slot.reading.modality: media_canaries(slot.reading.modality)[0] for slot in slots if not slot.takes_texts
    }
    return [Query(text, media=media) for text in QUERIES]
