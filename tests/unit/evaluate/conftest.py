from __future__ import annotations

import random

import pytest

from diptych.evaluate import Qrels
from diptych.types import Run


def _random_run(rng: random.Random, queries: tuple[str, ...]) -> Run:
    """Scores are quarters, so that many of them tie and all are exact in float32."""
    rankings = {}
    for query in queries:
        scores = [(f"d{n}", rng.randrange(12) / 4) for n in rng.sample(range(40), rng.randrange(1, 30))]
        rankings[query] = sorted(scores, key=lambda pair: -pair[1])
    return Run("random", rankings)


@pytest.fixture
def graded() -> Qrels:
    rng = random.Random(3)
    return Qrels({f"q{q}": {f"d{d}": rng.choice((0, 1, 1, 2, 3)) for d in rng.sample(range(40), 9)} for q in range(30)})


@pytest.fixture
def tied_run(graded: Qrels) -> Run:
    return _random_run(random.Random(5), graded.queries)
