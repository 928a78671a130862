"""What a foreign collection holds: the layout of its payloads, stated or detected in a sample, and its vectors.

Vectors are paired with the slots of a config by kind, dimension and distance, or as stated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from qdrant_client import models

from diptych.errors import CollectionError
from diptych.metadata.payloads import (
    DERIVED,
    HEADER,
    LLAMA_INDEX,
    NATIVE,
    NODE,
    OWN,
    TEXT,
    Layout,
    find,
    hashed_point,
    own_point,
    without,
)
from diptych.protocols import Kind, Similarity
from diptych.runtime.validation_messages import nearest
from diptych.slots.slot import Slot
from diptych.stores.scroll import PointId

BY_HAND = "by hand"
LAYOUTS: Mapping[str, Layout] = {
    "langchain": Layout(text="page_content", title=None, id=None, metadata="metadata", origin="langchain"),
    "llama-index": Layout(text=TEXT, title=HEADER, id=None, metadata=None, origin=LLAMA_INDEX),
    "haystack": Layout(text="content", title=None, id="id", metadata="meta", origin="haystack"),
    "fastembed": Layout(text="document", title=None, id=None, metadata=None, origin="fastembed"),
}
# Usual keys of a text, the likeliest first; others that hold text come after them, the longest first.
_TEXTS = ("text", "content", "page_content", "document", "body", "chunk", "chunk_text", "passage", "abstract")
_MOST = 6  # keys that are tried as the text's
_IDS, _NESTS = ("id", "_id"), ("metadata", "meta")

Payload = Mapping[str, Any]
Params = models.VectorParams | models.SparseVectorParams
_SIMILARITIES: Mapping[models.Distance, Similarity] = {
    models.Distance.COSINE: "cosine",
    models.Distance.DOT: "dot",
    models.Distance.EUCLID: "euclidean",
}


def stated_layout(
    framework: str | None = None,
    *,
    text: str | None = None,
    title: str | None = None,
    id: str | None = None,
    metadata: str | None = None,
) -> Layout | None:
    """The layout that a user states: a framework's, with some keys replaced; None if nothing is stated.

    Raises:
        CollectionError: the framework is none of `LAYOUTS`, or no key of the text is given.
    """
    keys = {"text": text, "title": title, "id": id, "metadata": metadata}
    stated = {name: key for name, key in keys.items() if key is not None}
    if framework is None and not stated:
        return None
    if framework is not None and framework not in LAYOUTS:
        raise CollectionError("unknown layout", got=repr(framework), expected=", ".join(LAYOUTS))
    if framework is None and text is None:
        raise CollectionError(
            "a layout of your own needs the key of the text",
            got=", ".join(f"{k} {v!r}" for k, v in stated.items()),
            do="name the text's payload key as well: --text KEY, in Python text='KEY'; or a framework: --layout NAME",
        )
    base = LAYOUTS[framework] if framework else Layout(title=None, id=None, origin=BY_HAND)
    return base.model_copy(update=stated)


def layouts_of(
    points: Mapping[PointId, Payload], *, where: str, media: Mapping[str, str] | None = None
) -> list[Layout]:
    """The layouts that the points may have, the most likely first.

    Args:
        media: by modality, the key that names media. It is not taken for a text, and with it no text is required.

    Raises:
        CollectionError: the points have several layouts, or nothing in them is text.
    """
    named = dict(media or {})
    if named:  # the name of a file is not a text, and a collection of pictures may have no texts
        points = {point: reduce(without, named.values(), payload) for point, payload in points.items()}
    origins = Counter(_origin(payload) for payload in points.values() if _strings(payload))
    if len(origins) > 1:
        raise CollectionError(
            "the points were written in several layouts",
            where=where,
            got=", ".join(f"{count} of {len(points)} sampled as {origin}" for origin, count in origins.most_common()),
            expected="one",
            do="copy those of one kind into a collection of their own, or delete the others, and adopt that",
        )
    origin = next(iter(origins), BY_HAND)
    if origin == BY_HAND:
        texts = _texts(list(points.values()))[:_MOST]
        layouts = [layout for text in texts for layout in _titled(_around(text, points), points)]
    else:
        # The title, which may have been encoded as well, is tried from a framework's metadata.
        layouts = [NATIVE] if origin == NATIVE.origin else _titled(LAYOUTS[origin], points)
    layouts = layouts or ([_around("text", points)] if named else [])
    if not layouts:
        keys = sorted({key for payload in points.values() for key in payload})
        raise CollectionError(
            "the points hold no text",
            where=where,
            got=f"payload keys {', '.join(keys)}" if keys else "points without payload",
            expected="a key that holds text in every point",
            do="name it: --text KEY; vectors without their texts cannot be verified or re-encoded",
        )
    return [layout.model_copy(update={"media": named}) for layout in layouts]


def with_id(layout: Layout, points: Mapping[PointId, Payload]) -> Layout:
    """The layout with the facts about ids that the points show.

    Points that have a framework's keys and not its point ids were written by something else in its manner.
    """
    if layout.id is None:
        return layout
    ids = {point: find(payload, layout.id) for point, payload in points.items()}
    space = DERIVED.get(layout.origin)
    derived = space is not None and all(hashed_point(str(i), space) == point for point, i in ids.items())
    return layout.model_copy(
        update={
            "origin": layout.origin if derived or space is None else BY_HAND,
            "integer_ids": all(isinstance(identifier, int) for identifier in ids.values()),
            "own_points": all(own_point(str(identifier)) == point for point, identifier in ids.items()),
        }
    )


def _origin(payload: Payload) -> str:
    if OWN in payload and isinstance(payload.get("text"), str):
        return NATIVE.origin
    if NODE in payload:
        return LLAMA_INDEX
    if "page_content" in payload and "metadata" in payload:
        return "langchain"
    if {"content", "meta", "id"} <= payload.keys():
        return "haystack"
    return BY_HAND


def _titled(layout: Layout, points: Mapping[PointId, Payload]) -> list[Layout]:
    """The layout, and the same with a title from the metadata, if there is one."""
    title = f"{layout.metadata}.title"
    if layout.title or not layout.metadata or not any(isinstance(find(p, title), str) for p in points.values()):
        return [layout]
    return [layout, layout.model_copy(update={"title": title})]


def _texts(payloads: Sequence[Payload]) -> list[str]:
    """The keys that hold text in most points, the most likely first; includes one level of nesting."""
    lengths: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for payload in payloads:
        for path, value in _strings(payload):
            counts[path] += 1
            lengths[path] += len(value)
    usual = [path for path in counts if 2 * counts[path] > len(payloads) and path not in (*_IDS, "title")]
    return sorted(usual, key=lambda path: (_TEXTS.index(path) if path in _TEXTS else len(_TEXTS), -lengths[path]))


def _strings(payload: Payload) -> list[tuple[str, str]]:
    strings: list[tuple[str, str]] = []
    for key, value in payload.items():
        inner = value.items() if isinstance(value, Mapping) else ()
        strings += [(f"{key}.{name}", text) for name, text in inner if isinstance(text, str) and text.strip()]
        if isinstance(value, str) and value.strip():
            strings.append((key, value))
    return strings


def _around(text: str, points: Mapping[PointId, Payload]) -> Layout:
    """The layout of points whose text is under this key."""
    payloads = list(points.values())
    title = "title" if any(isinstance(payload.get("title"), str) for payload in payloads) else None
    origin = "fastembed" if text == "document" else BY_HAND
    id_key = nest = None
    for key in _IDS:  # under which every payload has a different id
        ids = [payload.get(key) for payload in payloads]
        if key != text and all(type(value) in (str, int) for value in ids) and len(set(ids)) == len(ids):
            id_key = key
            break
    for key in _NESTS:  # under which everything but text, title and id is
        if all(isinstance(p.get(key), Mapping) and p.keys() - {text, title, id_key} == {key} for p in payloads):
            nest = key
            break
    return Layout(text=text, title=title, id=id_key, metadata=nest, origin=origin)


@dataclass(frozen=True, slots=True)
class Physical:
    """A vector of the collection: its name, "" for the unnamed one, and its parameters in Qdrant."""

    name: str
    params: Params

    @property
    def kind(self) -> Kind:
        """The contract of encoders that make such vectors."""
        if isinstance(self.params, models.SparseVectorParams):
            return "sparse"
        return "multivector" if self.params.multivector_config else "dense"

    @property
    def size(self) -> int | None:
        """Length of a vector, or of a token's in a multi-vector; None for sparse ones."""
        return None if isinstance(self.params, models.SparseVectorParams) else self.params.size

    @property
    def similarity(self) -> Similarity | None:
        """How Qdrant compares them; None for sparse vectors, and for a distance that no encoder declares."""
        if isinstance(self.params, models.SparseVectorParams):
            return None
        return _SIMILARITIES.get(self.params.distance)

    def __str__(self) -> str:
        name = repr(self.name) if self.name else "the unnamed vector"
        if isinstance(self.params, models.SparseVectorParams):
            return f"{name} (sparse)"
        return f"{name} ({self.kind}, {self.params.size}, {self.params.distance.value})"


