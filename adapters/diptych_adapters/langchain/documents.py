"""Converts LangChain's documents to diptych's and back; text, metadata and id survive a round trip.

What a search says of a hit's passages lies in one more key of the metadata, `_diptych`, which is not stored when the
document is added again. diptych reserves that key in any collection.
"""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import Any, Literal, TypeAlias

from langchain_core.documents import Document as Text

from diptych import Collection, Document, Hit, TenantCollection
from diptych.errors import DocumentError

Opened: TypeAlias = Collection | TenantCollection
Content: TypeAlias = Literal["document", "passage"]  # what `page_content` of a hit holds
SEARCH_KEY = "_diptych"


def to_diptych(text: Text, identifier: str | None) -> Document:
    """The document; without an id it gets one derived from its content, so equal texts are one document.

    A title in the metadata becomes the document's title, which encoders read; an empty one is no title.

    Raises:
        DocumentError: it is a passage that a search returned, and would replace its whole document.
    """
    metadata: dict[str, Any] = dict(text.metadata)
    details = metadata.pop(SEARCH_KEY, None)
    if isinstance(details, dict) and "passage" in details:
        raise DocumentError(
            "this is a passage of a document, not the document",
            where=f"document {text.id!r}",
            do='add the document itself; a search with content="document" returns it',
        )
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
    """The hit's document, or its best passage alone, with the passages in its metadata."""
    if not hit.passages:
        return to_langchain(hit.document, **more_metadata)
    passages = [asdict(own) for own in hit.passages]
    if content == "document":
        return to_langchain(hit.document, **more_metadata, **{SEARCH_KEY: {"passages": passages}})
    best = passages[0]
    details = {"passage": {"id": hit.id, **{name: best[name] for name in ("start", "end", "score")}}}
    found = to_langchain(hit.document, **more_metadata, **{SEARCH_KEY: details})
    return found.model_copy(update={"page_content": best["text"]})
