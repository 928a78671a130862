"""Measures a model on held-out queries during training, with sentence-transformers' evaluators."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sentence_transformers.base.evaluation import BaseEvaluator

from diptych.evaluate import ScorePool
from diptych.evaluate.pooled import POOLED
from diptych.protocols import Kind
from diptych_training.corpus import TrainingData
from diptych_training.data.model_source import ModelSource
from diptych_training.precision import Precision, computed_in

PRIMARY, AUC = "nDCG@10", "pooled AUC"
METRICS = {"ndcg@10": "nDCG@10", "mrr@10": "MRR@10", "recall@100": "R@100", "accuracy@1": "P@1"}
TERMS = {"query_active_dims": "query terms", "corpus_active_dims": "document terms"}  # of lexicons


class HeldOut(BaseEvaluator):
    """An evaluator of sentence-transformers whose values have the names of measures; nDCG@10 chooses checkpoints.

    Args:
        inner: the evaluator.
        precision: in which the model computes meanwhile.
    """

    def __init__(self, inner: Any, precision: Precision = "float32") -> None:
        super().__init__()
        self.inner, self.primary_metric, self.precision = inner, PRIMARY, precision

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """The values of a model, by measure."""
        with computed_in(model, self.precision):
            return self.measured(model)

    def measured(self, model: Any) -> dict[str, float]:
        """The values of a model, in the precision that it is in now."""
        return by_metric(self.inner(model))

    def computed_in(self, precision: Precision) -> Self:
        """The same in another precision."""
        other = copy.copy(self)
        other.precision = precision
        return other


class Pooled(HeldOut):
    """Beside the search, measures whether one threshold works for all queries. Pooled AUC chooses checkpoints.

    Args:
        inner: the search, an evaluator of sentence-transformers for dense models, of documents that all have text.
        held: the judged queries.
    """

    def __init__(self, inner: Any, held: TrainingData) -> None:
        super().__init__(inner)
        self.primary_metric, self.held = AUC, held

    def measured(self, model: Any) -> dict[str, float]:
        """The values of a model, by measure: the greatest F1 at one threshold, and that threshold, among them."""
        texts = dict(zip(self.inner.corpus_ids, self.inner.corpus, strict=True))
        source = ModelSource(model, texts, batch_size=self.inner.batch_size)
        searched, pool = self.inner(model, corpus_embeddings=source.vectors), self._pool(source)
        return {**by_metric(searched), AUC: pool.auc, "F1": pool.best.f1, "threshold": pool.best.score}

    def _pool(self, source: ModelSource) -> ScorePool:
        """The scores of each query's relevant documents and of its best others."""
        known = set(self.inner.corpus_ids)
        asked = {query: [name for name in self.held.relevant(query) if name in known] for query in self.held.qrels}
        depth = POOLED + max(map(len, asked.values()))
        found = source.find([self.held.queries[query] for query in asked], list(asked.values()), depth)
        rows: list[tuple[float, bool]] = []
        for own, relevant in zip(found, asked.values(), strict=True):
            others = [score for name, score in own.ranking if name not in relevant][:POOLED]
            rows += [(own.named[name], True) for name in relevant] + [(score, False) for score in others]
        scores, kinds = zip(*rows, strict=True)
        return ScorePool("held out", np.array(scores, np.float64), np.array(kinds, bool))


def searching(held: TrainingData, kind: Kind, *, documents: int, seed: int, batch_size: int = 64) -> HeldOut | None:
    """An evaluator that searches exactly; None when nothing is held out.

    Args:
        held: the judged queries and the documents.
        kind: dense, sparse or multivector.
        documents: searched at most, the judged ones always.
        seed: of the others that are drawn.
        batch_size: of encoding.
    """
    if not held.qrels:
        return None
    texts = _drawn(held, documents, seed)
    relevant = {query: {name for name in held.relevant(query) if name in texts} for query in held.qrels}
    made = _evaluator(kind)(
        {query: held.queries[query] for query in held.qrels},
        texts,
        relevant,
        ndcg_at_k=[10],
        mrr_at_k=[10],
        accuracy_at_k=[1],
        precision_recall_at_k=[100],
        map_at_k=[100],
        batch_size=batch_size,
        write_csv=False,
    )
    return HeldOut(made)


def pooled(found: HeldOut | None, held: TrainingData) -> Pooled | None:
    """An evaluator of `searching` that also measures the threshold; None if nothing is held out."""
    return None if found is None else Pooled(found.inner, held)


def by_metric(found: Mapping[str, Any]) -> dict[str, float]:
    """The results of an evaluator, by the names of measures."""
    return {
        name: float(value)
        for end, name in {**METRICS, **TERMS}.items()
        for key, value in found.items()
        if key == end or key.endswith(f"_{end}")
    }


def _evaluator(kind: Kind) -> Any:
    if kind == "sparse":
        from sentence_transformers.sparse_encoder.evaluation import SparseInformationRetrievalEvaluator as Sparse

        return Sparse
    if kind == "multivector":
        from sentence_transformers.multi_vector_encoder.evaluation import (
            MultiVectorInformationRetrievalEvaluator as Multi,
        )

        return Multi
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    return InformationRetrievalEvaluator


def _drawn(held: TrainingData, count: int, seed: int) -> dict[str, str]:
    """The judged documents and others, `count` at most, in the order of the corpus."""
    judged = {name for own in held.qrels.values() for name in own}
    others = [name for name, text in held.documents.items() if text and name not in judged]
    order = np.random.default_rng(seed).permutation(len(others))[: max(0, count - len(judged))]
    kept = judged | {others[place] for place in order}
    return {name: text for name, text in held.documents.items() if name in kept and text}
