"""`score` is the single-query form of a reranker's `predict`."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.errors import ContractError
from diptych.protocols import Pair
from diptych.search import score
from diptych.testing import FakeReranker
from diptych.types import Floats


def test_scores_come_in_the_order_of_the_documents() -> None:
    reranker, documents = FakeReranker(), ["a dog", "a cat sat", "nothing"]
    expected = reranker.predict([("a cat", document) for document in documents])
    assert np.array_equal(score(reranker, "a cat", documents), expected)
    assert score(reranker, "a cat", []).shape == (0,)


class Short:
    max_length, independent = None, False

    def predict(self, pairs: list[Pair]) -> Floats:
        return np.zeros(len(pairs) - 1, np.float32)


def test_a_wrong_number_of_scores_is_named() -> None:
    with pytest.raises(ContractError, match="wrong number of scores"):
        score(Short(), "q", ["a", "b"])  # type: ignore[arg-type]