def physical_vectors(params: models.CollectionParams) -> dict[str, Physical]:
    """All vectors of a collection by name."""
    dense = params.vectors or {}
    vectors: dict[str, Params] = {**dense} if isinstance(dense, dict) else {"": dense}
    vectors |= params.sparse_vectors or {}
    return {name: Physical(name, vector_params) for name, vector_params in vectors.items()}


def matched(
    slots: Mapping[str, Slot], available: Mapping[str, Physical], stated: Mapping[str, str], *, where: str
) -> dict[str, Physical]:
    """The vector of each slot.

    Args:
        stated: vectors by slot as the user says; the others are found.

    Raises:
        CollectionError: a slot has no vector that its encoder could have made, or several.
    """
    pairs: dict[str, Physical] = {}
    for name, vector in stated.items():
        if name not in slots:
            what, do = f"the config has no slot {name!r}", nearest(name, slots)
            raise CollectionError(what, where=where, expected=", ".join(slots), do=do)
        at = f"{where}, slot {name!r}"
        if vector not in available:
            raise CollectionError(f"the collection has no vector {vector!r}", where=at, expected=_listed(available))
        if list(stated.values()).count(vector) > 1:
            raise CollectionError(f"two slots use the vector {vector!r}", where=where)
        pairs[name] = available[vector]
        if not _fits(slots[name], pairs[name]):
            what, do = "the slot's encoder cannot have made this vector", "name the encoder that filled the collection"
            got, expected = str(pairs[name]), _expected_vector(slots[name])
            raise CollectionError(what, where=at, got=got, expected=expected, do=do)
    open_slots = {name: slot for name, slot in slots.items() if name not in pairs}
    while open_slots:
        free = [physical for physical in available.values() if physical not in pairs.values()]
        choices: dict[str, list[Physical]] = {}
        for name, slot in open_slots.items():
            fitting = [physical for physical in free if _fits(slot, physical)]
            alike = [one for one in fitting if one.similarity == getattr(slot.encoder, "similarity", None)]
            choices[name] = alike or fitting
        decided = next((name for name, possible in choices.items() if len(possible) == 1), None)
        if decided is None:
            name = next(iter(choices))
            raise _undecided(slots[name], choices[name], available, where)
        pairs[decided] = choices[decided][0]
        del open_slots[decided]
    return {name: pairs[name] for name in slots}


def _fits(slot: Slot, physical: Physical) -> bool:
    if physical.kind != slot.kind or slot.kind == "sparse":
        return physical.kind == slot.kind
    return physical.size == slot.encoder.dimension and physical.similarity is not None


def _undecided(slot: Slot, choices: list[Physical], available: Mapping[str, Physical], where: str) -> CollectionError:
    if choices:
        return CollectionError(
            "several vectors could belong to the slot",
            where=f"{where}, {slot.where}",
            got="; ".join(map(str, choices)),
            expected="one",
            do=f"say which: --slot {slot.name}={choices[0].name}",
        )
    return CollectionError(
        "the collection has no vector that the slot's encoder could have made",
        where=f"{where}, {slot.where}",
        got=_listed(available),
        expected=_expected_vector(slot),
        do="name the encoder that filled the collection, or leave the slot out; it can be added later: diptych plan",
    )


def _expected_vector(slot: Slot) -> str:
    return "sparse" if slot.kind == "sparse" else f"{slot.kind}, {slot.encoder.dimension}, {slot.encoder.similarity}"


def _listed(available: Mapping[str, Physical]) -> str:
    return "; ".join(map(str, available.values())) or "no vectors"
