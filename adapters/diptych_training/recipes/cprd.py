"""`distill` and `cprd`: a dense encoder learns from a reranker's scores alone, or from their order beside contrast.

Source of `cprd`: Contrastive Partial Ranking Distillation; see docs/research/methods/cprd.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from pydantic import Field, model_validator
from transformers import TrainerCallback

from diptych import Reranker
from diptych.config.section import is_number
from diptych.encoders import Encoders
from diptych.errors import ConfigError
from diptych.search import score_pairs
from diptych.training import RelativePath
from diptych_training.corpus import TrainingData
from diptych_training.data.mining import ModelSource
from diptych_training.losses import CPRDLoss, KLDistillation
from diptych_training.losses.distillation import Taught
from diptych_training.options import (
    AboveZero,
    Beside,
    NegativesOptions,
    Positive,
    RetrievalOptions,
    Section,
    registered,
)
from diptych_training.recipes.base import NEGATIVES, RetrievalTraining
from diptych_training.recipes.negatives import Reranking, found_by, mined_by, ranked_by
from diptych_training.rows import Lists, MovingRows, Scores, left_out, scored_rows
from diptych_training.running import Fitted
from diptych_training.running.run import draw_documents

DEPTH, QUERIES, DOCUMENTS = 20, 200, 5_000  # candidates of each of so many queries, found among so many documents
SCORES, COMPARISON, REMINED = "scores", "standing", "negatives-{}"  # files in the folders of runs
STAGE = "asking the teacher"

Probability = Annotated[float, Field(ge=0, le=1)]


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
    check: bool = Field(
        True,
        description="Refuse to train if the teacher does not rank documents of held-out queries better than the model.",
    )

    @model_validator(mode="after")
    def _one_teacher(self) -> Self:
        if (self.adapter is None) == (self.scores is None):
            raise ValueError("give either adapter or scores")
        return self


class TaughtNegatives(NegativesOptions):
    """Hard negatives for a teacher: mined before training for the first epoch, later by the current model."""

    per_query: Beside = 1
    refresh_every: int | None = Field(
        None,
        ge=0,
        description="Epochs between minings with the current model, which the teacher then scores; with stored scores,"
        " takes the most similar documents with a score. 0 never; null is 1, or 0 with stored scores.",
    )


class TaughtOptions(RetrievalOptions):
    """Options of recipes with a teacher."""

    teacher: TeacherOptions = Field(
        description="Teacher that scores the documents: a reranker, `{adapter: cross-encoder, options: {model: ./my-"
        "reranker}}`, or stored scores, `{scores: scores.jsonl}`."
    )
    negatives: TaughtNegatives = Field(default_factory=TaughtNegatives)

    @property
    def every(self) -> int:
        """Epochs between two minings; 0 mines only once."""
        every = self.negatives.refresh_every
        return int(self.teacher.scores is None) if every is None else every

    @model_validator(mode="after")
    def _not_mined(self) -> Self:
        given = self.negatives.model_fields_set - {"per_query", "refresh_every"}
        if self.teacher.scores is not None and (mined := [n for n in given if getattr(self.negatives, n) is not None]):
            names = ", ".join(f"negatives.{name}" for name in sorted(mined))
            raise ValueError(
                f"{names}: none is mined with teacher.scores, whose documents are the candidates: leave it out"
            )
        return self


T = TypeVar("T", bound=TaughtOptions)


class TaughtTraining(RetrievalTraining[T], Generic[T]):
    """A recipe with a teacher; candidates are the documents with stored scores, else the mined ones."""

    with_ids: ClassVar[bool] = False  # whether the loss takes ids before the scores

    def data_steps(self) -> list[str]:
        """Check that the teacher can teach; mine negatives, or take those with stored scores; let it score them.

        Raises:
            ConfigError: it ranks held-out queries' documents no better than the model.
        """
        checked, teacher = self._checked_teacher(), self.options.teacher
        self.remarks += [] if checked in self.remarks else [checked]  # training prepares again
        done = [checked, *self._write_queries()]
        if teacher.scores is not None and self.folder.stored(NEGATIVES) is None:
            named = stored_scores(teacher.scores)
            self.store_lists(NEGATIVES, {q: _unjudged(self.data, q, named[q]) for q in named if q in self.data.qrels})
        done += super().data_steps()
        if self.folder.stored(SCORES) is not None:
            return done
        scores = self._scored(self.data, self.negatives(), self.pairs_file)
        self.folder.store(SCORES, ({"query": query, "scores": own} for query, own in scores.items()))
        return [*done, f"the teacher scored documents of {len(scores):,} queries"]

    @property
    def pairs_file(self) -> Path:
        """Where each scored pair is kept at once, so that none is scored twice."""
        return self.folder.path / "data" / "pairs.jsonl"

    def rows(self) -> Any:
        """A row for each judged pair, with the teacher's scores."""
        rows = self.rows_of(self.negatives(), self.scores())
        why = "the teacher gave them or all negatives of their query no score"
        self.remarks += filter(None, [left_out(self.data, zip(rows["query"], rows["positive"], strict=True), why)])
        return rows

    def rows_of(self, lists: Lists, scores: Scores) -> Any:
        """The same of any negatives and scores."""
        return scored_rows(self.data, lists, scores, per_query=self.options.negatives.per_query, ids=self.with_ids)

    def scores(self) -> Scores:
        """The teacher's scores, by query and document."""
        return {row["query"]: row["scores"] for row in self.folder.stored(SCORES) or ()}

    def fit(self, model: Any) -> Fitted:
        """Train on rows that are replaced as epochs begin."""
        if not self.options.every:
            return super().fit(model)
        rows = MovingRows(self.rows())
        return self.fitted(model, rows.dataset, self.loss(model), more_callbacks=[Remining(self, model, rows)])

    def remined(self, model: Any) -> tuple[Lists, Scores]:
        """Negatives by the current model, the hardest first, and the teacher's scores of these and relevant documents.

        Where scores are stored, the documents that have one are the candidates. A query for which nothing is found
        keeps what was mined before training, so that the same pairs have rows.
        """
        scores, count = self.scores(), self.options.negatives.per_query
        first = {q: names for q, names in self.negatives().items() if any(name in scores.get(q, {}) for name in names)}
        if self.options.teacher.scores is not None:
            ranked = ranked_by(model, self.options, self.data, first)
            lists: Lists = {query: names[:count] for query, names in ranked.items()}
        else:
            mined = mined_by(model, self.options, self.data)
            lists = {query: mined.get(query) or names for query, names in first.items()}
            scores = self._scored(self.data, lists, self.pairs_file)
        new = sum(len({*documents} - {*first[query][:count]}) for query, documents in lists.items())
        share = new / sum(map(len, lists.values()))
        self.watcher.say(f"{share:.0%} of the negatives by the model as it is are others than before training")
        return lists, scores

    def _scored(self, data: TrainingData, lists: Lists, path: Path | None) -> Scores:
        """The teacher's scores of each query's relevant documents and list, kept in `path`, or the stored ones.

        Raises:
            ConfigError: the stored scores cannot be read, or a line or a score is invalid.
            UnknownAdapter, MissingExtra, AdapterFactoryError: the reranker cannot be made.
        """
        teacher = self.options.teacher
        if teacher.scores is not None:
            return stored_scores(teacher.scores)
        reranker = Encoders.open(None).reranker(str(teacher.adapter), teacher.options)
        name = f"{teacher.adapter} {json.dumps(teacher.options, sort_keys=True, default=str)}"
        to_score = {query: [*data.relevant(query), *lists.get(query, ())] for query in data.qrels}
        self.watcher.begin(STAGE, sum(len({*names}) for names in to_score.values()))
        advance = partial(self.watcher.advance, STAGE)
        return score_lists(reranker, to_score, data, name=name, path=path, pairs=teacher.pairs, advance=advance)

    def _checked_teacher(self) -> str:
        """A sentence on how the teacher stands to the model, or why that is not known.

        A teacher at chance makes a good model worse, and nothing in its losses shows it. Candidates are the model's
        best for some held-out queries, or the documents with stored scores.
        """
        unknown, stored = "whether the teacher is better than the model was not checked", self.folder.stored(COMPARISON)
        if not self.options.teacher.check:
            return f"{unknown}, as teacher.check says"
        if stored is not None:
            return str(stored[0]["sentence"])
        self.watcher.begin("comparing the teacher with the model", None)
        held, seed, of_file = self.held, self.options.seed, self.options.teacher.scores
        some, lists = some_queries(held, seed), dict[str, list[str]]()
        scores: Scores = {}
        if of_file is not None:
            scores = stored_scores(of_file)
            there = {q: [name for name in scores.get(q, {}) if held.documents.get(name)] for q in some.qrels}
            named = {query: names for query, names in there.items() if len(names) > 1}
            lists = ranked_by(self.model(), self.options, held, named) if named else {}
        elif some.qrels:
            lists = candidates(self.model(), self.options, some)
            scores = self._scored(some, lists, None)
        do = "train or use a better teacher, or set teacher.check: false"
        sentence = require_better(held, lists, scores, who="the teacher", where="teacher", do=do)
        if sentence is None:
            lack = "has a relevant document that the model finds" if of_file is None else "has scored documents"
            return f"{unknown}: {f'no held-out query {lack}' if held.qrels else 'no query is held out (data.dev)'}"
        self.folder.store(COMPARISON, [{"sentence": sentence}])
        return sentence


