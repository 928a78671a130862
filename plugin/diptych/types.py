"""The values that travel between the parts of diptych. All are frozen.

| value | what it is |
|---|---|
| `Document` | what a collection holds: id, text, title, metadata, media |
| `Query` | a query: text or media, and an id and facts for evaluation |
| `SparseVector` | sorted term ids and their weights |
| `Passage` | a part of a document, with its score for a query |
| `Highlight` | what of a document answers a query: a sentence, and words |
| `Hit` | a document that a search found, with its score and passages |
| `Run` | for each query id, documents ranked by score, for evaluation |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from diptych.display import Cell, Display, Displayed, Excerpt, Picture, Table
from diptych.errors import ContractError, DocumentError, brief
from diptych.media import Media, RawMedia  # at run time, too: frameworks validate options that hold a Query

Floats: TypeAlias = NDArray[np.float32]
_JSON = json.JSONEncoder(sort_keys=True, default=str)
LONGEST_ID = 1024  # bits of an integer; Python writes no more than 4,300 digits
_TEXT = 'a string, "" if there is only a title or media'
Metadata: TypeAlias = Mapping[str, Any]  # JSON values, as Qdrant payloads hold them


@dataclass(frozen=True, slots=True)
class Document:
    """A document: the text to search, with id, title, metadata and media.

    Args:
        id: unique in the collection.
        text: what is encoded, with the title; may be empty beside media.
        title: may be empty.
        metadata: JSON values that filters can use.
        media: by modality, `image`, `sound` or `video`: a path, URL, bytes or array. What a
            collection returns are `diptych.media.Media`.
    """

    id: str
    text: str = ""
    title: str = ""
    metadata: Metadata = field(default_factory=dict)
    media: Mapping[str, RawMedia] = field(default_factory=dict)

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any], *, media: bool = False) -> Document:
        """A document from a mapping.

        Args:
            raw: `{"id" or "_id", "text", "title"?, "metadata"?, ...}`; other keys become metadata.
            media: whether `media` is such a key, or holds the media; then the text may be missing.

        Raises:
            DocumentError: no id, no text, or one of them of the wrong type.
        """
        rest = dict(raw)
        identifier = rest.pop("_id", rest.pop("id", None))
        found = rest.pop("media", None) or {} if media else {}
        if "text" not in rest and not found:
            raise DocumentError(
                "a document has no text",
                where=f"document {_id_text(identifier)!r}",
                got=f"the keys {brief(list(raw))}",
                expected=f'the key "text" with {_TEXT}',
                do="call the text's key 'text', or name it: --text-column KEY, in Python "
                "open_source(..., text_column=KEY)",
            )
        text, title = rest.pop("text", ""), rest.pop("title", None) or ""
        nested = rest.pop("metadata", None) or {}
        if not isinstance(nested, dict | Mapping):  # a dict is told at once, a mapping of another kind is not
            raise DocumentError(
                "metadata is not a mapping", where=f"document {identifier!r}", got=type(nested).__name__
            )
        if not isinstance(found, Mapping):
            expected = "an object such as {image: PATH}"
            raise DocumentError(
                "media is not a mapping", where=f"document {identifier!r}", got=brief(found), expected=expected
            )
        return cls(_id_text(identifier), text, title, {**rest, **nested}, found).checked()

    def checked(self) -> Document:
        """This document; raises if it cannot be indexed.

        Raises:
            DocumentError: the id is empty, or text or title is not a string, or there is nothing to encode.
        """
        if not (isinstance(self.id, str) and isinstance(self.text, str) and isinstance(self.title, str)):
            parts = (("id", self.id), ("text", self.text), ("title", self.title))
            name, value = next(part for part in parts if not isinstance(part[1], str))
            raise DocumentError(
                f"the {name} of a document is not a string",
                where=f"document {self.id!r}",
                got="None" if value is None else type(value).__name__,
                expected=_TEXT if name == "text" else "a string",
                do=f"give it a string as {name}, or leave the document out",
            )
        if not self.id:
            raise DocumentError("a document has no id", got=repr(self.text[:40]), expected='a non-empty "id" or "_id"')
        if not self.text.strip() and not self.title.strip() and not self.media:
            raise DocumentError("empty document", where=f"document {self.id!r}", do="give it a text, a title or media")
        return self

    def content_hash(self) -> str:
        """A hash of the whole content, of media of their bytes and sources. It changes exactly when the document does.

        Raises:
            DocumentError: media that no `diptych.media.MediaStore` has read yet.
        """
        metadata = _JSON.encode(dict(self.metadata)) if self.metadata else "{}"
        content = f"[{_JSON.encode(self.text)}, {_JSON.encode(self.title)}, {metadata}]"  # a list, written in JSON
        if self.media:
            content += _JSON.encode({modality: self._named(modality) for modality in self.media})
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    def as_dict(self) -> dict[str, Any]:
        """The document as JSON values, its media without their bytes."""
        media = {modality: own for modality, own in self.media.items() if isinstance(own, Media)}
        return {
            "id": self.id,
            "text": self.text,
            "title": self.title,
            "metadata": dict(self.metadata),
            "media": {m: {"source": own.source, "digest": own.digest, "bytes": own.bytes} for m, own in media.items()},
        }

    def _named(self, modality: str) -> list[str]:
        """Digest and source: a file that was moved must be written again, for a swap reads it where it is."""
        found = self.media[modality]
        digest, source = getattr(found, "digest", None), getattr(found, "source", None)
        if not isinstance(digest, str) or not isinstance(source, str):
            where, do = f"document {self.id!r}, media {modality!r}", "call MediaStore.take first, as populate does"
            raise DocumentError("media have not been read", where=where, do=do)
        return [digest, source]


def _id_text(identifier: object) -> str:
    """The id as text: integers are taken as their digits; None, booleans and floats are not ids."""
    if isinstance(identifier, str):
        return identifier
    if isinstance(identifier, int) and not isinstance(identifier, bool) and identifier.bit_length() <= LONGEST_ID:
        return str(identifier)
    raise DocumentError("a document has no usable id", got=brief(identifier), expected='"id" or "_id": text or integer')


@dataclass(frozen=True, slots=True)
class Query:
    """A query: its `text`, an `id` that links it to relevance judgements, and facts to group it by in `metadata`.

    `media`, as of a `Document`, may stand beside the text or, where the text is empty, alone.
    """

    text: str = ""
    id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)
    media: Mapping[str, RawMedia] = field(default_factory=dict, compare=False)


def said(query: Query) -> str:
    """The query in words: its text, and what names its media."""
    return " ".join(filter(None, (query.text, *(f"{modality}: {raw!s:.60}" for modality, raw in query.media.items()))))


@dataclass(frozen=True, slots=True, eq=False)
class SparseVector:
    """Term ids and weights: `indices` uint32 `[nnz]`, strictly ascending; `values` float32 `[nnz]`, finite."""

    indices: NDArray[np.uint32]
    values: Floats

    def __post_init__(self) -> None:
        if self.indices.shape != self.values.shape or self.indices.ndim != 1:
            raise ContractError(
                "a sparse vector's indices and values differ in shape",
                got=f"{self.indices.shape} and {self.values.shape}",
                expected="both [nnz]",
            )

    @classmethod
    def from_mapping(cls, weights: Mapping[int, float]) -> SparseVector:
        """From `weights`, `{term id: weight}`, sorted by id."""
        indices = sorted(weights)
        return cls(np.array(indices, np.uint32), np.array(list(map(weights.__getitem__, indices)), np.float32))

    def __len__(self) -> int:
        return len(self.indices)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparseVector):
            return NotImplemented
        return np.array_equal(self.indices, other.indices) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.indices.tobytes(), self.values.tobytes()))


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document that an encoder read on its own.

    Args:
        text: of the passage.
        start, end: where it stands in the document's text, in characters.
        score: of the passage alone, on the scale of its slot; higher is better.
    """

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Highlight:
    """What of a document answers the query: in its best passage, or in the document where there is none.

    Args:
        sentence: the one that the dense slot's encoder finds nearest to the query; None without such a slot.
        words: begin and end of each word that a sparse slot matches, in the document's text.
    """

    sentence: Passage | None = None
    words: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Hit(Displayed):
    """A document that a search found, with its score.

    Args:
        document: with the payload that the search requested.
        score: of the last stage that ranked it; higher is better.
        stages: scores by stage, where several stages gave one.
        passages: the best parts of the document, best first, where a slot of the pipeline has passages.
        highlight: what of the document answers the query, where the search was asked for it.
        point: the id of its point in Qdrant; None for hits that no search of a collection made.
        version: of that point as it was found, where the search reads it; a write raises it.
    """

    document: Document
    score: float
    stages: Mapping[str, float] = field(default_factory=dict)
    passages: tuple[Passage, ...] = ()
    highlight: Highlight | None = None
    point: int | str | UUID | None = field(default=None, compare=False, repr=False)
    version: int | None = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        """The document's own id."""
        return self.document.id

    def as_dict(self) -> dict[str, Any]:
        """The hit as JSON values; passages and highlight as they are, which JSON encoders of dataclasses take."""
        return {
            **self.document.as_dict(),
            "score": self.score,
            "stages": dict(self.stages),
            "passages": self.passages,
            "highlight": self.highlight,
        }

    def display(self) -> Display:
        """The hit alone."""
        return Display(f"score {self.score:.4f}", [hits_table([self])])

    @property
    def excerpt(self) -> Excerpt:
        """What of the document answers: its best sentence or passage, or its beginning, with matching words marked."""
        text, highlight = self.document.text, self.highlight
        best = highlight.sentence if highlight and highlight.sentence else next(iter(self.passages), None)
        words = highlight.words if highlight else ()
        if best is None:
            return Excerpt(text, words)
        if text[best.start : best.end] != best.text:  # of a group's parent, or of a text that was not asked for
            return Excerpt(best.text)
        inside = (place for place in words if best.start <= place[0] and place[1] <= best.end)
        return Excerpt(best.text, tuple((begin - best.start, end - best.start) for begin, end in inside))


