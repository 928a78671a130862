"""What the recipes that have a teacher share: its scores are asked once, and kept."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from diptych_training.options import RetrievalOptions
from diptych_training.recipes.base import RetrievalTraining, scores_by_query
from diptych_training.recipes.teachers import TeacherOptions, teacher_scores
from diptych_training.rows import Scores, left_out, scored_rows

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
        asked = self.folder.path / "data" / "pairs.jsonl"
        found = teacher_scores(self.options.teacher, self.data, self.negatives(), self.watcher, asked)
        self.folder.keep(SCORES, found)
        return [*done, f"the teacher scored documents of {len(self.scores()):,} queries"]

    def rows(self) -> Any:
        """A row for each judged pair, with the teacher's scores."""
        count = self.options.negatives.per_query
        found = scored_rows(self.data, self.negatives(), self.scores(), per_query=count, ids=self.with_ids)
        self.remarks += filter(None, [left_out(self.data, found)])
        return found

    def scores(self) -> Scores:
        """What the teacher gave, by query and document."""
        return scores_by_query(list(self.folder.kept(SCORES) or ()))
