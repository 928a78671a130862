"""`distill` and `cprd`: a dense encoder learns from a reranker's scores alone, or from their order beside contrast.

Source of `cprd`: Contrastive Partial Ranking Distillation; see docs/research/methods/cprd.md.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import Field, model_validator

from diptych_training.label_pool import EpochCallback
from diptych_training.losses import CPRDLoss, KLDistillation
from diptych_training.losses.distillation import Taught
from diptych_training.options import AboveZero, Beside, Section
from diptych_training.recipes.common.distillation import (
    DistillationNegatives,
    DistillationOptions,
    DistillationTraining,
    scores_by_query,
)
from diptych_training.recipes.common.negatives import mined_by, ranked_by
from diptych_training.rows import Lists, MovingRows, Scores
from diptych_training.running import Fitted

REMINED = "negatives-{}"
RefreshEvery = Annotated[
    int | None,
    Field(
        ge=0,
        description="Epochs between minings with the current model, which the teacher then scores; with stored scores,"
        " takes the most similar documents with a score. 0 never; null is 1, or 0 with stored scores.",
    ),
]

Probability = Annotated[float, Field(ge=0, le=1)]


class ReminedNegatives(DistillationNegatives):
    """Hard negatives: mined before training for the first epoch, later by the current model."""

    refresh_every: RefreshEvery = None


class ReminingOptions(DistillationOptions):
    """Options of recipes that mine again."""

    negatives: ReminedNegatives = Field(default_factory=ReminedNegatives)

    @property
    def every(self) -> int:
        """Epochs between two minings; 0 mines only once."""
        every = self.negatives.refresh_every
        return int(self.teacher.scores is None) if every is None else every


N = TypeVar("N", bound=ReminingOptions)


class ReminingTraining(DistillationTraining[N]):
    """A recipe with a teacher that mines its negatives with the current model."""

    def fit(self, model: Any) -> Fitted:
        """Train on rows that are replaced as epochs begin."""
        if not self.options.every:
            return super().fit(model)
        rows = MovingRows(self.rows())
        return self.fitted(model, rows.dataset, self.loss(model), more_callbacks=[ReminingCallback(self, model, rows)])

    def remined(self, model: Any) -> tuple[Lists, Scores]:
        """Negatives by the current model, the hardest first, and the teacher's scores of these and relevant documents.

        Where scores are stored, the documents that have one are the candidates. A query for which nothing is found
        keeps what was mined before training, so that the same pairs have rows.
        """
        scores, count = self.scores(), self.options.negatives.per_query
        first = {q: names for q, names in self.negatives().items() if any(name in scores.get(q, {}) for name in names)}
        if self.teacher.scores is not None:
            ranked = ranked_by(model, self.options, self.data, first)
            return self._report_new(first, {query: names[:count] for query, names in ranked.items()}), scores
        mined = mined_by(model, self.options, self.data)
        lists = self._report_new(first, {query: mined.get(query) or names for query, names in first.items()})
        return lists, scores_by_query(self.teacher_rows(self.teacher, lists))

    def _report_new(self, first: Lists, lists: Lists) -> Lists:
        """The lists, after reporting to the watcher how many documents are new."""
        count = self.options.negatives.per_query
        new = sum(len({*documents} - {*first[query][:count]}) for query, documents in lists.items())
        share = new / sum(map(len, lists.values()))
        self.watcher.say(f"{share:.0%} of the negatives by the model as it is are others than before training")
        return lists


class ReminingCallback(EpochCallback[tuple[Lists, Scores]]):
    """Lets a recipe mine again every few epochs, and replaces the training rows.

    Args:
        recipe: its `options.every` says when, and its folder stores the result.
        model: that is trained.
        rows: that are replaced.
    """

    def __init__(self, recipe: ReminingTraining[Any], model: Any, rows: MovingRows) -> None:
        self.recipe, self.model, self.rows = recipe, model, rows

    def starts(self, epoch: int) -> bool:
        """Every so many epochs except the first, whose negatives were mined before."""
        return epoch > 0 and epoch % self.recipe.options.every == 0

    def compute(self, epoch: int, *, bf16: bool) -> tuple[Lists, Scores]:
        """Negatives and scores by the current model."""
        lists, scores = self.recipe.remined(self.model)
        scored = {query: [*names, *self.recipe.data.relevant(query)] for query, names in lists.items()}
        document_scores = {
            query: {d: scores[query][d] for d in names if d in scores[query]} for query, names in scored.items()
        }
        rows = (
            {"query": query, "documents": names, "scores": document_scores[query]} for query, names in lists.items()
        )
        self.recipe.folder.store(REMINED.format(epoch), rows)
        return lists, scores

    def stored(self, epoch: int) -> tuple[Lists, Scores] | None:
        """The stored negatives and scores."""
        rows = self.recipe.folder.stored(REMINED.format(epoch))
        return None if rows is None else ({row["query"]: row["documents"] for row in rows}, scores_by_query(rows))

    def use(self, value: tuple[Lists, Scores], epoch: int) -> None:
        """Train on them."""
        self.rows.exchange(self.recipe.rows_of(*value))


class DivergenceOptions(Section):
    """Options of the divergence; see `diptych_training.losses.distillation.KLDistillation`."""

    tau: AboveZero = Field(0.05, description="Temperature of the student: cosines are divided by it.")
    temperature: AboveZero = Field(1.0, description="Temperature of both distributions; higher weighs low ranks more.")


class DistillNegatives(ReminedNegatives):
    """Enough negatives for a distribution; mined once by default."""

    per_query: Beside = 8
    refresh_every: RefreshEvery = 0


class DistillOptions(ReminingOptions):
    """Options of `distill`."""

    loss: DivergenceOptions = Field(default_factory=DivergenceOptions)
    negatives: DistillNegatives = Field(default_factory=DistillNegatives)


class Distill(ReminingTraining[DistillOptions]):
    """Trains a dense encoder by a teacher's distribution."""

    name: ClassVar[str] = "distill"

    def loss(self, model: Any) -> Any:
        """Kullback-Leibler divergence from the teacher's distribution."""
        return KLDistillation(model, **self.options.loss.model_dump())


