"""`Explanation`: why a document has its rank, and the parts that its score is the sum of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from diptych.repr_html import ReprHtml
from diptych.search.pins import PINNED
from diptych.search.pipeline import Pipeline
from diptych.types import Document, Passage, Query

NEAR = 1e-5  # how far sums of parts may be from the score, relative to scores above 1


@dataclass(frozen=True, slots=True)
class Term:
    """A term that query and document share: `contribution` = `query` * `document` * `idf`; `idf` is 1 without IDF."""

    word: str
    query: float
    document: float
    idf: float
    contribution: float

    def __str__(self) -> str:
        return f"{self.word} {self.contribution:.4f} = {self.query:.4f} x {self.document:.4f} x idf {self.idf:.4f}"


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a dense vector, such as one of several joined encoders, and its part of the score.

    The parts are products of query and document within the block, by cosine of the vectors scaled to length 1. So they
    add up to the score of the slot.
    """

    name: str
    width: int
    contribution: float

    def __str__(self) -> str:
        return f"{self.name} ({self.width} wide) {self.contribution:.4f}"


@dataclass(frozen=True, slots=True)
class SlotScore:
    """A document in one slot.

    Args:
        score: similarity of query and document, None when the slot gives it none, such as without a common term.
        rank: place among the slot's candidates, from 1; None when it is not one of them.
        contribution: what the slot adds to the fused score; None without fusion or when no slot retrieved the document.
        terms: of a sparse slot, the terms that query and document share; their contributions add up to `score`.
        blocks: of a dense slot with blocks, their parts; these add up to `score`.
        passage: of a slot with passages, the best one; its text is shortened, `start` and `end` are whole.
        passages: how many the document has there.
    """

    score: float | None = None
    rank: int | None = None
    contribution: float | None = None
    terms: tuple[Term, ...] = ()
    blocks: tuple[Block, ...] = ()
    passage: Passage | None = None
    passages: int = 0


@dataclass(frozen=True, slots=True)
class ScorePart:
    """A part of a document's score.

    Args:
        name: of the slot, word, block, boost or stage.
        kind: `slot`: its contribution to the fusion, or its score where it is alone. `word`, `block`: of a slot that is
            alone. `boost`: what it adds. `stage`: a later stage's score, which replaces those before it. `rest`: what
            the score differs by from the sum of the other parts, as with approximate scores of quantized vectors.
        value: what it adds to the score.
    """

    name: str
    kind: Literal["slot", "word", "block", "boost", "stage", "rest"]
    value: float


