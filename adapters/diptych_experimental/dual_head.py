"""`dual_head`: one head learns judged relevance, another a reranker's opinion; both are mixed afterwards."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from diptych.evaluate import read_queries
from diptych.training import Registration, RelativePath
from diptych_experimental.dual_head_models import DualHeadLoss, best_mix, dual_head, export_dual_head
from diptych_experimental.tas_balanced import MixedBatches
from diptych_training.corpus import TrainingData
from diptych_training.data.mining import CandidateSource
from diptych_training.losses import ContrastiveLoss, KLDistillation
from diptych_training.options import AboveZero, Beside, Positive, Section
from diptych_training.recipes.contrastive import LossOptions
from diptych_training.recipes.negatives import searched
from diptych_training.recipes.reranker_scores import (
    DistillationNegatives,
    DistillationOptions,
    DistillationTraining,
)
from diptych_training.rows import Lists, Scores, columns, left_out, scored_rows
from diptych_training.running import Fitted
from diptych_training.running.run import measured
from diptych_training.teacher_scores import labels_of

CANDIDATES = "candidates"


class HeadsOptions(Section):
    """Options of the two heads."""

    dimension: Positive | None = Field(None, description="Dimension of each head; null is the encoder's.")
    mix: float | None = Field(
        None, ge=0, le=1, description="Weight of the supervised head, 0 to 1; null chooses it on held-out queries."
    )
    sides: Literal["both", "query"] = Field(
        "both", description="Sides that carry the weight. With query, a new weight changes no document vector."
    )


class DistillOptions(Section):
    """Options of the second head's loss."""

    tau: AboveZero = Field(0.05, description="Temperature of the student: dot products are divided by it.")
    temperature: AboveZero = Field(2.0, description="Temperature of both distributions.")
    weight: AboveZero = Field(
        1.0, description="Weight beside the supervised loss, over the mean of judged rows and that of unjudged rows."
    )


class Negatives(DistillationNegatives):
    """Enough negatives for a distribution."""

    per_query: Beside = 7


class Options(DistillationOptions):
    """Options of `dual_head`."""

    negatives: Negatives = Field(default_factory=Negatives)
    heads: HeadsOptions = Field(default_factory=HeadsOptions)
    supervised: LossOptions = Field(default_factory=LossOptions)
    distill: DistillOptions = Field(default_factory=DistillOptions)
    unlabelled: RelativePath | None = Field(
        None,
        description="queries.jsonl(.gz) without judgements, to learn from mined documents and the teacher's scores.",
    )
    labelled_share: float = Field(0.5, gt=0, lt=1, description="Judged share of a batch, if there are unlabelled ones.")

    whole: ClassVar[str] = (
        "is not for dual_head, whose two losses see a batch as a whole: leave it out, and make "
        "training.batch_size smaller"
    )


