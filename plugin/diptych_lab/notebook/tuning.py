"""Tuning: the verdict, quality against time as points, and a row for each setup that was tried."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.runtime.amounts import size
from diptych_lab.notebook.charts import differences, scatter
from diptych_lab.notebook.elements import GOOD, GREY, Content, Html, foreign, join, note, notes, page, table, tag
from diptych_lab.tune import EncoderReport, IndexReport, SearchReport
from diptych_lab.tune.trials import Against

CHOSEN, PRESENT, FRONT = "★", "now", "●"
SHOWN = 12  # rows of a table, beside those that are marked
_LEGEND = f"{CHOSEN} recommended, {FRONT} on the Pareto front: no other is better in one and as good in the rest"


def searchreport(value: SearchReport) -> Html:
    """Which pipeline answers judged queries best."""
    drawn, shown = _best(value)
    rows = [
        (
            *_judged(value, n),
            f"{value.rows[n].milliseconds:.2f}",
        )
        for n in shown
    ]
    left_out = [f"not tried, because its scores depend on other candidates: {name}" for name in value.left_out]
    return page(
        foreign(value.verdict, limit=2000),
        _gains(value.gains, value.confidence, [value.more(gain) for gain in value.gains]),
        drawn,
        table(("", "pipeline", "nDCG@10", "error", "ms"), rows, right=2),
        note(_LEGEND),
        note(
            f"{value.queries:,} judged queries, {len(rows)} of {len(value.rows)} pipelines shown, "
            f"{value.calls:,} requests, {value.seconds:.1f} s"
        ),
        notes(left_out),
        mark=GOOD if value.passed and value.chosen != value.present else GREY,
    )


def encoderreport(value: EncoderReport) -> Html:
    """Which way to encode, cut and store vectors is best."""
    drawn, shown = _best(value)
    rows = [
        (
            *_judged(value, n),
            f"{value.rows[n].overlap:.2f}",
            f"{value.rows[n].milliseconds:.2f}",
            size(value.rows[n].size),
        )
        for n in shown
    ]
    names = ("", "queries over documents, width, storage", "nDCG@10", "error", "of the present ten", "ms", "a vector")
    apart = [f"{queries} cannot query what {documents} encoded" for documents, queries in value.left_out]
    return page(
        foreign(value.verdict, limit=2000),
        _gains([value.gain] if value.gain else [], value.confidence, [""]),
        drawn,
        table(names, rows, right=2),
        note(_LEGEND),
        note(
            f"{value.queries:,} judged queries, {value.sample:,} of {value.documents:,} documents, "
            f"{len(rows)} of {len(value.rows)} ways shown, {value.seconds:.1f} s"
        ),
        notes(apart),
        mark=GOOD if value.passed else GREY,
    )


def indexreport(value: IndexReport) -> Html:
    """Which storage and search settings give the recall that is wanted, at what cost."""
    drawn = _drawn(
        [(row.p50, row.recall, row.front) for row in value.rows],
        chosen=value.rows.index(value.chosen),
        names=("milliseconds", f"recall@{value.k}"),
    )
    rows = [
        (
            _mark(row.front, row == value.chosen, row.setup.now),
            row.setup.stored,
            row.setup.asked,
            f"{row.recall:.3f}",
            f"{row.p50:.2f}",
            f"{row.p95:.2f}",
            size(row.memory),
            size(row.disk),
        )
        for row in value.rows
    ]
    reached = value.rule if value.reached else f"nothing is of {value.rule}; this one comes closest"
    sentence = f"{value.chosen.setup.stored}, searched with {value.chosen.setup.asked}: {reached}"
    asked = "held-out vectors" if value.held_out else "queries"
    return page(
        foreign(sentence, limit=1000),
        drawn,
        table(("", "storage", "search", f"recall@{value.k}", "p50 ms", "p95 ms", "memory", "disk"), rows, right=3),
        note(_LEGEND),
        note(
            join(
                foreign(f"{value.collection}, slot {value.slot}"),
                f": {value.sample:,} of {value.points:,} vectors indexed, ",
                f"{value.queries:,} {asked}; memory and disk are those of a point",
            )
        ),
        mark=GOOD if value.reached else GREY,
    )


def _best(value: SearchReport | EncoderReport) -> tuple[Html, list[int]]:
    """A drawing of all rows, and the places of the best ones and of those that are marked, the best first."""
    rows, marked = value.rows, (value.chosen, value.present)
    order = sorted(range(len(rows)), key=lambda place: -rows[place].value)
    drawn = _drawn(
        [(rows[n].milliseconds, rows[n].value, rows[n].front) for n in order],
        chosen=order.index(value.chosen),
        names=("milliseconds", "nDCG@10"),
    )
    return drawn, [n for place, n in enumerate(order) if place < SHOWN or n in marked or rows[n].front]


def _judged(value: SearchReport | EncoderReport, n: int) -> tuple[Content, ...]:
    """The first cells of row `n`: its marks, its name, and its quality with the error."""
    row = value.rows[n]
    mark = _mark(row.front, n == value.chosen, n == value.present)
    return mark, foreign(row.name), f"{row.value:.4f}", f"±{row.error:.4f}"


def _drawn(points: Sequence[tuple[float, float, bool]], *, chosen: int, names: tuple[str, str]) -> Html:
    front = [place for place, point in enumerate(points) if point[2]]
    return scatter([point[:2] for point in points], chosen=chosen, front=front, names=names)


def _mark(front: bool, chosen: bool, present: bool) -> Content:
    marks = [CHOSEN] * chosen + [FRONT] * front + [PRESENT] * present
    return tag("span", " ".join(marks), style="white-space:nowrap")


def _gains(gains: Sequence[Against], confidence: float, more: Sequence[str]) -> Html | None:
    if not gains:
        return None
    drawn = differences((gain.mean, gain.low, gain.high) for gain in gains)
    rows = [(foreign(gain.name), *cells, advice) for gain, cells, advice in zip(gains, drawn, more, strict=True)]
    return table(("gain over", "nDCG@10", f"{confidence:.0%} interval", "", ""), rows, right=1)
