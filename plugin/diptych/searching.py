"""`Searching`: the questions that a `Collection` answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from diptych.handle import CollectionHandle
from diptych.search import HitGroup, Pipeline, Retrieve, search_groups
from diptych.search.asked import Options
from diptych.search.by_vector import search_by_vector
from diptych.search.run import answer, answer_later
from diptych.search.warming import warm
from diptych.types import Document, Hit, Query, SparseVector

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from qdrant_client import models

    from diptych.explain import Explanation


class Searching:
    """The part of `Collection` that searches and explains, and reads and deletes by id.

    In a collection with tenants `tenant` says whose documents are looked at; where the config requires one, a question
    without it is a TenantError.
    """

    handle: CollectionHandle

    def _named(self, tenant: str | None) -> str | None:
        """The tenant that a question is about."""
        return tenant

    def warm(self) -> None:
        """Load and check what queries need and search once, so that the first user waits no longer than the others.

        Raises:
            CollectionNotFound, FingerprintMismatch, SearchError, ContractError, RegistryError: as every query would.
        """
        warm(self.handle)

    def search(
        self,
        query: str | Query,
        *,
        limit: int | None = None,
        offset: int = 0,
        filter: models.Filter | None = None,
        score_threshold: float | None = None,
        pipeline: Pipeline | Retrieve | None = None,
        params: models.SearchParams | None = None,
        with_payload: bool | Sequence[str] = True,
        tenant: str | None = None,
    ) -> list[Hit]:
        """The best documents for one query, best first. See `diptych.search`."""
        options = Options(pipeline, limit, offset, filter, score_threshold, params, with_payload, self._named(tenant))
        return answer(self.handle, [query], options)[0]

    def search_batch(
        self,
        queries: Sequence[str | Query],
        *,
        limit: int | None = None,
        offset: int = 0,
        filter: models.Filter | None = None,
        score_threshold: float | None = None,
        pipeline: Pipeline | Retrieve | None = None,
        params: models.SearchParams | None = None,
        with_payload: bool | Sequence[str] = True,
        tenant: str | None = None,
    ) -> list[list[Hit]]:
        """The best documents for each of many queries, in one go: encoded, retrieved and reranked together."""
        options = Options(pipeline, limit, offset, filter, score_threshold, params, with_payload, self._named(tenant))
        return answer(self.handle, queries, options)

    async def asearch(
        self,
        query: str | Query,
        *,
        limit: int | None = None,
        offset: int = 0,
        filter: models.Filter | None = None,
        score_threshold: float | None = None,
        pipeline: Pipeline | Retrieve | None = None,
        params: models.SearchParams | None = None,
        with_payload: bool | Sequence[str] = True,
        tenant: str | None = None,
    ) -> list[Hit]:
        """`search`, while the event loop goes on. Queries that are asked at the same time are answered together."""
        options = Options(pipeline, limit, offset, filter, score_threshold, params, with_payload, self._named(tenant))
        return await answer_later(self.handle, query, options)

    def search_by_vector(
        self,
        vector: ArrayLike | SparseVector,
        stages: Retrieve | Pipeline,
        *,
        limit: int | None = None,
        offset: int = 0,
        filter: models.Filter | None = None,
        score_threshold: float | None = None,
        params: models.SearchParams | None = None,
        with_payload: bool | Sequence[str] = True,
        tenant: str | None = None,
    ) -> list[Hit]:
        """The best documents for a vector of a slot's space: `Retrieve("SLOT")`, perhaps `>> Diversify("SLOT")`.

        Raises:
            SearchError: the vector does not fit the slot, or the stages need more than it.
        """
        options = Options(None, limit, offset, filter, score_threshold, params, with_payload, self._named(tenant))
        return search_by_vector(self.handle, vector, stages, options)

    def search_groups(
        self,
        query: str | Query,
        *,
        group_by: str,
        group_size: int = 3,
        limit: int | None = None,
        filter: models.Filter | None = None,
        score_threshold: float | None = None,
        pipeline: Pipeline | Retrieve | None = None,
        params: models.SearchParams | None = None,
        with_payload: bool | Sequence[str] = True,
        tenant: str | None = None,
    ) -> list[HitGroup]:
        """The best groups of hits that share a value of the payload key `group_by`. See `diptych.search`."""
        return search_groups(
            self.handle,
            [query],
            group_by=group_by,
            group_size=group_size,
            limit=limit,
            filter=filter,
            score_threshold=score_threshold,
            pipeline=pipeline,
            params=params,
            with_payload=with_payload,
            tenant=self._named(tenant),
        )[0]

    def scores(
        self,
        queries: Sequence[str | Query],
        ids: Sequence[Sequence[str]],
        *,
        slot: str,
        tenant: str | None = None,
    ) -> list[dict[str, float]]:
        """For each query the scores of its documents, in one slot and one request. See `diptych.scores`."""
        from diptych.scores import scores

        return scores(self.handle, queries, ids, slot=slot, tenant=self._named(tenant))

    def explain(
        self,
        query: str | Query,
        *,
        ids: Sequence[str] | None = None,
        limit: int | None = None,
        filter: models.Filter | None = None,
        pipeline: Pipeline | Retrieve | None = None,
        params: models.SearchParams | None = None,
        tenant: str | None = None,
    ) -> list[Explanation]:
        """Why each hit, or each document of `ids`, stands where it stands. See `diptych.explain`."""
        from diptych.explain import explain

        own = self._named(tenant)
        return explain(
            self.handle, query, ids=ids, limit=limit, filter=filter, pipeline=pipeline, params=params, tenant=own
        )

    def get(self, ids: Sequence[str], *, tenant: str | None = None) -> list[Document]:
        """The documents of these ids, in their order, without those that are not there.

        Raises:
            CollectionError: ids that are no texts.
            PopulateError: the store does not answer.
        """
        from diptych import documents

        return documents.get(self.handle, ids, tenant=self._named(tenant))

    def delete(self, ids: Sequence[str], *, tenant: str | None = None) -> int:
        """Delete the documents of these ids; how many of them there were.

        Raises:
            CollectionError, PopulateError: as `get`.
        """
        from diptych import documents

        return documents.delete(self.handle, ids, tenant=self._named(tenant))

    def documents(self, filter: models.Filter | None = None, *, tenant: str | None = None) -> Iterator[Document]:
        """The documents that fit the filter, all of them for None, read page by page.

        Raises:
            CollectionError, PopulateError: as `get`.
        """
        from diptych import documents

        return documents.documents(self.handle, filter, tenant=self._named(tenant))

    def having(self, ids: Sequence[str], *, tenant: str | None = None) -> models.Filter:
        """Qdrant's filter for the documents of these ids, to be searched or read; without any it holds for none."""
        from diptych import documents

        return documents.having(self.handle, ids, tenant=self._named(tenant))

    def field(self, name: str) -> str:
        """The payload key under which filters find a key of the documents' metadata, or `text` or `title`."""
        from diptych import documents

        return documents.field(self.handle, name)
