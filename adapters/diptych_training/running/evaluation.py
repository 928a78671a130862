"""Measures a model on held-out queries during training, with sentence-transformers' evaluators."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sentence_transformers.base.evaluation import BaseEvaluator

from diptych.protocols import Kind
from diptych_training.corpus import TrainingData
from diptych_training.precision import Precision, computed_in

PRIMARY = "nDCG@10"
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
