"""Converts LangChain's documents to diptych's and back; text, metadata and id survive a round trip.

What a search says of a hit's text lies in one more key of the metadata, `_diptych`, which is not stored when the
document is added again. diptych reserves that key in any collection.
"""

from __future__ import annotations

import uuid
from typing import Any, TypeAlias

from langchain_core.documents import Document as Text

from diptych import Collection, Document, Hit, TenantCollection
from diptych_adapters.hit_details import SEARCH_KEY, Content, hit_details, require_document

Opened: TypeAlias = Collection | TenantCollection


def to_diptych(text: Text, identifier: str | None) -> Document:
    """The document; without an id it gets one derived from its content, so equal texts are one document.

    A title in the metadata becomes the document's title, which encoders read; an empty one is no title.

    Raises:
        DocumentError: it is a passage that a search returned, and would replace its whole document.
    """
    metadata: dict[str, Any] = dict(text.metadata)
    require_document(metadata.pop(SEARCH_KEY, None), where=f"document {text.id!r}")
    title = metadata.get("title") or ""
    if isinstance(title, str):
        metadata.pop("title", None)
    else:
        title = ""  # other values stay in the metadata, where populate refuses them with the reason
    document = Document("", text.page_content, title, metadata)
    return Document(identifier or str(uuid.UUID(document.content_hash())), document.text, document.title, metadata)


def to_langchain(document: Document, **more_metadata: Any) -> Text:
    """The document, with the values of `more_metadata` added to its metadata."""
    title = {"title": document.title} if document.title else {}
    return Text(id=document.id, page_content=document.text, metadata={**title, **document.metadata, **more_metadata})


def hit_to_langchain(hit: Hit, content: Content, **more_metadata: Any) -> Text:
    """The hit's document, or its best passage alone, with passages and highlights in its metadata."""
    details = hit_details(hit, content)
    found = to_langchain(hit.document, **more_metadata, **({SEARCH_KEY: details} if details else {}))
    return found.model_copy(update={"page_content": hit.passages[0].text}) if "passage" in details else found
