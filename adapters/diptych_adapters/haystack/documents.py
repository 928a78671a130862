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
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from haystack import Document
from haystack.core.errors import SerializationError
from haystack.dataclasses import ByteStream, ImageContent
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.errors import FilterError
from qdrant_client import models

import diptych
from diptych.errors import ConfigError, DocumentError, SearchError
from diptych.media import Media, RawMedia
from diptych_adapters.frameworks import (
    NO_MEDIA,
    SEARCH_KEY,
    Content,
    Opened,
    Reads,
    hit_details,
    media_details,
    media_of,
    mime_type,
    require_document,
)

Filters: TypeAlias = dict[str, Any] | models.Filter | None
Condition: TypeAlias = models.Condition
LOGICAL = ("AND", "OR", "NOT")
_EXAMPLE = '{"field": "meta.section", "operator": "==", "value": "sound"}'
_WITHOUT_PAYLOAD = ("blob", "embedding", "score", "sparse_embedding")
_NO_POINT = models.HasIdCondition(has_id=[])  # matches no point


def _equal(key: str, value: Any) -> Condition:
    if value is None:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
    if isinstance(value, float):
        return models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))
    if (moment := _moment(value)) is not None:
        same: Condition = models.FieldCondition(key=key, range=models.DatetimeRange(gte=moment, lte=moment))
    elif isinstance(value, int) and not isinstance(value, bool):
        same = models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))
    elif isinstance(value, str | bool):
        return models.FieldCondition(key=key, match=models.MatchValue(value=value))
    else:
        raise UnusableFilter(
            "Qdrant cannot compare with this value",
            where=f"field {key!r}",
            got=repr(value)[:80],
            expected="a text, number, truth value, date or None",
        )
    if isinstance(value, datetime):
        return same
    return models.Filter(should=[models.FieldCondition(key=key, match=models.MatchValue(value=value)), same])


def _any_of(key: str, value: Any) -> Condition:
    values = _checked_list(value)
    return models.Filter(should=[_equal(key, item) for item in values]) if values else _NO_POINT


def _negated(compare: Callable[[str, Any], Condition]) -> Callable[[str, Any], Condition]:
    return lambda key, value: models.Filter(must_not=[compare(key, value)])


def _ordered(bound: str) -> Callable[[str, Any], Condition]:
    def compare(key: str, value: Any) -> Condition:
        if value is None:
            return _NO_POINT
        if (moment := _moment(value)) is not None:
            return models.FieldCondition(key=key, range=models.DatetimeRange(**{bound: moment}))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return models.FieldCondition(key=key, range=models.Range(**{bound: value}))
        raise UnusableFilter(
            "only numbers and dates can be ordered",
            where=f"field {key!r}",
            got=repr(value)[:80],
            expected="a number, or a date in ISO 8601 such as 2025-02-03T04:05:06",
        )

    return compare


COMPARISONS: Mapping[str, Callable[[str, Any], Condition]] = {
    "==": _equal,
    "!=": _negated(_equal),
    ">": _ordered("gt"),
    ">=": _ordered("gte"),
    "<": _ordered("lt"),
    "<=": _ordered("lte"),
    "in": _any_of,
    "not in": _negated(_any_of),
}

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
            raise UnusableDocument(
                "a document holds binary data, which a collection would lose",
                where=f"document {document.id!r}",
                got=f"a blob of {len(document.blob.data)} bytes",
                do="keep the path of the file in meta, and leave blob out; a slot `of: image` reads pictures",
            )
        media[modality] = document.blob.data
        blob = document.blob
        if blob.meta or blob.mime_type != mime_type(blob.data):  # what the bytes do not tell
            metadata[BLOB] = {"mime_type": blob.mime_type, "meta": blob.meta}
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
            where, got = f"documents[{position}]", type(document).__name__
            raise UnusableDocument("this is not a document", where=where, got=got, expected="haystack.Document")
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
    of_chat = {name: base64.b64decode(own.base64_image) for name, own in media.items() if isinstance(own, ImageContent)}
    return {**media, **of_chat, **{name: own.data for name, own in media.items() if isinstance(own, ByteStream)}}


