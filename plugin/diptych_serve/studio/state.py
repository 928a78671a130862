"""`GET /studio/api/state`: what is served, what can be asked of it, and what may be done."""

from __future__ import annotations

import asyncio
from typing import Any

from qdrant_client import models
from starlette.requests import Request
from starlette.responses import Response

from diptych import __version__
from diptych.collection.collection import Collection
from diptych.errors import CollectionNotFound, DiptychError
from diptych.handle.snapshot import View
from diptych.metadata.media_payloads import content_fields
from diptych.metadata.payload_paths import quoted
from diptych.metadata.payloads import field_of, from_payload
from diptych.search.qdrant.store_calls import read_store
from diptych_serve.service.allowed_inputs import accepted
from diptych_serve.service.route_context import Serving, json_of
from diptych_serve.studio.context import Studio
from diptych_serve.studio.sides import sides_of

SAMPLED, MOST_FIELDS = 8, 64  # documents whose keys are shown, and keys
_TYPES: dict[type, str] = {bool: "bool", int: "integer", float: "float", str: "keyword"}  # bool before int


async def state(request: Request) -> Response:
    """`GET /studio/api/state`."""
    serving, studio = Serving.of(request), Studio.of(request)
    collections = [asyncio.to_thread(_described, collection) for collection in serving.served.collections.values()]
    return json_of(
        {
            "version": __version__,
            "key_required": bool(serving.keys),
            "may": {"write": studio.writes, "judge": studio.judging is not None},
            "judged": await asyncio.to_thread(studio.sets.described, list(serving.served.collections.values())),
            "collections": await asyncio.gather(*collections),
        }
    )


def _described(collection: Collection) -> dict[str, Any]:
    """One collection; without slots while nothing has been populated, and with the error where it cannot be read."""
    empty = {"documents": 0, "sides": [], "slots": [], "tenants": False, "accepts": [], "fields": [], "limit": 0}
    try:
        view = collection.handle.now()
        return {"name": collection.name, **_facts(collection, view), "error": None}
    except CollectionNotFound:
        return {"name": collection.name, **empty, "error": "Nothing has been populated yet: diptych populate FILE"}
    except DiptychError as error:
        return {"name": collection.name, **empty, "error": str(error)}


def _facts(collection: Collection, view: View) -> dict[str, Any]:
    slots = [
        {
            "name": name,
            "kind": slot.kind,
            "of": slot.reading.modality,
            "adapter": slot.config.adapter,
            "generation": slot.generation.number if slot.generation else None,
            "vector": slot.generation.vector if slot.generation else None,
        }
        for name, slot in view.slots.items()
    ]
    return {
        "documents": read_store(view, lambda: view.client.count(view.name)).count,
        "sides": [side.facts for side in sides_of(collection)],
        "slots": slots,
        "tenants": view.tenancy is not None,
        "accepts": list(dict.fromkeys(accepted(collection))),
        "fields": fields_of(view),
        "limit": view.search_config.limit,
    }


def fields_of(view: View) -> list[dict[str, Any]]:
    """Payload keys that filters can use: those with an index, then those of some documents."""
    schema = read_store(view, lambda: view.client.get_collection(view.name)).payload_schema
    found = {key: {"key": key, "type": str(part.data_type.value), "indexed": True} for key, part in schema.items()}
    if view.tenancy is not None:  # whose documents these are is not for everybody
        return list(found.values())
    texts = [key for key in (view.layout.text, view.layout.title) if key]  # which may be long
    content = content_fields() if view.has_media else []
    left_out = models.PayloadSelectorExclude(exclude=[*texts, *view.copies, *content])
    records, _ = read_store(view, lambda: view.client.scroll(view.name, limit=SAMPLED, with_payload=left_out))
    for record in records:
        for name, value in from_payload(record.id, record.payload, view.layout).metadata.items():
            key = quoted(field_of(view.layout, name))
            if len(found) < MOST_FIELDS and (kind := _type(value)):
                found.setdefault(key, {"key": key, "type": kind, "indexed": False})
    return list(found.values())


def _type(value: Any) -> str | None:
    """The index type that fits a value; None for what filters cannot match."""
    if isinstance(value, list):
        return _type(value[0]) if value else None
    return next((name for kind, name in _TYPES.items() if isinstance(value, kind)), None)
