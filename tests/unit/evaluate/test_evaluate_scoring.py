from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

import pytest

from diptych.evaluate import DEFAULT_METRICS, Qrels, evaluate
from diptych.types import Document, Hit, Query, Run

QRELS = Qrels({"q1": {"a": 1, "b": 1}, "q2": {"a": 1}, "q3": {"c": 0}}, "qrels.tsv")


def run(**rankings: Sequence[tuple[str, float]]) -> Run:
    return Run("mine", rankings)


def trec_order(ranking: Sequence[tuple[str, float]]) -> list[str]:
    return [d for d, _ in sorted(ranking, key=lambda pair: (pair[1], pair[0]), reverse=True)]


def script_order(ranking: Sequence[tuple[str, float]]) -> list[str]:
    """As MS MARCO's script orders ties, whose reciprocal rank ir-measures takes."""
    return [d for d, _ in sorted(ranking, key=lambda pair: (-pair[1], pair[0]))]


def ndcg_10(documents: Sequence[str], grades: Mapping[str, int]) -> float:
    def dcg(gains: Sequence[int]) -> float:
        return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains[:10]))

    ideal = dcg(sorted(grades.values(), reverse=True))
    return dcg([grades.get(document, 0) for document in documents]) / ideal if ideal else 0.0


def relevant_flags(documents: Sequence[str], grades: Mapping[str, int]) -> list[bool]:
    return [grades.get(document, 0) >= 1 for document in documents]


def mrr_10(documents: Sequence[str], grades: Mapping[str, int]) -> float:
    return next((1 / rank for rank, hit in enumerate(relevant_flags(documents, grades)[:10], 1) if hit), 0.0)


def recall_100(documents: Sequence[str], grades: Mapping[str, int]) -> float:
    count = sum(grade >= 1 for grade in grades.values())
    return sum(relevant_flags(documents, grades)[:100]) / count if count else 0.0


def average_precision(documents: Sequence[str], grades: Mapping[str, int]) -> float:
    flags = relevant_flags(documents, grades)
    count = sum(grade >= 1 for grade in grades.values())
    return sum(sum(flags[: n + 1]) / (n + 1) for n, hit in enumerate(flags) if hit) / count if count else 0.0


def precision_10(documents: Sequence[str], grades: Mapping[str, int]) -> float:
    return sum(relevant_flags(documents, grades)[:10]) / 10


FORMULAS: dict[str, Callable[[Sequence[str], Mapping[str, int]], float]] = {
    "nDCG@10": ndcg_10,
    "MRR@10": mrr_10,
    "Recall@100": recall_100,
    "MAP": average_precision,
    "P@10": precision_10,
}


@pytest.mark.parametrize("metric", DEFAULT_METRICS)
def test_every_default_metric_equals_its_formula_on_every_query(graded: Qrels, tied_run: Run, metric: str) -> None:
    found = evaluate(tied_run, graded).values(metric)
    order = script_order if metric == "MRR@10" else trec_order
    for query, grades in graded.judgements.items():
        assert found[query] == pytest.approx(FORMULAS[metric](order(tied_run.rankings[query]), grades)), query
    assert 0 < sum(found.values()) < len(found)


def test_ties_in_another_order_change_nothing(graded: Qrels, tied_run: Run) -> None:
    rng = random.Random(8)
    shuffled = {
        query: sorted(rng.sample(list(ranking), len(ranking)), key=lambda pair: -pair[1])
        for query, ranking in tied_run.rankings.items()
    }
    assert shuffled != tied_run.rankings
    assert evaluate(Run("random", shuffled), graded) == evaluate(tied_run, graded)


def test_the_order_of_the_ranking_counts_even_where_scores_rise() -> None:
    rising = run(q1=[("x", 0.1), ("a", 0.9)], q2=[("a", 0.2), ("x", 0.7)])
    assert evaluate(rising, QRELS, ["MRR@10"]).per_query["MRR@10"] == {"q1": 0.5, "q2": 1.0, "q3": 0.0}


def test_scores_that_differ_beyond_float32_are_no_ties() -> None:
    close = run(q1=[("a", 1.0 + 1e-12), ("z", 1.0)])
    assert evaluate(close, QRELS, ["MRR", "MRR@10", "MAP"]).means["MRR"] == pytest.approx(1 / 3)


