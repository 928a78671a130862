"""What the bridges to other frameworks share: collections, media, details of hits, and async by threads."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, TypeAlias, TypeVar

import numpy as np

from diptych import Collection, Document, Hit, Query, Reranker, TenantCollection
from diptych.config import Config
from diptych.encoders import Encoders, NamedEncoder
from diptych.errors import AdapterOptionsError, DocumentError
from diptych.media import Media, RawMedia, from_json, to_json
from diptych.media.read import format_of, is_url
from diptych.search import explain_options, score

MEDIA = "media"
_MIME_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
    "FLAC": "audio/flac",
    "Ogg": "audio/ogg",
    "MP3": "audio/mpeg",
    "AIFF": "audio/aiff",
    "WAV": "audio/wav",
    "MP4": "video/mp4",
    "WebM": "video/webm",
}

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class Reads(NamedTuple):
    """The modalities of media that a collection's slots read, and the folder that paths of media start from."""

    modalities: frozenset[str] = frozenset()
    root: Path = Path()

    @classmethod
    def of(cls, collection: Opened) -> Reads:
        """What the slots of an open collection read."""
        handle = collection.handle
        modalities = {slot.reading.modality for slot in handle.slots.values()} - {"text"}
        return cls(frozenset(modalities), handle.media.root)


NO_MEDIA = Reads()

Content: TypeAlias = Literal["document", "passage"]  # what the text of a hit's document is
SEARCH_KEY = "_diptych"  # metadata key for these values; diptych reserves it in any collection

Opened: TypeAlias = Collection | TenantCollection
Source: TypeAlias = str | Path | Mapping[str, Any] | Config | Opened | Encoders | None


def collection_of(source: str | Path | Opened) -> Opened:
    """The open collection, or one tenant's view of it, or that of a config file."""
    return source if isinstance(source, Opened) else Collection.open(source)


def encoders_of(source: Source) -> Encoders:
    """The encoders of a config or an open collection; of the installed adapters alone for None."""
    if isinstance(source, Encoders):
        return source
    return source.encoders if isinstance(source, Opened) else Encoders.open(source)


def encoder_of(
    source: Source, name: str | None, options: Mapping[str, Any] | None, kind: Literal["dense", "sparse"]
) -> NamedEncoder:
    """The encoder of this name, an adapter with these options; for None the only slot of this kind.

    Raises:
        UnknownAdapter: there is none of this name.
        AdapterOptionsError: it is of another kind, or no name is given and there is not exactly one slot of the kind.
    """
    encoders = encoders_of(source)
    slots = [name] if name else encoders.of_kind(kind)
    if len(slots) != 1:
        raise AdapterOptionsError(
            f"which {kind} encoder is meant?",
            where="encoder",
            got=f"{kind} slots: {', '.join(slots) or 'none'}",
            expected="one",
            do='name a slot or an adapter: encoder="NAME"',
        )
    return encoders.with_options(slots[0], options or {}).required(kind)


def fill(
    collection: Opened,
    documents: Iterable[Document],
    *,
    noun: str = "documents",
    error: type[DocumentError] = DocumentError,
    report_path: str | Path | None = None,
) -> None:
    """Populate the collection with documents of a framework, which calls them by `noun`.

    Raises:
        DocumentError: of class `error`; some cannot be indexed. The others are in the collection.
        PopulateError, ContractError: see `Collection.populate`.
    """
    report = collection.populate(documents, report_path=report_path, drop_media=True)
    if report.set_aside:
        raise error(
            f"{report.set_aside} of {report.read} {noun} cannot be indexed, the others are in the collection",
            where=f"collection {collection.name!r}, all of them in {report.report_file}",
            got="; ".join(f"{example.id}: {example.reason}" for example in report.examples),
            report=report,
        )


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


def explanations(
    collection: Opened, query: str | Query, hits: Sequence[Hit], options: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Why each hit of a search with these options has its rank, as JSON values."""
    ids = [hit.id for hit in hits]
    return [own.as_dict() for own in collection.explain(query, ids=ids, **explain_options(options))] if ids else []


def ranked(reranker: Reranker, query: str, texts: Sequence[str]) -> list[tuple[int, float]]:
    """The place and score of each text, best first; equal scores keep their order.

    Raises:
        ContractError: the reranker returns the wrong number of scores, NaN or infinity.
    """
    scores = score(reranker, query, texts)
    return [(int(place), float(scores[place])) for place in np.argsort(-scores, kind="stable")]


def float_lists(vectors: Iterable[Any]) -> list[list[float]]:
    """Dense vectors as the frameworks exchange them."""
    return [vector.tolist() for vector in vectors]


def media_details(document: Document) -> dict[str, Any]:
    """The document's media, without their bytes, as `media_of` takes them; empty where it has none."""
    read = {name: to_json(found) for name, found in document.media.items() if isinstance(found, Media)}
    media = {name: {key: value for key, value in raw.items() if key != "data"} for name, raw in read.items()}
    return {"media": media} if media else {}


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
    names: dict[str, str] = {}
    for modality, raw in media.items():
        other = raw.tobytes().hex() if isinstance(raw, np.ndarray) else str(raw)
        names[modality] = raw.key if isinstance(raw, Media) else other
    return names


def require_document(details: object, *, where: str, error: type[DocumentError] = DocumentError) -> None:
    """Raise `error` if these details, of a document that is to be stored, say that it is one passage of another."""
    if isinstance(details, dict) and "passage" in details:
        raise error(
            "this is a passage of a document, not the document",
            where=where,
            do='add the document itself; a search with content="document" returns it',
        )


def mime_type(data: bytes) -> str:
    """The MIME type of a file's bytes."""
    return _MIME_TYPES.get(format_of(data), "application/octet-stream")


def as_text(media: object) -> str:
    """The path, URL or data: URI of media that a collection returns; empty if it has none of them."""
    assert isinstance(media, Media), "a collection returns media that were read"
    if media.source or media.data is None:
        return media.source
    return f"data:{mime_type(media.data)};base64,{base64.b64encode(media.data).decode()}"


def resource_fields(media: RawMedia, root: Path) -> dict[str, Any]:
    """The `path`, `url` or, without a source, `data` of media; empty if there is none of them."""
    if isinstance(media, bytes):
        return {"data": media}
    if isinstance(media, Media):
        data = {} if media.data is None else {"data": media.data}
        return resource_fields(media.source, root) if media.source else data
    text = str(media)
    return {"url": text} if is_url(text) else {"path": str(root / text)}


def in_thread(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """An async method that runs the method of this name in a thread, so that the event loop is not blocked."""

    @wraps(method)
    async def run(self: S, /, *args: P.args, **options: P.kwargs) -> R:
        return await asyncio.to_thread(getattr(self, method.__name__), *args, **options)

    return run
