"""Converts LangChain's documents to diptych's and back; text, metadata and id survive a round trip."""

from __future__ import annotations

import uuid
from typing import Any, TypeAlias

from langchain_core.documents import Document as Text

from diptych import Collection, Document, TenantCollection

Opened: TypeAlias = Collection | TenantCollection


def to_diptych(text: Text, identifier: str | None) -> Document:
    """The document; without an id it gets one derived from its content, so equal texts are one document.

    A title in the metadata becomes the document's title, which encoders read; an empty one is no title.
    """
    metadata: dict[str, Any] = dict(text.metadata)
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
