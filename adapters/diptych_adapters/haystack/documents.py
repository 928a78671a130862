"""Converts Haystack's documents to diptych's and back.

| Haystack | diptych |
|---|---|
| `id`, `content` | `id`, `text` |
| `meta["title"]`, if it is a text | `title` |
| the rest of `meta` | `metadata` |
| `blob` of `image/*`, `audio/*` or `video/*` | `media`, in a collection with a slot that reads it |
| another `blob`, or neither `content` nor media | refused |
| `score` | none: it belongs to a query; hits have one |
| `embedding`, `sparse_embedding` | none: the collection's encoders make the vectors |
| `meta["_diptych"]["media"]` | `media` |
| the rest of `meta["_diptych"]` | none: what a search says of a hit's text |
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from haystack import Document
from haystack.dataclasses import ByteStream, ImageContent

import diptych
from diptych.media import Media, RawMedia
from diptych_adapters.frameworks.hit_details import (
    SEARCH_KEY,
    Content,
    hit_details,
    media_details,
    media_of,
    require_document,
)
from diptych_adapters.frameworks.media import NO_MEDIA, Reads, mime_type
from diptych_adapters.haystack.errors import UnusableDocument

BLOB = "_blob"  # metadata key for the MIME type and `meta` of a blob, where its bytes do not tell them
_MODALITIES = {"image": "image", "audio": "sound", "video": "video"}  # by the first part of a MIME type


def to_diptych(document: Document, reads: Reads = NO_MEDIA) -> diptych.Document:
    """The document as diptych stores it.

    Args:
        reads: the media that the collection's slots read.

    Raises:
        UnusableDocument: it holds binary data that no slot reads, or neither text nor media, or is a passage that a
            search returned.
    """
    metadata = dict(document.meta)
    details = metadata.pop(SEARCH_KEY, None)
    media = media_of(details)
    if document.blob is not None:
        modality = _MODALITIES.get((document.blob.mime_type or "").split("/")[0])
        if modality not in reads.modalities:
            raise _lost(document.id, document.blob)
        media[modality] = document.blob.data
        metadata |= _blob_facts(document.blob)
    text = document.content or "" if media else text_of(document)
    require_document(details, where=f"document {document.id!r}", error=UnusableDocument)
    title = metadata.pop("title") if isinstance(metadata.get("title"), str) else ""
    return diptych.Document(document.id, text, title, metadata, media).checked()


def to_haystack(document: diptych.Document, score: float | None = None, reads: Reads = NO_MEDIA) -> Document:
    """The document as Haystack's components exchange it."""
    title = {"title": document.title} if document.title else {}
    metadata = {**title, **document.metadata}
    shown = _blobs(document, reads, metadata.get(BLOB))
    if shown:
        metadata.pop(BLOB, None)
    if details := media_details(document):
        metadata[SEARCH_KEY] = details
    text = None if document.media and not document.text else document.text
    return Document(id=document.id, content=text, blob=next(iter(shown.values()), None), meta=metadata, score=score)


def hit_to_haystack(hit: diptych.Hit, content: Content, reads: Reads) -> Document:
    """The hit's document, or its best passage alone, with passages and highlights in `meta["_diptych"]`."""
    document, details = to_haystack(hit.document, hit.score, reads), hit_details(hit, content)
    if not details:
        return document
    text = hit.passages[0].text if "passage" in details else document.content
    return replace(
        document, content=text, meta={**document.meta, SEARCH_KEY: {**document.meta.get(SEARCH_KEY, {}), **details}}
    )


def checked(documents: object) -> list[Document]:
    """The documents; raises if it is not a list of documents.

    Raises:
        UnusableDocument: they are not.
    """
    if not isinstance(documents, list):
        raise UnusableDocument("the documents are not a list", got=type(documents).__name__, expected="list[Document]")
    for position, document in enumerate(documents):
        if not isinstance(document, Document):
            raise UnusableDocument(
                "this is not a document",
                where=f"documents[{position}]",
                got=type(document).__name__,
                expected="haystack.Document",
            )
    return documents


def text_of(document: Document, meta_fields: Sequence[str] = (), separator: str = "\n") -> str:
    """The text that a model reads: these fields of `meta`, if present, and the content.

    Raises:
        UnusableDocument: it has no text.
    """
    if document.content is None or not document.content.strip():
        raise UnusableDocument(
            "a document has no text",
            where=f"document {document.id!r}",
            got="content: None" if document.content is None else f"content: {document.content!r}",
            do="convert or leave out what holds no text before it comes here",
        )
    fields = [str(value) for name in meta_fields if (value := document.meta.get(name)) is not None]
    return separator.join([*fields, document.content])


def media_of_query(media: Mapping[str, Any]) -> dict[str, RawMedia]:
    """The media of a query by modality: byte streams as their bytes, images of chat messages too, all else as it is."""
    return {modality: _content_of(content) for modality, content in media.items()}


def _content_of(given: Any) -> Any:
    if isinstance(given, ByteStream):
        return given.data
    return base64.b64decode(given.base64_image) if isinstance(given, ImageContent) else given


def _blobs(document: diptych.Document, reads: Reads, facts: Any) -> dict[str, ByteStream]:
    """The first media whose bytes the collection returned, as a blob by modality; empty without any."""
    for modality in _MODALITIES.values():
        own = document.media.get(modality)
        if modality in reads.modalities and isinstance(own, Media) and own.data is not None:
            known = facts if isinstance(facts, dict) else {}
            kind = known.get("mime_type", mime_type(own.data))
            return {modality: ByteStream(own.data, meta=known.get("meta", {}), mime_type=kind)}
    return {}


def _blob_facts(blob: ByteStream) -> dict[str, Any]:
    """What of a blob its bytes do not tell, as metadata."""
    if not blob.meta and blob.mime_type == mime_type(blob.data):
        return {}
    return {BLOB: {"mime_type": blob.mime_type, "meta": blob.meta}}


def _lost(identifier: str, blob: ByteStream) -> UnusableDocument:
    return UnusableDocument(
        "a document holds binary data, which a collection would lose",
        where=f"document {identifier!r}",
        got=f"a blob of {len(blob.data)} bytes",
        do="keep the path of the file in meta, and leave blob out; a slot `of: image` reads pictures",
    )
