"""The base of recipes that mine again as the model changes, and let their teacher score new documents."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import Field

from diptych_training.epoch_callback import Recurring
from diptych_training.recipes.common.base import scores_by_query
from diptych_training.recipes.common.distillation import Distilling, TaughtNegatives, TaughtOptions
from diptych_training.recipes.common.negatives import mined_by, ranked_by
from diptych_training.rows import Lists, MovingRows, Scores
from diptych_training.running import Fitted

RENEWED = "negatives-{}"
RefreshEvery = Annotated[
    int | None,
    Field(
        ge=0,
        description="Epochs after which the model as it is mines anew, and the teacher is asked; with stored scores, "
        "takes the most similar of what these are of. 0 never; null is 1, and 0 with stored scores.",
    ),
]


class RenewedNegatives(TaughtNegatives):
    """Hard negatives: mined before training for the first epoch, later by the current model."""

    refresh_every: RefreshEvery = None


class RenewingOptions(TaughtOptions):
    """Options of recipes that mine again."""

    negatives: RenewedNegatives = Field(default_factory=RenewedNegatives)

    @property
    def every(self) -> int:
        """Epochs between two minings; 0 mines only once."""
        given = self.negatives.refresh_every
        return int(self.teacher.scores is None) if given is None else given


N = TypeVar("N", bound=RenewingOptions)


class Renewing(Distilling[N]):
    """A recipe with a teacher that mines its negatives with the current model."""

    def fit(self, model: Any) -> Fitted:
        """Train on rows that are replaced as epochs begin."""
        if not self.options.every:
            return super().fit(model)
        rows = MovingRows(self.rows())
        return self.fitted(model, rows.dataset, self.loss(model), further=[Renewal(self, model, rows)])

    def renewed(self, model: Any) -> tuple[Lists, Scores]:
        """Negatives by the current model, the hardest first, and the teacher's scores of these and relevant documents.

        Where scores are stored, the documents that have one are the candidates. A query for which nothing is found
        keeps what was mined before training, so that the same pairs have rows.
        """
        scores, count = self.scores(), self.options.negatives.per_query
        first = {q: own for q, own in self.negatives().items() if any(name in scores.get(q, {}) for name in own)}
        if self.teacher.scores is not None:
            ranked = ranked_by(model, self.options, self.data, first)
            return self._told(first, {query: own[:count] for query, own in ranked.items()}), scores
        found = mined_by(model, self.options, self.data)
        lists = self._told(first, {query: found.get(query) or own for query, own in first.items()})
        return lists, scores_by_query(self.asked(self.teacher, lists))

    def _told(self, first: Lists, lists: Lists) -> Lists:
        """The lists, after reporting to the watcher how many documents are new."""
        count = self.options.negatives.per_query
        new = sum(len({*own} - {*first[query][:count]}) for query, own in lists.items())
        share = new / sum(map(len, lists.values()))
        self.watcher.say(f"{share:.0%} of the negatives by the model as it is are others than before training")
        return lists


class Renewal(Recurring[tuple[Lists, Scores]]):
    """Lets a recipe mine again every few epochs, and replaces the training rows.

    Args:
        recipe: whose `options.every` says when, and in whose folder it is kept.
        model: that is trained.
        rows: that are exchanged.
    """

    def __init__(self, recipe: Renewing[Any], model: Any, rows: MovingRows) -> None:
        self.recipe, self.model, self.rows = recipe, model, rows

    def starts(self, epoch: int) -> bool:
        """Every so many epochs except the first, whose negatives were mined before."""
        return epoch > 0 and epoch % self.recipe.options.every == 0

    def found(self, epoch: int, *, bf16: bool) -> tuple[Lists, Scores]:
        """Negatives and scores by the current model."""
        lists, scores = self.recipe.renewed(self.model)
        wanted = {query: [*own, *self.recipe.data.relevant(query)] for query, own in lists.items()}
        known = {query: {d: scores[query][d] for d in own if d in scores[query]} for query, own in wanted.items()}
        rows = ({"query": query, "documents": own, "scores": known[query]} for query, own in lists.items())
        self.recipe.folder.keep(RENEWED.format(epoch), rows)
        return lists, scores

    def kept(self, epoch: int) -> tuple[Lists, Scores] | None:
        """The stored negatives and scores."""
        rows = self.recipe.folder.kept(RENEWED.format(epoch))
        return None if rows is None else ({row["query"]: row["documents"] for row in rows}, scores_by_query(rows))

    def take(self, found: tuple[Lists, Scores], epoch: int) -> None:
        """Train on them."""
        self.rows.exchange(self.recipe.rows_of(*found))
