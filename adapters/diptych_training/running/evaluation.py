"""Measures a model on held-out queries during training, with sentence-transformers' evaluators."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sentence_transformers.base.evaluation import BaseEvaluator

from diptych.evaluate import ScorePool
from diptych.evaluate.score_pool import POOLED
from diptych.protocols import Kind
from diptych_training.corpus import TrainingData
from diptych_training.data.model_candidates import ModelSource
from diptych_training.precision import Precision, computed_in

PRIMARY, AUC = "nDCG@10", "pooled AUC"
METRICS = {"ndcg@10": "nDCG@10", "mrr@10": "MRR@10", "recall@100": "R@100", "accuracy@1": "P@1"}
TERMS = {"query_active_dims": "query terms", "corpus_active_dims": "document terms"}  # of lexicons


class HeldOutEvaluator(BaseEvaluator):
    """An evaluator of sentence-transformers whose values have the names of measures; nDCG@10 chooses checkpoints.

    Args:
        inner: the evaluator.
        precision: in which the model computes.
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


class ThresholdEvaluator(HeldOutEvaluator):
    """Beside the search, measures whether one threshold works for all queries. Pooled AUC chooses checkpoints.

    Args:
        inner: the search, an evaluator of sentence-transformers for dense models, of documents that all have text.
        held_out: the judged queries.
    """

    def __init__(self, inner: Any, held_out: TrainingData) -> None:
        super().__init__(inner)
        self.primary_metric, self.held = AUC, held_out

    def measured(self, model: Any) -> dict[str, float]:
        """The values of a model, by measure: the greatest F1 at one threshold, and that threshold, among them."""
        texts = dict(zip(self.inner.corpus_ids, self.inner.corpus, strict=True))
        source = ModelSource(model, texts, batch_size=self.inner.batch_size)
        searched, pool = self.inner(model, corpus_embeddings=source.vectors), self._pool(source)
        return {**by_metric(searched), AUC: pool.auc, "F1": pool.best.f1, "threshold": pool.best.score}

    def _pool(self, source: ModelSource) -> ScorePool:
        """The scores of each query's relevant documents and of its best others."""
        searched = set(self.inner.corpus_ids)
        relevant_of = {
            query: [name for name in self.held.relevant(query) if name in searched] for query in self.held.qrels
        }
        depth = POOLED + max(map(len, relevant_of.values()))
        results = source.find([self.held.queries[query] for query in relevant_of], list(relevant_of.values()), depth)
        rows: list[tuple[float, bool]] = []
        for result, relevant in zip(results, relevant_of.values(), strict=True):
            others = [score for name, score in result.ranking if name not in relevant][:POOLED]
            rows += [(result.named[name], True) for name in relevant] + [(score, False) for score in others]
        scores, kinds = zip(*rows, strict=True)
        return ScorePool("held out", np.array(scores, np.float64), np.array(kinds, bool))


def search_evaluator(
    held_out: TrainingData, kind: Kind, *, documents: int, seed: int, batch_size: int = 64
) -> HeldOutEvaluator | None:
    """An evaluator that searches exactly; None when nothing is held out.

    Args:
        held_out: the judged queries and the documents.
        kind: dense, sparse or multivector.
        documents: searched at most, the judged ones always.
        seed: of the others that are drawn.
        batch_size: of encoding.
    """
    if not held_out.qrels:
        return None
    texts = draw_documents(held_out, documents, seed)
    relevant = {query: {name for name in held_out.relevant(query) if name in texts} for query in held_out.qrels}
    evaluator = _evaluator(kind)(
        {query: held_out.queries[query] for query in held_out.qrels},
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
    return HeldOutEvaluator(evaluator)


def threshold_evaluator(evaluator: HeldOutEvaluator | None, held_out: TrainingData) -> ThresholdEvaluator | None:
    """An evaluator of `search_evaluator` that also measures the threshold; None if nothing is held out."""
    return None if evaluator is None else ThresholdEvaluator(evaluator.inner, held_out)


def by_metric(values: Mapping[str, Any]) -> dict[str, float]:
    """The results of an evaluator, by the names of measures."""
    return {
        name: float(value)
        for end, name in {**METRICS, **TERMS}.items()
        for key, value in values.items()
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


def draw_documents(held_out: TrainingData, count: int, seed: int) -> dict[str, str]:
    """The judged documents and others, `count` at most, in the order of the corpus."""
    judged = {name for grades in held_out.qrels.values() for name in grades}
    others = [name for name, text in held_out.documents.items() if text and name not in judged]
    order = np.random.default_rng(seed).permutation(len(others))[: max(0, count - len(judged))]
    chosen = judged | {others[place] for place in order}
    return {name: text for name, text in held_out.documents.items() if name in chosen and text}
