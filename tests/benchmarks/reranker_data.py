"""What `train_reranker.py` trains and measures with: first-stage candidates, and training rows mined from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from diptych_adapters.lexical import Bm25
from diptych_adapters.models import resolve
from diptych_training.running.families import computed_in

DEPTH, RRF = 100, 60  # candidates of each list, and the paper's constant with ranks from 1
SHORTEST, LONGEST = 8, 45  # words of a sentence that stands for a query


@dataclass(frozen=True, slots=True)
class Row:
    """A query with its documents, the relevant one first."""

    query: str
    documents: tuple[str, ...]


class Hybrid:
    """The first stage, exactly: reciprocal rank fusion of BM25 and all-MiniLM-L6-v2 over one corpus.

    Args:
        documents: "title text" by id.
        kept: a file in which the documents' vectors are kept.
    """

    def __init__(self, documents: Mapping[str, str], kept: Path) -> None:
        from sentence_transformers import SentenceTransformer

        self.ids, texts = list(documents), list(documents.values())
        self.model = SentenceTransformer(str(resolve("all-MiniLM-L6-v2").path), device="cpu")
        self.vectors = np.load(kept) if kept.is_file() else self._encoded(texts)
        np.save(kept, self.vectors)
        self.bm25 = Bm25(language="english")
        self.bm25.calibrate(self.bm25.measure(texts))
        weights = self.bm25.encode_document(texts)
        self.terms = np.unique(np.concatenate([vector.indices for vector in weights]))
        self.lexical = self._matrix(weights)
        n = np.diff(self.lexical.tocsc().indptr)
        self.idf = np.log1p((len(texts) - n + 0.5) / (n + 0.5))

    def candidates(self, queries: Sequence[str]) -> list[dict[str, float]]:
        """For each query the fused candidates with their scores, best first."""
        dense = self._encoded(queries) @ self.vectors.T
        asked = self._matrix(self.bm25.encode_query(queries)).multiply(self.idf[None]).tocsr()
        lexical = np.asarray((asked @ self.lexical.T).todense())
        return [self._fused(one, other) for one, other in zip(dense, lexical, strict=True)]

    def _fused(self, dense: NDArray[Any], lexical: NDArray[Any]) -> dict[str, float]:
        found: dict[str, float] = {}
        for scores in (lexical, dense):
            order = [n for n in np.argsort(-scores, kind="stable")[:DEPTH] if scores is dense or scores[n] > 0]
            for rank, place in enumerate(order, 1):
                name = self.ids[place]
                found[name] = found.get(name, 0.0) + 1 / (RRF + rank)
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))

    def _encoded(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with computed_in(self.model, "bfloat16"):
            found = self.model.encode(list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(found, np.float32)

    def _matrix(self, vectors: Sequence[Any]) -> Any:
        known = [np.isin(vector.indices, self.terms) for vector in vectors]
        columns = [np.searchsorted(self.terms, v.indices[own]) for v, own in zip(vectors, known, strict=True)]
        values = [vector.values[own] for vector, own in zip(vectors, known, strict=True)]
        starts = np.cumsum([0, *map(len, columns)])
        return csr_matrix(
            (np.concatenate(values), np.concatenate(columns), starts), shape=(len(vectors), len(self.terms))
        )


def mined(
    queries: Sequence[tuple[str, str, Sequence[str]]],
    found: Sequence[Mapping[str, float]],
    texts: Mapping[str, str],
    *,
    negatives: int,
    among: int,
    random: np.random.Generator,
) -> Iterator[Row]:
    """A row for each (query, text of the positive, ids that are no negatives), negatives drawn of the best `among`."""
    for (query, positive, known), own in zip(queries, found, strict=True):
        pool = [name for name in list(own)[: among + len(known)] if name not in known][:among]
        if len(pool) >= negatives:
            drawn = random.choice(len(pool), negatives, replace=False)
            yield Row(query, (positive, *(texts[pool[n]] for n in drawn)))


def sentences_as_queries(
    documents: Mapping[str, tuple[str, str]], count: int, random: np.random.Generator
) -> list[tuple[str, str, tuple[str, ...]]]:
    """Sentences of documents (title, text) by id, each with its document without that sentence, and the id."""
    rows: list[tuple[str, str, tuple[str, ...]]] = []
    names = list(documents)
    for name in [names[n] for n in random.permutation(len(names))[: 2 * count]]:
        title, text = documents[name]
        sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z0-9])", text)
        fit = [n for n, s in enumerate(sentences) if SHORTEST <= len(s.split()) <= LONGEST and len(sentences) > 3]
        if fit:
            place = int(random.choice(fit))
            rest = " ".join(sentences[:place] + sentences[place + 1 :])
            rows.append((sentences[place], f"{title} {rest}", (name,)))
    return rows[:count]


def titles_as_queries(
    documents: Mapping[str, tuple[str, str]], count: int, random: np.random.Generator
) -> list[tuple[str, str, tuple[str, ...]]]:
    """Titles with the text of their documents, and the ids; their negatives are to be texts without titles too."""
    names = [name for name, (title, text) in documents.items() if len(title.split()) > 4 and text.strip()]
    chosen = [names[n] for n in random.permutation(len(names))[:count]]
    return [(documents[name][0], documents[name][1], (name,)) for name in chosen]