@dataclass(frozen=True, slots=True)
class Explanation(ReprHtml):
    """Why one document has its rank.

    Args:
        document: the document.
        pipeline: what was run.
        rank, score: place among the hits from 1, and final score; None when it is not among them.
        slots: the document in each retrieved slot.
        fused: the fused score, the sum of the slots' contributions; None without fusion or when not retrieved.
        boosts: what each part of the boost adds; the score before it plus these is the score of the stage `boost`.
        stages: the score that each later stage gave, in order.
        lost: where the document was left behind, when it is not a hit.
        words: begin and end of each word of the document's text that a sparse slot matches.
        notes: remarks on this search, such as that a reranker reached its deadline.
    """

    document: Document
    pipeline: Pipeline
    rank: int | None
    score: float | None
    slots: Mapping[str, SlotScore]
    fused: float | None = None
    boosts: Mapping[str, float] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    lost: str = ""
    notes: tuple[str, ...] = ()
    words: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        head = self.lost if self.rank is None else f"rank {self.rank}, score {self.score:.4f}"
        lines = [f"{self.document.id}: {head}", *(line for name in self.slots for line in self._slot_lines(name))]
        if self.fused is not None and self.pipeline.fuse:
            lines.append(f"  = {self.pipeline.fuse!r} {self.fused:.4f}")
        lines += [f"  {name}: adds {value:.4f}" for name, value in self.boosts.items()]
        lines += [f"  {name} {score:.4f}" for name, score in self.stages.items()]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    @property
    def parts(self) -> tuple[ScorePart, ...]:
        """The parts that the score is the sum of; for a document that is no hit, of the last score that is known."""
        parts = self._stage_part() or (*self._retrieval_parts(), *self._boost_parts())
        rest = 0.0 if self.score is None else self.score - sum(part.value for part in parts)
        close = abs(rest) <= NEAR * max(1.0, abs(self.score or 0.0))
        return parts if close else (*parts, ScorePart("rest", "rest", rest))

    def _stage_part(self) -> tuple[ScorePart, ...]:
        """The stage after fusion and boosts that gave the whole score, if there is one."""
        if self.score is None:
            return ()
        if PINNED in self.notes:
            return (ScorePart(PINNED, "stage", self.score),)
        if self.pipeline.rerank:
            return (ScorePart(self.pipeline.rerank[-1].label, "stage", self.score),)
        return (ScorePart("mmr", "stage", self.score),) if self.pipeline.diversify else ()

    def _retrieval_parts(self) -> tuple[ScorePart, ...]:
        if self.pipeline.rescore:
            slot, added = self.pipeline.rescore.slot, sum(self.boosts.values())
            value = self.stages.get(slot) if self.score is None else self.score - added
            return () if value is None else (ScorePart(slot, "stage", value),)
        if self.pipeline.fuse:
            shares = ((name, slot_score.contribution) for name, slot_score in self.slots.items())
            return tuple(ScorePart(name, "slot", value) for name, value in shares if value is not None)
        ((name, slot_score),) = self.slots.items()
        words = tuple(ScorePart(term.word, "word", term.contribution) for term in slot_score.terms)
        blocks = tuple(ScorePart(block.name, "block", block.contribution) for block in slot_score.blocks)
        return words or blocks or (() if slot_score.score is None else (ScorePart(name, "slot", slot_score.score),))

    def _boost_parts(self) -> tuple[ScorePart, ...]:
        return tuple(ScorePart(name, "boost", value) for name, value in self.boosts.items())

    def as_dict(self) -> dict[str, Any]:
        """Everything except the document as JSON values; the pipeline as text."""
        lists = {
            name: {key: [*map(asdict, getattr(slot, key))] for key in ("terms", "blocks")}
            for name, slot in self.slots.items()
        }
        slots = {name: {**asdict(slot), **lists[name]} for name, slot in self.slots.items()}
        numbers = {"rank": self.rank, "score": self.score, "fused": self.fused, "stages": dict(self.stages)}
        numbers["boosts"] = dict(self.boosts)
        rest = {"lost": self.lost, "notes": [*self.notes], "words": [*map(list, self.words)]}
        return {"pipeline": repr(self.pipeline), **numbers, "slots": slots, **rest}

    def _slot_lines(self, name: str) -> Iterable[str]:
        slot_score = self.slots[name]
        rank = "not a candidate" if slot_score.rank is None else f"rank {slot_score.rank}"
        score = "no score" if slot_score.score is None else f"score {slot_score.score:.4f}"
        part = "" if slot_score.contribution is None else f", contributes {slot_score.contribution:.4f}"
        lines = [
            f"  {name}: {rank}, {score}{part}",
            *(f"    {part}" for part in (*slot_score.terms, *slot_score.blocks)),
        ]
        if passage := slot_score.passage:
            which = f"best of {slot_score.passages} passages, {passage.start} to {passage.end}"
            lines.append(f"    {which}, {passage.score:.4f}: {' '.join(passage.text.split())}")
        return lines


class Explanations(ReprHtml, list[Explanation]):
    """The explanations of one query: a list that notebooks show as pictures.

    Args:
        explanations: in their order.
        query: what was asked.
    """

    __slots__ = ("query",)

    def __init__(self, explanations: Iterable[Explanation] = (), *, query: str | Query = "") -> None:
        super().__init__(explanations)
        self.query = query
