"""A retrieval task of which every judgement is known; the harnesses with text give one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych_training.relevance import Relevance

Numbers: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class World:
    """Queries and documents by number, and what is relevant to what.

    `relevant` is bool `[queries, documents]`; `train` and `test` are numbers of queries. Tokens are int64 `[queries,
    q]` and `[documents, d]`: places in `words`, 0 pads.
    """

    queries: Sequence[str]
    documents: Sequence[str]
    relevant: Mask
    train: Numbers
    test: Numbers
    query_tokens: Tensor
    document_tokens: Tensor
    words: Sequence[str]

    def rows(self, queries: Numbers | None = None) -> Tensor:
        """All relevant pairs `(query, document)` of these queries, the training ones unless given; int64 `[n, 2]`."""
        asked = self.train if queries is None else queries
        found = np.argwhere(self.relevant[asked])
        return torch.from_numpy(np.stack([asked[found[:, 0]], found[:, 1]], 1))

    def relevance(self) -> Relevance:
        """What a training may know: the judgements of the training queries, by number."""
        return Relevance((int(query), int(document)) for query, document in self.rows())

    def named(self, part: str) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, float]]]:
        """Queries of `train` or `test`, all documents and qrels, under the names `q7` and `d12`."""
        asked = {"train": self.train, "test": self.test}[part].tolist()
        queries = {f"q{number}": self.queries[number] for number in asked}
        documents = {f"d{number}": text for number, text in enumerate(self.documents)}
        qrels = {f"q{q}": {f"d{d}": 1.0 for d in np.flatnonzero(self.relevant[q])} for q in asked}
        return queries, documents, qrels
