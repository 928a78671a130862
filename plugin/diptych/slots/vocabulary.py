"""Warns if the vocabulary of a dense encoder does not fit a collection's texts, which makes a fusion worse."""

from __future__ import annotations

from collections.abc import Iterable

from diptych.errors import AdapterCrashed
from diptych.protocols import VocabularyCheck
from diptych.runtime.panics import contained
from diptych.slots.calibration_texts import SAMPLE, Texts
from diptych.slots.slot import Slot

MOST_UNREAD = 0.5  # measured in docs/languages.md: at most .14 in languages with Latin letters, .76 and more in others


def vocabulary_warnings(slots: Iterable[Slot], texts: Texts) -> list[str]:
    """A warning for each dense slot whose encoder cannot read most letters of the collection's texts.

    Args:
        slots: the slots that a search retrieves from.
        texts: gives a sample of the collection's texts.
    """
    warnings = []
    for slot in slots:
        if slot.kind != "dense" or not isinstance(slot.encoder, VocabularyCheck):
            continue
        sample = texts(SAMPLE, slot.reading)
        with contained(AdapterCrashed, "the encoder crashed", where=f"unread_share of slot {slot.name!r}"):
            share = slot.encoder.unread_share(sample) if sample else 0.0
        if share > MOST_UNREAD:
            warnings.append(
                f"slot {slot.name!r}: {share:.0%} of the letters of the first {len(sample)} documents are not in its "
                "model's vocabulary, or only one by one, so it finds little and makes a hybrid search worse: use a "
                "model for this language, or name only lexical slots in search.retrieve"
            )
    return warnings
