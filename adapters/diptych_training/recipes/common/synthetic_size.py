"""Finds how many documents need synthetic queries: doubles the number until the held-out queries gain little.

Each number is a training of its own in a folder under `trials`, so that a killed one can be resumed. It has the
recipe's options except for the number; the best one is the result of the recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diptych.errors import ConfigError
from diptych.training import Recipe, TrainReport
from diptych_training.data.saturation import Saturation, doubled
from diptych_training.options import RetrievalOptions, SyntheticQueries
from diptych_training.running.evaluation import PRIMARY


def best_size(
    options: RetrievalOptions, synthetic: SyntheticQueries, recipe: Callable[[Any], Recipe], documents: int
) -> tuple[Path, str]:
    """The folder of the training with the best amount, and a sentence on all amounts.

    Args:
        options: of the recipe.
        synthetic: their `data.synthetic`, which says where doubling begins and ends.
        recipe: makes a training of such options.
        documents: how many there are.

    Raises:
        ConfigError: nothing is held out.
    """
    limit = min(synthetic.double_to or synthetic.documents, documents)
    trials: dict[int, RetrievalOptions] = {}

    def measure(amount: int) -> float:
        trials[amount] = _trial(options, synthetic, amount)
        return _score(recipe(trials[amount]).train())

    saturation = doubled(measure, start=min(synthetic.documents, limit), limit=limit, gain=synthetic.gain)
    return trials[saturation.best].output, _sentence(saturation)


def _trial(options: RetrievalOptions, synthetic: SyntheticQueries, amount: int) -> RetrievalOptions:
    changed = synthetic.model_copy(update={"documents": amount, "double_to": None})
    data = options.data.model_copy(update={"synthetic": changed})
    return options.model_copy(update={"data": data, "output": options.output / "trials" / f"documents-{amount}"})


def _score(report: TrainReport) -> float:
    if PRIMARY not in report.measured.get("after", {}):
        raise ConfigError("nothing is held out to measure by", where="data.synthetic.double_to", do="give data.dev")
    return report.measured["after"][PRIMARY]


def _sentence(result: Saturation) -> str:
    steps = ", ".join(f"{score:.4f} of {amount:,}" for amount, score in zip(result.amounts, result.scores, strict=True))
    return f"{PRIMARY} on held-out queries by documents with synthetic queries: {steps}; {result.best:,} are taken"
