"""`dual_view`: a dense encoder that follows instructions, by views in pairs with exchanged labels.

Source: "Dual-View Training for Instruction-Following Information Retrieval"; see docs/research/methods/dual_view.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from diptych.errors import ConfigError, DocumentError, EvaluationError
from diptych.evaluate.scoring import rank_change
from diptych.training import RelativePath
from diptych_experimental.dual_view_rows import (
    DualViews,
    Instructed,
    TrainingView,
    dual_views,
    originals,
    view_relevance,
    view_rows,
)
from diptych_experimental.samplers import PairedViews
from diptych_training.corpus import TrainingData
from diptych_training.data.candidate_sources import text_of
from diptych_training.data.generators import Generator
from diptych_training.data.scoring import read_lines
from diptych_training.losses import ContrastiveLoss
from diptych_training.options import AboveZero, DocumentsOptions, Positive, RecipeOptions, Section, Share
from diptych_training.recipes.common.base import Training
from diptych_training.recipes.common.negatives import documents_of
from diptych_training.running import Fitted
from diptych_training.running.evaluation import HeldOutEvaluator, search_evaluator

VIEWS, HELD = "views", "held_views"


class InstructionsData(DocumentsOptions):
    """The data to learn from."""

    instances: RelativePath = Field(
        description='JSON lines `{"query", "instruction", "positive", "negative", "others"?}`; the last three are ids.'
    )
    share: Share = Field(0.1, description="Share of the queries to hold out with their instances.")
    documents: Positive = Field(20_000, description="Documents searched per evaluation.")


class GeneratorOptions(Section):
    """The generator of counter-instructions."""

    name: str = Field("templates", description="`templates`, `chat`, or a generator from an installed plugin.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the generator; see docs/research/methods/synthetic_queries.md."
    )


class LossOptions(Section):
    """InfoNCE with relevance by query and instruction."""

    tau: AboveZero = Field(0.02, description="Temperature: cosines are divided by it.")


class Options(RecipeOptions):
    """Options of `dual_view`."""

    data: InstructionsData
    generator: GeneratorOptions = Field(default_factory=GeneratorOptions)
    views: bool = Field(True, description="Train both views of each instance; false trains instances as they are.")
    replace: bool = Field(False, description="Use half of the instances, to train as many rows as `views: false`.")
    loss: LossOptions = Field(default_factory=LossOptions)

    def holds_out(self) -> bool:
        """Whether any instances are held out."""
        return self.data.share > 0


class DualView(Training[Options]):
    """Trains a dense encoder on dual views."""

    name: ClassVar[str] = "dual_view"

    def prepare(self) -> list[str]:
        """Have counter-instructions written, for the training and the held-out instances."""
        done = []
        for name, instances in zip((VIEWS, HELD), self._split, strict=True):
            if self.folder.stored(name) is None:
                dual = self._views(instances, held=name == HELD)
                self.folder.store(name, map(_as_row, dual.views))
                left_out = "".join(f", {count:,} left out: {reason}" for reason, count in dual.dropped.items())
                done.append(f"{name}: {len(dual.views):,} of {len(instances):,} instances{left_out}")
        return done

    def fit(self, model: Any) -> Fitted:
        """Train on the views, those of one instance in one batch."""
        import datasets

        views = _views_of(self.folder.stored(VIEWS) or ())
        if not views:
            raise ConfigError("no training views are left", where="data.instances", do="give other instances")
        loss = ContrastiveLoss(model, tau=self.options.loss.tau, relevance=self._relevance(views))
        return self.fitted(
            model,
            datasets.Dataset.from_list(view_rows(views, self.documents)),
            loss,
            sampler=PairedViews([view.group for view in views]),
        )

    def evaluator(self) -> InstructionEvaluator | None:
        """Searches both views of held-out instances, and measures how the two documents change places."""
        views = _views_of(self.folder.stored(HELD) or ())
        judged = {str(place): {view.positive: 1.0} for place, view in enumerate(views)}
        queries = {str(place): view.text for place, view in enumerate(views)}
        data = TrainingData(queries, self.documents, judged)
        evaluator = search_evaluator(data, self.kind, documents=self.options.data.documents, seed=self.options.seed)
        if evaluator is None:
            return None
        documents = dict(zip(evaluator.inner.corpus_ids, evaluator.inner.corpus, strict=True))
        return InstructionEvaluator(evaluator.inner, views, documents)

    @cached_property
    def documents(self) -> Mapping[str, str]:
        """The documents' texts by id."""
        return {document.id: text_of(document) for document in documents_of(self.options.data)}

    def _instance(self, row: Mapping[str, Any], where: str) -> Instructed:
        """An instance, if all its documents exist."""
        instance = Instructed.from_mapping(row, where=where)
        for name in (instance.positive, instance.negative, *instance.others):
            if name not in self.documents:
                do = "give the corpus that the instances were made of, or leave the line out"
                raise DocumentError(
                    "an instance names a document that is not there", where=where, got=repr(name), do=do
                )
        return instance

    def _views(self, instances: Sequence[Instructed], *, held: bool) -> DualViews:
        if not self.options.views and not held:
            return originals(instances)
        half = instances[: (len(instances) + 1) // 2] if self.options.replace and not held else instances
        generator = Generator(self.options.generator.name, self.options.generator.options)
        return dual_views(half, self.documents, generator, seed=self.options.seed)

    def _relevance(self, views: Sequence[TrainingView]) -> Any:
        from diptych_training.relevance import Relevance

        return Relevance(view_relevance(views, self.documents))

    @cached_property
    def _split(self) -> tuple[list[Instructed], list[Instructed]]:
        """Instances for training and held out, drawn by the seed; those of one query are on one side."""
        path = self.options.data.instances
        instances = [self._instance(row, f"{path}:{number}") for number, row in enumerate(read_lines(path), 1)]
        queries = sorted({instance.query for instance in instances})
        random = np.random.default_rng(self.options.seed)
        count = round(self.options.data.share * len(queries))
        held = {queries[place] for place in random.permutation(len(queries))[:count]}
        order = [instances[place] for place in random.permutation(len(instances))]
        return [instance for instance in order if instance.query not in held], [
            instance for instance in order if instance.query in held
        ]


def _as_row(view: TrainingView) -> dict[str, Any]:
    return {
        "query": view.query,
        "instruction": view.instruction,
        "positive": view.positive,
        "negatives": list(view.negatives),
        "group": view.group,
    }


def _views_of(rows: Sequence[Mapping[str, Any]]) -> list[TrainingView]:
    return [
        TrainingView(row["query"], row["instruction"], row["positive"], tuple(row["negatives"]), row["group"])
        for row in rows
    ]


class InstructionEvaluator(HeldOutEvaluator):
    """Beside the search of both views: flip accuracy, and p-MRR of the documents that the second view makes irrelevant.

    Args:
        inner: the search, an evaluator of sentence-transformers.
        views: in pairs, as `dual_views` gives them.
        documents: text by id; ranks are among all of them.
    """

    def __init__(self, inner: Any, views: Sequence[TrainingView], documents: Mapping[str, str]) -> None:
        super().__init__(inner)
        self.views, self.documents = views, {name: text for name, text in documents.items() if text}

    def measured(self, model: Any) -> dict[str, float]:
        """The values of a model, by measure."""
        return {**super().measured(model), **instruction_measures(model, self.views, self.documents)}


def instruction_measures(model: Any, views: Sequence[TrainingView], documents: Mapping[str, str]) -> dict[str, float]:
    """`flip accuracy` over all views, and `p-MRR` over their pairs.

    Args:
        model: of sentence-transformers, dense.
        views: in pairs, the original first.
        documents: text by id.
    """
    place = {name: number for number, name in enumerate(documents)}
    document_vectors = model.encode_document(list(documents.values()), convert_to_tensor=True, show_progress_bar=False)
    query_vectors = model.encode_query([view.text for view in views], convert_to_tensor=True, show_progress_bar=False)
    scores = model.similarity(query_vectors, document_vectors).double().cpu().numpy()
    rows = np.arange(len(views))
    relevant = scores[rows, [place[view.positive] for view in views]]
    other = scores[rows, [place[view.negatives[0]] for view in views]]
    ranks = [[_rank(scores[row], place[view.positive]) for row in (first, first + 1)] for first, view in _firsts(views)]
    return {
        "flip accuracy": flip_accuracy(relevant, other),
        "p-MRR": p_mrr([before for before, _ in ranks], [after for _, after in ranks]),
    }


def _firsts(views: Sequence[TrainingView]) -> list[tuple[int, TrainingView]]:
    return [(row, views[row]) for row in range(0, len(views), 2)]


def _rank(scores: np.ndarray, place: int) -> int:
    """The rank from 1; among equal scores the last."""
    return int((scores >= scores[place]).sum())


def p_mrr(before: Sequence[int], after: Sequence[int]) -> float:
    """The mean over documents that a changed instruction makes irrelevant; -1 to 1, 0 for a model that ignores it.

    The same over rankings and their judgements is `diptych.evaluate.p_mrr`.

    Args:
        before: ranks from 1 under the original instruction.
        after: ranks of the same documents under the changed one.

    Raises:
        EvaluationError: not as many ranks, none, or one below 1.
    """
    if len(before) != len(after) or not before or min(*before, *after) < 1:
        got = f"{len(before)} and {len(after)} ranks"
        raise EvaluationError("the ranks are not of the same documents", where="p_mrr", got=got, expected="from 1")
    return float(np.mean([rank_change(old, new) for old, new in zip(before, after, strict=True)]))


def flip_accuracy(relevant: ArrayLike, other: ArrayLike) -> float:
    """The share of views in which the relevant document scores higher; half of equal scores count.

    With both views of each pair, an encoder that ignores instructions has 0.5.

    Args:
        relevant: scores of the relevant document of each view `[n]`.
        other: scores of the sister's `[n]`.
    """
    right, wrong = np.asarray(relevant, np.float64), np.asarray(other, np.float64)
    return float(np.mean((right > wrong) + 0.5 * (right == wrong)))
