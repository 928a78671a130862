from __future__ import annotations

import io
import json
import math
import re
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from diptych.errors import EvaluationError
from diptych.evaluate import (
    Comparison,
    Evaluation,
    compare,
    comparison_table,
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


def shown(renderable: Table) -> str:
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


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


def test_no_figure_is_a_negative_zero() -> None:
    base = evaluation("base", [0.5] * 40)
    other = evaluation("other", [0.4999] * 20 + [0.50001] * 20)
    assert "-0.000" not in shown(comparison_table(compare([base, other], "base", "nDCG@10")))


def test_a_runs_own_figures_do_not_depend_on_the_other_runs(three: list[Evaluation]) -> None:
    together, alone = compare(three, "base", "nDCG@10").of("same"), compare(three[::2], "base", "nDCG@10").of("same")
    assert (together.p_value, together.low, together.high) == (alone.p_value, alone.low, alone.high)
    assert alone.adjusted == alone.p_value


def test_swapping_baseline_and_run_swaps_the_signs(three: list[Evaluation]) -> None:
    there, back = compare(three[:2], "base", "nDCG@10").of("better"), compare(three[:2], "better", "nDCG@10").of("base")
    assert back.mean == pytest.approx(-there.mean)
    assert (back.wins, back.losses, back.p_value) == (there.losses, there.wins, there.p_value)
    assert back.low == pytest.approx(-there.high, abs=0.01)


def test_equal_runs_tie_on_every_query_in_spite_of_rounding() -> None:
    values = [0.1 + 0.2, 0.5, 1.0]
    found = compare([evaluation("a", values), evaluation("b", [0.3, 0.5, 1.0])], "a", "nDCG@10").of("b")
    assert (found.wins, found.ties, found.losses, found.p_value, found.mean) == (0, 3, 0, 1.0, 0.0)


def test_queries_in_another_order_are_paired_by_id() -> None:
    base, turned = evaluation("a", [0.1, 0.9]), Evaluation("b", {"nDCG@10": {"q1": 0.9, "q0": 0.1}})
    assert compare([base, turned], "a", "nDCG@10").of("b").ties == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 10}, r"too few samples for a test\n  got: 10"),
        ({"confidence": 95}, r"the confidence is not a share\n  got: 95"),
        ({"baseline": "none"}, r"there is no evaluation 'none'\n  expected: base, better, same"),
        ({"metric": "MAP"}, r"'better' has no values of 'MAP'\n  got: nDCG@10"),
    ],
)
def test_what_cannot_be_compared_is_said(three: list[Evaluation], options: dict[str, Any], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        compare(three, **{"baseline": "base", "metric": "nDCG@10", **options})


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([], r"there is nothing to compare with 'base'"),
        ([evaluation("base", [0.1, 0.2])], r"two evaluations have one name\n  got: base"),
        ([evaluation("b", [0.1, 0.2, 0.3])], r"different queries\n  got: 1 queries that only one has, such as 'q2'"),
    ],
)
def test_evaluations_that_do_not_pair_are_refused(others: list[Evaluation], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        compare([evaluation("base", [0.1, 0.2]), *others], "base", "nDCG@10")


def test_one_query_is_no_comparison() -> None:
    with pytest.raises(EvaluationError, match=r"one query is not enough for a comparison\n  got: 1 judged queries"):
        compare([evaluation("a", [0.1]), evaluation("b", [0.2])], "a", "nDCG@10")


def test_an_unknown_run_is_answered_with_those_there_are(three: list[Evaluation]) -> None:
    with pytest.raises(EvaluationError, match=r"nothing compares 'base' with 'base'\n  expected: better, same"):
        compare(three, "base", "nDCG@10").of("base")


def test_a_comparison_describes_its_test(three: list[Evaluation]) -> None:
    text = compare(three, "base", "nDCG@10").describe()
    assert text == "two-sided paired randomisation test, 10000 samples, Holm-corrected over 2 comparisons"
    assert "Holm" not in compare(three[:2], "base", "nDCG@10").describe()


def test_the_table_shows_means_marks_and_what_they_mean(three: list[Evaluation]) -> None:
    text = shown(table(three, comparisons=[compare(three, "base", "nDCG@10")], title="demo [x]"))
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in text.splitlines() if "│" in line}
    assert rows["base"] == f"{three[0].means['nDCG@10']:.3f}"
    assert rows["better"] == f"{three[1].means['nDCG@10']:.3f} ▲"
    assert rows["same"] == f"{three[2].means['nDCG@10']:.3f}"
    said = " ".join(text.split())
    assert "demo [x]" in said
    assert "means over 80 judged queries" in said
    assert "▲ better, ▼ worse than base (p < 0.05; two-sided paired randomisation test, 10000 samples" in said


