"""`Recipe`: what a recipe must implement, and the reports of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


class Watcher(Protocol):
    """Receives the progress of a training; stages as in `diptych.populate.Progress`, and messages."""

    def begin(self, stage: str, total: int | None) -> None:
        """A stage starts; `total` steps are expected, None when that is not known."""
        ...

    def advance(self, stage: str, n: int) -> None:
        """`n` more steps are done."""
        ...

    def say(self, sentence: str) -> None:
        """A message for the person who watches the training."""
        ...


@dataclass(frozen=True, slots=True)
class Registration:
    """How a config uses a trained model.

    Args:
        adapter: name of the adapter that serves it.
        options: of the adapter, `model` among them as an absolute path.
        name: tells several models of one training apart, such as `exit_2`; "" for the main one.
        queries: whether it is a student, which makes a slot's queries and leaves its documents alone.
        of: what it reads of a document: `text`, or a modality, which the slot's `of` then says.
    """

    adapter: str
    options: Mapping[str, object]
    name: str = ""
    queries: bool = False
    of: str = "text"

    @property
    def section(self) -> dict[str, object]:
        """The keys of a slot's section beside `adapter`: the options, and `of` for a modality."""
        return {**self.options, **({} if self.of == "text" else {"of": self.of})}


@dataclass(frozen=True, slots=True)
class TrainReport:
    """The result of a training.

    Args:
        recipe: its name.
        kind: of what was trained: dense, sparse, multivector or reranker.
        folder: of the run, absolute; the main model lies there.
        models: how what was trained is used; the main one first.
        measured: values by metric on the queries held out, of the model before and after: `{"before": {...}, ...}`;
            of a reranker, under "first stage", those of the order that it is given, too.
        steps: of the optimizer, all runs together.
        seconds: of this run.
        resumed_at: the step from which it went on; 0 for a run from the start.
        remarks: what a reader of the figures should know, one sentence each.
        chosen_by: the metric that chose among checkpoints; higher is better.
    """

    recipe: str
    kind: str
    folder: str
    models: tuple[Registration, ...]
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    resumed_at: int = 0
    remarks: tuple[str, ...] = ()
    chosen_by: str = "nDCG@10"


class Recipe(Protocol):
    """One training, made by the factory of a `RecipeSpec` from its options and a `Watcher`."""

    def prepare(self) -> Sequence[str]:
        """Do the steps before training, such as mining negatives, and keep what they give in the run's folder.

        What is kept there is not made again. Returns a sentence on each.
        """
        ...

    def train(self) -> TrainReport:
        """Prepare what is not prepared, train, measure and save; continues a training that was killed."""
        ...


@runtime_checkable
class Shown(Protocol):
    """A recipe that can show its prepared data; optional."""

    def prepared_examples(self) -> Sequence[str]:
        """The prepared data: where it is and some examples, a line each."""
        ...
