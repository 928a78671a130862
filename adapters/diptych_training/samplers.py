"""Batch samplers for sentence-transformers' trainers: give one as `batch_sampler` of the training arguments.

Each is a callable that the trainer calls with the data set and the batch size; it yields lists of row numbers. A seed
and an epoch give the same batches again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sentence_transformers.base.sampler import DefaultBatchSampler

from diptych.errors import ContractError

Rows = NDArray[np.int64]


class NoDuplicates:
    """No document of a row occurs in another row of its batch, or is relevant to another row's query.

    Without it in-batch negatives are partly false; the mask of the losses leaves such pairs out, this makes none. Rows
    that do not fit wait for a later batch; where documents are few, as labels are, batches stay small. Each row comes
    once an epoch; `drop_last` leaves out batches that are not full.

    Args:
        labels: ids of each row, query first, then its documents, integers `[rows, 2 + H]`; below 0 is unknown.
        relevant: further judgements: for a query's id those of its relevant documents.

    Raises:
        ContractError: labels without documents.
    """

    def __init__(self, labels: ArrayLike, relevant: Mapping[int, Iterable[int]] | None = None) -> None:
        ids = np.asarray(labels, np.int64)
        if ids.ndim != 2 or ids.shape[1] < 2:
            expected = "[rows, 2 + H]: query, positive and each negative"
            raise ContractError("labels are not ids of rows", where="NoDuplicates", got=[*ids.shape], expected=expected)
        self.documents = [frozenset(row[row >= 0].tolist()) for row in ids[:, 1:]]
        relevant_of: dict[int, set[int]] = {query: set(documents) for query, documents in (relevant or {}).items()}
        for query, positive in ids[:, :2].tolist():
            if query >= 0 and positive >= 0:
                relevant_of.setdefault(query, set()).add(positive)
        nothing: set[int] = set()
        self.relevant = [relevant_of.get(query, nothing) if query >= 0 else nothing for query in ids[:, 0].tolist()]

    def __call__(self, dataset: Any, batch_size: int, drop_last: bool, **kwargs: Any) -> DistinctBatches:
        """The sampler of one training."""
        require_rows(len(self.documents), dataset, "NoDuplicates")
        return DistinctBatches(self, dataset, batch_size, drop_last, kwargs.get("seed", 0))

    def batches(self, order: Iterable[int], size: int) -> Iterator[list[int]]:
        """Rows in this order as batches, each as full as the remaining rows allow."""
        waiting = deque(order)
        while waiting:
            batch, postponed, batch_documents, batch_relevant = list[int](), list[int](), set[int](), set[int]()
            while waiting and len(batch) < size:
                row = waiting.popleft()
                documents, relevant = self.documents[row], self.relevant[row]
                fits = documents.isdisjoint(batch_documents) and documents.isdisjoint(batch_relevant)
                if fits and relevant.isdisjoint(batch_documents):
                    batch.append(row)
                    batch_documents |= documents
                    batch_relevant |= relevant
                else:
                    postponed.append(row)
            waiting.extendleft(reversed(postponed))
            yield batch


class DistinctBatches(DefaultBatchSampler):
    """The batches of `NoDuplicates`."""

    def __init__(self, rows: NoDuplicates, dataset: Any, batch_size: int, drop_last: bool, seed: int) -> None:
        super().__init__(dataset, batch_size, drop_last, seed=seed)
        self._rows = rows

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self._rows.documents)).tolist()
        for batch in self._rows.batches(order, self.batch_size):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        return sum(1 for _ in self)


def require_rows(rows: int, dataset: Any, where: str) -> None:
    """Raise a `ContractError` unless a data set has as many rows as the sampler was made for."""
    if len(dataset) != rows:
        raise ContractError(
            "the sampler was made for another data set",
            where=where,
            got=f"{len(dataset)} rows",
            expected=f"{rows} rows",
        )
