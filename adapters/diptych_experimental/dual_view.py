"""`dual_view`: a dense encoder that follows instructions, by views in pairs with exchanged labels.

Source: "Dual-View Training for Instruction-Following Information Retrieval"; see docs/research/methods/dual_view.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from diptych.errors import ConfigError, DocumentError, EvaluationError
from diptych.generation import Instance
from diptych.training import RelativePath
from diptych_experimental.tas_balanced import PairedViews
from diptych_training.corpus import TrainingData
from diptych_training.data.generators import Generator
from diptych_training.data.mining import plain, text_of
from diptych_training.losses import ContrastiveLoss
from diptych_training.options import AboveZero, DocumentsOptions, Positive, RecipeOptions, Section, Share
from diptych_training.recipes.base import Training
from diptych_training.recipes.negatives import documents_of
from diptych_training.running import Fitted
from diptych_training.running.run import HeldOutEvaluator, search_evaluator
from diptych_training.teacher_scores import read_lines


@dataclass(frozen=True, slots=True)
class Instructed:
    """A query with an instruction, and documents by their ids.

    Args:
        query: text of the query.
        instruction: a further condition.
        positive: satisfies both.
        negative: on topic, and violates the instruction.
        others: further negatives; the same in both views.
    """

    query: str
    instruction: str
    positive: str
    negative: str
    others: tuple[str, ...] = ()

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any], *, where: str = "") -> Instructed:
        """From `{"query", "instruction", "positive", "negative", "others"?}`.

        Raises:
            DocumentError: something is missing or no text, or positive and negative are the same.
        """
        names = ("query", "instruction", "positive", "negative")
        values = [raw.get(name) for name in names]
        wrong = [name for name, value in zip(names, values, strict=True) if not isinstance(value, str) or not value]
        if wrong or raw["positive"] == raw["negative"]:
            got = f"no text in {', '.join(wrong)}" if wrong else f"{raw['positive']!r} is positive and negative"
            raise DocumentError(
                "a line is not an instance of an instruction", where=where, got=got, expected=", ".join(names)
            )
        query, instruction, positive, negative = map(str, values)
        return cls(query, instruction, positive, negative, tuple(map(str, raw.get("others", ()))))


@dataclass(frozen=True, slots=True)
class TrainingView:
    """One row: query, relevant document, negatives, and the group of views it belongs to."""

    query: str
    instruction: str
    positive: str
    negatives: tuple[str, ...]
    group: int

    @property
    def key(self) -> tuple[str, str]:
        """The key for relevance."""
        return self.query, self.instruction

    @property
    def text(self) -> str:
        """The text for the encoder."""
        return f"{self.query} {self.instruction}"


@dataclass(frozen=True, slots=True)
class DualViews:
    """Views in pairs, the original first, and the number of instances without one, by reason."""

    views: tuple[TrainingView, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def groups(self) -> list[int]:
        """The group of each view, for `samplers.PairedViews`."""
        return [view.group for view in self.views]


def originals(instances: Sequence[Instructed]) -> DualViews:
    """The instances unchanged, each a group of one: the baseline for dual views at equal numbers of rows."""
    return DualViews(tuple(_original(instance, place) for place, instance in enumerate(instances)))


def dual_views(
    instances: Sequence[Instructed], documents: Mapping[str, str], generator: Generator, *, seed: int = 0
) -> DualViews:
    """The two views of each instance for which the generator writes a counter-instruction; others are counted.

    Args:
        instances: the seed.
        documents: text by id.
        generator: writes counter-instructions.

    Raises:
        DocumentError: an instance names a document that is not there.
        RegistryError, ContractError, RemoteError: the generator cannot write.
    """
    requests = [
        Instance(item.query, item.instruction, _text(documents, item.positive), _text(documents, item.negative))
        for item in instances
    ]
    instructions = generator.counter(requests, seed=seed)
    dropped: Counter[str] = Counter()
    views: list[TrainingView] = []
    for instance, instruction in zip(instances, instructions, strict=True):
        reason = _unusable(instance, instruction)
        if reason:
            dropped[reason] += 1
            continue
        views += [_original(instance, len(views) // 2), reversed_view(instance, instruction, len(views) // 2)]
    return DualViews(tuple(views), dict(dropped))


def reversed_view(instance: Instructed, instruction: str, group: int = 0) -> TrainingView:
    """The counterpart: another instruction, positive and negative exchanged, everything else the same."""
    return TrainingView(instance.query, instruction, instance.negative, (instance.positive, *instance.others), group)


def view_rows(views: Sequence[TrainingView], documents: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows for a trainer: `query`, `positive`, `negative_1` ..., and `label`, the ids `[2 + H]` as integers.

    All rows have as many negatives as the view with the fewest. The first integer numbers query and instruction
    together; give a loss `Relevance(view_relevance(views, documents))`.

    Raises:
        DocumentError: a view names a document that is not there.
    """
    keys, numbers = _numbered(view.key for view in views), _numbered(documents)
    width = min((len(view.negatives) for view in views), default=0)
    return [_row(view, keys[view.key], numbers, documents, width) for view in views]