def test_the_best_value_of_a_column_is_bold(three: list[Evaluation]) -> None:
    console = Console(width=120, file=io.StringIO(), force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(table(three))
    bold = [re.search(rf"\x1b\[1m *{one.means['nDCG@10']:.3f}", capture.get()) for one in three]
    assert [found is not None for found in bold] == [False, True, False]


def test_a_worse_run_is_marked_downwards(three: list[Evaluation]) -> None:
    text = shown(table(three[:2], comparisons=[compare(three[:2], "better", "nDCG@10")]))
    assert f"{three[0].means['nDCG@10']:.3f} ▼" in text


def test_the_table_repeats_the_remarks() -> None:
    text = shown(table([evaluation("r [bold]", [0.5, 0.0], unanswered=("q1",))]))
    assert "r [bold]: 1 judged queries have no answer and count as 0" in " ".join(text.split())


def test_tables_of_nothing_or_of_different_metrics_are_refused(three: list[Evaluation]) -> None:
    with pytest.raises(EvaluationError, match=r"there is nothing to show"):
        table([])
    with pytest.raises(EvaluationError, match=r"'base' and 'x' have different metrics\n  got: MAP\n"):
        table([three[0], Evaluation("x", {"MAP": {"q0": 1.0}})])
    with pytest.raises(EvaluationError, match=r"two comparisons use the same metric\n  got: nDCG@10, nDCG@10"):
        table(three, comparisons=[compare(three, "base", "nDCG@10")] * 2)


def test_the_comparison_table_shows_effect_interval_and_counts(three: list[Evaluation]) -> None:
    comparison = compare(three, "base", "nDCG@10", confidence=0.9)
    text, found = shown(comparison_table(comparison)), comparison.of("better")
    assert "nDCG@10 minus that of base" in text
    assert "90% interval" in text
    row = next(line for line in text.splitlines() if "better" in line)
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert cells[:3] == ["better", f"{found.mean:+.3f}", f"{found.low:+.3f} to {found.high:+.3f}"]
    assert cells[3:] == [f"{found.adjusted:.4f}", str(found.wins), str(found.ties), str(found.losses)]


def test_json_holds_all_figures_and_the_values_of_queries_when_asked(three: list[Evaluation]) -> None:
    comparison = compare(three, "base", "nDCG@10")
    data = json.loads(to_json(three, [comparison], per_query=True))
    assert data == to_data(three, [comparison], per_query=True)
    assert data["evaluations"][1]["means"] == three[1].means
    assert data["evaluations"][1]["per_query"]["nDCG@10"] == three[1].values("nDCG@10")
    better = data["comparisons"][0]["differences"][0]
    assert (better["run"], better["significant"], better["interval"][0] > 0) == ("better", True, True)
    assert "per_query" not in to_json(three, [comparison])


def test_a_comparison_is_a_value(three: list[Evaluation]) -> None:
    found = compare(three, "base", "nDCG@10", seed=7)
    assert found == compare(three, "base", "nDCG@10", seed=7)
    assert isinstance(found, Comparison)
    assert math.isclose(found.alpha, 0.05)
