"""`run_gate`: may the new encoders replace the old ones?

With judgements, a metric decides. Without them, a broken encoder fails, and a change of many answers needs the user's
consent. Coverage, canaries and the state of the stored vectors count in both cases.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.config.models import GateConfig
from diptych.display import Display, Displayed, Mood, Table, differences
from diptych.errors import FingerprintMismatch
from diptych.handle.view import View
from diptych.reports import GateSummary
from diptych.runtime.phases import phase
from diptych.search.fusion import PointId
from diptych.slots import guard
from diptych.slots.slot import Slot, parts_of
from diptych.swap.documents import Sampled, records_of_points, sample_documents
from diptych.swap.gate.answers import (
    Clock,
    KnownItem,
    Overlap,
    SideBySide,
    affordable,
    alone,
    fewer,
    known_items,
    neighbour_overlap,
    pipeline_of,
    query_obstacle,
    remembering,
    sampled_points,
    side_by_side,
    takes_words,
    without_common_rerankers,
)
from diptych.swap.gate.judged import Judged, JudgedComparison, compare_judged
from diptych.swap.vectors import Coverage, coverage
from diptych.types import Query

COLLAPSED = 0.999  # mean cosine of different documents; the narrowest useful models measured stay below .95
TOLERATED = 0.01  # share of a sample that may be empty, as of documents without a known word
LEAST_VECTORS = 10  # with fewer vectors, nothing is concluded

UNJUDGED = "no judgements: quality is not measured, only that the new encoders are not broken"
NOT_SEARCHED = "the searches were left out, because an encoder is not the one that filled its vector"
PIPELINE = "pipeline"
# A known item is a document that its own title, or an excerpt, should find. A swap fails if the whole interval shows
# that it loses more than this share of those that the old pipeline finds.
MOST_LOST = 0.25
# Where the old pipeline cannot answer, the share of known items that the new one must find. Measured: broken encoders
# found .50 and .64.
LEAST_FOUND = 0.7
POOR = 0.5  # share of known items found by the old pipeline, below which the check says little
LEAST_KEPT = 0.5  # share of the first 10 that the same encoders and vectors must still find with other storage
LEAST_ALIKE = 0.9  # share of the first 10 that a student must find of its teacher's

__all__ = ["GateReport", "Judged", "run_gate"]


@dataclass(frozen=True, slots=True)
class GateReport(GateSummary, Displayed):
    """What the gate measured and decided. `dataclasses.asdict` gives JSON values.

    Args:
        outcome, reasons: the decision, see `GateSummary`.
        coverage: one entry per new vector.
        canaries, vectors: one entry per changed slot.
        judged: the comparison by judgements; None without.
        overlaps: the whole pipeline's, then each changed slot's; empty with judgements or without queries.
        known_items: documents found by their beginnings, and by words from their middles, through the whole pipeline
            and through each changed slot alone; empty with judgements or without texts.
        samples: queries that are answered otherwise, side by side; empty with judgements or without texts.
        changed: the share of the first ten hits that differ; None if nothing could be compared.
        remarks: what limits the figures.
        untested: changed slots that no query reached: only their canaries and stored vectors were checked.
        sentence: the decision and what it rests on in one line, for the history and for errors.
    """

    coverage: tuple[Coverage, ...] = ()
    canaries: tuple[Canary, ...] = ()
    vectors: tuple[StoredVectors, ...] = ()
    judged: JudgedComparison | None = None
    overlaps: tuple[Overlap, ...] = ()
    known_items: tuple[KnownItem, ...] = ()
    samples: tuple[SideBySide, ...] = ()
    remarks: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()
    changed: float | None = None
    sentence: str = field(init=False)

    def __post_init__(self) -> None:
        untested = "".join(f"; no query reached slot {name!r}" for name in self.untested)
        basis = self.judged.sentence if self.judged else change_of(self)
        object.__setattr__(self, "sentence", f"{self.outcome}: {'; '.join(self.reasons) or basis}{untested}")

    def display(self) -> Display:
        """The decision, and what it was made of."""
        parts: list[Table | str] = _shown_judgements(self.judged) if self.judged and self.judged.queries else []
        if items := self.known_items:
            cells = differences([(item.difference, item.low, item.high) for item in items], digits=3)
            rows = [
                (
                    f"{item.of}: {item.by}",
                    f"{item.old:.1%} -> {item.new:.1%}",
                    *own,
                    f"{item.losses:,} of {item.found:,}",
                )
                for item, own in zip(items, cells, strict=True)
            ]
            columns = (f"{items[0].documents:,} documents, found by", "old -> new", "difference", "interval", "lost")
            parts.append(Table(columns, rows, numbers=range(1, 5)))
        if self.overlaps:
            shares = [(own.of, f"{own.mean:.2f}", f"{own.lowest:.2f}", str(own.documents)) for own in self.overlaps]
            parts.append(Table(("neighbours in common", "mean", "lowest", "documents"), shares, numbers=range(1, 4)))
        checks = [(own.vector, f"{own.points - own.missing:,} of {own.points:,} points") for own in self.coverage]
        checks += [
            (f"canaries of {own.slot}", own.problem if own.likeness is None else f"cosine {own.likeness:.4f}")
            for own in self.canaries
        ]
        if checks:
            parts.append(Table(("check", ""), checks))
        if self.samples:
            pairs: list[tuple[str, str]] = []
            for sample in self.samples:
                pairs.append((f"“{sample.query}”", f"{sample.common:.0%} in common"))
                pairs += zip_longest(sample.old, sample.new, fillvalue="")
            parts.append(Table(("old", "new"), pairs))
        remarks = dict.fromkeys((*(self.judged.remarks if self.judged else ()), *self.remarks))
        return Display(f"gate: {self.sentence}", [*parts, *remarks], mood=MOODS[self.outcome])


MOODS: Mapping[str, Mood] = {"passed": "good", "worse": "bad", "undecided": "warning", "not measured": "warning"}


def _shown_judgements(value: JudgedComparison) -> list[Table | str]:
    slices = [(str(own.slice), len(own.slice.queries), own.mean, own.low, own.high) for own in value.slices]
    listed = [("all", value.queries, value.difference, value.low, value.high), *slices]
    cells = differences([own[2:] for own in listed])
    rows = [(name, f"{count:,}", *own) for (name, count, *_), own in zip(listed, cells, strict=True)]
    columns = ("queries", "count", f"{value.metric}, new minus old", f"{100 * value.confidence:g}% interval")
    counts = f"queries better {value.wins:,}, equal {value.ties:,}, worse {value.losses:,}"
    change = f"{value.changed:.0%} of their first 10 hits change; the margin is {value.margin:g}"
    lost = [(own.text, f"{own.old:.3f}", f"{own.new:.3f}") for own in value.worst]
    worst = [Table(("queries that lost most", "old", "new"), lost, numbers=(1, 2))] if lost else []
    note = f"{value.old:.4f} -> {value.new:.4f}; {counts}; {change}"
    return [Table(columns, rows, numbers=range(1, 4)), note, *worst]


def run_gate(
    old: View,
    new: View,
    *,
    config: GateConfig,
    judged: Judged | None,
    clock: Clock = time.perf_counter,
) -> GateReport:
    """Compare the live pipeline with the new one on the same collection.

    Args:
        old, new: the two views; slots whose generations differ are the changed ones.
        config: the limits.
        judged: queries with judgements; None uses the checks that need none.
        clock: returns the time in seconds, of which `config.seconds` are for the searches.

    Raises:
        EvaluationError, MissingExtra: with judgements, an unknown metric, or ir-measures is not installed.
        SearchError, StoreError: a pipeline cannot be searched.
    """
    old, new = remembering(old), remembering(new)
    changed = changed_slots(old, new)
    generations = [slot.generation for slot in changed if slot.generation is not None]
    counts = tuple(coverage(new.client, new.name, own) for own in generations)
    with phase("gate: encode the canaries of the new encoders"):
        canaries = tuple(check_canary(slot) for slot in changed)
    # Gaps in vectors that are live already are no fault of the swap.
    new_vectors = {slot.vector for slot in changed} - {slot.vector for slot in old.slots.values()}
    mismatched = [f"slot {canary.slot!r}: {canary.problem}" for canary in canaries if canary.likeness is None]
    reasons = [
        f"{count.missing} of {count.points} points lack vector {count.vector!r}; "
        f"swap.gate.missing allows {config.missing}"
        for count in counts
        if count.vector in new_vectors and count.missing > config.missing
    ]
    reasons += mismatched
    if mismatched:
        return GateReport("worse", tuple(reasons), counts, canaries, remarks=(NOT_SEARCHED,))
    points = sampled_points(old, config.sample)
    documents = sample_documents(old, points)
    points = [document.point for document in documents] or points
    vectors = tuple(check_stored(new, slot, points) for slot in changed if slot.vector in new_vectors)
    reasons += [problem for health in vectors for problem in health.problems()]
    base = GateReport("not measured", tuple(reasons), counts, canaries, vectors, changed=None if points else 0.0)
    if judged is not None:
        report = _with_judgements(base, old, new, judged, config, clock)
    else:
        report = _without_judgements(base, old, new, documents, config, clock)
    asked = [Query("words of its own")] if judged is None else judged.asked
    searched = [slot for slot in changed if slot.name in pipeline_of(new).slots]
    untested = [slot for slot in searched if not any(parts_of(slot, query) for query in asked)]
    names, remarks = tuple(slot.name for slot in untested), list(report.remarks)
    for slot in untested:
        wanted = "words" if slot.takes_texts else f"{' or '.join(slot.query_inputs)} (queries.jsonl with media)"
        remarks.append(f"no query reaches slot {slot.name!r}: its encoder was not tested; judge queries with {wanted}")
    report = replace(report, untested=names, remarks=tuple(remarks))
    return _decided(report, config, _added(old, new))


def _decided(report: GateReport, config: GateConfig, added: Collection[str]) -> GateReport:
    """The report with its outcome: its reasons so far are faults. `added` slots had no earlier side to compare with."""
    comparison = report.judged
    if report.reasons:
        return replace(report, outcome="worse")
    if comparison is not None:
        faults = () if comparison.verdict == "passed" else (comparison.sentence,)
        return replace(report, outcome=comparison.verdict, reasons=faults)
    deaf = [
        f"the added slot {item.of!r} alone finds {item.new:.1%} of {item.documents} documents by {item.by}"
        for item in report.known_items
        if item.of in added and item.new < LEAST_FOUND
    ]
    few = report.changed is not None and report.changed <= config.unmeasured and not deaf
    reasons = (f"{change_of(report)}; swap.gate.unmeasured allows {config.unmeasured:.0%}", *deaf)
    return report if few or config.unmeasured == 1 else replace(report, reasons=reasons)


def changed_slots(old: View, new: View) -> list[Slot]:
    """The new view's slots whose generation, or query encoder, differs from the old view's, or is new."""
    return [
        slot
        for name, slot in new.slots.items()
        if (was := old.slots.get(name)) is None or (was.generation, was.asking) != (slot.generation, slot.asking)
    ]


def _with_judgements(
    base: GateReport, old: View, new: View, judged: Judged, config: GateConfig, clock: Clock
) -> GateReport:
    obstacle = query_obstacle(old)
    with phase(f"gate: search up to {len(judged.asked):,} judged queries"):
        comparison = compare_judged(None if obstacle else old, new, judged, config, clock=clock)
    return replace(
        base,
        reasons=(*base.reasons, *comparison.lost_slices),
        judged=comparison,
        changed=comparison.changed,
        remarks=(*_obstacle_remark(obstacle), *comparison.remarks),
    )


def _without_judgements(
    base: GateReport, old: View, new: View, documents: list[Sampled], config: GateConfig, clock: Clock
) -> GateReport:
    obstacle, pipelines = query_obstacle(old), without_common_rerankers(old, new)
    compared = {PIPELINE: pipelines}
    sides = [[branch.slot for branch in pipeline_of(view).retrieve] for view in (old, new)]
    # Slots that both retrieve from, unless such a slot is all that either retrieves from.
    if sides[0] != sides[1] or len(sides[0]) > 1 or any(pipeline_of(view).stages for view in (old, new)):
        both = [slot.name for slot in changed_slots(old, new) if all(slot.name in side for side in sides)]
        compared |= {name: (alone(name), alone(name)) for name in both}
    before, both_take_words = None if obstacle else old, all(map(takes_words, (old, new), pipelines))
    in_words = [name for name, pair in compared.items() if both_take_words and all(map(takes_words, (old, new), pair))]

    def measured(part: Sequence[Sampled]) -> tuple[list[Overlap], list[KnownItem], tuple[SideBySide, ...]]:
        pairs = [neighbour_overlap(name, old, new, part, pair) for name, pair in compared.items() if not obstacle]
        texts = [document for document in part if document.item] if both_take_words else []
        items = [
            item
            for name in in_words
            if texts
            for item in known_items(name, before, new, texts, compared[name], confidence=config.confidence)
        ]
        for pair in map(alone, _added(old, new)) if texts else ():
            if takes_words(new, pair):
                name = pair.slots[0]
                items += known_items(name, None, new, texts, (pair, pair), confidence=config.confidence)
        samples = side_by_side(before, new, texts, pipelines) if texts else ()
        return [pair for pair in pairs if pair is not None], items, samples

    with phase(f"gate: search up to {len(documents):,} documents by their own words"):
        sampled = affordable(old, documents, measured, seconds=config.seconds, clock=clock)
    (overlaps, items, samples), least = measured(sampled), _least_kept(old, new)
    too_different = [
        f"only {overlap.mean:.1%} of the first 10 that the same vectors gave before are still found, at least "
        f"{least:.0%} must be"
        for overlap in overlaps[:1]
        if overlap.mean < least
    ]
    base = replace(
        base,
        overlaps=tuple(overlaps),
        remarks=fewer(sampled, documents, "documents of the sample were searched", config.seconds),
        changed=1 - overlaps[0].mean if overlaps and not obstacle else base.changed,
    )
    if not items:
        remark = UNJUDGED if overlaps else "no point has a text: nothing was searched"
        return replace(base, reasons=(*base.reasons, *too_different), remarks=(*base.remarks, remark))
    lost, remarks = [reason for item in items if item.found for reason in _lost(item)], [UNJUDGED]
    first = items[0]
    if obstacle and first.new < LEAST_FOUND:
        found = f"{first.new:.1%} of {first.documents} documents are found by {first.by}"
        lost = [f"{found}, at least {LEAST_FOUND:.0%} must be"]
    elif not obstacle and first.old < POOR:
        remarks += [f"the old pipeline finds only {first.old:.0%} of known items: the check says little here"]
    return replace(
        base,
        reasons=(*base.reasons, *lost, *too_different),
        known_items=tuple(items),
        samples=samples,
        remarks=(*base.remarks, *_obstacle_remark(obstacle), *remarks),
    )


def _added(old: View, new: View) -> list[str]:
    """Changed slots from which only the new pipeline retrieves, beside others."""
    before, after = ([branch.slot for branch in pipeline_of(view).retrieve] for view in (old, new))
    changed = [slot.name for slot in changed_slots(old, new) if slot.name in after and slot.name not in before]
    return changed if len(after) > 1 else []


def _lost(item: KnownItem) -> list[str]:
    if item.high >= -MOST_LOST * item.old:
        return []
    slot = "" if item.of == PIPELINE else f"slot {item.of!r} alone: "
    return [
        f"{slot}fewer documents are found by {item.by}: {item.old:.1%} -> {item.new:.1%} of {item.documents} are "
        f"among the first 10 hits, exact interval of the difference [{item.low:+z.3f}, {item.high:+z.3f}]; a loss of a "
        "quarter is allowed"
    ]


def _least_kept(old: View, new: View) -> float:
    """The share of the first 10 that must stay; 0 where the views search different vectors, which may differ."""
    before, after = (
        {
            name: (generation.vector, generation.space)
            for name, slot in view.slots.items()
            if (generation := slot.generation)
        }
        for view in (old, new)
    )
    if before != after or pipeline_of(old) != pipeline_of(new):
        return 0.0
    students = [name for name, slot in new.slots.items() if slot.asking not in (None, old.slots[name].asking)]
    return LEAST_ALIKE if students else LEAST_KEPT


def _obstacle_remark(obstacle: str) -> list[str]:
    return [f"the old pipeline answers nothing, so the new one is measured alone: {obstacle}"] if obstacle else []


def change_of(report: GateReport) -> str:
    """How many answers change, in words."""
    if report.changed is None:
        return "no judgements, and no answers of both pipelines could be compared"
    if not report.overlaps:
        return "there is nothing to search"
    documents, first = report.overlaps[0].documents, 1 - report.overlaps[0].first
    first_hits = f", but {first:.0%} of the first hits" if first > report.changed else ""
    share = f"{report.changed:.0%} of the first 10 hits change{first_hits}"
    return f"no judgements; {share}, with {documents:,} documents as queries"


@dataclass(frozen=True, slots=True)
class Canary:
    """A slot's encoder now, compared with the one that filled its new vector.

    `likeness` is the lowest cosine over the canaries, the fixed texts whose vectors the collection stores to recognise
    its encoder; None, with the reason in `problem`, when it is another encoder.
    """

    slot: str
    likeness: float | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """A sample of a slot's stored new vectors.

    Args:
        slot, vector: their slot and physical vector.
        sampled: vectors checked; 0 for a text index, which has none.
        not_finite: vectors with NaN or infinity.
        empty: vectors that are zero, or have no term.
        alike: mean cosine of two of them; None if fewer than two.
        distinct: number of different vectors.
    """

    slot: str
    vector: str
    sampled: int
    not_finite: int = 0
    empty: int = 0
    alike: float | None = None
    distinct: int = 0

    def problems(self) -> list[str]:
        """Why these vectors cannot be searched; empty when they can."""
        problems = []
        if self.not_finite:
            problems.append(f"{self.not_finite} of {self.sampled} stored vectors hold NaN or infinity")
        if self.empty > TOLERATED * self.sampled:
            problems.append(f"{self.empty} of {self.sampled} stored vectors are empty")
        full = self.sampled - self.not_finite - self.empty
        if full >= LEAST_VECTORS and self.alike is not None and self.alike >= COLLAPSED:
            problems.append(f"stored vectors hardly differ: mean cosine {self.alike:.5f} of {full} documents")
        elif full >= LEAST_VECTORS and self.distinct < full / 2:
            problems.append(f"only {self.distinct} of {full} stored vectors are different")
        return [f"slot {self.slot!r}: {problem}" for problem in problems]


def check_canary(slot: Slot) -> Canary:
    """Compare the slot's encoder now with the record of the one that filled the vector."""
    generation = slot.generation
    if generation is None:
        return Canary(slot.name, None, "the slot has no generation")
    try:
        encoder = slot.encoder
        now = guard.fingerprint_of(encoder, slot.config.adapter, slot.config.options)
        return Canary(slot.name, guard.check(encoder, now, generation, where=slot.where).lowest)
    except FingerprintMismatch as error:
        return Canary(slot.name, None, str(error))


