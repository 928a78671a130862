"""Minimal pairs of pictures: twins in other colours or mirrored, to see what an encoder of pictures tells apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.evaluate.minimal_pairs import TWIN, MinimalPair, Property
from diptych.evaluate.qrels import Qrels
from diptych.media import MediaStore
from diptych.types import Document, Query

Pixels: TypeAlias = NDArray[np.uint8]
CHANGED = 4.0  # least mean difference, of 255, that makes a twin another picture
_COLOUR = re.compile(r"\b(?:red|orange|yellow|green|blue|purple|violet|pink|brown)\b", re.IGNORECASE)
_SIDE = re.compile(r"\b(?:left|right)(?:ward|wards)?\b", re.IGNORECASE)


def picture_pairs(
    queries: Iterable[Query], qrels: Qrels, documents: Mapping[str, Document], store: MediaStore
) -> list[MinimalPair]:
    """Make twins of judged documents, with what the query says of the picture changed in it.

    - `colour`, if the query names one: red becomes green, green blue, blue red, other hues likewise; greys stay.
    - `side`, if the query says either left or right: the picture is mirrored.

    Twins have their pictures as arrays and no text: a caption would give them away. A picture that hardly changes,
    because it is grey or symmetric, has no twin. `preferences` says how often a system prefers the documents.

    Args:
        queries: with ids, in English.
        qrels: documents of grade 1 or more are edited.
        documents: by id, with `image` among their media; others are skipped.
        store: reads the pictures, such as `collection.handle.media`.

    Raises:
        MediaError: a picture cannot be read.
    """
    pairs = []
    for query in queries:
        for name in sorted(qrels.relevant(query.id) & documents.keys()):
            for changed in _stated(query.text) if "image" in documents[name].media else ():
                twin = _twin(documents[name], changed, f"{name}~{changed}~{query.id}", store)
                pairs += [MinimalPair(query.id, name, twin, changed)] if twin else []
    return pairs


def _stated(query: str) -> list[Property]:
    """What a query says that can be changed in a picture."""
    sides = {found[0].lower()[:1] for found in _SIDE.finditer(query)}
    stated: list[Property] = ["colour"] if _COLOUR.search(query) else []
    return [*stated, "side"] if len(sides) == 1 else stated


def _twin(document: Document, changed: Property, name: str, store: MediaStore) -> Document | None:
    pixels: Any = store.content(store.take("image", document.media["image"]))
    edited: Pixels = np.ascontiguousarray(pixels[:, ::-1] if changed == "side" else pixels[..., [2, 0, 1]])
    if np.abs(edited.astype(np.int16) - pixels).mean() < CHANGED:
        return None
    metadata = {**document.metadata, TWIN: changed}
    return replace(document, id=name, title="", text="", media={"image": edited}, metadata=metadata)
