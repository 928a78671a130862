"""`offer`: whether a drift map is good enough to be offered, by what was measured of it. Never used without asking."""

from __future__ import annotations

from dataclasses import dataclass

from diptych.swap.drift.quality import Quality

# From tests/benchmarks/compare_drift.py; the table is in docs/drift.md.
PAIRS = 200  # with fewer, ten of the pairs' documents are too large a part of them for an overlap to mean much
KEPT = 0.6
GAIN = 0.02


@dataclass(frozen=True, slots=True)
class Offer:
    """The verdict and its reasons, with the measured numbers.

    Args:
        yes: whether to offer the map.
        why: one sentence for people.
    """

    yes: bool
    why: str


def offer(quality: Quality) -> Offer:
    """Offered is a map of at least 200 pairs that keeps at least .6 of the old encoder's top 10, and gains by mapping.

    The measure is taken on documents that the map was not fitted on, used as queries.
    """
    measured = _measured(quality)
    if quality.pairs < PAIRS:
        return Offer(False, f"{quality.pairs} pairs are too few to judge a map by; back-fill {PAIRS}. {measured}")
    if quality.kept < KEPT:
        return Offer(False, f"the map finds too little of what the old encoder found (asked: {KEPT:.2f}). {measured}")
    if quality.unmapped_kept is not None and quality.kept < quality.unmapped_kept + GAIN:
        return Offer(False, f"the new encoder's queries do as well without a map. {measured}")
    return Offer(True, f"the map finds enough of what the old encoder found (asked: {KEPT:.2f}). {measured}")


def _measured(quality: Quality) -> str:
    plain = "" if quality.unmapped_kept is None else f", {quality.unmapped_kept:.2f} without a map"
    shared = f"in common with a full re-encode {quality.overlap:.2f}, the old encoder's own {quality.old_overlap:.2f}"
    asked = "" if quality.query_overlap is None else f", {quality.queries} real queries {quality.query_overlap:.2f}"
    return (
        f"Measured on {quality.held_out} of {quality.pairs} documents that both encoded: {quality.kind} keeps "
        f"{quality.kept:.2f} of the old top 10{plain}; mean cosine {quality.likeness:.2f}; {shared}{asked}"
    )
