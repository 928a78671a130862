"""`Quality`: how good a drift map is, measured on documents and queries that it was not fitted on.

`offer` uses it to decide whether the map is good enough to propose. A map is used only if asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from diptych.errors import SwapError
from diptych.protocols import Similarity
from diptych.slots.drift_maps import Map, checked_rows, unit
from diptych.swap.drift.pairs import Pairs, Rows
from diptych.types import Floats

DEPTH = 10
MOST_ASKED = 500
_BLOCK = 256
# The rule of docs/research/drift.md, drawn from tests/benchmarks/compare_drift.py.
PAIRS = 200  # with fewer, the held-out tenth is too small to judge by
LIKENESS = 0.8
GAIN = 0.02


@dataclass(frozen=True, slots=True)
class Quality:
    """The measurements of a map.

    The pairs' documents are searched twice: by new vectors, as after a full re-encode, and by mapped ones among the
    old. Held-out documents serve as queries, each without itself, and real queries where some are given.

    Args:
        kind: of the map.
        pairs: documents that both encoders encoded, those the map was fitted on included.
        held_out: pairs that it was not fitted on.
        likeness: mean cosine of held-out mapped vectors and their old ones, about the mean of the old: in spaces whose
            vectors all point one way, plain cosines would flatter.
        kept: share of the old encoder's own top 10 that mapped documents still find: how well it is imitated.
        overlap: share of the top 10 that mapped documents have in common with the full re-encode.
        old_overlap: the same for the old encoder's own vectors: what a perfect imitation of the old encoder would have.
        unmapped_kept, unmapped_overlap: as `kept` and `overlap`, of new vectors that are not mapped; None where
            dimensions differ.
        queries: how many real queries were given.
        query_overlap, unmapped_query_overlap: as `overlap` and `unmapped_overlap`, with these; None without them.
    """

    kind: str
    pairs: int
    held_out: int
    likeness: float
    kept: float
    overlap: float
    old_overlap: float
    unmapped_kept: float | None = None
    unmapped_overlap: float | None = None
    queries: int = 0
    query_overlap: float | None = None
    unmapped_query_overlap: float | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values, by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Quality:
        """From what `to_json` gave.

        Raises:
            SwapError: names are missing or unknown.
        """
        try:
            return cls(**raw)
        except TypeError as error:
            raise SwapError("the quality of a drift map is damaged", got=str(error), do="fit it again") from error


def measure(fitted: Map, pairs: Pairs, held_out: Rows, *, queries: Any = None) -> Quality:
    """Measure `fitted` on the rows `held_out` of `pairs`, and on new vectors of real `queries` `[n, d_new]`.

    Raises:
        SwapError: the queries are no vectors of the new space.
    """
    asked = held_out[:MOST_ASKED]
    held, some = pairs.of(held_out), pairs.of(asked)
    mapped = fitted.apply(some.new)
    target, _ = nearest(some.new, pairs.new, DEPTH, similarity=pairs.new_similarity, but=asked)
    neighbours, _ = nearest(some.old, pairs.old, DEPTH, similarity=pairs.old_similarity, but=asked)
    plain = some.new if _comparable(pairs) else None
    return Quality(
        kind=fitted.kind,
        pairs=len(pairs),
        held_out=len(held_out),
        likeness=float(likenesses(fitted.apply(held.new), held.old, pairs.old.mean(axis=0)).mean()),
        kept=_overlap(mapped, pairs, neighbours, asked),
        overlap=_overlap(mapped, pairs, target, asked),
        old_overlap=_overlap(some.old, pairs, target, asked),
        unmapped_kept=None if plain is None else _overlap(plain, pairs, neighbours, asked),
        unmapped_overlap=None if plain is None else _overlap(plain, pairs, target, asked),
        **(_by_queries(fitted, pairs, queries) if queries is not None and len(queries) else {}),
    )


def likenesses(mapped: Floats, old: Floats, mean: Floats) -> Floats:
    """Cosine of each row of both, about the mean of the old vectors: float32 `[n]`."""
    return np.asarray((unit(mapped - mean) * unit(old - mean)).sum(axis=1), np.float32)


def _by_queries(fitted: Map, pairs: Pairs, queries: Any) -> dict[str, Any]:
    query_vectors = checked_rows(queries, "the queries", dimension=pairs.new.shape[1])[:MOST_ASKED]
    target, _ = nearest(query_vectors, pairs.new, DEPTH, similarity=pairs.new_similarity)
    return {
        "queries": len(query_vectors),
        "query_overlap": _overlap(fitted.apply(query_vectors), pairs, target, None),
        "unmapped_query_overlap": _overlap(query_vectors, pairs, target, None) if _comparable(pairs) else None,
    }


def _overlap(asking: Floats, pairs: Pairs, target: Rows, but: Rows | None) -> float:
    neighbours, _ = nearest(asking, pairs.old, DEPTH, similarity=pairs.old_similarity, but=but)
    return float(np.mean(shared(neighbours, target)))


def _comparable(pairs: Pairs) -> bool:
    return bool(pairs.new.shape[1] == pairs.old.shape[1])


# Exact nearest neighbours by brute force, and how much two answers share.


def nearest(
    queries: Floats, documents: Floats, k: int, *, similarity: Similarity, but: Rows | None = None
) -> tuple[Rows, Floats]:
    """Rows of the `k` nearest documents of each query, best first, and their scores (higher is nearer): `[n, k]`.

    Args:
        queries, documents: float32 `[n, d]` and `[m, d]`.
        k: at most m are given.
        similarity: what nearness is; lengths do not matter for cosine.
        but: for each query the row of a document that is left out, such as the query itself; then at most m - 1.
    """
    k = min(k, len(documents) - (but is not None))
    if similarity == "cosine":
        queries, documents = unit(queries), unit(documents)
    rows_found = np.zeros((len(queries), k), np.intp)
    values = np.zeros((len(queries), k), np.float32)
    for start in range(0, len(queries), _BLOCK):
        block = slice(start, start + _BLOCK)
        scores = _scores(queries[block], documents, similarity)
        if but is not None:
            scores[np.arange(len(scores)), but[block]] = -np.inf
        rows = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, rows, axis=1), axis=1, kind="stable")
        rows_found[block] = np.take_along_axis(rows, order, axis=1)
        values[block] = np.take_along_axis(scores, rows_found[block], axis=1)
    return rows_found, values


def shared(one: Rows, other: Rows) -> Floats:
    """For each query the share of rows that both answers contain: float32 `[n]`."""
    both = [len(np.intersect1d(a, b)) for a, b in zip(one, other, strict=True)]
    return np.asarray(both, np.float32) / np.float32(one.shape[1])


def _scores(queries: Floats, documents: Floats, similarity: Similarity) -> Floats:
    products = queries @ documents.T
    return products if similarity != "euclidean" else 2 * products - np.square(documents).sum(axis=1)


@dataclass(frozen=True, slots=True)
class Offer:
    """The verdict and its reasons.

    Args:
        yes: whether the map may serve and improves answers.
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
    """The verdict on a map: it may serve with at least 200 pairs and a held-out likeness of at least .8.

    Whether it improves answers does not decide that: while it serves, new documents get old vectors only through it.
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
