"""`scores`: the scores of given documents in one slot, for a batch of queries."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.collection.documents import having
from diptych.errors import SearchError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.notify import watched
from diptych.handle.snapshot import View
from diptych.search import Retrieve
from diptych.search.options import Options
from diptych.search.request import SearchRequest
from diptych.search.retrieve import retrieve_together
from diptych.search.run import on_current_view
from diptych.types import Query


def scores(
    handle: CollectionHandle,
    queries: Sequence[str | Query],
    ids: Sequence[Sequence[str]],
    *,
    slot: str,
    tenant: str | None = None,
) -> list[dict[str, float]]:
    """For each query the score of each of its documents in one slot, in one request; higher is better.

    Without a score, and so left out, are documents that the collection does not hold, or that have no term in common
    with the query where the slot is sparse.

    Args:
        queries: n texts or `Query`.
        ids: n lists of document ids.
        slot: whose vectors are compared.
        tenant: whose documents count, in a collection with tenants.

    Raises:
        SearchError: not one list for each query, or something that cannot be searched.
        CollectionError: ids that are not texts; CollectionNotFound: nothing has been populated yet.
    """
    if len(ids) != len(queries):
        got = f"{len(queries)} queries, {len(ids)} lists of ids"
        raise SearchError("not one list of ids for each query", where="scores", got=got)

    def score_all(view: View) -> list[dict[str, float]]:
        requests = {
            position: SearchRequest.of(view, [query], _options(handle, documents, slot, tenant))
            for position, (query, documents) in enumerate(zip(queries, ids, strict=True))
            if documents
        }
        retrieved = dict(zip(requests, retrieve_together(list(requests.values())), strict=True)) if requests else {}
        return [
            {hit.id: hit.score for hit in retrieved[position].hits[0]} if position in retrieved else {}
            for position in range(len(ids))
        ]

    return watched(handle.registry, handle.name, "search", lambda: on_current_view(handle, score_all))


def _options(handle: CollectionHandle, ids: Sequence[str], slot: str, tenant: str | None) -> Options:
    id_filter = having(handle, ids, tenant=tenant)
    return Options(Retrieve(slot), len(set(ids)), filter=id_filter, with_payload=False, tenant=tenant)