KEYS, VALUE = 8, 60  # metadata keys of a hit that are shown, and characters of a value


def hits_table(hits: Sequence[Hit], *, first: int = 1, pictures: Mapping[str, bytes] | None = None) -> Table:
    """A row for each hit, ranks from `first` on: scores, its picture, and what the document says."""
    rows: list[tuple[Cell, ...]] = []
    for rank, hit in enumerate(hits, first):
        stages = [f"{name} {score:.4f}" for name, score in hit.stages.items()]
        scores = (f"{hit.score:.4f}", *(stages if len(stages) > 1 or "pinned" in hit.stages else ()))
        picture = (Picture(pictures.get(hit.id, b"")),) if pictures else ()
        document = hit.document
        title = " ".join(document.title.split())
        media = [str(own) if isinstance(own, Media | str) else name for name, own in document.media.items()]
        facts = [f"{key}: {str(value)[:VALUE]}" for key, value in document.metadata.items()]
        more = [f"and {len(facts) - KEYS} more"] if len(facts) > KEYS else []
        small = ", ".join([*media, *facts[:KEYS], *more])
        body = (hit.excerpt,) if document.text or hit.passages else ()
        shown = (f"{document.id}: {title}" if title else document.id, *body, *([small] if small else []))
        rows.append((str(rank), scores, *picture, shown))
    return Table(("", "score", *([""] if pictures else []), "document"), rows, numbers=(0, 1))


def heading(count: int, of: str, query: str | Query) -> str:
    """How much was found, and for what, where that is known: `2 hits for “mail”`."""
    asked = query if isinstance(query, str) else said(query)
    number = f"{count or 'no'} {of}{'' if count == 1 else 's'}"
    return f"{number} for “{asked[:200]}”" if asked else number


@dataclass(frozen=True, slots=True)
class Run:
    """The answers of one system to a set of queries, for evaluation.

    Args:
        name: of the system, for tables.
        rankings: for each query id, `(document id, score)` pairs, best first.
    """

    name: str
    rankings: Mapping[str, Sequence[tuple[str, float]]]

    @classmethod
    def from_hits(cls, name: str, queries: Sequence[Query], hits: Iterable[Sequence[Hit]]) -> Run:
        """From `hits`, the answers to `queries` in the same order, under `name`."""
        pairs = zip(queries, hits, strict=True)
        return cls(name, {query.id: [(hit.id, hit.score) for hit in found] for query, found in pairs})
