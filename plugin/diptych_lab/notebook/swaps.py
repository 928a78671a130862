"""Swaps: what a plan would do and cost, what the gate measured, what an apply did, and what verify found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from diptych.collection.verify import VerifyReport
from diptych.runtime.amounts import duration, size
from diptych.swap import (
    ApplyReport,
    Canary,
    GateReport,
    JudgedComparison,
    KnownItem,
    Plan,
    SideBySide,
    Step,
    change_of,
    details,
)
from diptych_lab.notebook.charts import differences
from diptych_lab.notebook.elements import (
    BAD,
    GOOD,
    GREY,
    WARNING,
    Content,
    Html,
    foreign,
    join,
    note,
    notes,
    page,
    table,
    tag,
    title,
    warning,
)


def plan(value: Plan) -> Html:
    """What an apply would do in each slot, and what it would cost."""
    estimated = any(step.rate for step in value.steps)
    names = ("slot", "change", "from", "to", "documents", "encode", "time", "disk", "memory")
    rows = [_step(step, estimated=estimated) for step in value.steps]
    shown = table(names[: 9 if estimated else 6], rows, right=4)
    estimate = note("times and sizes are estimated from a sample on this machine") if estimated else None
    lines = (note(foreign(line, limit=1000)) for line in details(value))
    return page(
        join(foreign(value.collection), f": {_to_do(value)}"),
        shown,
        *lines,
        estimate,
        *map(warning, value.warnings),
        mark=WARNING if value.warnings else GREY if not value.pending else "",
    )


def _to_do(value: Plan) -> str:
    if value.under_way:
        return "a swap is under way, which diptych apply continues and diptych rollback abandons"
    if not value.pending:
        return f"nothing to do, the collection of {value.documents:,} documents matches the config"
    steps = [step for step in value.steps if step.encode]
    if not steps:
        return "diptych apply changes settings; nothing is encoded"
    about = "about " if value.seconds >= 1 else ""
    time = f", in {about}{duration(value.seconds)}" if value.seconds else ""
    slots = "1 slot" if len(steps) == 1 else f"{len(steps)} slots"
    return f"diptych apply encodes {sum(step.encode for step in steps):,} vectors of {slots}{time}"


def _step(step: Step, *, estimated: bool) -> tuple[Content, ...]:
    counts = tuple(f"{count:,}" if count else "" for count in (step.points, step.encode))
    costs: tuple[str, ...] = ()
    if estimated:
        costs = (duration(step.seconds), f"+{size(step.disk)}", f"+{size(step.memory)}") if step.rate else ("", "", "")
    return tag("bdi", step.slot), change_of(step), foreign(step.live), foreign(step.wanted), *counts, *costs


MARKS = {"passed": GOOD, "worse": BAD, "undecided": WARNING, "not measured": WARNING}  # by the gate's outcome


def gatereport(value: GateReport) -> Html:
    """The decision, and what it was made of."""
    return page(foreign(value.sentence, limit=2000), *_gate(value), mark=MARKS[value.outcome])


def _gate(value: GateReport) -> Iterator[Html]:
    if value.judged is not None and value.judged.queries:
        yield from _judged(value.judged)
    if value.known_items:
        yield _known_items(value.known_items)
    if value.overlaps:
        rows = [
            (tag("bdi", overlap.of), f"{overlap.mean:.2f}", f"{overlap.lowest:.2f}", str(overlap.documents))
            for overlap in value.overlaps
        ]
        yield table(("neighbours in common", "mean", "lowest", "documents"), rows, right=1)
    checks: list[tuple[Content, Content]] = [
        (tag("bdi", own.vector), f"{own.points - own.missing:,} of {own.points:,} points") for own in value.coverage
    ]
    checks += [(join("canaries of ", tag("bdi", canary.slot)), _likeness(canary)) for canary in value.canaries]
    if checks:
        yield table(("check", ""), checks)
    if value.latency is not None:
        yield note(value.latency.sentence)
    if value.samples:
        yield _samples(value.samples)
    yield notes(value.remarks)


def _likeness(canary: Canary) -> Content:
    return foreign(canary.problem, limit=1000) if canary.likeness is None else f"cosine {canary.likeness:.4f}"


def _judged(value: JudgedComparison) -> Iterator[Html]:
    parts = [(foreign(str(own.slice)), len(own.slice.queries), own.mean, own.low, own.high) for own in value.slices]
    listed = [(Html("all"), value.queries, value.difference, value.low, value.high), *parts]
    drawn = differences((own[2:] for own in listed), limit=-value.margin)
    rows = [(name, f"{count:,}", *cells) for (name, count, *_), cells in zip(listed, drawn, strict=True)]
    level = f"{100 * value.confidence:g}% interval"
    yield table(("queries", "count", f"{value.metric}, new minus old", level, ""), rows, right=1)
    counts = f"better {value.wins:,}, equal {value.ties:,}, worse {value.losses:,}"
    yield note(f"{value.old:.4f} -> {value.new:.4f}; {counts}; the dashed line is the margin of {value.margin:g}")
    if value.worst:
        lost = [(foreign(own.text), f"{own.old:.3f}", f"{own.new:.3f}") for own in value.worst]
        yield join(title("queries that lost most"), table(("query", "old", "new"), lost, right=1))
    yield notes(value.remarks)


def _known_items(items: Sequence[KnownItem]) -> Html:
    drawn = differences(((item.difference, item.low, item.high) for item in items), digits=3)
    rows = [
        (foreign(f"{item.of}: {item.by}"), f"{item.old:.1%} -> {item.new:.1%}", *cells)
        for item, cells in zip(items, drawn, strict=True)
    ]
    return table(("documents found by", "old -> new", "difference", "interval", ""), rows, right=1)


def _samples(samples: Sequence[SideBySide]) -> Html:
    """Each query with the first hits of the old encoders beside those of the new ones."""
    rows: list[tuple[Content, ...]] = []
    for sample in samples:
        rows.append((tag("b", foreign(sample.query)), f"{sample.common:.0%} in common"))
        rows += [(foreign(old), foreign(new)) for old, new in zip_longest(sample.old, sample.new, fillvalue="")]
    return table(("old", "new"), rows)


def applyreport(value: ApplyReport) -> Html:
    """What was done, and the gate's decision."""
    gate = value.gate
    encoded = ", ".join(f"{count:,} vectors of {name}" for name, count in value.encoded.items())
    facts = [
        join("encoded ", foreign(encoded)) if encoded else None,
        join(f"{value.changed:,} documents changed meanwhile") if value.changed else None,
        join(f"{value.missing:,} points lack the new vector") if value.missing else None,
        join("dropped ", foreign(", ".join(value.dropped))) if value.dropped else None,
    ]
    rows = [(foreign(str(point)), foreign(reason)) for point, reason in value.left.items()]
    decision = tag("div", tag("b", "gate: "), foreign(gate.sentence, limit=2000)) if gate else None
    return page(
        join(foreign(value.collection), f": {value.outcome} in {duration(value.seconds)}"),
        *(note(fact) for fact in facts if fact is not None),
        decision,
        *(_gate(gate) if gate else ()),
        join(title("points without the new vector"), table(("point", "why"), rows)) if rows else None,
        *(
            note(tag("bdi", slot), ": queries by ", foreign(override, limit=1000))
            for slot, override in value.asking.items()
        ),
        *map(warning, value.warnings),
        mark=MARKS[gate.outcome] if gate and gate.outcome != "passed" else WARNING if value.warnings else GOOD,
    )


def verifyreport(value: VerifyReport) -> Html:
    """Whether the points are as they were written."""
    checked = f"{value.points:,} documents checked, {value.sampled:,} of them encoded again"
    told = "no fault was found" if value.passed else f"{value.faulty:,} documents have a fault"
    differ = "1 file differs" if len(value.files) == 1 else f"{len(value.files):,} files differ"
    files = f", {differ}" if value.files else ""
    reasons = [(foreign(str(point)), foreign(why)) for point, why in value.media.items()]
    return page(
        join(foreign(value.collection), f": {told}{files}"),
        note(checked),
        *(warning(line, colour=BAD) for line in value.lines()),
        table(("point", "why its media cannot be read"), reasons) if reasons else None,
        mark=GOOD if value.passed else BAD,
    )
