"""What encoders do not read: what follows their limit, dropped in silence, letters unknown to them, and word order.

`unfit_slots` finds dense slots whose model cannot read a collection's texts, tells them hardly apart or does not read
the order of words, and lexical slots that do not cut texts into words.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np

from diptych.config.models import SearchConfig
from diptych.config.stages import Linear
from diptych.errors import AdapterCrashed
from diptych.protocols import Kind, TextAdvice, TokenLimit, VocabularyCheck
from diptych.reports import UnreadTokens
from diptych.runtime.panics import contained
from diptych.slots.encode import SAMPLE, Texts
from diptych.slots.slot import Slot
from diptych.types import Floats

MOST_UNREADABLE = 0.5  # measured in docs/research/languages.md
UNREAD_WEIGHT = 0.2  # beside 1 of other slots; measured in docs/research/measurements.md
SAME_ORDER = 0.99  # cosine; contextual encoders were at most .982, and static embeddings at least .997
LEAST_SPREAD = 0.55  # of documents, beside the spread of `PLAIN`; measured in docs/research/measurements.md
PLAIN = (  # texts that have nothing in common but plain English
    "rivers that flood in spring when the snow melts in the mountains",
    "an audio converter for the files of old tape recorders",
    "how do I mount an encrypted disk at boot without a password",
    "bread that is baked before dawn in a small village",
    "the court let the judge decide who pays for the bridge",
    "planets and moons seen through a telescope on a cold night",
    "songs for three voices, a flute and a drum",
    "doctors found a new treatment for children with asthma",
)
FLAWS = {
    "crowded": "its model tells these texts hardly apart, as those of a language it was not trained on",
    "unordered": "its model reads no order of words, as static embeddings",
}
LEAST_TEXTS = 20  # fewer texts may differ from those that follow, so they warn and decide nothing

FIRST, TOGETHER = 256, 64  # documents of a run that are counted in any case, and those counted between two looks
# Of the time of encoding: a static embedding takes no longer than its tokenizer, whose work counting repeats.
MOST_TIME = 0.04
# How far into a long document is tokenised, for each token that is read and at least; the rest is estimated.
CHARACTERS, LEAST = 6, 2000
AT_ONCE = 1_000_000  # characters tokenised in one call, whose spans take some 50 MB
PER_CHARACTER = 0.25  # tokens, where no text has been tokenised
# Above a tenth, every tenth query is lost to the slot if answers lie anywhere in a document.
MOST_UNREAD = 0.1
PASSAGE = 200  # tokens of the passages that the warning suggests


class UnreadCounter:
    """Adds up what one slot's encoder leaves unread in a run; threads may use one at once.

    Counting keeps to a share of the time that encoding takes, beyond which only a sample is counted. `failure` says why
    it has ended, "" while it goes on: an encoder that cannot count may still encode.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen, self._seconds_left = 0, 0.0
        self.total: UnreadTokens | None = None
        self.failure = ""

    def count(self, slot: Slot, inputs: Sequence[Any], seconds: float) -> None:
        """Count documents that the slot has encoded in so many seconds."""
        with self._lock:
            self._seconds_left += MOST_TIME * seconds
        for start in range(0, len(inputs), TOGETHER):
            part = inputs[start : start + TOGETHER]
            with self._lock:
                wanted, self._seen = self._seen < FIRST or self._seconds_left > 0, self._seen + len(part)
            if wanted and not self.failure:
                self._count(slot, part)
            elif self.total is not None:
                self.total = replace(self.total, sampled=True)

    def _count(self, slot: Slot, inputs: Sequence[Any]) -> None:
        begin = time.perf_counter()
        try:
            unread = unread_tokens(slot, inputs)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self.failure = f"{slot.where}: how much of the documents its encoder reads is unknown: {reason}"
            return
        if unread is not None:
            self.add(unread)
        with self._lock:
            self._seconds_left -= time.perf_counter() - begin

    def add(self, unread: UnreadTokens) -> None:
        """Add what was counted elsewhere."""
        with self._lock:
            self.total = unread if self.total is None else self.total + unread

    def take(self) -> UnreadTokens | None:
        """What was counted since the last call."""
        with self._lock:
            total, self.total = self.total, None
        return total


