"""What the recipes that have a teacher share: its scores are asked once, and kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

from diptych_training.options import RetrievalOptions
from diptych_training.recipes.base import RetrievalTraining, scores_by_query
from diptych_training.recipes.teachers import TeacherOptions, teacher_scores
from diptych_training.rows import Lists, Scores, left_out, scored_rows

SCORES = "scores"


class TaughtOptions(RetrievalOptions):
    """Options of recipes with a teacher."""

    teacher: TeacherOptions


T = TypeVar("T", bound=TaughtOptions)


class Distilling(RetrievalTraining[T]):
    """A recipe whose rows carry a teacher's scores, behind their ids where its loss takes these."""

    with_ids: ClassVar[bool] = False

    def data_steps(self) -> list[str]:
        """Mine negatives, and ask the teacher for what it gives them."""
        done = super().data_steps()
        if self.folder.kept(SCORES) is not None:
            return done
        self.folder.keep(SCORES, self.asked(self.negatives()))
        return [*done, f"the teacher scored documents of {len(self.scores()):,} queries"]

    def rows(self) -> Any:
        """A row for each judged pair, with the teacher's scores."""
        found = self.rows_of(self.negatives(), self.scores())
        self.remarks += filter(None, [left_out(self.data, found)])
        return found

    def rows_of(self, lists: Lists, scores: Scores) -> Any:
        """The same of any negatives and scores."""
        return scored_rows(self.data, lists, scores, per_query=self.options.negatives.per_query, ids=self.with_ids)

    def asked(self, lists: Lists) -> Iterator[dict[str, Any]]:
        """What the teacher gives the documents of these lists and what is relevant; no pair is asked for twice."""
        path = self.folder.path / "data" / "pairs.jsonl"
        return teacher_scores(self.options.teacher, self.data, lists, self.watcher, path)

    def scores(self) -> Scores:
        """What the teacher gave, by query and document."""
        return scores_by_query(list(self.folder.kept(SCORES) or ()))
