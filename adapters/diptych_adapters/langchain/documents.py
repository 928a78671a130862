"""Converts LangChain's documents to diptych's and back; text, metadata, media and id survive a round trip.

What a search says of a hit's text lies in one more key of the metadata, `_diptych`, which is not stored when the
document is added again; `media` in it are the document's. diptych reserves that key in any collection. It also repeats
the values that a search set beside it, such as `_score`, and keeps the document's own values that they hide:

    {"_score": 0.5, "_diptych": {"set": {"_score": 0.5}, "hidden": {"_score": "the document's own, if it has one"}}}

A value that no longer equals the one in `set` was edited since, and is stored as it is.

In a collection with slots for media, the key `media` of the metadata holds them too, as path, URL or data: URI by
modality: `{"media": {"image": "lame.png"}}`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from langchain_core.documents import Document as Text
from qdrant_client import models

from diptych import Document, Hit
from diptych_adapters.frameworks.hit_details import (
    SEARCH_KEY,
    Content,
    hit_details,
    media_details,
    media_of,
    named,
    require_document,
)
from diptych_adapters.frameworks.media import MEDIA, Reads, as_text

_SET, _HIDDEN = "set", "hidden"  # in `_diptych`


def with_where(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a search, where a `filter` such as `{"section": "mail"}` is part of `where`."""
    given = options.get("filter")
    if not isinstance(given, Mapping) or given.keys() & models.Filter.model_fields.keys():
        return {**options}
    return {**options, "filter": None, "where": {**(options.get("where") or {}), **given}}


def to_diptych(text: Text, identifier: str | None, reads: Reads) -> Document:
    """The document; without an id it gets one derived from its content, so equal texts are one document.

    A title in the metadata becomes the document's title, which encoders read; an empty one is no title.

    Raises:
        DocumentError: it is a passage that a search returned, and would replace its whole document.
    """
    require_document(text.metadata.get(SEARCH_KEY), where=f"document {text.id!r}")
    metadata = _without_values(text.metadata)
    media = media_of(metadata.pop(SEARCH_KEY, None))
    if isinstance(metadata.get(MEDIA), Mapping) and reads.modalities:
        media |= metadata.pop(MEDIA)
    title = metadata.get("title") or ""
    if isinstance(title, str):
        metadata.pop("title", None)
    else:
        title = ""  # other values stay in the metadata, where populate refuses them with the reason
    own = {**metadata, SEARCH_KEY: named(media)} if media else metadata
    content = Document("", text.page_content, title, own)
    identifier = identifier or str(uuid.UUID(content.content_hash()))
    return Document(identifier, content.text, content.title, metadata, media)


def to_langchain(document: Document, reads: Reads) -> Text:
    """The document, its title and its media in its metadata."""
    title = {"title": document.title} if document.title else {}
    known = reads.modalities if MEDIA not in document.metadata else ()
    given = {
        modality: form
        for modality, content in document.media.items()
        if modality in known and (form := as_text(content))
    }
    media = {SEARCH_KEY: details} if (details := media_details(document)) else {}
    media |= {MEDIA: given} if given else {}
    return Text(id=document.id, page_content=document.text, metadata={**title, **document.metadata, **media})


def hit_to_langchain(hit: Hit, content: Content, reads: Reads, **values: Any) -> Text:
    """The hit's document, or its best passage alone; passages, highlights and `values` are in its metadata."""
    found, details = to_langchain(hit.document, reads), hit_details(hit, content)
    if details:
        found.metadata[SEARCH_KEY] = {**found.metadata.get(SEARCH_KEY, {}), **details}
    if "passage" in details:
        found.page_content = hit.passages[0].text
    return with_values(found, values) if values else found


def with_values(text: Text, values: Mapping[str, Any]) -> Text:
    """The document with `values` in its metadata; unless edited, they are not stored when it is added again."""
    details, own = text.metadata.get(SEARCH_KEY, {}), _without_values(text.metadata)
    # Copied, so that a value that is edited in place differs from what was set.
    all_set = _unedited(text.metadata) | deepcopy(dict(values))
    hidden = {key: own[key] for key in all_set if key in own}
    metadata = {**text.metadata, **values, SEARCH_KEY: {**details, _SET: all_set, _HIDDEN: hidden}}
    return text.model_copy(update={"metadata": metadata})


def _without_values(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata with the document's own values, or none, in place of those that `with_values` set."""
    own, hidden = dict(metadata), _details(metadata, _HIDDEN)
    for key in _unedited(metadata):
        if key in hidden:
            own[key] = hidden[key]
        else:
            del own[key]
    return own


def _unedited(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The values that `with_values` set and that nobody has changed or removed since."""
    return {key: value for key, value in _details(metadata, _SET).items() if key in metadata and metadata[key] == value}


def _details(metadata: Mapping[str, Any], name: str) -> dict[str, Any]:
    details = metadata.get(SEARCH_KEY)
    found = details.get(name) if isinstance(details, dict) else None
    return found if isinstance(found, dict) else {}
