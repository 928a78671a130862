"""What the recipes that have a teacher share: its scores are asked once, and kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, TypeVar

from pydantic import Field, model_validator

from diptych_training.corpus import TrainingData
from diptych_training.options import Beside, NegativesOptions, RetrievalOptions
from diptych_training.recipes.common.base import NEGATIVES, RetrievalTraining, scores_by_query
from diptych_training.recipes.common.teachers import TeacherOptions, teacher_scores
from diptych_training.rows import Lists, Scores, left_out, scored_rows

SCORES = "scores"


class TaughtNegatives(NegativesOptions):
    """One at least: a teacher that compares nothing teaches nothing."""

    per_query: Beside = 1


class TaughtOptions(RetrievalOptions):
    """Options of recipes with a teacher."""

    teacher: TeacherOptions = Field(
        description="Who scores the documents: `{adapter: cross-encoder, options: {model: ./my-reranker}}`, which is "
        "asked, or `{scores: scores.jsonl}`, which is stored."
    )
    negatives: TaughtNegatives = Field(default_factory=TaughtNegatives)

    @model_validator(mode="after")
    def _not_mined(self) -> Self:
        refuse_mining(self.teacher, self.negatives)
        return self


T = TypeVar("T", bound=TaughtOptions)
R = TypeVar("R", bound=RetrievalOptions)


class Asking(RetrievalTraining[R]):
    """A recipe that may have a teacher: what its stored scores are of are the candidates, else what is mined."""

    @property
    @abstractmethod
    def teacher(self) -> TeacherOptions | None:
        """Who is asked; None asks nobody."""

    def data_steps(self) -> list[str]:
        """Mine negatives, or take those that scores are stored of, and ask the teacher for what it gives them."""
        teacher = self.teacher
        if teacher is None:
            return super().data_steps()
        done = self._have_written()
        if teacher.scores is not None and self.folder.kept(NEGATIVES) is None:
            scores = scores_by_query(list(self.asked(teacher, {})))
            self.folder.keep(NEGATIVES, stored_lists(self.data, scores))
        done += super().data_steps()
        if self.folder.kept(SCORES) is not None:
            return done
        self.folder.keep(SCORES, self.asked(teacher, self.negatives()))
        return [*done, f"the teacher scored documents of {len(self.scores()):,} queries"]

    def asked(self, teacher: TeacherOptions, lists: Lists) -> Iterator[dict[str, Any]]:
        """What it gives the documents of these lists and what is relevant; no pair is asked for twice."""
        return teacher_scores(teacher, self.data, lists, self.watcher, self.folder.path / "data" / "pairs.jsonl")

    def scores(self) -> Scores:
        """What the teacher gave, by query and document."""
        return scores_by_query(list(self.folder.kept(SCORES) or ()))


class Distilling(Asking[T]):
    """A recipe whose rows carry a teacher's scores, behind their ids where its loss takes these."""

    with_ids: ClassVar[bool] = False

    @property
    def teacher(self) -> TeacherOptions:
        """That of the options."""
        return self.options.teacher

    def rows(self) -> Any:
        """A row for each judged pair, with the teacher's scores."""
        found = self.rows_of(self.negatives(), self.scores())
        self.remarks += filter(None, [left_out(self.data, found)])
        return found

    def rows_of(self, lists: Lists, scores: Scores) -> Any:
        """The same of any negatives and scores."""
        return scored_rows(self.data, lists, scores, per_query=self.options.negatives.per_query, ids=self.with_ids)


def stored_lists(data: TrainingData, scores: Scores) -> Iterator[dict[str, Any]]:
    """`{"query", "documents"}`: of each query that is trained on the documents that a teacher scored, see `_others`."""
    for query, own in scores.items():
        if query in data.qrels:
            yield {"query": query, "documents": _others(data, query, own)}


def refuse_mining(teacher: TeacherOptions | None, negatives: NegativesOptions) -> None:
    """Nothing, unless negatives are to be mined in some way although scores are stored.

    Raises:
        ValueError: which options say so.
    """
    if teacher is not None and teacher.scores is not None and (asked := negatives.asked()):
        raise ValueError(
            f"{', '.join(asked)}: none is mined with teacher.scores, whose documents are the candidates: leave it out"
        )


def _others(data: TrainingData, query: str, scores: Mapping[str, float]) -> list[str]:
    """The documents that a teacher scored and nobody judged, the best first."""
    judged, there = data.qrels[query], data.documents
    return sorted((name for name in scores if name not in judged and there.get(name)), key=lambda name: -scores[name])