class Remining(TrainerCallback):
    """Lets a recipe mine again every few epochs, and replaces the training rows.

    What is found is stored: a training that is resumed within an epoch uses that with which the epoch began.

    Args:
        recipe: its `options.every` says when, and its folder stores the result.
        model: that is trained.
        rows: that are replaced.
    """

    _last_start = 0  # the first epoch's negatives were mined before

    def __init__(self, recipe: TaughtTraining[Any], model: Any, rows: MovingRows) -> None:
        self.recipe, self.model, self.rows = recipe, model, rows

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mine again, if it is time."""
        epoch, folder = int(state.epoch or 0), self.recipe.folder
        start = epoch - epoch % self.recipe.options.every
        if start <= self._last_start:
            return
        self._last_start = start
        # What was stored before this epoch has begun is another training's.
        stored = folder.stored(REMINED.format(start)) if (state.epoch or 0) > start else None
        if stored is None:
            lists, scores = self.recipe.remined(self.model)
            stored = []
            for query, names in lists.items():
                own = {d: scores[query][d] for d in (*names, *self.recipe.data.relevant(query)) if d in scores[query]}
                stored.append({"query": query, "documents": names, "scores": own})
            folder.store(REMINED.format(start), stored)
        lists = {row["query"]: row["documents"] for row in stored}
        self.rows.exchange(self.recipe.rows_of(lists, {row["query"]: row["scores"] for row in stored}))


class DivergenceOptions(Section):
    """Options of the divergence; see `diptych_training.losses.distillation.KLDistillation`."""

    tau: AboveZero = Field(0.05, description="Temperature of the student: cosines are divided by it.")
    temperature: AboveZero = Field(1.0, description="Temperature of both distributions; higher weighs low ranks more.")


class DistillNegatives(TaughtNegatives):
    """Enough negatives for a distribution; mined once by default."""

    per_query: Beside = 8
    refresh_every: int | None = Field(0, ge=0, description=TaughtNegatives.model_fields["refresh_every"].description)


class DistillOptions(TaughtOptions):
    """Options of `distill`."""

    loss: DivergenceOptions = Field(default_factory=DivergenceOptions)
    negatives: DistillNegatives = Field(default_factory=DistillNegatives)


class Distill(TaughtTraining[DistillOptions]):
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


class OrderNegatives(TaughtNegatives):
    """Enough negatives that their order is informative."""

    per_query: Beside = 16


class CprdOptions(TaughtOptions):
    """Options of `cprd`."""

    loss: OrderOptions = Field(default_factory=OrderOptions)
    negatives: OrderNegatives = Field(default_factory=OrderNegatives)


class Cprd(TaughtTraining[CprdOptions]):
    """Trains a dense encoder by a teacher's order."""

    name: ClassVar[str] = "cprd"
    with_ids: ClassVar[bool] = True

    def loss(self, model: Any) -> Any:
        """The contrastive loss over the batch, and the teacher's part."""
        return CPRDLoss(model, relevance=self.data.relevance(), **self.options.loss.model_dump())


