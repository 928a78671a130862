"""One value of each kind that a notebook shows, with a given text wherever documents, users or configs put theirs."""

from __future__ import annotations

from diptych.collection.explain import Explanation, Explanations, SlotScore, Term
from diptych.collection.verify import VerifyReport
from diptych.config.storage import VectorStorage
from diptych.display import Displayed
from diptych.evaluate import Comparison, Difference, Evaluation, Slice, SliceDifference
from diptych.media import Media
from diptych.reports import PopulateReport, SetAside
from diptych.search import Answers, Dbsf, HitGroup, HitGroups, Hits, Rerank, Retrieve
from diptych.swap import ApplyReport, GateReport, Plan
from diptych.swap.gate.answers import KnownItem, Overlap, SideBySide
from diptych.swap.gate.gate import Canary
from diptych.swap.gate.judged import JudgedComparison, QueryLoss
from diptych.swap.plan import Step
from diptych.swap.vectors import Coverage
from diptych.types import Document, Highlight, Hit, Passage
from diptych_lab.judge.judging import JudgedDifference, Verdict
from diptych_lab.tune import EncoderReport, IndexReport, SearchReport
from diptych_lab.tune.encoder import EncoderRow
from diptych_lab.tune.index import IndexRow, Setup
from diptych_lab.tune.search_report import SearchRow
from diptych_lab.tune.trials import Against


def hit(text: str) -> Hit:
    """A hit whose first word is highlighted."""
    media = {"image": Media("image", text, "0" * 32, 9)}
    document = Document(text, f"word {text}", text, {text: text, "n": 1}, media)
    highlight = Highlight(Passage(f"word {text}", 0, len(text) + 5, 0.5), ((0, 4),))
    return Hit(document, 0.5, {text: 0.25, "dense": 0.5}, (), highlight)


def explanation(text: str) -> Explanation:
    """An explanation with every kind of part; they add up to the score."""
    passage = Passage(text, 0, len(text), 0.5)
    slots = {
        text: SlotScore(0.7, 1, 0.5, terms=(Term(text, 1, 1, 1, 0.7),)),
        "dense": SlotScore(0.4, None, -0.25),
        "late": SlotScore(None, 2, 0.5, passage=passage, passages=3),
    }
    pipeline = Retrieve("dense") + Retrieve("late") >> Dbsf()
    document = Document(text, f"word {text}", text)
    more = {"boosts": {text: 0.25}, "stages": {text: 0.1}, "notes": (text,), "words": ((0, 4),)}
    return Explanation(document, pipeline, 1, 1.0, slots, 0.75, **more)  # type: ignore[arg-type]


def gate(text: str, *, judged: bool = True) -> GateReport:
    """A gate's report with every measurement."""
    part = SliceDifference(Slice("section", text, ("q1", "q2")), -0.1, -0.2, 0.1)
    compared = JudgedComparison(
        text,
        0.02,
        0.95,
        12,
        0.5,
        0.6,
        0.1,
        0.05,
        0.15,
        5,
        4,
        3,
        "passed",
        text,
        (QueryLoss("q", text, 1.0, 0.5),),
        (text,),
        (part,),
    )
    item = KnownItem(text, text, 9, 0.9, 0.8, -0.1, -0.2, 0.0, 8, 1, (text,))
    return GateReport(
        "worse",
        (text,),
        (Coverage(text, 10, 1),),
        (Canary(text, 0.9999), Canary(text, None, text)),
        judged=compared if judged else None,
        overlaps=(Overlap(text, 9, 0.5, 0.1),),
        known_items=(item,),
        samples=(SideBySide(text, 0.5, (text, text), (text,)),),
        remarks=(text,),
    )


def swap_values(text: str) -> list[Displayed]:
    """Plans and reports of swaps."""
    step = Step(text, "re-encode", text, text, text, 10, 10, 5.0, 2.0, 1000, 1000)
    return [
        Plan(text, 10, (step, Step("b", "keep", "", text, text)), True, text, False, (text,)),
        gate(text),
        gate(text, judged=False),
        ApplyReport(
            text,
            "cut over",
            {text: 10},
            changed=2,
            missing=1,
            gate=gate(text),
            seconds=3.0,
            warnings=(text,),
            left={text: text, 7: text},
            kept=(text,),
            dropped=(text,),
            retired=(text,),
        ),
        VerifyReport(text, 10, 4, (text,), {1: text}, {text: {2: text}}, {3: text}),
    ]


def tuning_values(text: str) -> list[Displayed]:
    """Reports of the tuners."""
    pair = Retrieve("dense") + Retrieve("lexical") >> Dbsf()
    rows = (SearchRow(pair >> Rerank(text, 10), 0.6, 0.01, 2.0, front=True), SearchRow(pair, 0.5, 0.01, 1.0))
    gains = (Against(text, 0.1, 0.05, 0.15, None), Against("other", 0.01, -0.1, 0.1, 400))
    setup = Setup(VectorStorage())
    encoders = (
        EncoderRow(text, text, 64, True, setup, 0.6, 0.01, 0.9, 2.0, 1.0, 128, True),
        EncoderRow("now", "now", 128, False, setup, 0.5, 0.01, 1.0, 3.0, 1.0, 512),
    )
    stored = (IndexRow(setup, 0.99, 1.0, 2.0, 400, 500, 1.0, True), IndexRow(setup, 0.9, 0.5, 1.0, 100, 500, 1.0))
    return [
        SearchReport(text, 40, rows, 1, 0, 0, True, gains, 1.0, 10, left_out=(text,)),
        EncoderReport(text, text, 40, 100, 200, {}, encoders, 1, 0, gains[0], True, True, True, ((text, text),), 1.0),
        IndexReport(text, text, 64, "cosine", 100, 100, 100, 10, True, 10, stored, stored[0], "least memory", True),
    ]


def evaluation_values(text: str) -> list[Displayed]:
    """Evaluations, a comparison and a verdict."""
    values = {f"{text}{n}": n / 10 for n in range(10)}
    differences = (
        Difference(text, 0.1, 0.05, 0.15, 0.001, 0.002, 6, 2, 2, {f"q{n}": n / 10 - 0.3 for n in range(10)}),
        Difference("same", 0.0, 0.0, 0.0, 1.0, 1.0, 0, 10, 0, {f"q{n}": 0.0 for n in range(10)}),
    )
    judged = (JudgedDifference(text, 0.1, 0.02, 0.2, "better"),)
    return [
        Evaluation(text, {text: values, "nDCG@10": values}, unjudged=(text,)),
        Comparison("nDCG@10", text, 0, 1000, 0.95, differences),
        Verdict(text, text, 20, 10, 50, 2, 0.95, 0.0, True, judged),
    ]


def search_values(text: str) -> list[Displayed]:
    """Hits and explanations."""
    found = Hits([hit(text), hit("plain")], query=text)
    return [
        hit(text),
        found,
        Answers([found, Hits(query="nothing")], queries=[text, "nothing"]),
        HitGroups([HitGroup(text, tuple(found))], query=text),
        explanation(text),
        Explanations([explanation(text), explanation("plain")], query=text),
    ]


def all_values(text: str) -> list[Displayed]:
    """One of each kind, or more."""
    populated = PopulateReport(text, 3, 2, set_aside=1, examples=(SetAside(text, 0, text),), encoded={text: 2})
    return [*search_values(text), *evaluation_values(text), *swap_values(text), *tuning_values(text), populated]
