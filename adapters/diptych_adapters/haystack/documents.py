"""Converts Haystack's documents to diptych's and back.

| Haystack | diptych |
|---|---|
| `id`, `content` | `id`, `text` |
| `meta["title"]`, if it is a text | `title` |
| the rest of `meta` | `metadata` |
| `blob`, or no `content` | refused |
| `score` | none: it belongs to a query; hits have one |
| `embedding`, `sparse_embedding` | none: the collection's encoders make the vectors |
| `meta["_diptych"]["media"]` | `media` |
| the rest of `meta["_diptych"]` | none: what a search says of a hit's text |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from haystack import Document

import diptych
from diptych_adapters.haystack.errors import UnusableDocument
from diptych_adapters.hit_details import SEARCH_KEY, Content, hit_details, media_details, media_of, require_document


def to_diptych(document: Document) -> diptych.Document:
    """The document as diptych stores it.

    Raises:
        UnusableDocument: it holds binary data or no text, or is a passage that a search returned.
    """
    details = document.meta.get(SEARCH_KEY)
    media = media_of(details)
    text = document.content or "" if media else text_of(document)
    if document.blob is not None:
        raise UnusableDocument(
            "a document holds binary data, which a collection would lose",
            where=f"document {document.id!r}",
            got=f"a blob of {len(document.blob.data)} bytes",
            do="keep the path of the file in meta, and leave blob out",
        )
    metadata = dict(document.meta)
    metadata.pop(SEARCH_KEY, None)
    require_document(details, where=f"document {document.id!r}", error=UnusableDocument)
    title = metadata.pop("title") if isinstance(metadata.get("title"), str) else ""
    return diptych.Document(document.id, text, title, metadata, media).checked()


def to_haystack(document: diptych.Document, score: float | None = None) -> Document:
    """The document as Haystack's components exchange it."""
    title = {"title": document.title} if document.title else {}
    media = {SEARCH_KEY: details} if (details := media_details(document)) else {}
    return Document(id=document.id, content=document.text, meta={**title, **document.metadata, **media}, score=score)


def hit_to_haystack(hit: diptych.Hit, content: Content) -> Document:
    """The hit's document, or its best passage alone, with passages and highlights in `meta["_diptych"]`."""
    document, details = to_haystack(hit.document, hit.score), hit_details(hit, content)
    if not details:
        return document
    text = hit.passages[0].text if "passage" in details else document.content
    return replace(
        document, content=text, meta={**document.meta, SEARCH_KEY: {**media_details(hit.document), **details}}
    )


def checked(documents: object) -> list[Document]:
    """The documents; raises if it is not a list of documents.

    Raises:
        UnusableDocument: they are not.
    """
    if not isinstance(documents, list):
        raise UnusableDocument(
            "this is not a list of documents", got=type(documents).__name__, expected="list[Document]"
        )
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