def candidates(model: Any, options: RetrievalOptions, data: TrainingData) -> dict[str, list[str]]:
    """The model's best documents for each judged query, best first."""
    texts = draw_documents(data, min(DOCUMENTS, options.data.dev.documents), options.seed)
    source = ModelSource(model, texts, precision=options.training.precision)
    return found_by(source, data, list(data.qrels), DEPTH)


def some_queries(data: TrainingData, seed: int) -> TrainingData:
    """The data with at most `QUERIES` of its queries that have a relevant document, drawn by the seed."""
    queries = [query for query in data.qrels if data.relevant(query)]
    return data.only(queries[place] for place in np.random.default_rng(seed).permutation(len(queries))[:QUERIES])


def require_better(held: TrainingData, lists: Lists, scores: Scores, *, who: str, where: str, do: str) -> str | None:
    """nDCG@10 of lists as a teacher's scores order them, and as the model does; None if no list has a relevant one.

    Args:
        held: the held-out queries.
        lists: candidates of each, best first.
        scores: of the teacher.
        who, where, do: name the teacher, and the remedy.

    Raises:
        ConfigError: the scores order them no better.
    """
    useful = {query: names for query, names in lists.items() if {*names} & {*held.relevant(query)}}
    if not useful:
        return None
    task = Reranking(held.only(useful), useful)
    ordered = {query: sorted(names, key=lambda name: -scores[query][name]) for query, names in useful.items()}
    teacher, model = task.values(ordered)["ndcg@10"], task.first()["ndcg@10"]
    counts = f"over the candidates of {len(useful)} held-out queries"
    sentence = f"nDCG@10 {teacher:.3f} of the teacher, {model:.3f} of the model, {counts}"
    if teacher <= model:
        raise ConfigError(
            f"{who} is not better than the model",
            where=where,
            got=sentence,
            expected="a higher one of the teacher: else the model learns from rankings no better than its own",
            do=do,
        )
    return sentence