def view_relevance(views: Sequence[TrainingView], documents: Mapping[str, str]) -> set[tuple[int, int]]:
    """Which documents are relevant to which query with its instruction, as the numbers of `view_rows`."""
    keys, numbers = _numbered(view.key for view in views), _numbered(documents)
    return {(keys[view.key], numbers[view.positive]) for view in views if view.positive in numbers}


def _original(instance: Instructed, group: int) -> TrainingView:
    return TrainingView(
        instance.query, instance.instruction, instance.positive, (instance.negative, *instance.others), group
    )


def _unusable(instance: Instructed, instruction: str) -> str:
    if not instruction:
        return "no counter-instruction"
    return "the same instruction" if plain(instruction) == plain(instance.instruction) else ""


def _row(
    view: TrainingView, key: int, numbers: Mapping[str, int], documents: Mapping[str, str], width: int
) -> dict[str, Any]:
    negatives = view.negatives[:width]
    texts = {f"negative_{place}": _text(documents, document) for place, document in enumerate(negatives, 1)}
    label = [key, numbers[view.positive], *(numbers[document] for document in negatives)]
    return {"query": view.text, "positive": _text(documents, view.positive), **texts, "label": label}


def _numbered(keys: Iterable[Any]) -> dict[Any, int]:
    return {key: number for number, key in enumerate(dict.fromkeys(keys))}


def _text(documents: Mapping[str, str], identifier: str) -> str:
    if identifier not in documents:
        raise DocumentError("an instance names a document that is not there", where="dual views", got=repr(identifier))
    return documents[identifier]


VIEWS, HELD = "views", "held_views"


class InstructionsData(DocumentsOptions):
    """The data to learn from."""

    instances: RelativePath = Field(
        description='JSON lines `{"query", "instruction", "positive", "negative", "others"?}`; the last three are ids.'
    )
    share: Share = Field(0.1, description="Share of the queries to hold out with their instances.")
    documents: Positive = Field(20_000, description="Documents searched per evaluation.")


class GeneratorOptions(Section):
    """The generator of counter-instructions."""

    name: str = Field("templates", description="`templates`, `chat`, or a generator from an installed plugin.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the generator; see docs/research/methods/synthetic_queries.md."
    )


class LossOptions(Section):
    """InfoNCE with relevance by query and instruction."""

    tau: AboveZero = Field(0.02, description="Temperature: cosines are divided by it.")


class Options(RecipeOptions):
    """Options of `dual_view`."""

    data: InstructionsData
    generator: GeneratorOptions = Field(default_factory=GeneratorOptions)
    views: bool = Field(True, description="Train both views of each instance; false trains instances as they are.")
    replace: bool = Field(False, description="Use half of the instances, to train as many rows as `views: false`.")
    loss: LossOptions = Field(default_factory=LossOptions)

    def holds_out(self) -> bool:
        """Whether any instances are held out."""
        return self.data.share > 0


