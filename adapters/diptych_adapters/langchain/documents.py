"""Converts LangChain's documents to diptych's and back; text, metadata and id survive a round trip.

What a search says of a hit's text lies in one more key of the metadata, `_diptych`, which is not stored when the
document is added again. diptych reserves that key in any collection. It also names the values that a search puts
beside it, such as `_score`, with the document's own value that each of them hides.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, TypeAlias

from langchain_core.documents import Document as Text

from diptych import Collection, Document, Hit, TenantCollection
from diptych_adapters.hit_details import SEARCH_KEY, Content, hit_details, require_document

Opened: TypeAlias = Collection | TenantCollection
_HIDDEN = "hidden"  # in `_diptych`: the document's own value of each key that a search set, None if it had none


def to_diptych(text: Text, identifier: str | None) -> Document:
    """The document; without an id it gets one derived from its content, so equal texts are one document.

    A title in the metadata becomes the document's title, which encoders read; an empty one is no title.

    Raises:
        DocumentError: it is a passage that a search returned, and would replace its whole document.
    """
    metadata: dict[str, Any] = dict(text.metadata)
    details = metadata.pop(SEARCH_KEY, None)
    require_document(details, where=f"document {text.id!r}")
    for key, value in _hidden(details).items():
        metadata.pop(key, None)
        metadata |= {} if value is None else {key: value}
    title = metadata.get("title") or ""
    if isinstance(title, str):
        metadata.pop("title", None)
    else:
        title = ""  # other values stay in the metadata, where populate refuses them with the reason
    document = Document("", text.page_content, title, metadata)
    return Document(identifier or str(uuid.UUID(document.content_hash())), document.text, document.title, metadata)


def to_langchain(document: Document) -> Text:
    """The document, its title in its metadata."""
    title = {"title": document.title} if document.title else {}
    return Text(id=document.id, page_content=document.text, metadata={**title, **document.metadata})


def hit_to_langchain(hit: Hit, content: Content, **values: Any) -> Text:
    """The hit's document, or its best passage alone; passages, highlights and `values` are in its metadata."""
    found, details = to_langchain(hit.document), hit_details(hit, content)
    if details:
        found.metadata[SEARCH_KEY] = details
    if "passage" in details:
        found.page_content = hit.passages[0].text
    return with_values(found, values) if values else found


def with_values(text: Text, values: Mapping[str, Any]) -> Text:
    """The document with `values` in its metadata; they are not stored when the document is added again."""
    details = text.metadata.get(SEARCH_KEY, {})
    hidden = {key: text.metadata.get(key) for key in values} | _hidden(details)
    metadata = {**text.metadata, **values, SEARCH_KEY: {**details, _HIDDEN: hidden}}
    return text.model_copy(update={"metadata": metadata})


def _hidden(details: object) -> dict[str, Any]:
    hidden = details.get(_HIDDEN) if isinstance(details, dict) else None
    return hidden if isinstance(hidden, dict) else {}
