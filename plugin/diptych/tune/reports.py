"""The results: a row for each setup, the chosen row, and the rule that chose it."""

from __future__ import annotations

from dataclasses import dataclass

from diptych.repr_html import ReprHtml
from diptych.tune.grid import Setup


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
