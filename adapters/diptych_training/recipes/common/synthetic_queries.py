"""Synthetic queries as part of any recipe's data: written once, and stored in the run's folder.

With `data.synthetic.double_to`, `best_size` doubles the number of documents with synthetic queries until the held-out
queries gain little. Each number is a training of its own in a folder under `trials`, so that a killed one can be
resumed. It has the recipe's options except for the number; the best one is the result of the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import ConfigError
from diptych.training import Recipe, TrainReport
from diptych_training.corpus import TrainingData
from diptych_training.data.candidate_sources import CandidateSource
from diptych_training.data.generators import Generator
from diptych_training.data.synthetic import Synthetic, synthesize
from diptych_training.options import RetrievalOptions, SyntheticQueries
from diptych_training.recipes.common.negatives import searched
from diptych_training.running.evaluation import PRIMARY

Rows = Sequence[Mapping[str, Any]]


def write_queries(
    options: RetrievalOptions, data: TrainingData, held: TrainingData, model: Callable[[], Any]
) -> Synthetic:
    """Queries for the documents of `data` that give away no held-out query.

    Args:
        options: of the recipe; `data.synthetic` says who writes how many.
        data, held: the training and the held-out data.
        model: gives the model to train, which makes the round trip if no collection is configured.

    Raises:
        RegistryError, ContractError, RemoteError, ConfigError: the generator cannot write.
    """
    synthetic = options.data.synthetic
    assert synthetic is not None
    settings = synthetic.step(options.seed)
    documents = [data.document(name) for name, text in data.documents.items() if text]
    generator = Generator(synthetic.generator, synthetic.options)
    tests = [held.queries[query] for query in held.qrels]

    def synthesized(source: CandidateSource | None) -> Synthetic:
        return synthesize(documents, generator, settings, source=source, test_queries=tests)

    if settings.round_trip is None:
        return synthesized(None)
    with searched(options, data, model) as source:
        return synthesized(source)


def with_synthetic(
    synthetic: SyntheticQueries, data: TrainingData, held: TrainingData, rows: Rows, share: float, seed: int
) -> tuple[TrainingData, TrainingData]:
    """The training data with synthetic queries, and the held-out data.

    Without judged queries, the synthetic ones of a share of the documents are held out: another query of a trained
    document would not be new.

    Args:
        synthetic: whether queries are cut out of their documents.
        data, held: of judged queries.
        rows: `{"id", "text", "document"}` as `write_queries` gave them; missing documents are left out.
        share, seed: of the documents whose synthetic queries are held out.

    Raises:
        ConfigError: there is no query at all.
    """
    texts = {row["id"]: row["text"] for row in rows}
    qrels = {row["id"]: {row["document"]: 1.0} for row in rows if data.documents.get(row["document"])}
    queries = {**held.queries, **data.queries, **texts}
    cut = frozenset(texts) if synthetic.cut else frozenset[str]()
    combined = TrainingData(queries, data.documents, {**data.qrels, **qrels}, data.titles, cut)
    if not combined.qrels:
        raise ConfigError(
            "no synthetic query is left, and none is judged",
            where="data.synthetic",
            do="give another generator, more documents, or a higher round_trip",
        )
    if data.qrels or held.qrels:
        return combined, held
    # Training and held-out data: all queries of a share of the documents, drawn by `seed`, are held out.
    documents = sorted({name for judged in combined.qrels.values() for name in judged})
    count = max(1, round(share * len(documents))) if share else 0
    chosen = set(np.random.default_rng(seed).permutation(documents)[:count].tolist())
    held_queries = {query for query, judged in combined.qrels.items() if not chosen.isdisjoint(judged)}
    return combined.only(query for query in combined.qrels if query not in held_queries), combined.only(held_queries)


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
        changed = synthetic.model_copy(update={"documents": amount, "double_to": None})
        data = options.data.model_copy(update={"synthetic": changed})
        trials[amount] = options.model_copy(
            update={"data": data, "output": options.output / "trials" / f"documents-{amount}"}
        )
        return _score(recipe(trials[amount]).train())

    scores = doubled(measure, start=min(synthetic.documents, limit), limit=limit, gain=synthetic.gain)
    best = max(scores, key=lambda amount: scores[amount])  # the smallest among equals
    steps = ", ".join(f"{score:.4f} of {amount:,}" for amount, score in scores.items())
    sentence = f"{PRIMARY} on held-out queries by documents with synthetic queries: {steps}; {best:,} are taken"
    return trials[best].output, sentence


def _score(report: TrainReport) -> float:
    if PRIMARY not in report.measured.get("after", {}):
        raise ConfigError("no held-out queries to measure with", where="data.synthetic.double_to", do="give data.dev")
    return report.measured["after"][PRIMARY]


def doubled(measure: Callable[[int], float], *, start: int, limit: int, gain: float = 0.005) -> dict[int, float]:
    """Scores at `start`, twice that, and so on, until a doubling gains less than `gain` or `limit` would be passed.

    Args:
        measure: gives the score, such as nDCG@10 on dev queries, with this amount of data; a larger amount includes a
            smaller one.
        start, limit: the first amount, and the largest allowed.
        gain: 0.005 is half a point.

    Raises:
        ConfigError: a start below 1 or above `limit`.
    """
    if not 1 <= start <= limit:
        raise ConfigError(
            "the first amount is out of range", where="doubled", got=f"{start} of {limit}", expected="1 <= start"
        )
    amount, scores = start, {start: measure(start)}
    while 2 * amount <= limit:
        scores[2 * amount] = measure(2 * amount)
        amount *= 2
        if scores[amount] - scores[amount // 2] < gain:
            break
    return scores
