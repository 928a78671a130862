"""Prepares documents and hits for a page: texts cut to what it needs, with the words that match, and safe payloads.

Places in texts count UTF-16 units, as JavaScript does: an emoji is two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from diptych.handle.view import View
from diptych.metadata.payloads import PICTURED, quoted
from diptych.search.excerpts import matching_words
from diptych.search.request import SearchRequest
from diptych.search.store_calls import read_store
from diptych.types import Document, Hit, Passage
from diptych_serve.studio.answers import FieldFacts, ShownHit

SAMPLED, MOST_FIELDS = 8, 64  # documents whose keys are shown, and keys
_TYPES: dict[type, str] = {bool: "bool", int: "integer", float: "float", str: "keyword"}  # bool before int
WHOLE = slice(None)
SHOWN = 4000  # characters of a document's text in an answer
BEFORE = 200  # of them before its best passage
NAMED = 60  # characters of its text that name a document without a title
LONGEST, DEEPEST, WIDEST = 2000, 8, 200  # characters, levels and items of a payload's values
SAFE = 2**53 - 1  # the largest integer that JavaScript reads exactly
# Unicode's explicit directions (UAX 9): embeddings, overrides and isolates.
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def shown_hits(request: SearchRequest, hits: Sequence[Hit], collection: str) -> list[ShownHit]:
    """The hits as the page shows them, with the places of words that match.

    Args:
        request: the search.
        hits: its hits.
        collection: whose media are linked.
    """
    windows = [_window(hit) for hit in hits]
    texts = [hit.document.text[window] for hit, window in zip(hits, windows, strict=True)]
    return [
        ShownHit(
            **document_fields(hit.document, collection, tenant=request.tenant, window=window),
            score=hit.score,
            highlights=[(units(text[:start]), units(text[:end])) for start, end in places],
            passages=_passages(hit),
        )
        for hit, window, text, places in zip(hits, windows, texts, matching_words(request, texts), strict=True)
    ]


def document_fields(
    document: Document, collection: str, *, tenant: str | None = None, window: slice = WHOLE
) -> dict[str, Any]:
    """The fields of a `ShownDocument`.

    Args:
        document: as a collection returns it.
        collection: whose media are linked.
        tenant: whose document it is.
        window: the part of the text to show.
    """
    picture = next((modality for modality in document.media if modality in PICTURED), None)
    asked = {"collection": collection, "id": document.id, "name": picture}
    if tenant is not None:
        asked["tenant"] = tenant
    return {
        "id": document.id,
        "name": name_of(document),
        "title": document.title[:LONGEST],
        "text": document.text[window],
        "text_start": units(document.text[: window.start or 0]),
        "text_length": units(document.text),
        "thumbnail": f"/media?{urlencode(asked)}" if picture else None,
        "payload": {str(key)[:LONGEST]: plain(value) for key, value in list(document.metadata.items())[:WIDEST]},
    }


def name_of(document: Document) -> str:
    """What people know a document by: its title, else the first words of its text, else its id."""
    if title := document.title.strip():
        return title[:LONGEST]
    words = " ".join(document.text[: 10 * NAMED].split())
    if len(words) > NAMED:
        cut = words[: NAMED + 1].rpartition(" ")[0] or words[:NAMED]  # the whole last word, if there is room
        words = f"{cut.rstrip(' ,;:.')}…"
    return words or document.id


def one_direction(text: str) -> str:
    """A stranger's text for the midst of a sentence, without signs that turn the direction of writing."""
    return _TURNS.sub("", text)


def units(text: str) -> int:
    """The length of a text in UTF-16 units."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def plain(value: Any, deep: int = 0) -> Any:
    """A payload's value as JSON that a page can show: long texts and lists cut, large integers as text."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) <= SAFE else str(value)
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
    if isinstance(value, Mapping | list | tuple) and deep >= DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {str(key)[:LONGEST]: plain(own, deep + 1) for key, own in list(value.items())[:WIDEST]}
    if isinstance(value, list | tuple):
        cut = ["…"] if len(value) > WIDEST else []
        return [*(plain(own, deep + 1) for own in value[:WIDEST]), *cut]
    return str(value)[:LONGEST]


def _window(hit: Hit) -> slice:
    """What is shown of a hit's text: all of it, or from a little before its best passage."""
    length = len(hit.document.text)
    start = max(0, hit.passages[0].start - BEFORE) if hit.passages and length > SHOWN else 0
    start = max(0, min(start, length - SHOWN))
    return slice(start, start + SHOWN)


def _passages(hit: Hit) -> list[Passage]:
    text = hit.document.text
    return [
        replace(own, text=own.text[:SHOWN], start=units(text[: own.start]), end=units(text[: own.end]))
        for own in hit.passages
    ]


def fields_of(view: View) -> list[FieldFacts]:
    """Payload keys that filters can use: those with an index, then those of some documents."""
    schema = read_store(view, lambda: view.client.get_collection(view.name)).payload_schema
    found = {key: FieldFacts(key=key, type=str(part.data_type.value), indexed=True) for key, part in schema.items()}
    if view.tenancy is not None:  # whose documents these are is not for everybody
        return list(found.values())
    fields = view.metadata_fields
    records, _ = read_store(view, lambda: view.client.scroll(view.name, limit=SAMPLED, with_payload=fields))
    for record in records:
        for name, value in view.layout.read(record.id, record.payload).metadata.items():
            key = quoted(view.layout.field(name))
            if len(found) < MOST_FIELDS and (kind := _type(value)):
                found.setdefault(key, FieldFacts(key=key, type=kind, indexed=False))
    return list(found.values())


def _type(value: Any) -> str | None:
    """The index type that fits a value; None for what filters cannot match."""
    if isinstance(value, list):
        return _type(value[0]) if value else None
    return next((name for kind, name in _TYPES.items() if isinstance(value, kind)), None)
