from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from diptych.errors import SwapError
from diptych.slots.drift_maps import Residual, unit
from diptych.swap.drift import Map, load


def some(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


RESIDUAL = Residual(some(6, 5, seed=2), some(5, seed=3), some(5, 4, seed=4))
LINEAR = Map("ridge", some(6, 4), some(4, seed=1))
MLP = replace(LINEAR, kind="mlp", residual=RESIDUAL)


def test_a_linear_map_is_its_formula_between_two_normalisations() -> None:
    x = some(3, 6, seed=5)
    one_by_one = [row / np.linalg.norm(row) @ LINEAR.weight + LINEAR.bias for row in x]
    np.testing.assert_allclose(LINEAR.apply(x), [y / np.linalg.norm(y) for y in one_by_one], atol=1e-6)


def test_a_perceptron_adds_its_hidden_layer() -> None:
    x = unit(some(3, 6, seed=5))
    hidden = np.maximum(x @ RESIDUAL.inner + RESIDUAL.bias, 0)
    np.testing.assert_allclose(MLP.apply(x), unit(x @ MLP.weight + MLP.bias + hidden @ RESIDUAL.outer), atol=1e-6)


def test_a_space_where_length_counts_is_not_normalised() -> None:
    x = 7 * some(3, 6, seed=5)
    plain = replace(LINEAR, unit_new=False, unit_old=False)
    np.testing.assert_allclose(plain.apply(x), x @ LINEAR.weight + LINEAR.bias, rtol=1e-5)


def test_the_answer_is_float32_and_rows_do_not_depend_on_their_neighbours() -> None:
    x = some(5, 6, seed=6).astype(np.float64)
    together = MLP.apply(x)
    assert together.dtype == np.float32
    assert together.shape == (5, 4)
    np.testing.assert_allclose(together, np.concatenate([MLP.apply(row[None]) for row in x]), atol=1e-6)
    assert MLP.apply(x[:0]).shape == (0, 4)


def test_the_vectors_given_stay_as_they_were_and_zero_rows_stay_zero() -> None:
    x = np.concatenate([some(2, 6), np.zeros((1, 6), np.float32)])
    before = x.copy()
    mapped = LINEAR.apply(x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(mapped[2], np.zeros(4))


@pytest.mark.parametrize("fitted", [LINEAR, MLP, replace(LINEAR, unit_new=False, unit_old=False)])
def test_json_gives_the_map_back_within_the_precision_of_float16(fitted: Map) -> None:
    again = load(json.loads(json.dumps(fitted.to_json())))
    x = some(50, 6, seed=7)
    assert (again.kind, again.unit_new, again.unit_old) == (fitted.kind, fitted.unit_new, fitted.unit_old)
    np.testing.assert_allclose(again.apply(x), fitted.apply(x), rtol=0.01, atol=0.01)


def test_json_of_what_json_gave_is_the_same() -> None:
    assert MLP.stored().to_json() == MLP.to_json()


def test_a_number_costs_two_bytes_and_two_thirds() -> None:
    wide = Map("procrustes", some(384, 384), some(384))
    assert len(json.dumps(wide.to_json())) / (384 * 385) == pytest.approx(2 * 4 / 3, rel=0.01)


def test_numbers_beyond_the_range_of_float16_survive() -> None:
    large = Map("ridge", 1e6 * some(6, 4), 1e-6 * some(4), unit_new=False, unit_old=False)
    np.testing.assert_allclose(large.stored().weight, large.weight, rtol=0.01, atol=1e3)
    np.testing.assert_allclose(large.stored().bias, large.bias, rtol=0.01, atol=1e-9)


@pytest.mark.parametrize(
    ("vectors", "text"),
    [
        (some(2, 5), r"another shape\n  got: \(2, 5\)\n  expected: \[n, 6\]"),
        (some(6), r"another shape\n  got: \(6,\)"),
    ],
)
def test_vectors_of_another_space_are_refused(vectors: Any, text: str) -> None:
    with pytest.raises(SwapError, match=text):
        LINEAR.apply(vectors)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_stays_so_and_spoils_no_other(bad: float) -> None:
    x = some(3, 6)
    x[1, 2] = bad
    mapped = MLP.apply(x)
    assert np.isnan(mapped[1]).all()
    np.testing.assert_allclose(mapped[[0, 2]], MLP.apply(x[[0, 2]]), atol=1e-6)


def damaged(**changes: Any) -> dict[str, Any]:
    return {**MLP.to_json(), **changes}


def without(name: str) -> dict[str, Any]:
    raw = MLP.to_json()
    del raw["arrays"][name]
    return raw


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (damaged(format=2), "another format\n  got: 2\n  expected: 1"),
        ({}, "another format\n  got: None"),
        (damaged(arrays={}), "damaged\n  got: KeyError"),
        (damaged(arrays=None), "damaged"),
        (damaged(kind="magic"), "damaged\n  got: .*kind 'magic'"),
        (without("outer"), "damaged\n  got: KeyError"),
        (replace(LINEAR, weight=np.full((6, 4), np.nan, np.float32)).to_json(), "damaged\n  got: .*finite: False"),
        (replace(MLP, residual=replace(RESIDUAL, outer=some(4, 4))).to_json(), "damaged\n  got: ValueError"),
        (damaged(arrays={**MLP.to_json()["arrays"], "bias": LINEAR.to_json()["arrays"]["weight"]}), "damaged"),
        (damaged(arrays={"weight": {"shape": [6, 4], "scale": 1.0, "float16": "?"}}), "damaged"),
        (damaged(arrays={"weight": {"shape": [6, 4], "scale": 1.0, "float16": "AAAA"}}), "damaged"),
    ],
)
def test_a_damaged_map_is_refused(raw: dict[str, Any], text: str) -> None:
    with pytest.raises(SwapError, match=text):
        load(raw)