def stored_scores(path: Path) -> dict[str, dict[str, float]]:
    """Scores by query and document, of JSON lines `{"query": id, "scores": {document id: score}}`.

    Raises:
        ConfigError: the file cannot be read, or a line or a score is invalid.
    """
    scores: dict[str, dict[str, float]] = {}
    try:
        with path.open(encoding="utf-8") as file:
            lines = file.readlines()
    except OSError as error:
        got = f"{path}: {error.strerror}"
        raise ConfigError("the stored scores cannot be read", where="teacher.scores", got=got) from error
    for number, line in enumerate(lines, 1):
        try:
            row: Any = json.loads(line)
        except ValueError:
            row = None
        where = f"{path}:{number}"
        if not isinstance(row, Mapping) or not isinstance(row.get("scores"), Mapping) or "query" not in row:
            expected = '{"query": id, "scores": {document id: score}}'
            raise ConfigError("a line holds no scores", where=where, got=line[:80], expected=expected)
        for name, score in row["scores"].items():
            if not is_number(score):
                got = f"{score!r} of document {name}"
                raise ConfigError("a score is not a finite number", where=where, got=got, expected="a number")
        scores[str(row["query"])] = dict(row["scores"])
    return scores


def _unjudged(data: TrainingData, query: str, scores: Mapping[str, float]) -> list[str]:
    """The documents that a teacher scored and nobody judged, best first."""
    judged, texts = data.qrels[query], data.documents
    return sorted((name for name in scores if name not in judged and texts.get(name)), key=lambda name: -scores[name])


def score_lists(
    teacher: Reranker,
    lists: Lists,
    data: TrainingData,
    *,
    name: str = "",
    path: Path | None = None,
    pairs: int = 2048,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, dict[str, float]]:
    """The teacher's scores by query and document, for each query's list; no pair is scored twice.

    Args:
        teacher: any reranker.
        lists: document ids by query id.
        data: has the texts.
        name: of the teacher, with its options; scores of another one are refused.
        path: the file of stored scores; None stores none.
        pairs: about how many are scored between two writes.
        advance: called with the number of newly scored pairs, first with that of the stored ones.

    Raises:
        ConfigError: the file holds the scores of another teacher.
        ContractError: the teacher returns the wrong number of scores, NaN or infinity.
    """
    stored = _kept(path, name) if path else {}
    texts = {(q, d): (data.queries[q], data.read_beside(q, d)) for q, ids in lists.items() for d in ids}
    keys = {pair: _key(*both) for pair, both in texts.items()}
    advance(sum(key in stored for key in keys.values()))
    for part in _parts([pair for pair, key in keys.items() if key not in stored], pairs):
        scores = score_pairs(teacher, [[texts[pair] for pair in own] for own in part], where="teacher")
        rows = [
            {"query": pair[0], "document": pair[1], "pair": keys[pair], "score": float(score)}
            for own, own_scores in zip(part, scores, strict=True)
            for pair, score in zip(own, own_scores, strict=True)
        ]
        stored |= {str(row["pair"]): float(str(row["score"])) for row in rows}
        if path:
            _append(path, rows)
        advance(len(rows))
    return {query: {document: stored[keys[query, document]] for document in ids} for query, ids in lists.items()}


def _key(query: str, document: str) -> str:
    """A hash of two texts, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for text in (query, document):
        raw = text.encode()
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


def _parts(pairs: Sequence[tuple[str, str]], size: int) -> Iterator[list[list[tuple[str, str]]]]:
    """The pairs of some queries, about so many at once: a teacher may have to see all of a query together."""
    part: list[list[tuple[str, str]]] = []
    for _, own in groupby(pairs, key=lambda pair: pair[0]):
        part.append(list(own))
        if sum(map(len, part)) >= size:
            yield part
            part = []
    if part:
        yield part


def _kept(path: Path, name: str) -> dict[str, float]:
    """The content of the file, without a last line that a kill has cut off; a new file gets its first line."""
    raw = path.read_bytes() if path.exists() else b""
    whole = raw.rfind(b"\n") + 1
    if whole < len(raw):
        os.truncate(path, whole)
    head, *rows = [json.loads(line) for line in raw[:whole].splitlines()] or [None]
    if head is None:
        _append(path, [{"teacher": name}])
    elif head.get("teacher") != name:
        raise ConfigError(
            "the file holds the scores of another teacher",
            where=path,
            got=repr(head.get("teacher")),
            expected=repr(name),
            do="delete the file, or keep each teacher's scores in a file of its own",
        )
    return {row["pair"]: row["score"] for row in rows}


def _append(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Append rows as JSON lines, durable when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())