def _blobs(document: diptych.Document, reads: Reads, facts: Any) -> dict[str, ByteStream]:
    """The first media whose bytes the collection returned, as a blob by modality; empty without any."""
    for modality in _MODALITIES.values():
        own = document.media.get(modality)
        if modality in reads.modalities and isinstance(own, Media) and own.data is not None:
            known = facts if isinstance(facts, dict) else {}
            kind = known.get("mime_type", mime_type(own.data))
            return {modality: ByteStream(own.data, meta=known.get("meta", {}), mime_type=kind)}
    return {}


class UnusableFilter(SearchError, FilterError):
    """A filter that Haystack does not define, or that Qdrant cannot evaluate."""


class UnusableDocument(DocumentError, ValueError):
    """A document that cannot be stored or encoded completely."""


class DuplicateDocument(DocumentError, DuplicateDocumentError):
    """A document whose id exists, under a policy that forbids this."""


class NotSerializable(ConfigError, SerializationError):
    """A component with content that YAML cannot hold."""


def to_qdrant(filters: Filters, collection: Opened) -> models.Filter | None:
    """The filter for this collection, None without one; a Qdrant filter is returned unchanged.

    Raises:
        UnusableFilter: Haystack does not define it, or Qdrant cannot hold points to it.
    """
    if isinstance(filters, models.Filter):
        return filters
    return models.Filter(must=[_condition(filters, collection)]) if filters else None


def _condition(raw: object, collection: Opened) -> Condition:
    if not isinstance(raw, Mapping):
        raise UnusableFilter("a filter is not a mapping", got=repr(raw)[:80], expected=_EXAMPLE)
    operator = _required(raw, "operator")
    if operator in LOGICAL:
        return _logical(raw, collection)
    if operator not in COMPARISONS:
        operators = [*COMPARISONS, *LOGICAL]
        matches = difflib.get_close_matches(str(operator).lower(), {name.lower(): name for name in operators}, n=1)
        hint = f"did you mean {next(n for n in operators if n.lower() == matches[0])!r}?" if matches else ""
        raise UnusableFilter(
            f"unknown filter operator {operator!r}", where=repr(raw)[:120], expected=", ".join(operators), do=hint
        )
    field, value = _required(raw, "field"), _required(raw, "value")
    return _comparison(field, str(operator), value, collection)


def _required(raw: Mapping[str, Any], key: str) -> Any:
    if key not in raw:
        expected = f"{_EXAMPLE}, or an operator of {', '.join(LOGICAL)} with conditions"
        raise UnusableFilter(f"a filter lacks {key!r}", where=repr(dict(raw))[:120], expected=expected)
    return raw[key]


def _logical(raw: Mapping[str, Any], collection: Opened) -> Condition:
    conditions = _required(raw, "conditions")
    if not isinstance(conditions, list) or not conditions:
        raise UnusableFilter(
            f"{raw['operator']} has no conditions", got=repr(conditions)[:80], expected="a list of filters, not empty"
        )
    parts = [_condition(part, collection) for part in conditions]
    if raw["operator"] == "OR":
        return models.Filter(should=parts)
    together = models.Filter(must=parts)
    return models.Filter(must_not=[together]) if raw["operator"] == "NOT" else together


def _comparison(field: object, operator: str, value: Any, collection: Opened) -> Condition:
    if not isinstance(field, str) or not field or field in _WITHOUT_PAYLOAD:
        raise UnusableFilter("filters cannot read this field", got=repr(field), expected="content, id or meta.KEY")
    if field == "id":
        return _id_condition(operator, value, collection)
    key = collection.field("text" if field == "content" else field.removeprefix("meta."))
    return COMPARISONS[operator](key, value)


def _id_condition(operator: str, value: Any, collection: Opened) -> Condition:
    if operator not in ("==", "!=", "in", "not in"):
        raise UnusableFilter("ids cannot be ordered", where="field 'id'", got=operator, expected="==, !=, in, not in")
    ids = [value] if operator in ("==", "!=") else _checked_list(value)
    if not all(isinstance(identifier, str) for identifier in ids):
        raise UnusableFilter("an id is not text", where="field 'id'", got=repr(value)[:80])
    condition: Condition = collection.having(ids)
    return condition if operator in ("==", "in") else models.Filter(must_not=[condition])


def _checked_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UnusableFilter("`in` and `not in` need a list", got=repr(value)[:80], expected="a list of values")
    return value


def _moment(value: Any) -> datetime | None:
    """The point in time that a value names, None if it names none; times without a zone are UTC, as in Qdrant."""
    if isinstance(value, str) and len(value) >= len("2025-02-03") and value[4:8:3] == "--":
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
