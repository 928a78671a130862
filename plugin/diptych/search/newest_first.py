"""Finds the newest documents by a metadata field, which come first in every answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qdrant_client import models

from diptych.config.boost import ORDERED, Recent
from diptych.errors import SearchError
from diptych.handle.snapshot import View
from diptych.handle.tenancy import without_ids
from diptych.metadata.payload_paths import quoted
from diptych.metadata.payloads import field_of, from_payload, id_fields
from diptych.search.qdrant.store_calls import read_store


def newest_ids(
    view: View,
    recent: Recent,
    matching: models.Filter | None,
    others: Sequence[str],
    tenant: str | None,
    shard_key: Mapping[str, Any],
) -> Sequence[str]:
    """Ids of the newest documents that match, newest first; documents without the field are never among them.

    Args:
        view: what is searched.
        recent: which field, and how many.
        matching: the request's filter.
        others: ids that are left out.
        tenant, shard_key: of the request.

    Raises:
        SearchError: the field has no index by which documents can be ordered.
    """
    selector = {"shard_key_selector": shard_key["shard_key"]} if shard_key else {}
    field = quoted(field_of(view.layout, recent.field))
    order = models.OrderBy(key=field, direction=models.Direction.DESC)
    payload = models.PayloadSelectorInclude(include=id_fields(view.layout))
    found: dict[str, None] = {}
    while len(found) < recent.count:
        rest = without_ids(view, matching, [*others, *found], tenant)

        def read(rest: models.Filter | None = rest) -> list[models.Record]:
            return view.client.scroll(
                view.name, rest, limit=recent.count, order_by=order, with_payload=payload, **selector
            )[0]

        try:
            records = read_store(view, read)
        except SearchError as error:
            raise SearchError(
                "the newest documents cannot be found",
                where=f"collection {view.name!r}, search.recent.field {recent.field!r}",
                got=error.got,
                expected=f"a payload index of type {', '.join(ORDERED[:-1])} or {ORDERED[-1]}",
                do="name the field in populate.indexes and run diptych populate, which makes a missing index",
            ) from error
        if not records:
            break
        # A document with several values comes once for each, the highest first.
        found |= dict.fromkeys(from_payload(record.id, record.payload, view.layout).id for record in records)
    return list(found)[: recent.count]
