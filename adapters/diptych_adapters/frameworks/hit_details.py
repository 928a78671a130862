"""A hit's passages, highlights and media as JSON values in the metadata of a framework's document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, TypeAlias

import numpy as np

from diptych import Document, Hit
from diptych.errors import DocumentError
from diptych.media import Media, RawMedia, from_json, to_json

Content: TypeAlias = Literal["document", "passage"]  # what the text of a hit's document is
SEARCH_KEY = "_diptych"  # metadata key for these values; diptych reserves it in any collection


def hit_details(hit: Hit, content: Content) -> dict[str, Any]:
    """The passages and highlights of a hit; empty where it has neither.

    Args:
        hit: of a search.
        content: with "document" `passages` has them all; with "passage" `passage` has the document's id and the place
            and score of the best one, which is the text. Places are always in the document's text.
    """
    details: dict[str, Any] = {}
    if hit.passages and content == "passage":
        best = hit.passages[0]
        details["passage"] = {"id": hit.id, "start": best.start, "end": best.end, "score": best.score}
    elif hit.passages:
        details["passages"] = [asdict(passage) for passage in hit.passages]
    if hit.highlight is not None:
        sentence, words = hit.highlight.sentence, hit.highlight.words
        details["highlight"] = {"sentence": sentence and asdict(sentence), "words": [list(place) for place in words]}
    return details


def media_details(document: Document) -> dict[str, Any]:
    """The document's media, without their bytes, as `media_of` takes them; empty where it has none."""
    media = {name: to_json(found) for name, found in document.media.items() if isinstance(found, Media)}
    return (
        {"media": {name: {k: v for k, v in raw.items() if k != "data"} for name, raw in media.items()}} if media else {}
    )


def media_of(details: object) -> dict[str, RawMedia]:
    """The media by modality that these details name: as `media_details` wrote them, or as `Document.media` takes them.

    Raises:
        MediaError: they are of neither form.
    """
    media = details.get("media") if isinstance(details, dict) else None
    if not isinstance(media, Mapping):
        return {}
    return {
        name: from_json({"modality": name, **raw}) if isinstance(raw, Mapping) else raw for name, raw in media.items()
    }


def named(media: Mapping[str, RawMedia]) -> dict[str, str]:
    """What tells these media from others, by modality."""

    def name(raw: RawMedia) -> str:
        if isinstance(raw, Media):
            return raw.key
        return raw.tobytes().hex() if isinstance(raw, np.ndarray) else str(raw)

    return {modality: name(raw) for modality, raw in media.items()}


def require_document(details: object, *, where: str, error: type[DocumentError] = DocumentError) -> None:
    """Raise `error` if these details, of a document that is to be stored, say that it is one passage of another."""
    if isinstance(details, dict) and "passage" in details:
        raise error(
            "this is a passage of a document, not the document",
            where=where,
            do='add the document itself; a search with content="document" returns it',
        )