class DualView(Training[Options]):
    """Trains a dense encoder on dual views."""

    name: ClassVar[str] = "dual_view"

    def prepare(self) -> list[str]:
        """Have counter-instructions written, for the training and the held-out instances."""
        done = []
        for name, instances in zip((VIEWS, HELD), self._split, strict=True):
            if self.folder.stored(name) is None:
                dual = self._views(instances, held=name == HELD)
                self.folder.store(name, map(_as_row, dual.views))
                left_out = "".join(f", {count:,} left out: {reason}" for reason, count in dual.dropped.items())
                done.append(f"{name}: {len(dual.views):,} of {len(instances):,} instances{left_out}")
        return done

    def fit(self, model: Any) -> Fitted:
        """Train on the views, those of one instance in one batch."""
        import datasets

        views = _views_of(self.folder.stored(VIEWS) or ())
        if not views:
            raise ConfigError("no training views are left", where="data.instances", do="give other instances")
        loss = ContrastiveLoss(model, tau=self.options.loss.tau, relevance=self._relevance(views))
        return self.fitted(
            model,
            datasets.Dataset.from_list(view_rows(views, self.documents)),
            loss,
            sampler=PairedViews([view.group for view in views]),
        )

    def evaluator(self) -> InstructionEvaluator | None:
        """Searches both views of held-out instances, and measures how the two documents change places."""
        views = _views_of(self.folder.stored(HELD) or ())
        judged = {str(place): {view.positive: 1.0} for place, view in enumerate(views)}
        queries = {str(place): view.text for place, view in enumerate(views)}
        data = TrainingData(queries, self.documents, judged)
        evaluator = search_evaluator(data, self.kind, documents=self.options.data.documents, seed=self.options.seed)
        if evaluator is None:
            return None
        documents = dict(zip(evaluator.inner.corpus_ids, evaluator.inner.corpus, strict=True))
        return InstructionEvaluator(evaluator.inner, views, documents)

    @cached_property
    def documents(self) -> Mapping[str, str]:
        """The documents' texts by id."""
        return {document.id: text_of(document) for document in documents_of(self.options.data)}

    def _instance(self, row: Mapping[str, Any], where: str) -> Instructed:
        """An instance, if all its documents exist."""
        instance = Instructed.from_mapping(row, where=where)
        for name in (instance.positive, instance.negative, *instance.others):
            if name not in self.documents:
                do = "give the corpus that the instances were made of, or leave the line out"
                raise DocumentError(
                    "an instance names a document that is not there", where=where, got=repr(name), do=do
                )
        return instance

    def _views(self, instances: Sequence[Instructed], *, held: bool) -> DualViews:
        if not self.options.views and not held:
            return originals(instances)
        half = instances[: (len(instances) + 1) // 2] if self.options.replace and not held else instances
        generator = Generator(self.options.generator.name, self.options.generator.options)
        return dual_views(half, self.documents, generator, seed=self.options.seed)

    def _relevance(self, views: Sequence[TrainingView]) -> Any:
        from diptych_training.relevance import Relevance

        return Relevance(view_relevance(views, self.documents))

    @cached_property
    def _split(self) -> tuple[list[Instructed], list[Instructed]]:
        """Instances for training and held out, drawn by the seed; those of one query are on one side."""
        path = self.options.data.instances
        instances = [self._instance(row, f"{path}:{number}") for number, row in enumerate(read_lines(path), 1)]
        queries = sorted({instance.query for instance in instances})
        random = np.random.default_rng(self.options.seed)
        count = round(self.options.data.share * len(queries))
        held = {queries[place] for place in random.permutation(len(queries))[:count]}
        order = [instances[place] for place in random.permutation(len(instances))]
        return [instance for instance in order if instance.query not in held], [
            instance for instance in order if instance.query in held
        ]


def _as_row(view: TrainingView) -> dict[str, Any]:
    return {
        "query": view.query,
        "instruction": view.instruction,
        "positive": view.positive,
        "negatives": list(view.negatives),
        "group": view.group,
    }


def _views_of(rows: Sequence[Mapping[str, Any]]) -> list[TrainingView]:
    return [
        TrainingView(row["query"], row["instruction"], row["positive"], tuple(row["negatives"]), row["group"])
        for row in rows
    ]


class InstructionEvaluator(HeldOutEvaluator):
    """Beside the search of both views: flip accuracy, and p-MRR of the documents that the second view makes irrelevant.

    Args:
        inner: the search, an evaluator of sentence-transformers.
        views: in pairs, as `dual_views` gives them.
        documents: text by id; ranks are among all of them.
    """

    def __init__(self, inner: Any, views: Sequence[TrainingView], documents: Mapping[str, str]) -> None:
        super().__init__(inner)
        self.views, self.documents = views, {name: text for name, text in documents.items() if text}

    def measured(self, model: Any) -> dict[str, float]:
        """The values of a model, by measure."""
        return {**super().measured(model), **instruction_measures(model, self.views, self.documents)}


def instruction_measures(model: Any, views: Sequence[TrainingView], documents: Mapping[str, str]) -> dict[str, float]:
    """`flip accuracy` over all views, and `p-MRR` over their pairs.

    Args:
        model: of sentence-transformers, dense.
        views: in pairs, the original first.
        documents: text by id.
    """
    place = {name: number for number, name in enumerate(documents)}
    document_vectors = model.encode_document(list(documents.values()), convert_to_tensor=True, show_progress_bar=False)
    query_vectors = model.encode_query([view.text for view in views], convert_to_tensor=True, show_progress_bar=False)
    scores = model.similarity(query_vectors, document_vectors).double().cpu().numpy()
    rows = np.arange(len(views))
    relevant = scores[rows, [place[view.positive] for view in views]]
    other = scores[rows, [place[view.negatives[0]] for view in views]]
    ranks = [[_rank(scores[row], place[view.positive]) for row in (first, first + 1)] for first, view in _firsts(views)]
    return {
        "flip accuracy": flip_accuracy(relevant, other),
        "p-MRR": p_mrr([before for before, _ in ranks], [after for _, after in ranks]),
    }


def _firsts(views: Sequence[TrainingView]) -> list[tuple[int, TrainingView]]:
    return [(row, views[row]) for row in range(0, len(views), 2)]


def _rank(scores: np.ndarray, place: int) -> int:
    """The rank from 1; among equal scores the last."""
    return int((scores >= scores[place]).sum())


def p_mrr(before: Sequence[int], after: Sequence[int]) -> float:
    """The mean over documents that a changed instruction makes irrelevant; -1 to 1, 0 for a model that ignores it.

    Args:
        before: ranks from 1 under the original instruction.
        after: ranks of the same documents under the changed one.

    Raises:
        EvaluationError: not as many ranks, none, or one below 1.
    """
    if len(before) != len(after) or not before or min(*before, *after) < 1:
        got = f"{len(before)} and {len(after)} ranks"
        raise EvaluationError("the ranks are not of the same documents", where="p_mrr", got=got, expected="from 1")
    return float(np.mean([rank_change(old, new) for old, new in zip(before, after, strict=True)]))


def flip_accuracy(relevant: ArrayLike, other: ArrayLike) -> float:
    """The share of views in which the relevant document scores higher; half of equal scores count.

    With both views of each pair, an encoder that ignores instructions has 0.5.

    Args:
        relevant: scores of the relevant document of each view `[n]`.
        other: scores of the sister's `[n]`.
    """
    right, wrong = np.asarray(relevant, np.float64), np.asarray(other, np.float64)
    return float(np.mean((right > wrong) + 0.5 * (right == wrong)))


def rank_change(before: int, after: int) -> float:
    """How far a document fell from one rank to another, both from 1: from -1 (rose to the top) to 1."""
    return 1 - before / after if after >= before else after / before - 1
