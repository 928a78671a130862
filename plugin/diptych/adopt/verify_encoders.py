"""`Verifier`: checks whether a config's encoders made the vectors of a collection, and if not, what would fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from diptych.adopt.layouts import Physical
from diptych.errors import CollectionError, FingerprintMismatch, MediaError
from diptych.media import MediaStore
from diptych.metadata.models import Reading
from diptych.metadata.payloads import Layout
from diptych.populate.rejects import reason_of
from diptych.populate.store import media_named
from diptych.slots.encode import Input, Side, Vector
from diptych.slots.guard import MINIMUM_LIKENESS, OTHER_NUMERICS
from diptych.slots.slot import Slot
from diptych.stores.scroll import plain_id
from diptych.types import Floats, SparseVector

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

MOST = 0.95  # of the sampled points must have the encoder's vectors; a few may have been written by something else
RELATED = 0.5  # vectors this near may be of the same model with words before the text
TRIAL = 16  # points with which variants are tried
_SEPARATORS = (" ", "\n", "\n\n", ". ", ": ")
# What models ask for before a text: E5, Nomic, BGE, EmbeddingGemma. Adapters have options for it.
_PROMPTS = ("passage: ", "query: ", "search_document: ", "search_query: ", "title: none | text: ")


@dataclass(frozen=True, slots=True)
class Likeness:
    """The cosine of stored and new vectors for each point, float32 `[n]`, in the order of the points."""

    values: Floats

    @property
    def median(self) -> float:
        """The median; 0 for no points."""
        return float(np.median(self.values)) if len(self.values) else 0.0

    @property
    def lowest(self) -> float:
        """The lowest; 0 for no points."""
        return float(self.values.min()) if len(self.values) else 0.0

    @property
    def foreign(self) -> list[int]:
        """The positions of points whose vectors the encoder did not make."""
        return np.flatnonzero(self.values < MINIMUM_LIKENESS).tolist()

    @property
    def fits(self) -> bool:
        """Whether the encoder made these vectors, with few exceptions."""
        return len(self.values) > 0 and len(self.foreign) <= (1 - MOST) * len(self.values)

    def __str__(self) -> str:
        return f"cosine of {len(self.values)} sampled points: median {self.median:.4f}, lowest {self.lowest:.4f}"


def likeness_of(stored: Sequence[Vector], encoded: Sequence[Vector], *, by_length: bool) -> Likeness:
    """The likeness of two lists of vectors.

    Args:
        by_length: whether lengths count: they do not where Qdrant normalises what it is given.
    """
    values = np.zeros(len(stored), np.float32)
    for place, pair in enumerate(zip(stored, encoded, strict=True)):
        a, b = _aligned(*pair)
        if a.shape == b.shape:
            lengths = float(a @ a + b @ b) / 2 if by_length else float(np.sqrt((a @ a) * (b @ b)))
            values[place] = float(a @ b) / lengths if lengths else float(not a.any() and not b.any())
    return Likeness(values)


def _aligned(stored: Vector, encoded: Vector) -> tuple[Floats, Floats]:
    """Both as plain arrays: sparse ones over the union of terms, multi-vectors token by token."""
    if isinstance(stored, SparseVector) and isinstance(encoded, SparseVector):
        terms = np.union1d(stored.indices, encoded.indices)
        return _dense(stored, terms), _dense(encoded, terms)
    if isinstance(stored, SparseVector) or isinstance(encoded, SparseVector):
        return np.zeros(0, np.float32), np.zeros(1, np.float32)
    return stored.ravel(), encoded.ravel()


def _dense(vector: SparseVector, terms: np.ndarray) -> Floats:
    row = np.zeros(len(terms), np.float32)
    row[np.searchsorted(terms, vector.indices)] = vector.values
    return row


@dataclass(frozen=True, slots=True)
class Trial:
    """A way in which vectors may have been made, how to express it in the config, and the resulting likeness."""

    layout: Layout
    reading: Reading
    side: Side = "document"
    prompt: str = ""

    def advice(self, config: Reading) -> str:
        """What to change in the config to match."""
        if self.prompt:
            return f"set the encoder's document_prompt: {self.prompt!r}"
        if self.side == "query":
            return "the documents were encoded as queries: give the encoder the query's prompt as its document_prompt"
        parts = [f"populate.input: [{', '.join(self.reading.input)}]"]
        if len(self.reading.input) > 1 and self.reading.separator != config.separator:
            parts.append(f"populate.separator: {self.reading.separator!r}")
        return f"set {' and '.join(parts)} in the config"


@dataclass(frozen=True, slots=True)
class Verified:
    """A slot's likeness, the points it was measured on, in the same order, and what the slot reads of them."""

    slot: str
    likeness: Likeness
    points: Sequence[int | str]
    read: str = "texts"

    def warnings(self) -> Iterator[str]:
        """A sentence about the points whose vectors the encoder did not make, if there are any."""
        foreign = [self.points[place] for place in self.likeness.foreign]
        if foreign:
            yield (
                f"slot {self.slot!r}: {len(foreign)} of {len(self.points)} sampled points have other vectors than the "
                f"encoder makes of their {self.read}, such as {', '.join(map(str, foreign[:3]))}: {self.read} that "
                "were changed alone, or another encoder; populating these documents, or a swap, makes their vectors "
                "anew"
            )


