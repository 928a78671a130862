"""`offer`: decides from measurements whether a drift map is good enough to propose. It is never used unasked."""

from __future__ import annotations

from dataclasses import dataclass

from diptych.swap.drift.quality import Quality

# The rule of docs/drift.md, drawn from tests/benchmarks/compare_drift.py.
PAIRS = 200  # with fewer, the held-out tenth is too small to judge by
LIKENESS = 0.8
GAIN = 0.02


@dataclass(frozen=True, slots=True)
class Offer:
    """The verdict and its reasons.

    Args:
        yes: whether to offer the map.
        why: for people, with the measured numbers.
        unmapped: the map is good, but the new encoder's queries do as well without the map.
    """

    yes: bool
    why: str
    unmapped: bool = False

    @property
    def good(self) -> bool:
        """Whether the map may serve, even if queries do not need it: documents get old vectors only through it."""
        return self.yes or self.unmapped


def offer(quality: Quality) -> Offer:
    """Offer a map of at least 200 pairs with a held-out likeness of at least .8, if mapping improves answers.

    Mapping improves answers if real queries, or else held-out documents, find better neighbours with it than without.
    """
    measured = _measured(quality)
    if quality.pairs < PAIRS:
        return Offer(False, f"{quality.pairs} pairs are too few to judge a map by: back-fill {PAIRS}. {measured}")
    if quality.likeness < LIKENESS:
        return Offer(False, f"the map does not come near enough to the old vectors (asked: {LIKENESS:.2f}). {measured}")
    if not _gains(quality):
        return Offer(False, f"the new encoder's queries do as well without a map. {measured}", unmapped=True)
    return Offer(True, f"the map comes near enough to the old vectors (asked: {LIKENESS:.2f}). {measured}")


def _gains(quality: Quality) -> bool:
    if quality.query_overlap is not None and quality.unmapped_query_overlap is not None:
        return quality.query_overlap > quality.unmapped_query_overlap
    return quality.unmapped_kept is None or quality.kept >= quality.unmapped_kept + GAIN


def _measured(quality: Quality) -> str:
    rows = [
        f"likeness {quality.likeness:.2f}",
        f"of the old encoder's top 10 kept {_pair(quality.kept, quality.unmapped_kept)}",
        f"in common with a full re-encode {_pair(quality.overlap, quality.unmapped_overlap)}, "
        f"the old encoder itself {quality.old_overlap:.2f}",
    ]
    if quality.query_overlap is not None:
        overlap = _pair(quality.query_overlap, quality.unmapped_query_overlap)
        rows.append(f"the same with {quality.queries} real queries {overlap}")
    held_out = f"{quality.held_out} of {quality.pairs} documents that both encoded"
    return f"Measured of {quality.kind} on {held_out}: {'; '.join(rows)}"


def _pair(mapped: float, unmapped: float | None) -> str:
    return f"{mapped:.2f}" if unmapped is None else f"{mapped:.2f} (without a map {unmapped:.2f})"