def unread_tokens(slot: Slot, inputs: Sequence[Any]) -> UnreadTokens | None:
    """What the slot's encoder leaves unread of these documents; None if it reads everything or does not say.

    A text with no more bytes than the limit has tokens is not tokenised.
    """
    if not slot.reads_texts or slot.reads_media:
        return None  # images have no tokens
    with contained(AdapterCrashed, "the encoder crashed", where=f"token_spans of {slot.where}"):
        return unread_by(slot.encoder, inputs) if isinstance(slot.encoder, TokenLimit) else None


def unread_by(encoder: TokenLimit, texts: Sequence[str]) -> UnreadTokens | None:
    """What an encoder leaves unread of these texts; None if it reads everything."""
    limit = encoder.max_tokens
    if limit is None:
        return None
    long = [text for text in texts if len(text.encode(errors="replace")) > limit]
    lengths = _lengths(encoder, long, limit)
    # Tokens of the inputs that are not long, which were not tokenised.
    characters = sum(map(len, long))
    return UnreadTokens(
        max_tokens=limit,
        documents=len(texts),
        longer=sum(length > limit for length in lengths),
        tokens=sum(lengths)
        + round((sum(map(len, texts)) - characters) * (sum(lengths) / characters if characters else PER_CHARACTER)),
        unread=sum(max(0, length - limit) for length in lengths),
    )


def sampled_unread(slot: Slot, texts: Sequence[Any]) -> UnreadTokens | None:
    """What the slot's encoder leaves unread of a sample of the documents; None if nothing is known of it."""
    unread = unread_tokens(slot, texts) if texts and slot.kind != "text_index" else None
    return replace(unread, sampled=True) if unread else None


def unread_warnings(found: Mapping[str, UnreadTokens]) -> list[str]:
    """A warning, with what to do, for each slot that leaves too large a share of all tokens unread."""
    return [
        f"slot {name!r}: {unread}, and no query of this slot finds what they say. Let it read passages, "
        f"passages: {{tokens: {min(PASSAGE, unread.max_tokens)}}} in the slot's section, or use a model that reads more"
        for name, unread in found.items()
        if unread.share > MOST_UNREAD
    ]


