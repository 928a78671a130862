"""The base of recipes with a teacher: its scores are computed once, and stored."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self, TypeVar

from pydantic import Field, model_validator

from diptych_training.corpus import TrainingData
from diptych_training.options import Beside, NegativesOptions, RetrievalOptions
from diptych_training.recipes.common.base import NEGATIVES, RetrievalTraining
from diptych_training.recipes.common.teacher_options import (
    CheckedTeacher,
    TeacherComparison,
    TeacherOptions,
    compare_teacher,
    scores_by_query,
    teacher_scores,
)
from diptych_training.rows import Lists, Scores, left_out, scored_rows

SCORES, COMPARISON = "scores", "standing"  # files in the folders of runs
R = TypeVar("R", bound=RetrievalOptions)


class DistillationNegatives(NegativesOptions):
    """At least one negative: a teacher needs something to compare."""

    per_query: Beside = 1


class DistillationOptions(RetrievalOptions):
    """Options of recipes with a teacher."""

    teacher: CheckedTeacher = Field(
        description="Teacher that scores the documents: a reranker, `{adapter: cross-encoder, options: {model: ./my-"
        "reranker}}`, or stored scores, `{scores: scores.jsonl}`."
    )
    negatives: DistillationNegatives = Field(default_factory=DistillationNegatives)

    @model_validator(mode="after")
    def _not_mined(self) -> Self:
        refuse_mining(self.teacher, self.negatives)
        return self


T = TypeVar("T", bound=DistillationOptions)


class TeacherTraining(RetrievalTraining[R]):
    """A recipe that may have a teacher: candidates are the documents with stored scores, else the mined ones."""

    @property
    @abstractmethod
    def teacher(self) -> TeacherOptions | None:
        """The teacher's options; None for no teacher."""

    def data_steps(self) -> list[str]:
        """Mine negatives, or take the documents with stored scores, and let the teacher score them."""
        teacher = self.teacher
        if teacher is None:
            return super().data_steps()
        done = self._write_queries()
        if teacher.scores is not None and self.folder.stored(NEGATIVES) is None:
            scores = scores_by_query(list(self.teacher_rows(teacher, {})))
            self.folder.store(NEGATIVES, stored_lists(self.data, scores))
        done += super().data_steps()
        if self.folder.stored(SCORES) is not None:
            return done
        self.folder.store(SCORES, self.teacher_rows(teacher, self.negatives()))
        return [*done, f"the teacher scored documents of {len(self.scores()):,} queries"]

    def teacher_rows(self, teacher: TeacherOptions, lists: Lists) -> Iterator[dict[str, Any]]:
        """Let the teacher score these lists and the relevant documents; no pair is scored twice."""
        return teacher_scores(teacher, self.data, lists, self.watcher, self.folder.path / "data" / "pairs.jsonl")

    def scores(self) -> Scores:
        """The teacher's scores, by query and document."""
        return scores_by_query(list(self.folder.stored(SCORES) or ()))


class DistillationTraining(TeacherTraining[T]):
    """A recipe whose rows have a teacher's scores, after their ids if its loss needs these."""

    with_ids: ClassVar[bool] = False

    def data_steps(self) -> list[str]:
        """Check that the teacher can teach, before it is asked for what is trained on.

        Raises:
            ConfigError: it ranks held-out queries' documents no better than the model.
        """
        checked = self._checked_teacher()
        self.remarks += [sentence for sentence in checked if sentence not in self.remarks]  # training prepares again
        return [*checked, *super().data_steps()]

    def untrained_student(self) -> Any:
        """The model that the teacher must be better than."""
        return self.model()

    @property
    def teacher(self) -> CheckedTeacher:
        """The teacher in the options."""
        return self.options.teacher

    def _checked_teacher(self) -> list[str]:
        """A sentence on how the teacher stands to the model, or why that is not known."""
        if not self.teacher.check:
            return ["whether the teacher is better than the model was not checked, as teacher.check says"]
        stored = self.folder.stored(COMPARISON)
        if stored is None:
            self.watcher.begin("comparing the teacher with the model", None)
            comparison = compare_teacher(self.teacher, self.options, self.held, self.untrained_student(), self.watcher)
            if comparison is None:
                lack = "has scored documents" if self.teacher.scores else "has a relevant document that the model finds"
                why = f"no held-out query {lack}" if self.held.qrels else "no query is held out (data.dev)"
                return [f"whether the teacher is better than the model was not checked: {why}"]
            do = "train or use a better teacher, or set teacher.check: false"
            comparison.require_better(who="the teacher", where="teacher", do=do)
            stored = [asdict(comparison)]
            self.folder.store(COMPARISON, stored)
        return [str(TeacherComparison(**stored[0]))]

    def rows(self) -> Any:
        """A row for each judged pair, with the teacher's scores."""
        rows = self.rows_of(self.negatives(), self.scores())
        self.remarks += filter(None, [left_out(self.data, rows)])
        return rows

    def rows_of(self, lists: Lists, scores: Scores) -> Any:
        """The same of any negatives and scores."""
        return scored_rows(self.data, lists, scores, per_query=self.options.negatives.per_query, ids=self.with_ids)


def stored_lists(data: TrainingData, scores: Scores) -> Iterator[dict[str, Any]]:
    """`{"query", "documents"}`: for each training query the documents that a teacher scored, see `_unjudged`."""
    for query, document_scores in scores.items():
        if query in data.qrels:
            yield {"query": query, "documents": _unjudged(data, query, document_scores)}


def refuse_mining(teacher: TeacherOptions | None, negatives: NegativesOptions) -> None:
    """Raise an error if negatives are to be mined although scores are stored.

    Raises:
        ValueError: which options say so.
    """
    if teacher is not None and teacher.scores is not None and (options := negatives.set_options()):
        raise ValueError(
            f"{', '.join(options)}: none is mined with teacher.scores, whose documents are the candidates: leave it out"
        )


def _unjudged(data: TrainingData, query: str, scores: Mapping[str, float]) -> list[str]:
    """The documents that a teacher scored and nobody judged, best first."""
    judged, texts = data.qrels[query], data.documents
    return sorted((name for name in scores if name not in judged and texts.get(name)), key=lambda name: -scores[name])
