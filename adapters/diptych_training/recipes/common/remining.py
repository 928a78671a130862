"""The base of recipes that mine negatives again with the current model, and let their teacher score new documents."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import Field

from diptych_training.pool_refresh import EpochCallback
from diptych_training.recipes.common.distillation import (
    DistillationNegatives,
    DistillationOptions,
    DistillationTraining,
)
from diptych_training.recipes.common.negatives import mined_by, ranked_by
from diptych_training.recipes.common.teacher_options import scores_by_query
from diptych_training.rows import Lists, MovingRows, Scores
from diptych_training.running import Fitted

REMINED = "negatives-{}"
RefreshEvery = Annotated[
    int | None,
    Field(
        ge=0,
        description="Epochs after which the model as it is mines anew, and the teacher is asked; with stored scores, "
        "takes the most similar of what these are of. 0 never; null is 1, and 0 with stored scores.",
    ),
]


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
