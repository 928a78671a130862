"""Finds unfit slots: dense ones whose model cannot read a collection's texts, lexical ones that do not cut them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from diptych.config.models import SearchConfig
from diptych.config.stages import Linear
from diptych.errors import AdapterCrashed
from diptych.protocols import Kind, VocabularyCheck
from diptych.runtime.panics import contained
from diptych.slots.calibration_texts import SAMPLE, Texts
from diptych.slots.slot import Slot

MOST_UNREAD = 0.5  # measured in docs/research/languages.md
UNREAD_WEIGHT = 0.2  # beside 1 of other slots; chosen on Russian, Chinese and Japanese
LEAST_TEXTS = 20  # fewer texts may differ from those that follow, so they warn and decide nothing


@dataclass(frozen=True, slots=True)
class UnfitSlot:
    """A slot that cannot read most of a collection's texts: its kind, their share of such letters, and how many."""

    name: str
    kind: Kind
    share: float
    texts: int


def unfit_slots(slots: Iterable[Slot], texts: Texts) -> list[UnfitSlot]:
    """The slots that cannot read most letters of the collection's texts.

    Args:
        slots: the slots that a search retrieves from.
        texts: gives a sample of the collection's texts.
    """
    unfit = []
    for slot in slots:
        if slot.spec.kind == "multivector" or slot.reads_media or not isinstance(slot.encoder, VocabularyCheck):
            continue
        sample = texts(SAMPLE, slot.reading)
        with contained(AdapterCrashed, "the encoder crashed", where=f"unread_share of slot {slot.name!r}"):
            share = slot.encoder.unread_share(sample) if sample else 0.0
        if share > MOST_UNREAD:
            unfit.append(UnfitSlot(slot.name, slot.spec.kind, share, len(sample)))
    return unfit


def unfit_fusion(names: Iterable[str]) -> Linear:
    """The fusion in which slots that cannot read the texts have little weight; Qdrant computes it in one request."""
    return Linear("zscore", dict.fromkeys(sorted(names), UNREAD_WEIGHT), missing=-2.5)


def vocabulary_warnings(unfit: Sequence[UnfitSlot], search: SearchConfig, retrieved: int) -> list[str]:
    """A warning for each unfit slot, with what becomes of it in the collection's searches.

    Args:
        unfit: the slots.
        search: the settings of the searches.
        retrieved: how many slots they retrieve from.
    """
    weights = getattr(search.fuse, "weights", {})
    return [
        f"slot {slot.name!r}: {slot.share:.0%} of the letters of the first {slot.texts} documents {_reason(slot)}, "
        f"so it finds little{_consequence(slot, weights, retrieved)}"
        for slot in unfit
    ]


def _reason(slot: UnfitSlot) -> str:
    if slot.kind == "dense":
        return "are not in its model's vocabulary, or only in small pieces"
    return "are in scripts without spaces, which it does not cut into words"


def _consequence(slot: UnfitSlot, weights: dict[str, float], retrieved: int) -> str:
    name, model = slot.name, "use a model for this language"
    if slot.kind == "text_index":
        return ": set the slot's language to that of the texts, or tokenizer: multilingual"
    if slot.kind != "dense":
        return ": set the slot's language to that of the texts"
    if retrieved < 2:
        return f": {model}, or add a lexical slot"
    if weights.get(name, 1.0) <= UNREAD_WEIGHT:
        return f": it has a weight of {weights[name]:g} in search.fuse; a model for this language would find more"
    fusion = f"{{kind: linear, normalize: zscore, missing: -2.5, weights: {{{name}: {UNREAD_WEIGHT:g}}}}}"
    return f" and makes a hybrid search worse: {model}, or give the slot little weight: fuse: {fusion}"
