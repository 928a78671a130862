"""`Searching`: the questions that a `Collection` answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diptych.explain import Explanation, explain
from diptych.handle import CollectionHandle
from diptych.search import HitGroup, Pipeline, Retrieve, search, search_groups
from diptych.types import Hit, Query

if TYPE_CHECKING:
    from qdrant_client import models


class Searching:
    """The part of `Collection` that searches and explains."""

    handle: CollectionHandle

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
    ) -> list[Hit]:
        """The best documents for one query, best first. See `diptych.search`."""
        return self.search_batch(
            [query],
            limit=limit,
            offset=offset,
            filter=filter,
            score_threshold=score_threshold,
            pipeline=pipeline,
            params=params,
            with_payload=with_payload,
        )[0]

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
    ) -> list[list[Hit]]:
        """The best documents for each of many queries, in one go: encoded, retrieved and reranked together."""
        return search(
            self.handle,
            queries,
            limit=limit,
            offset=offset,
            filter=filter,
            score_threshold=score_threshold,
            pipeline=pipeline,
            params=params,
            with_payload=with_payload,
        )

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
    ) -> list[Hit]:
        """`search` on a worker thread, so that an event loop goes on meanwhile."""
        return await asyncio.to_thread(
            self.search,
            query,
            limit=limit,
            offset=offset,
            filter=filter,
            score_threshold=score_threshold,
            pipeline=pipeline,
            params=params,
            with_payload=with_payload,
        )

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
        )[0]

    def explain(
        self,
        query: str | Query,
        *,
        ids: Sequence[str] | None = None,
        limit: int | None = None,
        filter: models.Filter | None = None,
        pipeline: Pipeline | Retrieve | None = None,
        params: models.SearchParams | None = None,
    ) -> list[Explanation]:
        """Why each hit, or each document of `ids`, stands where it stands. See `diptych.explain`."""
        return explain(self.handle, query, ids=ids, limit=limit, filter=filter, pipeline=pipeline, params=params)
