"""Prints hits and groups of hits."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.color import Color
from rich.console import Console
from rich.padding import Padding
from rich.style import Style
from rich.text import Text

from diptych.cli.ui.output import printable, stderr, stdout, write_json
from diptych.media import Media

if TYPE_CHECKING:
    from diptych.collection.collection import Collection
    from diptych.search import HitGroup
    from diptych.types import Document, Hit

SNIPPET, PASSAGE = 140, 320  # characters of a hit's text, and of its best passage
WIDTH = 24  # columns of a picture; it has half as many lines


def pictures_of(collection: Collection, hits: Iterable[Hit], tenant: str | None) -> Mapping[str, bytes]:
    """Small pictures of the hits that have one, for a terminal that shows 24-bit colours; needs Pillow."""
    ids = [hit.id for hit in hits if {"image", "video"} & hit.document.media.keys()]
    if not ids or not sys.stdout.isatty() or stdout().color_system != "truecolor" or find_spec("PIL") is None:
        return {}
    from diptych.collection.thumbnails import thumbnails

    return thumbnails(collection.handle, ids, tenant=tenant)


def show_hits(
    name: str,
    texts: Sequence[str],
    found: Sequence[Sequence[Hit]],
    seconds: float,
    *,
    offset: int,
    pictures: Mapping[str, bytes],
    as_json: bool,
) -> None:
    """The hits of each query: JSON, lines with tabs when piped, or text with the pictures of `pictures_of`."""
    if as_json:
        answers = [[hit_document(hit) for hit in hits] for hits in found]
        queries = [{"query": text, "hits": hits} for text, hits in zip(texts, answers, strict=True)]
        return write_json({"collection": name, "seconds": round(seconds, 4), "queries": queries})
    if not sys.stdout.isatty():
        return _lines([printable(text) for text in texts], found, offset)
    console = stdout()
    for text, hits in zip(texts, found, strict=True):
        if len(texts) > 1:
            console.print(printable(text), style="bold underline", soft_wrap=True)
        if not hits:
            stderr().print("nothing found", style="dim")
        _hits(console, hits, offset, pictures)
    return None


def show_groups(
    name: str,
    texts: Sequence[str],
    found: Sequence[Sequence[HitGroup]],
    seconds: float,
    *,
    pictures: Mapping[str, bytes],
    as_json: bool,
) -> None:
    """The groups of each query: JSON, or as hits with the group's value before the rank."""
    if as_json:
        groups = [[{"value": g.value, "hits": [hit_document(hit) for hit in g.hits]} for g in own] for own in found]
        queries = [{"query": text, "groups": own} for text, own in zip(texts, groups, strict=True)]
        return write_json({"collection": name, "seconds": round(seconds, 4), "queries": queries})
    if not sys.stdout.isatty():
        for text, group in ((text, group) for text, own in zip(texts, found, strict=True) for group in own):
            _lines([f"{printable(text)}\t{printable(str(group.value))}"], [group.hits], 0)
        return None
    console = stdout()
    for text, own in zip(texts, found, strict=True):
        if len(texts) > 1:
            console.print(printable(text), style="bold underline", soft_wrap=True)
        if not own:
            stderr().print("nothing found", style="dim")
        for group in own:
            console.print(printable(str(group.value)), style="bold", soft_wrap=True)
            _hits(console, group.hits, 0, pictures)
    return None


def note_empty_tenant(collection: Collection, tenant: str | None) -> None:
    """Where nothing was found for a tenant: say on standard error if that one has no documents, perhaps misspelt."""
    if tenant is not None and not collection.count(tenant=tenant):
        stderr().print(f"tenant {printable(tenant)!r} has no documents", style="yellow", soft_wrap=True)


def note_threshold(collection: Collection, threshold: float | None, pipeline: str | None) -> None:
    """Where nothing was found: say on standard error from which score on hits are returned, if that is limited."""
    if threshold is None and pipeline is None:
        threshold = collection.handle.view.search_config.score_threshold
    if threshold is not None:
        stderr().print(
            f"hits of scores below {threshold:g}, the score threshold, are left out", style="yellow", soft_wrap=True
        )


