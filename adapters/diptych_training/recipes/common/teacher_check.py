"""The check before a distillation: a teacher must rank held-out queries' documents better than the model does.

A teacher at chance makes a good model worse, and nothing in its losses shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.errors import ConfigError
from diptych.training import Watcher
from diptych_training.corpus import TrainingData
from diptych_training.data.model_candidates import ModelSource
from diptych_training.options import RetrievalOptions
from diptych_training.recipes.common.negatives import ranked_by
from diptych_training.recipes.common.reranking import Reranking
from diptych_training.recipes.common.teacher_options import TeacherOptions, scores_by_query, teacher_scores
from diptych_training.rows import Lists, Scores
from diptych_training.running.evaluation import draw_documents

DEPTH, QUERIES, DOCUMENTS = 20, 200, 5_000  # candidates of each of so many queries, found among so many documents


@dataclass(frozen=True, slots=True)
class TeacherComparison:
    """nDCG@10 of a teacher and of the model to be taught, over the same candidates of held-out queries."""

    teacher: float
    model: float
    queries: int

    def __str__(self) -> str:
        counts = f"over the candidates of {self.queries} held-out queries"
        return f"nDCG@10 {self.teacher:.3f} of the teacher, {self.model:.3f} of the model, {counts}"

    def require_better(self, *, who: str, where: str, do: str) -> None:
        """Raise ConfigError unless the teacher is better; `who`, `where` and `do` name it and the remedy."""
        if self.teacher <= self.model:
            expected = "a higher one of the teacher: else the model learns from rankings no better than its own"
            what = f"{who} is not better than the model"
            raise ConfigError(what, where=where, got=str(self), expected=expected, do=do)


def compare_teacher(
    teacher: TeacherOptions, options: RetrievalOptions, held: TrainingData, model: Any, watcher: Watcher
) -> TeacherComparison | None:
    """How a recipe's teacher compares with its model; None where no held-out query has candidates to rank.

    Candidates are the model's best, or the documents with stored scores.

    Args:
        teacher, options: of the recipe.
        held: the held-out queries.
        model: that is to be taught.
        watcher: receives the number of scored pairs.
    """
    if teacher.scores is None:
        lists = candidates(model, options, held)
        asked = held.only(lists)
        return compare_rankings(
            held, lists, scores_by_query(list(teacher_scores(teacher, asked, lists, watcher, None)))
        )
    scores = scores_by_query(list(teacher_scores(teacher, held, {}, watcher, None)))
    drawn = _drawn(held, options.seed)
    scored = {query: [name for name in scores.get(query, {}) if held.documents.get(name)] for query in drawn}
    lists = {query: names for query, names in scored.items() if len(names) > 1}
    return compare_rankings(held, ranked_by(model, options, held, lists) if lists else {}, scores)


def candidates(model: Any, options: RetrievalOptions, held: TrainingData) -> dict[str, list[str]]:
    """The model's best documents for some held-out queries, best first."""
    queries = _drawn(held, options.seed)
    some = held.only(queries)
    texts = draw_documents(some, min(DOCUMENTS, options.data.dev.documents), options.seed)
    source = ModelSource(model, texts, precision=options.training.precision)
    results = source.find([some.queries[query] for query in queries], [[] for _ in queries], DEPTH)
    return {query: [name for name, _ in result.ranking] for query, result in zip(queries, results, strict=True)}


def compare_rankings(held: TrainingData, lists: Lists, scores: Scores) -> TeacherComparison | None:
    """The values of the lists as they are ordered, and as the scores order them; of those with a relevant document."""
    useful = {query: names for query, names in lists.items() if {*names} & {*held.relevant(query)}}
    if not useful:
        return None
    task = Reranking(held.only(useful), useful)
    ordered = {query: sorted(names, key=lambda name: -scores[query][name]) for query, names in useful.items()}
    return TeacherComparison(task.values(ordered)["ndcg@10"], task.first()["ndcg@10"], len(useful))


def _drawn(held: TrainingData, seed: int) -> list[str]:
    """At most `QUERIES` of the held-out queries that have a relevant document, drawn by the seed."""
    queries = [query for query in held.qrels if held.relevant(query)]
    return [queries[place] for place in sorted(np.random.default_rng(seed).permutation(len(queries))[:QUERIES])]
