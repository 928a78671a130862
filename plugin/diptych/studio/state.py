"""`GET /studio/api/state`: what is served, what can be asked of it, and what may be done."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from diptych import __version__
from diptych.collection.collection import Collection
from diptych.errors import CollectionNotFound
from diptych.service.allowed_inputs import accepted
from diptych.service.route_context import Serving, json_of
from diptych.studio.context import Studio
from diptych.studio.sides import sides_of


async def state(request: Request) -> Response:
    """`GET /studio/api/state`."""
    serving, studio = Serving.of(request), Studio.of(request)
    collections = [await asyncio.to_thread(described, collection) for collection in serving.served.collections.values()]
    return json_of(
        {
            "version": __version__,
            "key_required": bool(serving.keys),
            "may": {"write": studio.writes, "judge": studio.judgements is not None},
            "judged": [{"name": folder.name} for folder in studio.queries],
            "collections": collections,
        }
    )


def described(collection: Collection) -> dict[str, Any]:
    """One collection; without slots while nothing has been populated."""
    try:
        view = collection.handle.now()
    except CollectionNotFound:
        return {"name": collection.name, "documents": 0, "sides": [], "slots": [], "fields": []}
    slots = [
        {
            "name": name,
            "kind": slot.kind,
            "of": slot.reading.modality,
            "adapter": slot.config.adapter,
            "generation": slot.generation.number if slot.generation else None,
        }
        for name, slot in view.slots.items()
    ]
    schema = collection.client.get_collection(collection.name).payload_schema
    return {
        "name": collection.name,
        "documents": collection.count(),
        "sides": [{"id": side.id, "label": side.label, "kind": side.kind} for side in sides_of(collection)],
        "slots": slots,
        "tenants": view.tenancy is not None,
        "accepts": list(dict.fromkeys(accepted(collection))),
        "fields": [{"key": key, "type": str(index.data_type.value)} for key, index in schema.items()],
        "limit": view.search_config.limit,
    }
