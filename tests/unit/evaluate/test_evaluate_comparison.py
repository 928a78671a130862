from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from diptych.errors import EvaluationError
from diptych.evaluate import (
    Evaluation,
    compare,
    table,
    to_data,
    to_json,
)
from diptych.evaluate.comparison import holm


def evaluation(name: str, values: list[float], **options: Any) -> Evaluation:
    return Evaluation(name, {"nDCG@10": {f"q{n}": value for n, value in enumerate(values)}}, depth=10, **options)


@pytest.fixture
def three() -> list[Evaluation]:
    rng = np.random.default_rng(4)
    base = rng.beta(2, 2, 80)
    better, same = np.clip(base + rng.normal(0.1, 0.1, 80), 0, 1), np.clip(base + rng.normal(0, 0.1, 80), 0, 1)
    same[:10] = base[:10]
    return [evaluation("base", list(base)), evaluation("better", list(better)), evaluation("same", list(same))]


def test_effect_and_counts_are_those_of_the_per_query_differences(three: list[Evaluation]) -> None:
    found = compare(three, "base", "nDCG@10").of("same")
    gaps = [three[2].values("nDCG@10")[q] - three[0].values("nDCG@10")[q] for q in three[0].queries]
    assert list(found.per_query.values()) == pytest.approx(gaps)
    assert found.mean == pytest.approx(sum(gaps) / 80)
    assert found.mean == pytest.approx(three[2].means["nDCG@10"] - three[0].means["nDCG@10"])
    assert (found.wins, found.ties, found.losses) == (sum(g > 0 for g in gaps), 10, sum(g < 0 for g in gaps))
    assert found.low < found.mean < found.high


def test_a_real_difference_is_significant_and_noise_is_not(three: list[Evaluation]) -> None:
    found = compare(three, "base", "nDCG@10")
    assert [(d.name, found.significant(d.name)) for d in found.differences] == [("better", True), ("same", False)]
    assert found.of("better").low > 0


def test_the_sentence_says_what_is_shown_with_its_figures(three: list[Evaluation]) -> None:
    compared = compare(three, "base", "nDCG@10")
    figures = "nDCG@10 {0.mean:+.3f} [{0.low:+.3f}, {0.high:+.3f}], 95% interval, 80 queries, p = {0.adjusted:.4f}"
    better, same = compared.of("better"), compared.of("same")
    assert compared.sentence("better") == f"better is better than base: {figures.format(better)}"
    assert compared.sentence("same").startswith("same is not shown to be better or worse than base: nDCG@10")
    assert compared.sentence("same").endswith(f"p = {same.adjusted:.4f}")
    back = compare(three[:2], "better", "nDCG@10")
    assert back.sentence("base").startswith("base is worse than better: nDCG@10 -")
    twin = compare([three[0], evaluation("twin", list(three[0].values("nDCG@10").values()))], "base", "nDCG@10")
    assert twin.sentence("twin") == "twin and base have the same nDCG@10 on each of 80 queries"


def test_p_values_are_holm_adjusted_over_all_runs(three: list[Evaluation]) -> None:
    found = compare(three, "base", "nDCG@10").differences
    assert [d.adjusted for d in found] == holm([d.p_value for d in found])
    assert found[0].adjusted == 2 * found[0].p_value


def test_an_interval_has_the_level_at_which_holm_compares_its_p_value(three: list[Evaluation]) -> None:
    together = compare(three, "base", "nDCG@10").of("better")
    alone = compare(three[:2], "base", "nDCG@10", confidence=0.975).of("better")
    assert (together.low, together.high) == (alone.low, alone.high)
    assert compare(three[:2], "base", "nDCG@10").of("better").low > alone.low


def test_no_interval_contradicts_its_p_value_where_holm_stops_early() -> None:
    chance = np.random.default_rng(0)
    base, noise = evaluation("base", [0.5] * 30), chance.normal(0, 0.1, (3, 30))
    noise -= noise.mean(1, keepdims=True)
    gains = 2.3 * noise.std(1, keepdims=True) / 29**0.5 + noise
    runs = [evaluation(f"run{n}", list(0.5 + gain)) for n, gain in enumerate(gains)]
    found = compare([base, *runs], "base", "nDCG@10")
    assert all(own.p_value < 0.05 < own.adjusted for own in found.differences), "else this shows nothing"
    assert [own.low > 0 for own in found.differences] == [found.significant(own.name) for own in found.differences]


def test_equal_observations_have_an_interval_of_the_exact_width() -> None:
    base, twin = (evaluation(name, [0.5] * 40) for name in ("base", "twin"))
    found = compare([base, twin], "base", "nDCG@10").of("twin")
    most = 1 - 0.025 ** (1 / 40)  # of the queries may differ otherwise, as far as from -1 to 1
    assert (found.mean, found.low, found.high) == pytest.approx((0, -most, most))