def check_stored(view: View, slot: Slot, points: Sequence[PointId]) -> StoredVectors:
    """Statistics of the stored vectors of these points."""
    if slot.kind == "text_index":
        return StoredVectors(slot.name, slot.vector, 0)
    stored = [record.vector for record in records_of_points(view.client, view.name, points, slot.vector)]
    # An unnamed vector comes without a mapping.
    vectors = [vector.get(slot.vector) if isinstance(vector, dict) else vector for vector in stored]
    rows = _matrix([vector for vector in vectors if vector is not None])
    finite = np.isfinite(rows).all(axis=1)
    good = rows[finite]
    norms = np.linalg.norm(good, axis=1)
    full = good[norms > 0] / norms[norms > 0, None]
    count, total = len(full), full.sum(axis=0)  # the mean cosine over all pairs follows from the length of the sum
    return StoredVectors(
        slot=slot.name,
        vector=slot.vector,
        sampled=len(rows),
        not_finite=int((~finite).sum()),
        empty=int((norms == 0).sum()),
        alike=float((total @ total - count) / (count * (count - 1))) if count > 1 else None,
        distinct=len(np.unique(full.round(5), axis=0)),
    )


def _matrix(vectors: Sequence[Any]) -> NDArray[np.float64]:
    """A row for each vector: dense as it is, the mean of a multi-vector, the weights of a sparse one over all terms."""
    if not (vectors and hasattr(vectors[0], "indices")):
        dense = [np.asarray(vector, np.float64) for vector in vectors]
        return np.stack([row.mean(axis=0) if row.ndim == 2 else row for row in dense]) if dense else np.zeros((0, 0))
    terms = np.unique(np.concatenate([vector.indices for vector in vectors]))
    rows = np.zeros((len(vectors), len(terms)))
    for row, vector in zip(rows, vectors, strict=True):
        row[np.searchsorted(terms, vector.indices)] = vector.values
    return rows
