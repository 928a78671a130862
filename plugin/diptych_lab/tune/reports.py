"""The results of `tune_index` (a row for each setup, the chosen one, the rule) and of `tune_rerank`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diptych.repr_html import ReprHtml
from diptych_lab.tune.grid import Setup

DEPTHS, CUTOFF = (10, 50), 10  # of recall of the reranker's own list, and of nDCG


@dataclass(frozen=True, slots=True)
class Row:
    """The measurements of one setup.

    Args:
        recall: mean share of the exact first k that it finds.
        p50, p95: milliseconds of a query.
        memory, disk: bytes of a point: vectors, quantized copies and graph; memory is what is not only on disk.
        build: seconds to write the sample and build its index.
        front: whether no other row is at least as good in recall, p50 and memory, and better in one of them.
    """

    setup: Setup
    recall: float
    p50: float
    p95: float
    memory: float
    disk: float
    build: float
    front: bool = False


@dataclass(frozen=True, slots=True)
class IndexReport(ReprHtml):
    """The result of `tune_index`.

    Args:
        collection, slot: whose vectors.
        dimension, similarity: of the vectors.
        points: that the collection holds; `as_of`: by which Qdrant decided whether to build indexes.
        sample: vectors that were indexed.
        queries: that were asked; `held_out` when they are vectors of documents and not of texts.
        k: of the recall.
        rows: by memory, least first.
        chosen: the row that the rule chooses.
        rule: by which, in words.
        reached: whether it has the recall that was wanted.
    """

    collection: str
    slot: str
    dimension: int
    similarity: str
    points: int
    as_of: int
    sample: int
    queries: int
    held_out: bool
    k: int
    rows: tuple[Row, ...]
    chosen: Row
    rule: str
    reached: bool


@dataclass(frozen=True, slots=True)
class RerankRow:
    """One first stage with one budget.

    Args:
        first: the first stage: a slot, or the config's fusion.
        explore: whether the reranker explored.
        calls: documents that it scored for a query, in the mean.
        ndcg: mean nDCG@10; None without judgements.
        recall: mean share of the reranker's own top 10 and top 50 that was scored, by depth.
        front: whether no other row is as good with fewer calls, by nDCG, or by recall of the top 50 without judgements.
        recall_front: the same by recall of the top 50, with judgements or without.
    """

    first: str
    explore: bool
    budget: int
    calls: float
    ndcg: float | None
    recall: Mapping[int, float]
    front: bool = False
    recall_front: bool = False


@dataclass(frozen=True, slots=True)
class RerankGain:
    """What exploring adds over the same first stage with the same budget, with 95 % paired bootstrap intervals.

    Args:
        recall: difference in recall of the reranker's own top 50, then the interval.
        ndcg: likewise of nDCG@10; None without judgements.
    """

    first: str
    budget: int
    recall: tuple[float, float, float]
    ndcg: tuple[float, float, float] | None

    def __str__(self) -> str:
        parts = [f"{_signed(self.recall)} of its own top {DEPTHS[-1]}"]
        if self.ndcg is not None:
            _, low, high = self.ndcg
            verdict = "" if low > 0 else ", a loss" if high < 0 else ", which shows no gain"
            parts.append(f"{_signed(self.ndcg)} nDCG@{CUTOFF}{verdict}")
        return f"{self.first}, {self.budget} calls: exploring adds {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class RerankReport(ReprHtml):
    """The result of `tune_rerank`.

    Args:
        reranker: its label.
        queries: how many were asked.
        documents: how many the reranker scored for each of them to know its own list; 0 where its list is only what all
            trials together found.
        pairs: that the reranker scored in all.
        rows, gains: what was measured; there are no gains if the stage does not explore.
    """

    collection: str
    reranker: str
    queries: int
    documents: int
    pairs: int
    rows: tuple[RerankRow, ...]
    gains: tuple[RerankGain, ...]


def _signed(values: tuple[float, float, float]) -> str:
    mean, low, high = values
    return f"{mean:+z.3f} [{low:+z.3f}, {high:+z.3f}]"