def test_a_runs_own_figures_do_not_depend_on_the_other_runs(three: list[Evaluation]) -> None:
    together, alone = compare(three, "base", "nDCG@10").of("same"), compare(three[::2], "base", "nDCG@10").of("same")
    assert (together.p_value, together.low, together.high) == (alone.p_value, alone.low, alone.high)
    assert alone.adjusted == alone.p_value


def test_equal_runs_tie_on_every_query_in_spite_of_rounding() -> None:
    values = [0.1 + 0.2, 0.5, 1.0]
    found = compare([evaluation("a", values), evaluation("b", [0.3, 0.5, 1.0])], "a", "nDCG@10").of("b")
    assert (found.wins, found.ties, found.losses, found.p_value, found.mean) == (0, 3, 0, 1.0, 0.0)


def test_queries_in_another_order_are_paired_by_id() -> None:
    base, turned = evaluation("a", [0.1, 0.9]), Evaluation("b", {"nDCG@10": {"q1": 0.9, "q0": 0.1}})
    assert compare([base, turned], "a", "nDCG@10").of("b").ties == 2


TWO, THREE = [0.1, 0.2], [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("runs", "options", "got", "expected"),
    [
        ("base better same", {"samples": 10}, "10", "at least 100, better 10000"),
        ("base better same", {"confidence": 95}, "95", "between 0 and 1, such as 0.95"),
        ("base better same", {"baseline": "none"}, "", "base, better, same"),
        ("base better same", {"metric": "MAP"}, "nDCG@10", ""),
        ([evaluation("base", TWO)], {}, "", "two evaluations or more"),
        ([evaluation("base", TWO), evaluation("base", TWO)], {}, "base", ""),
        ([evaluation("base", TWO), evaluation("b", THREE)], {}, "1 queries that only one has, such as 'q2'", ""),
        ([evaluation("base", [0.1]), evaluation("b", [0.2])], {}, "1 judged queries", "at least 2"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    three: list[Evaluation], runs: Any, options: dict[str, Any], got: str, expected: str
) -> None:
    with pytest.raises(EvaluationError) as refused:
        compare(three if isinstance(runs, str) else runs, **{"baseline": "base", "metric": "nDCG@10", **options})
    assert (str(refused.value.got), refused.value.expected) == (got, expected)


def test_tables_of_nothing_or_of_different_metrics_are_refused(three: list[Evaluation]) -> None:
    comparison = compare(three, "base", "nDCG@10")
    other = Evaluation("x", {"MAP": {"q0": 1.0}})
    for evaluations, comparisons in (([], []), ([three[0], other], []), (three, [comparison] * 2)):
        with pytest.raises(EvaluationError):
            table(evaluations, comparisons=comparisons)
    with pytest.raises(EvaluationError):
        comparison.of("base")


def test_the_table_shows_means_marks_and_remarks(three: list[Evaluation]) -> None:
    remarked = Evaluation("r [bold]", dict(three[0].per_query), unanswered=("q1",), depth=10)
    runs = [three[1], three[0], three[2], remarked]
    lines = str(table(runs, comparisons=[compare(runs[:3], "better", "nDCG@10")], title="demo [x]")).splitlines()
    assert lines[:2] == ["demo [x]", "run       nDCG@10"]
    assert [line.split()[0] + line[-2:].strip() for line in lines[2:5]] == [
        f"better{lines[2][-2:].strip()}",
        "base▼",
        "same▼",
    ]
    assert f"{three[0].means['nDCG@10']:.3f} ▼" in lines[3]
    said = "\n".join(lines)
    assert "means over 80 judged queries" in said
    assert "▲ better, ▼ worse than better (p < 0.05; two-sided paired randomisation test, 10000 samples" in said
    assert "r [bold]: 1 judged queries have no answer and count as 0" in said


def test_json_holds_all_figures_and_the_values_of_queries_when_asked(three: list[Evaluation]) -> None:
    comparison = compare(three, "base", "nDCG@10")
    data = json.loads(to_json(three, [comparison], per_query=True))
    assert data == to_data(three, [comparison], per_query=True)
    assert data["evaluations"][1]["means"] == three[1].means
    assert data["evaluations"][1]["per_query"]["nDCG@10"] == three[1].values("nDCG@10")
    better = data["comparisons"][0]["differences"][0]
    assert (better["run"], better["significant"], better["interval"][0] > 0) == ("better", True, True)
    assert "per_query" not in to_json(three, [comparison])