class Verifier:
    """Compares the vectors of sampled points with those that the slots' encoders make of their texts.

    Args:
        points: by slot, points that have the slot's vector.
        where: the collection, as errors name it.
        media: reads the media that payloads name.
    """

    def __init__(
        self,
        slots: Mapping[str, Slot],
        vectors: Mapping[str, Physical],
        points: Mapping[str, Sequence[Sampled]],
        *,
        where: str,
        media: MediaStore,
    ) -> None:
        self._slots, self._vectors, self._points, self._where = slots, vectors, points, where
        self._media = media

    def closest_layout(self, layouts: Sequence[Layout], reading: Reading) -> Layout:
        """The first layout that all slots fit, else the closest."""
        best, score = layouts[0], -1.0
        for layout in layouts if len(layouts) > 1 else ():
            likenesses = [self.likeness(name, Trial(layout, reading), TRIAL) for name in self._slots]
            if all(likeness.fits for likeness in likenesses):
                return layout
            lowest = min(likeness.median for likeness in likenesses)
            best, score = (layout, lowest) if lowest > score else (best, score)
        return best

    def likeness(self, name: str, trial: Trial, limit: int | None = None) -> Likeness:
        """The likeness of a slot's vectors to those made in this way."""
        slot, physical = self._slots[name], self._vectors[name]
        points, inputs, _ = self._inputs(name, trial)
        inputs = inputs[:limit]
        stored = [point.vectors[physical.name] for point in points[:limit]]
        encoded: Sequence[Vector] = slot.encode(trial.side, inputs) if inputs else []
        return likeness_of(stored, encoded, by_length=physical.similarity != "cosine")

    def require(self, layout: Layout, reading: Reading) -> dict[str, Verified]:
        """The likeness of each slot.

        Raises:
            FingerprintMismatch: a slot's encoder did not make its vectors; the text says what would fit.
            CollectionError: no sampled point has text and vector.
        """
        verified: dict[str, Verified] = {}
        for name in self._vectors:
            trial = Trial(layout, reading)
            likeness = self.likeness(name, trial)
            points, _, unreadable = self._inputs(name, trial)
            read, lacks = ("media", "readable media") if self._slots[name].reads_media else ("texts", "a text")
            if not points:
                raise CollectionError(
                    f"no sampled point has both the slot's vector and {lacks}",
                    where=self._at(name),
                    got=unreadable,
                    do="adopt without this slot; it can be added later: diptych plan, then diptych apply",
                )
            if not likeness.fits:
                raise self._mismatch(name, layout, reading, likeness)
            verified[name] = Verified(name, likeness, [point.id for point in points], read)
        return verified

    def _inputs(self, name: str, trial: Trial) -> tuple[list[Sampled], list[Input], str]:
        """The points with the slot's vector and its input, the inputs, and why the media of others cannot be read."""
        slot, points, inputs, unreadable = self._slots[name], list[Sampled](), list[Input](), ""
        modality, vector = slot.reading.modality, self._vectors[name].name
        for point in self._points[name]:
            if vector not in point.vectors:
                continue
            given: Input | None = None
            if slot.reads_media:
                raw = media_named(point.payload, trial.layout.media.get(modality, ""))
                try:
                    if raw is not None:
                        given = self._media.take(modality, raw)
                        self._media.content(given)  # a damaged file must not hide what the others show
                except MediaError as error:
                    unreadable = unreadable or f"point {point.id}: {reason_of(error)}"
                    continue
            else:
                document = trial.layout.read(point.id, point.payload)
                text = trial.reading.of(document.title, document.text)
                if text and (document.text or "text" not in trial.reading.input):  # others have a warning of their own
                    given = trial.prompt + text
            if given is not None:
                points.append(point)
                inputs.append(given)
        return points, inputs, unreadable

    def _mismatch(self, name: str, layout: Layout, reading: Reading, likeness: Likeness) -> FingerprintMismatch:
        trial, best = self._closest(name, layout, reading)
        if best.fits:
            do = f"{trial.advice(reading)} (with that: {best})"
        elif likeness.median >= OTHER_NUMERICS:
            do = "this may be the same model at another precision, backend or length: name the very one that was used"
        else:
            do = "name the encoder that filled the collection: adapter, model, and the prompts it was given"
        if not best.fits and likeness.median >= RELATED and not (layout.title or layout.media):
            do = f"{do}; if a title was encoded before the text, name its key: --text KEY --title KEY"
        slot, keys = self._slots[name], {"title": layout.title, "text": layout.text}
        media = layout.media.get(slot.reading.modality)
        named = [media] if media else [key for part in reading.input if (key := keys[part])]
        read = f" + {reading.separator!r} + ".join(f"payload key {key!r}" for key in named)
        return FingerprintMismatch(
            f"the encoder did not make these vectors (cosine {likeness.median:.4f})",
            where=self._at(name),
            got=f"{likeness}, with {slot.config.adapter} reading {read}",
            expected=f"{MINIMUM_LIKENESS} or more",
            do=do,
            likeness=likeness,
            fitting=trial if best.fits else None,
        )

    def _closest(self, name: str, layout: Layout, reading: Reading) -> tuple[Trial, Likeness]:
        """The closest variant; the first that fits, if any does."""
        best: tuple[Trial, Likeness] | None = None
        for trial in self._variants(name, layout, reading):
            likeness = self.likeness(name, trial, TRIAL)
            if best is None or likeness.median > best[1].median:
                best = trial, likeness
            if likeness.fits:
                break
        assert best is not None, "the encoder's query side is always tried"
        return best

    def _variants(self, name: str, layout: Layout, reading: Reading) -> Iterator[Trial]:
        """Variants to try: other readings, the other side, prompts; each gives the encoder other texts."""
        if self._slots[name].reads_media:
            yield Trial(layout, reading, side="query")
            return
        tried = [self._inputs(name, Trial(layout, reading))[1]]
        separated = (Reading(separator=separator) for separator in _SEPARATORS)
        for variant in (Reading(input=("text",)), *separated, Reading(input=("title",))):
            _, texts, _ = self._inputs(name, Trial(layout, variant))
            if texts not in tried:
                tried.append(texts)
                yield Trial(layout, variant)
        yield Trial(layout, reading, side="query")
        for shorter in (reading, Reading(input=("text",))):
            yield from (Trial(layout, shorter, prompt=prompt) for prompt in _PROMPTS)

    def _at(self, name: str) -> str:
        vector = self._vectors[name].name
        return f"{self._where}, slot {name!r}, {f'vector {vector!r}' if vector else 'the unnamed vector'}"


@dataclass(frozen=True, slots=True)
class Sampled:
    """A point: id, payload, and its vectors by physical name, "" for the unnamed one."""

    id: int | str
    payload: Mapping[str, Any]
    vectors: Mapping[str, Vector]


def sampled(client: QdrantBase, name: str, size: int, *, having: str | None = None) -> list[Sampled]:
    """At most `size` points chosen at random, those that have the vector `having` if one is named."""
    chosen = None
    if having is not None:
        chosen = models.Filter(must=[models.HasVectorCondition(has_vector=having)])
    response = client.query_points(
        name,
        query=models.SampleQuery(sample=models.Sample.RANDOM),
        query_filter=chosen,
        limit=size,
        with_payload=True,
        with_vectors=True,
    )
    return [Sampled(plain_id(point.id), point.payload or {}, _vectors(point.vector)) for point in response.points]


def _vectors(raw: Any) -> dict[str, Vector]:
    found: dict[str, Vector] = {}
    for name, value in (raw if isinstance(raw, dict) else {"": raw}).items():
        if isinstance(value, models.SparseVector):
            found[name] = SparseVector.from_mapping(dict(zip(value.indices, value.values, strict=True)))
        elif value is not None:
            found[name] = np.asarray(value, np.float32)
    return found
