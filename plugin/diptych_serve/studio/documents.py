"""Whole documents and thumbnails: `POST /studio/api/document`, `GET /studio/api/media`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from qdrant_client import models
from starlette.requests import Request
from starlette.responses import Response

from diptych.collection.collection import Collection
from diptych.collection.documents import records_of
from diptych.collection.thumbnails import thumbnail_of
from diptych.errors import DiptychError
from diptych.handle.snapshot import View
from diptych.media.read import format_of
from diptych.metadata.media_payloads import MEDIA, OWN, content_fields, picture_items
from diptych.metadata.payloads import from_payload
from diptych_serve.service.bodies import Body
from diptych_serve.service.error_answers import Refused
from diptych_serve.service.requests import read, read_query
from diptych_serve.service.route_context import Serving
from diptych_serve.studio.display import document_fields
from diptych_serve.studio.search import json_text


class OneDocument(Body):
    """`POST /studio/api/document`: a document whole."""

    collection: str | None = None
    id: Annotated[str, Field(min_length=1, max_length=1024)]
    tenant: str | None = None


class OneMedia(OneDocument):
    """`GET /studio/api/media`: a small picture of a document's media."""

    name: Annotated[str, Field(max_length=40)] = "image"


async def document(request: Request) -> Response:
    """`POST /studio/api/document`."""
    serving = Serving.of(request)
    body = await read(request, OneDocument, serving.limits)
    collection = serving.served.collection(body.collection)
    return json_text(await asyncio.to_thread(_whole, collection, body))


async def media(request: Request) -> Response:
    """`GET /studio/api/media`: an image, which a browser can show and nothing else."""
    serving = Serving.of(request)
    body = read_query(request, OneMedia)
    collection = serving.served.collection(body.collection)
    content = await asyncio.to_thread(_small, collection, body)
    kind = "image/png" if format_of(content) == "PNG" else "image/jpeg"
    return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=300"})


def _whole(collection: Collection, body: OneDocument) -> dict[str, Any]:
    view = collection.handle.now()
    left_out = [*view.copies, *(content_fields() if view.has_media else ())]
    payload = models.PayloadSelectorExclude(exclude=left_out) if left_out else True
    record = record_of(view, body.id, body.tenant, payload=payload)
    if record is None:
        raise _none(collection, body)
    found = from_payload(record.id, record.payload, view.layout)
    return {"id": found.id, **document_fields(found, collection.name, tenant=body.tenant)}


def _small(collection: Collection, body: OneMedia) -> bytes:
    """The stored thumbnail, or one that is made now of bytes on this machine."""
    item = picture_items(_stored(collection, body)).get(body.name)
    if item is None:
        raise Refused(404, f"the document has no {body.name[:40]!r} that can be shown", code="no_picture")
    try:
        return thumbnail_of(collection.handle.view.media, body.name, item)
    except DiptychError as error:
        raise Refused(404, str(error), code="no_picture") from None


def _stored(collection: Collection, body: OneMedia) -> Mapping[str, Any]:
    """The part of the document's payload that is of its media."""
    fields = models.PayloadSelectorInclude(include=[f"{OWN}.{MEDIA}"])
    record = record_of(collection.handle.now(), body.id, body.tenant, payload=fields)
    if record is None:
        raise _none(collection, body)
    return record.payload or {}


def record_of(
    view: View,
    id: str,
    tenant: str | None,
    *,
    chosen: models.Filter | None = None,
    payload: bool | models.PayloadSelector = False,
) -> models.Record | None:
    """The point of a document, if the collection holds it for this tenant and it matches a filter.

    Raises:
        TenantError: no tenant where one is required, or one that cannot be.
        SearchError, StoreError: the store cannot answer.
    """
    return next(records_of(view, [id], tenant, chosen=chosen, payload=payload), None)


def _none(collection: Collection, body: OneDocument) -> Refused:
    what = f"collection {collection.name!r} holds no document {body.id[:80]!r}"
    return Refused(404, what, code="no_such_document", param="id")