class DualHead(DistillationTraining[Options]):
    """Trains a dense encoder with two heads."""

    name: ClassVar[str] = "dual_head"

    @cached_property
    def labelled(self) -> TrainingData:
        """The judged training data."""
        return self._split[0]

    @cached_property
    def data(self) -> TrainingData:
        """The data including unjudged queries, whose negatives are mined and scored too."""
        if self.options.unlabelled is None:
            return self.labelled
        judged_queries = self.labelled.qrels.keys() | self.held.qrels.keys()
        unlabelled = ((query.id or "", query.text) for query in read_queries(self.options.unlabelled))
        new = {name: text for name, text in unlabelled if name not in judged_queries}
        qrels: Any = {**self.labelled.qrels, **{query: {} for query in new}}
        return replace(self.labelled, queries={**self.labelled.queries, **new}, qrels=qrels)

    def prepare(self) -> list[str]:
        """Find candidates for unjudged queries, mine negatives of the others, and let the teacher score both.

        With stored scores nothing is searched: the scored documents are the candidates.
        """
        unjudged = [query for query, judged in self.data.qrels.items() if not judged]
        if not unjudged or self.teacher.scores is not None or self.folder.stored(CANDIDATES) is not None:
            return super().prepare()
        self.watcher.begin("finding candidates", None)
        candidates = self._candidates(unjudged)
        self.folder.store(
            CANDIDATES, ({"query": query, "documents": documents} for query, documents in candidates.items())
        )
        return [f"found candidates for {len(candidates):,} queries without judgements", *super().prepare()]

    def negatives(self) -> Lists:
        """What was mined, and what was found for queries without judgements, by query."""
        return {**super().negatives(), **self.lists(CANDIDATES)}

    def model(self) -> Any:
        """The encoder with its heads."""
        mix = self.options.heads.mix
        return dual_head(super().model(), dimension=self.options.heads.dimension, mix=0.5 if mix is None else mix)

    def untrained_student(self) -> Any:
        """The encoder without its heads, which are untrained."""
        return super().model()

    def rows(self) -> Any:
        """Rows of judged pairs and of unlabelled queries, with ids and the teacher's scores."""
        options, lists, scores = self.options.negatives, self.negatives(), self.scores()
        pairs = scored_rows(self.labelled, lists, scores, per_query=options.per_query, ids=True)
        self.remarks += filter(None, [left_out(self.labelled, pairs)])
        all_rows = [*pairs, *_unlabelled(self.data, lists, scores, options.per_query)]
        import datasets

        names = [*columns(options.per_query), "label"]
        return datasets.Dataset.from_dict({name: [row[name] for row in all_rows] for name in names})

    def sampler(self, rows: Any) -> Any | None:
        """Labelled and unlabelled rows in every batch; None without unlabelled ones."""
        labelled = [label[0] >= 0 for label in rows["label"]]
        return None if all(labelled) else MixedBatches(labelled, share=self.options.labelled_share)

    def loss(self, model: Any) -> Any:
        """The contrastive family's loss on one head, the divergence from the teacher on the other."""
        options, distill = self.options.supervised.model_dump(), self.options.distill
        supervised = ContrastiveLoss(model, similarity="dot", relevance=self.labelled.relevance(), **options)
        distilled = KLDistillation(model, similarity="dot", tau=distill.tau, temperature=distill.temperature)
        return DualHeadLoss(model, supervised=supervised, distill=distilled, distill_weight=distill.weight)

    def fit(self, model: Any) -> Fitted:
        """Train, then choose the weight of the heads."""
        fitted = super().fit(model)
        evaluator = self.evaluator()
        if evaluator is None or self.options.heads.mix is not None:
            return fitted
        evaluator = evaluator.computed_in(self.options.training.precision)
        best, curve = best_mix(*scores_of_heads(model, evaluator.inner))
        model[-1].mix = best.mix
        ends = f"{curve[1.0]:.4f} of the supervised head alone, {curve[0.0]:.4f} of the taught one"
        self.remarks.append(f"The supervised head weighs {best.mix:g}: nDCG@10 {best.ndcg:.4f} held out, {ends}.")
        return replace(fitted, after=measured(model, evaluator))

    def export(self, model: Any) -> list[Registration]:
        """One plain model of both heads."""
        export_dual_head(model, self.folder.path, sides=self.options.heads.sides)
        return [Registration(self.family.adapter, {"model": str(self.folder.path)})]

    def _candidates(self, queries: list[str]) -> dict[str, list[str]]:
        """The best documents for these queries, from the live collection or by the model itself."""
        with searched(self.options, self.data, self.model, slot=self.options.negatives.slot) as source:
            return self._ranked(source, queries)

    def _ranked(self, source: CandidateSource, queries: list[str]) -> dict[str, list[str]]:
        first, count = self.options.negatives.first_rank - 1, 1 + self.options.negatives.per_query
        results = source.find([self.data.queries[query] for query in queries], [[]] * len(queries), first + count)
        documents = self.data.documents
        return {
            query: [name for name, _ in result.ranking[first:] if name in documents]
            for query, result in zip(queries, results, strict=True)
        }


def scores_of_heads(model: Any, task: Any) -> tuple[Any, Any, Any]:
    """Scores `[queries, documents]` of either head and the grades, for an InformationRetrievalEvaluator's task."""
    heads, width = model[-1], model[-1].dimension
    mix, heads.mix = heads.mix, 0.5
    queries, documents = (
        2**0.5 * encode(texts, batch_size=64, show_progress_bar=False)
        for encode, texts in ((model.encode_query, task.queries), (model.encode_document, task.corpus))
    )
    heads.mix = mix
    gains = np.array([[name in task.relevant_docs[query] for name in task.corpus_ids] for query in task.queries_ids])
    a, b = (queries[:, part] @ documents[:, part].T for part in (slice(width), slice(width, None)))
    return a, b, gains.astype(np.float32)


def _unlabelled(data: TrainingData, lists: Lists, scores: Scores, per_query: int) -> list[dict[str, Any]]:
    """A row for each query without judgements: its best candidates, in the order of its list."""
    rows = []
    for query in (query for query, judged in data.qrels.items() if not judged):
        query_scores = scores.get(query, {})
        names = [name for name in lists.get(query, ()) if name in query_scores][: 1 + per_query]
        if len(names) == 1 + per_query:
            texts = [data.queries[query], *(data.documents[name] for name in names)]
            label = labels_of([-1] * (2 + per_query), [query_scores[name] for name in names])
            rows.append({**dict(zip(columns(per_query), texts, strict=True)), "label": label})
    return rows
