"""Pools of documents in a batch: all its queries are compared with the same documents.

UniDEC calls it pick-some-label (Kharbanda et al., "UniDEC: Unified Dual Encoder and Classifier Training for Extreme
Multi-Label Classification", WWW 2025). A pool of all documents gives the loss over all of them. The collator's batches
have two columns of different lengths, B queries and M documents, and in the label column their ids, int64 `[B + M]`:
every `RetrievalLoss` takes them, in `CachedLoss` too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.errors import ContractError
from diptych_training.relevance import Relevance

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool: `documents` `[M]`, all distinct, and `query_rows`, the batch's queries that have a positive in it."""

    documents: Rows
    query_rows: Rows


class LabelPool:
    """Draws the pool of a batch.

    1. The positives of the batch's queries, at most `num_pos` of each, drawn evenly, are joined.
    2. If these are more than `size`, those that most queries of the batch share stay.
    3. If they are fewer, hard negatives are added, `num_neg` of each query, those that most queries share first.
    4. The loss, which has all judgements, decides which document of the pool is relevant to which query.
    5. Queries without a positive in the pool leave the batch.

    The same batch gives the same pool. `negatives` has the hard negatives of each query, without its positives; it is
    empty until it is filled, for example by `diptych_training.pool_refresh.PoolRefresh`.

    Args:
        positives: for each query's number those of its documents, at least one.
        documents: how many there are.
        size: the most documents of a pool; None takes all documents, and the other options have no effect.
        num_pos, num_neg: of each query.
        seed: of the draws.

    Raises:
        ContractError: a query without a positive, a document out of range, or a size below 1.
    """

    def __init__(
        self,
        positives: Mapping[int, Sequence[int]],
        *,
        documents: int,
        size: int | None = None,
        num_pos: int = 3,
        num_neg: int = 6,
        seed: int = 0,
    ) -> None:
        self.positives = {query: np.unique(np.asarray(ids, np.int64)) for query, ids in positives.items()}
        self.documents, self.size, self.num_pos, self.num_neg, self.seed = documents, size, num_pos, num_neg, seed
        self.negatives: dict[int, Rows] = {}
        self.pairs = self.dropped = self.rows = self.rows_dropped = 0
        _check(self)

    @property
    def relevance(self) -> Relevance:
        """All positives, for the loss."""
        return Relevance((query, int(document)) for query, ids in self.positives.items() for document in ids)

    @property
    def dropped_share(self) -> float:
        """The share of all drawn positives that rule 2 has left out."""
        return self.dropped / max(1, self.pairs)

    def draw(self, queries: Sequence[int]) -> Pool:
        """The pool of a batch of queries.

        Raises:
            ContractError: a query that is not known.
        """
        if unknown := [query for query in queries if query not in self.positives]:
            raise ContractError("a query of the batch has no positives", where="LabelPool", got=unknown[:5])
        documents = np.arange(self.documents) if self.size is None else self._pooled_documents(queries, self.size)
        query_rows = [place for place, query in enumerate(queries) if np.isin(self.positives[query], documents).any()]
        self.rows, self.rows_dropped = self.rows + len(queries), self.rows_dropped + len(queries) - len(query_rows)
        return Pool(documents, np.array(query_rows, np.int64))

    def _pooled_documents(self, queries: Sequence[int], size: int) -> Rows:
        random = np.random.default_rng((self.seed, *queries))
        positives, counts = _by_frequency(random, [self.positives[query] for query in queries], self.num_pos)
        self.pairs, self.dropped = self.pairs + int(counts.sum()), self.dropped + int(counts[size:].sum())
        if len(positives) >= size:
            return positives[:size]
        hard_negatives = [self.negatives[query] for query in queries if query in self.negatives]
        negatives, _ = _by_frequency(random, hard_negatives, self.num_neg)
        return np.concatenate([positives, negatives[~np.isin(negatives, positives)][: size - len(positives)]])


class PoolCollator:
    """Makes batches of rows with a pool of documents: `data_collator` of a sentence-transformers trainer.

    Rows have a text `query` and in `label` the query's number, alone or as the first of several; other columns are not
    read.

    Args:
        preprocess: the model's: texts to features.
        pool: draws the documents.
        texts: of the documents, by number.
        prompts: of `query` and `document`.
    """

    def __init__(
        self,
        preprocess: Callable[..., Mapping[str, Any]],
        pool: LabelPool,
        texts: Sequence[str],
        *,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        if len(texts) != pool.documents:
            got, expected = f"{len(texts)} texts", f"{pool.documents}, as the pool has"
            raise ContractError(
                "the number of texts differs from the number of documents",
                where="PoolCollator",
                got=got,
                expected=expected,
            )
        self.preprocess, self.pool, self.texts, self.prompts = preprocess, pool, texts, prompts or {}
        self.valid_label_columns = ["label"]

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Features of both columns, and the ids int64 `[B + M]`, queries first."""
        numbers = [int(np.ravel(row["label"])[0]) for row in rows]
        pool = self.pool.draw(numbers)
        batch: dict[str, Any] = {}
        queries = [str(rows[index]["query"]) for index in pool.query_rows]
        for name, texts in (("query", queries), ("document", [self.texts[document] for document in pool.documents])):
            features = self.preprocess(texts, prompt=self.prompts.get(name), task=name)
            batch |= {f"{name}_{key}": value for key, value in features.items()} | {f"{name}_task": name}
        ids = [*(numbers[index] for index in pool.query_rows), *pool.documents.tolist()]
        return batch | {"label": torch.tensor(ids, dtype=torch.int64)}


def _by_frequency(random: np.random.Generator, lists: Sequence[Rows], limit: int) -> tuple[Rows, Rows]:
    """At most so many of each, drawn evenly: the values by frequency, ties in any order, and the frequencies."""
    samples = [ids if len(ids) <= limit else random.choice(ids, limit, replace=False) for ids in lists]
    values, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *samples]), return_counts=True)
    order = np.lexsort((random.random(len(values)), -counts))
    return values[order], counts[order]


def _check(pool: LabelPool) -> None:
    empty = [query for query, documents in pool.positives.items() if not len(documents)]
    if empty:
        raise ContractError("some queries have no positive", where="LabelPool", got=empty[:5], do="leave them out")
    largest = max((int(documents[-1]) for documents in pool.positives.values()), default=-1)
    smallest = min((int(documents[0]) for documents in pool.positives.values()), default=0)
    if largest >= pool.documents or smallest < 0:
        got, expected = f"documents {smallest} to {largest}", f"0 to {pool.documents - 1}"
        raise ContractError("document ids are out of range", where="LabelPool", got=got, expected=expected)
    if pool.size is not None and pool.size < 1:
        raise ContractError("the pool has no room", where="LabelPool", got=f"size {pool.size}", expected="at least 1")