def _lengths(encoder: TokenLimit, texts: Sequence[str], limit: int) -> list[int]:
    """The number of tokens of each text; of very long ones it is estimated from the beginning."""
    part = max(LEAST, CHARACTERS * (limit + 1))
    lengths, pending = [0] * len(texts), list(range(len(texts)))
    while pending:
        unsure, size = [], max(1, AT_ONCE // part)
        for start in range(0, len(pending), size):
            places = pending[start : start + size]
            spans = encoder.token_spans([texts[place][:part] for place in places])
            for place, found in zip(places, spans, strict=True):
                lengths[place] = round(len(found) * max(1.0, len(texts[place]) / part))
                if len(found) <= limit and len(texts[place]) > part:
                    unsure.append(place)
        part, pending = 4 * part, unsure
    return lengths


@dataclass(frozen=True, slots=True)
class UnfitSlot:
    """A slot that is unfit for a collection's texts: its kind, the share of letters that it cannot read, of how many.

    `flaw` is what its vectors show where it can read most letters: it tells the texts hardly apart, or makes the same
    vector of the same words in any order.
    """

    name: str
    kind: Kind
    share: float
    texts: int
    flaw: Literal["", "crowded", "unordered"] = ""


def unfit_slots(slots: Sequence[Slot], texts: Texts, *, search: SearchConfig | None) -> list[UnfitSlot]:
    """The slots that cannot read most letters of the collection's texts, or whose vectors show another flaw.

    Args:
        slots: the slots that a search retrieves from.
        texts: gives a sample of the collection's texts.
        search: vectors are looked at only where this config decides no fusion of several slots.
    """
    unfit, fusion_is_open = [], search is not None and not {"fuse", "score_threshold"} & search.model_fields_set
    for slot in slots:
        kind, share = slot.spec.kind, 0.0
        if kind == "multivector" or slot.reads_media or not (sample := texts(SAMPLE, slot.reading)):
            continue
        if isinstance(slot.encoder, VocabularyCheck):
            with contained(AdapterCrashed, "the encoder crashed", where=f"unread_share of slot {slot.name!r}"):
                share = slot.encoder.unread_share(sample)
        if share > MOST_UNREADABLE:
            unfit.append(UnfitSlot(slot.name, kind, share, len(sample)))
        elif kind != "dense" or len(slots) < 2 or not fusion_is_open or len(sample) < LEAST_TEXTS:
            continue
        elif flaw := _flaw(slot, sample):
            unfit.append(UnfitSlot(slot.name, kind, share, len(sample), flaw))
    return unfit


def _flaw(slot: Slot, sample: Sequence[str]) -> Literal["", "crowded", "unordered"]:
    """What is wrong with the slot's vectors, by a few documents and `PLAIN`; "" for nothing, and for passages.

    Crowded: the mean cosine between documents is so high, beside that between plain texts, as a model has it for texts
    of another language. Unordered: words turned round make the same vector, as in static embeddings.
    """
    turned = [" ".join(reversed(text.split())) for text in PLAIN]
    texts = [*PLAIN, *turned, *sample[:LEAST_TEXTS]]
    vectors: list[Any] = [np.ravel(own) for own in cast("list[Floats]", slot.encode("document", texts, fresh=True))]
    if len({vector.size for vector in vectors}) > 1:
        return ""
    rows: Floats = np.array(vectors, np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    plain, other, documents = np.split(rows, [len(PLAIN), 2 * len(PLAIN)])
    if np.median((plain * other).sum(axis=1)) > SAME_ORDER:
        return "unordered"
    return "crowded" if _spread(documents) < LEAST_SPREAD * _spread(plain) else ""


def _spread(rows: Floats) -> float:
    """1 minus the mean cosine between two of the unit vectors `[n, dimension]`."""
    count = len(rows)
    return float(1 - (np.square(rows.sum(axis=0)).sum() - count) / (count * (count - 1)))


def text_advice(slots: Iterable[Slot], texts: Texts) -> list[str]:
    """What the slots' encoders advise for the first of the collection's texts."""
    found = []
    for slot in slots:
        if isinstance(slot.encoder, TextAdvice) and (sample := texts(SAMPLE, slot.reading)):
            with contained(AdapterCrashed, "the encoder crashed", where=f"text_advice of slot {slot.name!r}"):
                advice = slot.encoder.text_advice(sample)
            found += [f"slot {slot.name!r}: {advice}"] if advice else []
    return found


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
    weights, warnings, model = getattr(search.fuse, "weights", {}), [], "use a model for this language"
    for slot in unfit:
        weight = weights.get(slot.name, 1.0)
        fusion = f"{{kind: linear, normalize: zscore, missing: -2.5, weights: {{{slot.name}: {UNREAD_WEIGHT:g}}}}}"
        if slot.flaw:
            has = f"it has a weight of {weight:g} in search.fuse"
            does = has if weight <= UNREAD_WEIGHT else f"give it little weight: fuse: {fusion}"
            warnings.append(
                f"slot {slot.name!r}: {FLAWS[slot.flaw]}, so it is mostly weaker than a lexical slot: {does}; "
                "judged queries may show a better one: diptych tune search"
            )
            continue
        reason = "are in scripts without spaces, which it does not cut into words"
        if slot.kind == "text_index":
            then = ": set the slot's language to that of the texts, or tokenizer: multilingual"
        elif slot.kind != "dense":
            then = ": set the slot's language to that of the texts"
        else:
            reason = "are not in its model's vocabulary, or only in small pieces"
            then = f" and makes a hybrid search worse: {model}, or give the slot little weight: fuse: {fusion}"
            if retrieved < 2:
                then = f": {model}, or add a lexical slot"
            elif weight <= UNREAD_WEIGHT:
                then = f": it has a weight of {weight:g} in search.fuse; a model for this language would find more"
        letters = f"{slot.share:.0%} of the letters of the first {slot.texts} documents"
        warnings.append(f"slot {slot.name!r}: {letters} {reason}, so it finds little{then}")
    return warnings
