"""Teachers of recipes: any registered reranker, or stored scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from diptych import Registry
from diptych.config.section import is_number
from diptych.encoders import Encoders
from diptych.errors import ConfigError
from diptych.protocols import Kind
from diptych.training import RelativePath, Watcher
from diptych_training.corpus import TrainingData
from diptych_training.data.scoring import score_lists
from diptych_training.options import Positive, Section
from diptych_training.rows import Lists

STAGE = "asking the teacher"


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
        None, description="A registered reranker; `diptych adapters` lists them."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Its options, such as `model`.")
    scores: RelativePath | None = Field(
        None, description='Instead: JSON lines `{"query": id, "scores": {document id: score}}`.'
    )
    pairs: Positive = Field(2048, description="Pairs that are asked for, and then kept, at a time.")

    @model_validator(mode="after")
    def _one_teacher(self) -> Self:
        if (self.adapter is None) == (self.scores is None):
            raise ValueError("give either adapter or scores")
        return self


class CheckedTeacher(TeacherOptions):
    """A teacher that is compared with the model first."""

    check: bool = Field(
        True,
        description="Refuse to train where it does not rank the documents of held-out queries better than the model.",
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
