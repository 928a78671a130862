"""Stages compose, print as they are written, and refuse what means nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from qdrant_client import models

import diptych.search as vocabulary
from diptych.config import parse_config
from diptych.config.models import SearchConfig, SlotConfig
from diptych.errors import ConfigError, SearchError
from diptych.registry import Registry
from diptych.search import (
    Dbsf,
    Diversify,
    EarlyExit,
    FieldBoost,
    Linear,
    NumberBoost,
    Pipeline,
    Rerank,
    Rescore,
    Retrieve,
    Rrf,
)
from diptych.slots.slot import Slot
from diptych.testing import FakeReranker

SLOTS = {name: {"adapter": name} for name in ("dense", "lexical", "late")}
EXITS = {"early_exit": EarlyExit()}
PAIR = Retrieve("dense", 100) + Retrieve("lexical", 50)
PIPELINES = [
    Pipeline((Retrieve("dense"),)),
    PAIR >> Rrf(),
    PAIR >> Rrf(k=10, weights={"dense": 2.0}),
    PAIR >> Dbsf() >> Rescore("late", 20),
    PAIR >> Linear("zscore", missing=-1.5),
    PAIR >> Linear("zscore", {"lexical": 0.5}) >> Diversify("dense", relevance=0.3, candidates=40),
    PAIR >> Rrf() >> Rescore("late", 30) >> Rerank("mine", 20) >> Rerank("other", 5, options={"model": "m"}),
    Retrieve("dense", 10, params=models.SearchParams(hnsw_ef=128)) >> Rerank("mine", 5),
    Retrieve("dense") >> Rerank("b", 20, early_exit=EarlyExit(5, 1)) >> Rerank("c", 5, weight=0.5),
]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=range(len(PIPELINES)))
def test_a_pipeline_prints_as_the_code_that_makes_it(pipeline: Pipeline) -> None:
    names = {**{n: getattr(vocabulary, n) for n in vocabulary.__all__}, "SearchParams": models.SearchParams}
    made = eval(repr(pipeline), names)  # our own repr, nobody else's text
    assert (made if isinstance(made, Pipeline) else Pipeline((made,))) == pipeline


def test_adding_three_slots_in_any_grouping_is_the_same_pipeline() -> None:
    a, b, c = Retrieve("a"), Retrieve("b"), Retrieve("c")
    assert (a + b) + c == a + (b + c) == Pipeline((a, b, c))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Retrieve("dense", 0), "candidates is not a positive integer"),
        (lambda: Retrieve("dense", True), "candidates is not a positive integer"),
        (lambda: Retrieve("dense", params={"exact": True}), "unknown search parameters"),  # type: ignore[arg-type]
        (lambda: Rrf(k=0), r"k is not usable\n.*Rrf\.k\n.*0\n.*at least 1"),
        (lambda: Rrf(weights={"dense": -1}), r"weights is not usable\n.*Rrf\.weights\.dense\n.*-1\n.*at least 0"),
        (lambda: Linear(weights={"dense": float("nan")}), r"weights is not usable\n.*Linear\.weights\.dense\n.*nan"),
        (lambda: Linear("minmax", missing=-1.0), "missing is not usable"),
        (lambda: Linear("zscore", missing=float("nan")), "missing is not usable"),
        (lambda: Linear("softmax"), r"normalize is not usable\n.*\n.*softmax.*\n.*'minmax' or 'zscore'"),  # type: ignore[arg-type]
        (lambda: Diversify("dense", relevance=1.5), r"relevance is not usable\n.*\n.*1.5\n.*at most 1"),
        (lambda: Rescore("late", -3), "candidates is not usable"),
        *(
            (partial(stage, "x", weight=weight), rf"weight is not usable\n.*{stage.__name__}\.weight\n")  # type: ignore[arg-type]
            for stage in (Rescore, Rerank)
            for weight in (-0.1, 1.5, "half", float("nan"), True)
        ),
        *(
            (partial(EarlyExit, *counts), r"is not usable\n.*EarlyExit\.(block|patience)\n.*\n.*(least 1|whole)")
            for counts in ((0, 1), (1, 0), (True, 1), (1.5, 1))
        ),
        *(
            (
                partial(Rerank, "a", deadline=value),
                r"deadline is not usable\n.*Rerank\.deadline\n.*\n.*(at least|300ms|num)",
            )
            for value in (0, -1, "soon", "3 fortnights", float("nan"), True)
        ),
        (lambda: Rerank("a", deadline="50"), r"got: '50'\n  expected: a unit: 50ms or 50s"),
        (lambda: Rerank("a", deadline=1, early_exit=EarlyExit()), r"(?s)the other drops them.*deadline=1.0 and Early"),
        (lambda: Rerank("a", weight=0.5, early_exit=EarlyExit()), r"(?s)combined with a weight.*weight=0.5 and Early"),
        (lambda: Rerank(3), r"adapter is not usable\n.*\n.*3\n.*an object with predict"),  # type: ignore[arg-type]
        (lambda: PAIR >> Rrf(weights={"late": 1}), "a weight for 'late', which is not retrieved"),
        (lambda: PAIR + Retrieve("dense", 3), "slot 'dense' is retrieved twice"),
        (lambda: PAIR >> Rrf() >> Dbsf(), r"Dbsf\(\) comes too late"),
        (lambda: PAIR >> Rescore("late") >> Rrf(), r"Rrf\(k=60\) comes too late"),
        (lambda: PAIR >> Rerank("mine") >> Rescore("late"), r"Rescore\('late', 50\) comes too late"),
        (lambda: PAIR >> Diversify("dense") >> Rescore("late"), r"Rescore\('late', 50\) comes too late"),
        (lambda: (PAIR >> Rrf()) + Retrieve("late"), "before the first stage"),
        (lambda: PAIR >> "rrf", "not a stage"),  # type: ignore[operator]
    ],
)
def test_what_means_nothing_is_refused(make: Callable[[], object], text: str) -> None:
    with pytest.raises(SearchError, match=text):
        make()


@pytest.mark.parametrize(
    ("key", "values", "call"),
    [
        ("fuse", {"kind": "rrf", "k": True}, lambda v: Rrf(v["k"])),
        ("fuse", {"kind": "rrf", "weights": {"dense": "2"}}, lambda v: Rrf(weights=v["weights"])),
        ("fuse", {"kind": "linear", "missing": -1}, lambda v: Linear(missing=v["missing"])),
        ("fuse", {"kind": "linear", "normalize": "zscore", "missing": 1e7}, lambda v: Linear("zscore", missing=1e7)),
        ("rescore", {"slot": "late", "weight": "1"}, lambda v: Rescore("late", weight=v["weight"])),
        ("rescore", {"slot": "late", "candidates": 100_001}, lambda v: Rescore("late", v["candidates"])),
        ("diversify", {"slot": "dense", "candidates": 20_000}, lambda v: Diversify("dense", candidates=20_000)),
        ("rerank", [{"adapter": "x", "weight": 0.5, "early_exit": {}}], lambda v: Rerank(**{**v[0], **EXITS})),
        ("rerank", [{"adapter": "x", "deadline": "50"}], lambda v: Rerank("x", deadline="50")),
        ("boost", [{"kind": "number", "field": "n", "target": True, "scale": 1}], lambda v: NumberBoost("n", True, 1)),
        ("boost", [{"kind": "field", "field": "n", "equals": []}], lambda v: FieldBoost("n", [])),
        (
            "boost",
            [{"kind": "field", "field": "n", "equals": 1, "relative": 1}],
            lambda v: FieldBoost("n", 1, relative=v[0]["relative"]),
        ),
    ],
)
def test_a_config_and_a_call_refuse_the_same_values_for_the_same_reason(
    key: str, values: Any, call: Callable[[Any], object]
) -> None:
    with pytest.raises(SearchError) as called:
        call(values)
    with pytest.raises(ConfigError) as configured:
        parse_config({"store": "memory:", "collection": "c", "slots": SLOTS, "search": {key: values}})
    problem = configured.value.context.get("problems", (configured.value,))[0]  # type: ignore[index]
    assert problem.expected == called.value.expected
    assert problem.got == called.value.got or isinstance(values, list)


def test_a_config_takes_a_reranker_by_name_only() -> None:
    search = {"rerank": [{"adapter": FakeReranker()}]}
    with pytest.raises(ConfigError, match=r"search\.rerank\[0\]\.adapter"):
        parse_config({"store": "memory:", "collection": "c", "slots": SLOTS, "search": search})


def test_a_reranker_can_be_given_as_an_object() -> None:
    assert Rerank(FakeReranker(), 5).label == "FakeReranker"
    assert repr(Rerank(FakeReranker(), 5)) == "Rerank(FakeReranker(), 5)"


def slots_of(registry: Registry, **adapters: str) -> dict[str, Slot]:
    return {name: Slot(name, SlotConfig(adapter=adapter), None, registry) for name, adapter in adapters.items()}


def test_every_part_of_a_config_reaches_the_pipeline(fakes: Registry) -> None:
    config = SearchConfig.model_validate(
        {
            "retrieve": {"dense": 80, "lexical": 60},
            "fuse": {"kind": "linear", "normalize": "zscore", "weights": {"dense": 2}},
            "rescore": {"slot": "late", "candidates": 40},
            "diversify": {"slot": "dense", "relevance": 0.7, "candidates": 30},
            "rerank": [{"adapter": "mine", "candidates": 20, "model": "m"}],
            "params": {"hnsw_ef": 64, "exact": True, "oversampling": 2, "rescore": True},
        }
    )
    slots = slots_of(fakes, dense="fake-dense", lexical="fake-sparse", late="fake-multivector")
    params = models.SearchParams(
        hnsw_ef=64, exact=True, quantization=models.QuantizationSearchParams(rescore=True, oversampling=2)
    )
    assert Pipeline.from_config(config, slots) == (
        Retrieve("dense", 80, params=params) + Retrieve("lexical", 60, params=params)
        >> Linear("zscore", {"dense": 2})
        >> Rescore("late", 40)
        >> Diversify("dense", 0.7, 30)
        >> Rerank("mine", 20, {"model": "m"})
    )


def test_an_empty_config_fuses_all_slots_by_dbsf_and_a_slot_alone_not_at_all(fakes: Registry) -> None:
    slots = slots_of(fakes, dense="fake-dense", lexical="fake-sparse")
    expected = Retrieve("dense", 100) + Retrieve("lexical", 100) >> Dbsf()
    assert Pipeline.from_config(SearchConfig(), slots) == expected
    alone = Pipeline.from_config(SearchConfig(), slots_of(fakes, dense="fake-dense"))
    assert alone == Pipeline((Retrieve("dense", 100),))