def test_judged_queries_without_answer_count_as_0_and_are_named() -> None:
    found = evaluate(run(q1=[("a", 2.0), ("b", 1.0)], q2=[]), QRELS)
    assert found.unanswered == ("q2", "q3")
    assert found.per_query["MAP"] == {"q1": 1.0, "q2": 0.0, "q3": 0.0}
    assert found.means["MAP"] == pytest.approx(1 / 3)


def test_queries_without_judgements_are_reported_and_count_nowhere() -> None:
    answers = [("a", 2.0), ("b", 1.0)]
    found = evaluate(run(q1=answers, other=answers, q7=[]), QRELS)
    assert found.unjudged == ("other", "q7")
    assert found.queries == QRELS.queries
    assert found.means == evaluate(run(q1=answers), QRELS).means


def test_remarks_say_what_the_means_do_not_show() -> None:
    assert evaluate(run(q1=[("a", 1.0)], other=[("a", 1.0)]), QRELS).remarks() == [
        "mine: 2 judged queries have no answer and count as 0",
        "mine: 1 queries have no judgements and are left out",
        "mine: 1 judged queries have no relevant document and count as 0",
        "mine: rankings end at rank 1, above the cutoff of nDCG@10, MRR@10, Recall@100, P@10",
    ]
    assert evaluate(run(q1=[("a", 1.0)]), Qrels({"q1": {"a": 1}}), ["MAP", "P@1"]).remarks() == []


def test_a_run_that_found_nothing_at_all_scores_0() -> None:
    assert evaluate(run(q1=[], q2=[], q3=[]), QRELS).means == dict.fromkeys(DEFAULT_METRICS, 0.0)


def test_hits_of_a_search_can_be_evaluated() -> None:
    hits = [[Hit(Document("x", "t"), 3.0), Hit(Document("a", "t"), 1.0)], [Hit(Document("a", "t"), 1.0)]]
    found = evaluate(Run.from_hits("r", [Query("one", "q1"), Query("two", "q2")], hits), QRELS, ["MRR@10"])
    assert found.values("MRR@10") == {"q1": 0.5, "q2": 1.0, "q3": 0.0}


def test_names_are_kept_as_given_even_when_two_name_one_measure() -> None:
    found = evaluate(run(q1=[("a", 1.0)]), QRELS, ["MRR@10", "RR@10", "AP(rel=1)"])
    assert found.metrics == ("MRR@10", "RR@10", "AP(rel=1)")
    assert found.means["MRR@10"] == found.means["RR@10"] == pytest.approx(1 / 3)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "{'ir_measures', 'scipy', 'matplotlib', 'torch', 'pandas'}"
    code = f"import sys, diptych.evaluate; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


@pytest.mark.parametrize(
    ("module", "call", "purpose"),
    [
        ("ir_measures", "evaluate(Run('r', {'q': [('d', 1.0)]}), Qrels({'q': {'d': 1}}))", "evaluation"),
        (
            "scipy",
            "compare([Evaluation(n, {'P@1': {'a': 1, 'b': v}}) for n, v in (('x', 0), ('y', 1))], 'x', 'P@1')",
            "",
        ),
    ],
)
def test_a_missing_package_is_named_with_what_to_install(module: str, call: str, purpose: str) -> None:
    code = f"""
import sys
sys.modules[{module!r}] = None  # what an import finds when the package is not installed
from diptych.errors import MissingExtra
from diptych.evaluate import *
from diptych.types import Run
try:
    {call}
except MissingExtra as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"{purpose} needs the package {module}" in said
    assert "do: pip install 'diptych[eval]'" in said


def test_judgements_by_ids_that_no_hit_has_are_named_with_both_ids() -> None:
    qrels = Qrels({"q1": {"sox": 1}, "q2": {"gimp": 1}})
    found = evaluate(Run("dense", {"q1": [("17", 0.9)], "q2": [("18", 0.8)]}), qrels)
    (remark,) = [remark for remark in found.remarks() if "no hit has a judgement" in remark]
    assert "A hit is '17', a judged document 'sox'" in remark
    mixed = evaluate(Run("dense", {"q1": [("17", 0.9)], "q2": [("sox", 0.8)]}), qrels)
    assert not any("no hit has a judgement" in remark for remark in mixed.remarks())
    empty = evaluate(Run("dense", {"q1": []}), qrels)
    assert not any("no hit has a judgement" in remark for remark in empty.remarks())
