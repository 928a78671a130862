"""Finds the newest documents by a metadata field, which come first in every answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qdrant_client import models

from diptych.config.boost import Recent
from diptych.handle.snapshot import View
from diptych.metadata.payload_paths import quoted
from diptych.metadata.payloads import field_of, from_payload
from diptych.search.store_errors import ask


def recent_ids(
    view: View, recent: Recent, matching: models.Filter | None, shard_key: Mapping[str, Any]
) -> Sequence[str]:
    """Ids of the newest documents that match, newest first; documents without the field are never among them."""
    selector = {"shard_key_selector": shard_key["shard_key"]} if shard_key else {}
    order = models.OrderBy(key=quoted(field_of(view.layout, recent.field)), direction=models.Direction.DESC)
    records, _ = ask(
        view,
        lambda: view.client.scroll(view.name, matching, limit=recent.count, order_by=order, **selector),
    )
    return [from_payload(record.id, record.payload, view.layout).id for record in records]