def hit_document(hit: Hit) -> dict[str, Any]:
    """A hit as JSON values."""
    return {
        **document_fields(hit.document),
        "score": hit.score,
        "pinned": _is_pinned(hit),
        "stages": dict(hit.stages),
        "passages": list(hit.passages),
        "highlight": hit.highlight,
    }


def document_fields(document: Document) -> dict[str, Any]:
    """A document as JSON values, its media without their bytes."""
    return {
        "id": document.id,
        "text": document.text,
        "title": document.title,
        "metadata": dict(document.metadata),
        "media": {m: {"source": own.source, "digest": own.digest, "bytes": own.bytes} for m, own in media_of(document)},
    }


def media_of(document: Document) -> list[tuple[str, Media]]:
    """The document's media by modality, as the collection knows them."""
    return [(modality, content) for modality, content in document.media.items() if isinstance(content, Media)]


def _drawn(picture: bytes) -> Text:
    """A picture as half blocks: each character shows two pixels, one above the other."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.thumbnail((WIDTH, WIDTH))
    rows = np.asarray(image)
    rows = np.pad(rows, ((0, len(rows) % 2), (0, 0), (0, 0)))  # an odd last row has black below it
    text = Text(no_wrap=True)
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            text.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        text.append("\n")
    text.rstrip()
    return text


def _hits(console: Console, hits: Sequence[Hit], offset: int, pictures: Mapping[str, bytes]) -> None:
    for rank, hit in enumerate(hits, offset + 1):
        console.print(f"{rank:>3}  {hit.score:>8.4f}  ", end="", style="dim")
        console.print(printable(hit.id), style="bold cyan", soft_wrap=True, end="")
        console.print("  pinned" if _is_pinned(hit) else "", style="dim")
        # The excerpt, in which the words that match stand out.
        text = Text(_excerpt(hit))
        words = {hit.document.text[start:end] for start, end in hit.highlight.words} if hit.highlight else set()
        if words:
            text.highlight_regex(rf"\b(?:{'|'.join(map(re.escape, sorted(words)))})\b", "bold yellow")
        console.print(Padding(text, (0, 0, 0, 5)))
        if hit.id in pictures:
            console.print(Padding(_drawn(pictures[hit.id]), (0, 0, 0, 5), expand=False))
        elif hit.document.text.strip() or hit.document.title.strip():  # else its media are the excerpt
            for _, media in media_of(hit.document):
                console.print(Padding(Text(printable(str(media)), "dim"), (0, 0, 0, 5)))


def _is_pinned(hit: Hit) -> bool:
    from diptych.search.pins import PINNED

    return PINNED in hit.stages


def _excerpt(hit: Hit, *, limit: int | None = None) -> str:
    """Title and best sentence or passage on one line, or the beginning of the text."""
    best = hit.highlight.sentence if hit.highlight and hit.highlight.sentence else next(iter(hit.passages), None)
    if best is None:
        return snippet(hit.document, limit=limit or SNIPPET)
    return snippet(replace(hit.document, text=best.text), limit=limit or PASSAGE)


def snippet(document: Document, *, limit: int = SNIPPET) -> str:
    """Title and beginning of the text, on one line; of a document without either, its media."""
    parts = (document.title, document.text)
    if not any(part.strip() for part in parts):
        return printable(", ".join(str(own) for _, own in media_of(document)), limit=limit)
    return printable(": ".join(part for part in parts if part.strip()), limit=limit)


def _lines(texts: Sequence[str], found: Sequence[Sequence[Hit]], offset: int) -> None:
    for text, hits in zip(texts, found, strict=True):
        for rank, hit in enumerate(hits, offset + 1):
            fields = (
                text,
                str(rank),
                f"{hit.score:.6g}",
                printable(hit.id),
                _excerpt(hit, limit=1000),
            )
            sys.stdout.write("\t".join(fields) + "\n")
