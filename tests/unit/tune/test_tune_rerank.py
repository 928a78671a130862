"""`tune_rerank` pays for nothing that a search cannot use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from diptych import AdapterSpec, Collection, Registry, hookimpl
from diptych.errors import TenantError, TuneError
from diptych.protocols import Fingerprint, Pair
from diptych.testing import fakes_plugin
from diptych.types import Document, Floats, Query
from diptych_lab.tune import tune_rerank
from diptych_lab.tune.reports import RerankGain


class Lengths:
    """A reranker that prefers long documents. All instances count their pairs together."""

    max_length: int | None = None
    independent = True
    fingerprint = Fingerprint("lengths")
    pairs = 0

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        Lengths.pairs += len(pairs)
        return np.array([len(document) for _, document in pairs], np.float32)


class Plugin:
    @staticmethod
    @hookimpl
    def diptych_register_adapters() -> list[AdapterSpec]:
        return [AdapterSpec(name="lengths", kind="reranker", factory=f"{__name__}:Lengths", summary="of tests")]


def opened(search: Mapping[str, Any] | None = None, **more: Any) -> Collection:
    """A collection whose config has the reranker."""
    config = {
        "store": "memory:",
        "collection": "c",
        "slots": {"dense": {"adapter": "fake-dense", "dimension": 8}},
        "search": {"retrieve": {"dense": 10}, "rerank": [{"adapter": "lengths"}], **(search or {})},
        "cache": {"enabled": False},
        **more,
    }
    return Collection.open(config, registry=Registry(fakes_plugin, Plugin, installed=False))


DOCUMENTS = [Document(f"d{n}", "x " * n + "y", metadata={"shop": "ab"[n % 2]}) for n in range(30)]


def test_excluded_documents_are_no_part_of_the_own_list() -> None:
    told: list[tuple[int, int]] = []
    with opened(search={"exclude": [f"d{n}" for n in range(20, 30)]}) as collection:
        collection.populate(DOCUMENTS)
        report = tune_rerank(
            collection.handle,
            [Query("x")],
            budgets=(30,),
            announce=lambda queries, texts: told.append((queries, texts)),
        )
    assert (report.documents, told) == (20, [(1, 20)])
    assert [row.recall for row in report.rows] == [{10: 1.0, 50: 1.0}]


def test_a_pipeline_without_a_reranker_is_refused_with_the_command_that_makes_one_live() -> None:
    with opened(search={"rerank": []}) as collection:
        collection.populate(DOCUMENTS)
        with pytest.raises(TuneError, match=r"(?s)the pipeline has no reranker.*make it live: diptych apply"):
            tune_rerank(collection.handle, [Query("x")], budgets=(10,))


def test_a_required_tenant_is_refused_before_any_call() -> None:
    with opened(tenant={"field": "shop", "required": True}) as collection:
        collection.populate(DOCUMENTS)
        Lengths.pairs = 0
        with pytest.raises(TenantError):
            tune_rerank(collection.handle, [Query("x")], budgets=(10,))
    assert Lengths.pairs == 0


@pytest.mark.parametrize(
    ("ndcg", "verdict"),
    [
        ((0.02, 0.01, 0.03), "+0.020 [+0.010, +0.030] nDCG@10"),
        ((0.01, -0.01, 0.03), "nDCG@10, which shows no gain"),
        ((-0.02, -0.03, -0.01), "nDCG@10, a loss"),
    ],
)
def test_a_gain_says_whether_it_is_shown_and_whether_it_is_a_loss(
    ndcg: tuple[float, float, float], verdict: str
) -> None:
    assert str(RerankGain("bm25", 50, (0.1, 0.05, 0.15), ndcg)).endswith(verdict)
