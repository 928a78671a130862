"""Explanations: a bar of the parts that a score is the sum of, matching words in the text, and each slot's figures."""

from __future__ import annotations

from collections.abc import Iterator

from diptych.collection.explain import Explanation, Explanations, SlotScore
from diptych_lab.notebook.charts import Part, bar, extent
from diptych_lab.notebook.elements import ROWS, Content, Html, foreign, join, marked, note, notes, page, table, tag
from diptych_lab.notebook.hits import asked, heading

TERMS = 12  # words of a slot


def explanation(value: Explanation) -> Html:
    """Why one document has its rank."""
    return page(_sentence(value), _body(value, extent([_parts(value)])), notes(value.notes))


def explanations(value: Explanations) -> Html:
    """Why each document has its rank; the bars have one scale."""
    shown = value[:ROWS]
    scale = extent([_parts(own) for own in shown])
    count = f"{len(value) or 'no'} document{'' if len(value) == 1 else 's'}"
    boxes = [_box(own, scale) for own in shown]
    # Remarks on the search come with each document; once is enough.
    remarks = dict.fromkeys(text for own in shown for text in own.notes)
    rest = note(f"and {len(value) - ROWS:,} more") if len(value) > ROWS else None
    return page(join(count, *asked(value.query)), *boxes, notes(remarks), rest)


def _box(value: Explanation, scale: tuple[float, float]) -> Html:
    style = "border-top:1px solid rgba(128,128,128,.3);padding:6px 0"
    return tag("div", tag("div", _sentence(value), style="font-weight:600"), _body(value, scale), style=style)


def _sentence(value: Explanation) -> Html:
    if value.rank is None or value.score is None:
        return join("no hit: ", foreign(value.lost, limit=1000))
    return join(f"rank {value.rank}, score {value.score:.4f}")


def _parts(value: Explanation) -> list[Part]:
    names = {"rest": "approximation"}
    return [Part(names.get(part.kind, part.name), part.value) for part in value.parts]


def _body(value: Explanation, scale: tuple[float, float]) -> Html:
    parts, text = _parts(value), value.document.text
    drawn = bar(parts, low=scale[0], high=scale[1]) if parts else None
    words = tag("div", marked(text, value.words)) if text else None
    return join(heading(value.document), words, drawn, *_slots(value))


def _slots(value: Explanation) -> Iterator[Html]:
    """The figures of each slot, and below them those of later stages."""
    names = ("slot", "rank", "score", "adds", "matching words, blocks or best passage")
    yield table(names, [_row(name, slot) for name, slot in value.slots.items()], right=5)
    if value.stages:
        shown = [join(tag("bdi", name), f" {score:.4f}") for name, score in value.stages.items()]
        yield note("later stages: ", *(tag("span", own, style="margin-right:12px") for own in shown))


def _row(name: str, own: SlotScore) -> tuple[Content, ...]:
    score = "" if own.score is None else f"{own.score:.4f}"
    adds = "" if own.contribution is None else f"{own.contribution:+z.4f}"
    rank = "no candidate" if own.rank is None else f"{own.rank}"
    return tag("bdi", name), rank, score, adds, _because(own)


def _because(own: SlotScore) -> Content:
    named = [(term.word, term.contribution) for term in own.terms] + [(b.name, b.contribution) for b in own.blocks]
    shown = [tag("span", tag("bdi", word), f" {part:.3f}", style="margin-right:10px") for word, part in named[:TERMS]]
    more = f"and {len(named) - TERMS} more" if len(named) > TERMS else None
    if shown or own.passage is None:
        return join(*shown, more)
    return join(f"best of {own.passages}: ", foreign(own.passage.text))
