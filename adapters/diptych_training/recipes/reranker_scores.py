"""`distill` and `cprd`: a dense encoder learns from a reranker's scores alone, or from their order beside contrast.

Source of `cprd`: Contrastive Partial Ranking Distillation; see docs/research/methods/cprd.md.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from diptych import Registry
from diptych.config.section import is_number
from diptych.encoders import Encoders
from diptych.errors import ConfigError
from diptych.protocols import Kind
from diptych.training import RelativePath, Watcher
from diptych_training.corpus import TrainingData
from diptych_training.data.mining import ModelSource
from diptych_training.losses import CPRDLoss, KLDistillation
from diptych_training.losses.distillation import Taught
from diptych_training.options import AboveZero, Beside, NegativesOptions, Positive, RetrievalOptions, Section
from diptych_training.recipes.base import NEGATIVES, RetrievalTraining
from diptych_training.recipes.negatives import Reranking, mined_by, ranked_by
from diptych_training.rows import Lists, MovingRows, Scores, left_out, scored_rows
from diptych_training.running import Fitted
from diptych_training.running.run import EpochCallback, draw_documents
from diptych_training.teacher_scores import score_lists

DEPTH, QUERIES, DOCUMENTS = 20, 200, 5_000  # candidates of each of so many queries, found among so many documents
STAGE = "asking the teacher"
SCORES, COMPARISON = "scores", "standing"  # files in the folders of runs

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


def registered(kind: Kind) -> AfterValidator:
    """Checks that an option names a registered adapter of this kind; a recipe would miss it hours later."""

    def check(name: str) -> str:
        known = [spec.name for spec in Registry.default().specs() if spec.kind == kind]
        if name not in known:
            word = kind if kind == "reranker" else f"{kind} encoder"
            later = "one of another package appears once that is installed"
            raise ValueError(f"a registered {word}: {', '.join(known)}; {later}")
        return name

    return AfterValidator(check)


class TeacherOptions(Section):
    """The teacher: a reranker that scores each pair once, or a file of scores."""

    adapter: Annotated[str, registered("reranker")] | None = Field(
        None, description="Name of a reranker; `diptych adapters` lists them."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the reranker, such as `model`.")
    scores: RelativePath | None = Field(
        None, description='Stored scores instead: JSON lines `{"query": id, "scores": {document id: score}}`.'
    )
    pairs: Positive = Field(2048, description="Pairs to score, then save, at a time.")

    @model_validator(mode="after")
    def _one_teacher(self) -> Self:
        if (self.adapter is None) == (self.scores is None):
            raise ValueError("give either adapter or scores")
        return self


class CheckedTeacher(TeacherOptions):
    """A teacher that is compared with the model first."""

    check: bool = Field(
        True,
        description="Refuse to train if the teacher does not rank documents of held-out queries better than the model.",
    )


def teacher_scores(
    options: TeacherOptions, data: TrainingData, lists: Lists, watcher: Watcher, path: Path | None
) -> Iterator[dict[str, Any]]:
    """`{"query": id, "scores": {document id: score}}` of each judged query: its relevant documents and its negatives.

    Args:
        options: which teacher.
        data: what is trained on.
        lists: the negatives.
        watcher: receives the number of scored pairs.
        path: the file in which scores are stored at once, so that a killed run scores no pair again; None for none.

    Raises:
        ConfigError: the stored scores cannot be read, or a line or a score is invalid.
        UnknownAdapter, MissingExtra, AdapterFactoryError: the reranker cannot be made.
    """
    if options.scores is not None:
        yield from _stored(options.scores)
        return
    reranker = Encoders.open(None).reranker(str(options.adapter), options.options)
    lists_to_score = {
        query: list(dict.fromkeys([*data.relevant(query), *lists.get(query, ())])) for query in data.qrels
    }
    watcher.begin(STAGE, sum(map(len, lists_to_score.values())))
    scores = score_lists(
        reranker,
        lists_to_score,
        data.queries,
        data.documents,
        text_of=data.read_beside,
        name=f"{options.adapter} {json.dumps(options.options, sort_keys=True, default=str)}",
        path=path,
        pairs=options.pairs,
        scored_pairs=lambda count: watcher.advance(STAGE, count),
    )
    yield from ({"query": query, "scores": document_scores} for query, document_scores in scores.items())


def _stored(path: Path) -> Iterator[dict[str, Any]]:
    try:
        file = path.open(encoding="utf-8")
    except OSError as error:
        got = f"{path}: {error.strerror}"
        raise ConfigError("the stored scores cannot be read", where="teacher.scores", got=got) from error
    with file:
        for number, line in enumerate(file, 1):
            try:
                row: Any = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, Mapping) or not isinstance(row.get("scores"), Mapping) or "query" not in row:
                expected = '{"query": id, "scores": {document id: score}}'
                raise ConfigError("a line holds no scores", where=f"{path}:{number}", got=line[:80], expected=expected)
            document_scores = row["scores"]
            if unusable := [name for name, score in document_scores.items() if not is_number(score)]:
                got = f"{document_scores[unusable[0]]!r} of document {unusable[0]}"
                raise ConfigError(
                    "a score is not a finite number", where=f"{path}:{number}", got=got, expected="a number"
                )
            yield {"query": str(row["query"]), "scores": dict(document_scores)}


def scores_by_query(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Stored rows `{"query", "scores": {document: score}}` as a mapping."""
    return {row["query"]: row["scores"] for row in rows}


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

    A teacher at chance makes a good model worse, and nothing in its losses shows it.

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


R = TypeVar("R", bound=RetrievalOptions)
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
            comparison = compare_teacher(self.teacher, self.options, self.held, self.model(), self.watcher)
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