class OrderOptions(Section):
    """Options of the partial ranking; see `diptych_training.losses.distillation.CPRDLoss`."""

    tau: AboveZero = Field(0.07, description="Temperature: cosines are divided by it.")
    min_prob: Probability = Field(0.1, description="Negatives with a sigmoid score below this are not ordered.")
    top: Probability | None = Field(None, description="Instead: share of the negatives to order, the best ones.")
    weight: AboveZero = Field(1.0, description="Weight of the teacher's loss beside the contrastive one.")
    kind: Taught = Field(
        "order",
        description="What to learn from the teacher: the order, as published; the distribution over all negatives; or "
        "the scores. With a trained cross-encoder as the teacher, scores with weight 0.3 ranked best.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        given = ", ".join(f"loss.{name}" for name in self.changed("min_prob", "top"))
        if self.kind != "order" and given:
            raise ValueError(f"{given}: for loss.kind order alone, not {self.kind}: leave it out")
        return self


class OrderNegatives(ReminedNegatives):
    """Enough negatives that their order is informative."""

    per_query: Beside = 16


class CprdOptions(ReminingOptions):
    """Options of `cprd`."""

    loss: OrderOptions = Field(default_factory=OrderOptions)
    negatives: OrderNegatives = Field(default_factory=OrderNegatives)


class Cprd(ReminingTraining[CprdOptions]):
    """Trains a dense encoder by a teacher's order."""

    name: ClassVar[str] = "cprd"
    with_ids: ClassVar[bool] = True

    def loss(self, model: Any) -> Any:
        """The contrastive loss over the batch, and the teacher's part."""
        return CPRDLoss(model, relevance=self.data.relevance(), **self.options.loss.model_dump())
