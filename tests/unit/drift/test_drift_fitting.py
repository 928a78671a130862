from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

from diptych.errors import SwapError
from diptych.swap.drift import KINDS, Fitted, MapKind, best_map, fit
from diptych.swap.drift.fit import likeness, procrustes, ridge
from diptych.swap.drift.pairs import checked_pairs, split
from diptych.types import Floats

Spaces: TypeAlias = Callable[..., tuple[Floats, Floats]]


def pairs_of(new: Any, old: Any) -> Any:
    return checked_pairs(new, old, new_similarity="cosine", old_similarity="cosine")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("new_size", "old_size"), [(24, 24), (16, 24), (24, 16)])
def test_a_rotated_space_is_mapped_back_also_between_different_dimensions(
    spaces: Spaces, kind: MapKind, new_size: int, old_size: int
) -> None:
    new, old = spaces(600, new_size, old_size, noise=0.0, seed=1, shift=0.0)
    found = fit(new, old, kind=kind).quality
    assert found.likeness > 0.99
    assert found.kept > 0.9
    assert found.overlap > 0.9


def test_procrustes_is_what_scipy_finds_when_means_are_zero_and_pairs_many(spaces: Spaces) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    new, old = spaces(800, 12, 12, noise=0.3, seed=2, shift=0.0)
    both = np.concatenate([new, -new]), np.concatenate([old, -old])  # means are exactly zero
    pairs = pairs_of(*both)
    rotation, _ = linalg.orthogonal_procrustes(pairs.new, pairs.old)
    found = procrustes(pairs, pairs).weight
    np.testing.assert_allclose(found / np.linalg.norm(found, 2), rotation, atol=0.02)
    np.testing.assert_allclose(found.T @ found, np.eye(12) * np.square(found[:, 0]).sum(), atol=1e-5)


def test_a_shift_between_the_spaces_is_learnt(spaces: Spaces) -> None:
    new, old = spaces(600, 24, 24, noise=0.0, seed=3, shift=2.0)
    assert fit(new, old, kind="procrustes").quality.kept > 0.9


def test_few_pairs_of_nearly_equal_spaces_do_not_spoil_what_was_right_unmapped(spaces: Spaces) -> None:
    rng = np.random.default_rng(0)
    old, _ = spaces(2000, 96, 96, noise=0.0, seed=4)
    new = old + 0.05 * rng.normal(size=old.shape)
    fitted = fit(new[:60], old[:60], kind="procrustes")
    rest = pairs_of(new[60:], old[60:])
    assert likeness(fitted.map.apply, rest) > likeness(lambda rows: rows, rest) - 0.01


def test_ridge_learns_what_no_rotation_can(spaces: Spaces) -> None:
    new, old = spaces(2000, 16, 16, noise=0.0, seed=5)
    stretched = old * np.linspace(0.2, 3, 16, dtype=np.float32)
    turned, ridged = (fit(new, stretched, kind=kind).quality for kind in ("procrustes", "ridge"))
    assert ridged.likeness > turned.likeness + 0.02


def test_ridge_is_least_squares_when_pairs_are_many_and_the_relation_linear() -> None:
    rng = np.random.default_rng(6)
    new = rng.normal(size=(3000, 8))
    old = new @ rng.normal(size=(8, 5)) + 1.0
    pairs = checked_pairs(new, old, new_similarity="dot", old_similarity="dot")
    found = ridge(pairs, pairs)
    design = np.hstack([new, np.ones((3000, 1))])
    solution = np.linalg.lstsq(design, old, rcond=None)[0]
    np.testing.assert_allclose(found.weight, solution[:-1], atol=2e-3)
    np.testing.assert_allclose(found.bias, solution[-1], atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_map_to_the_bit(spaces: Spaces, kind: MapKind) -> None:
    new, old = spaces(200, 12, 12, noise=0.2, seed=9)
    one, other = (fit(new, old, kind=kind, seed=4).to_json() for _ in range(2))
    assert one == other
    assert fit(new, old, kind=kind, seed=5).to_json() != one


def test_quality_is_measured_on_pairs_that_were_not_fitted_on() -> None:
    new, unrelated = np.random.default_rng(10).normal(size=(2, 300, 48))
    pairs = pairs_of(new, unrelated)
    fitted = fit(new, unrelated, kind="ridge")
    train = pairs.of(split(300, seed=0).train)
    assert likeness(fitted.map.apply, train) > fitted.quality.likeness + 0.1
    assert fitted.quality.kept < 0.2


def test_the_split_is_disjoint_and_whole_and_bounded() -> None:
    parts = split(400, seed=0)
    everything = np.concatenate([parts.train, parts.tune, parts.held_out])
    assert sorted(everything) == list(range(400))
    assert (len(parts.train), len(parts.tune), len(parts.held_out)) == (320, 40, 40)
    large = split(50_000, seed=0)
    assert len(large.train) + len(large.tune) + len(large.held_out) == 20_000
    assert large.train.max() > 20_000  # drawn from all, not the first


@pytest.mark.slow
def test_best_map_takes_the_kind_that_the_data_asks_for(spaces: Spaces) -> None:
    new, old = spaces(2000, 16, 16, noise=0.0, seed=5)
    stretched = old * np.linspace(0.2, 3, 16, dtype=np.float32)
    assert best_map(new, stretched).map.kind == "ridge"
    chosen = best_map(new, stretched, kinds=KINDS)
    assert chosen.to_json() == fit(new, stretched, kind=chosen.map.kind).to_json()


def test_a_map_and_its_quality_travel_together(spaces: Spaces) -> None:
    new, old = spaces(200, 12, 8, noise=0.2, seed=12)
    fitted = fit(new, old, queries=new[:20])
    again = Fitted.from_json(json.loads(json.dumps(fitted.to_json())))
    assert again.quality == fitted.quality
    np.testing.assert_array_equal(again.map.apply(new), fitted.map.apply(new))


def good() -> Any:
    return np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)


def with_row(value: float) -> Any:
    rows = good()
    rows[7] = value
    return rows


@pytest.mark.parametrize(
    ("new", "old", "text"),
    [
        (good()[:49], good()[:49], "too few pairs for a drift map\n  got: 49\n  expected: at least 50\n  do: back"),
        (good(), good()[:59], "not pairs\n  got: 60 new, 59 old"),
        (with_row(0), good(), "some new vectors are zero\n  got: 1 of 60, first row 7"),
        (good(), with_row(0), "some old vectors are zero"),
        (with_row(np.nan), good(), "the new vectors hold numbers that are not finite\n  got: 1 rows, first row 7"),
        (good(), with_row(np.inf), "the old vectors hold numbers that are not finite"),
        (good()[:, 0], good(), "the new vectors have another shape"),
    ],
)
def test_bad_pairs_are_refused(new: Any, old: Any, text: str) -> None:
    with pytest.raises(SwapError, match=text):
        fit(new, old)
    with pytest.raises(SwapError, match=text):
        best_map(new, old)


def test_an_unknown_kind_and_one_that_is_fitted_no_more_are_refused() -> None:
    with pytest.raises(SwapError, match="kind of drift map\n  got: 'magic'\n  expected: procrustes, ridge"):
        fit(good(), good(), kind="magic")  # type: ignore[arg-type]
    with pytest.raises(SwapError, match="kind of drift map\n  got: 'mlp'"):
        fit(good(), good(), kind="mlp")


def test_a_damaged_quality_is_refused(spaces: Spaces) -> None:
    raw = fit(*spaces(100, 4, 4, noise=0.1, seed=0)).to_json()
    with pytest.raises(SwapError, match="the quality of a drift map is damaged"):
        Fitted.from_json({**raw, "quality": {"kind": "ridge"}})


def test_fitting_and_mapping_load_neither_torch_nor_scipy() -> None:
    code = (
        "import numpy, sys\nfrom diptych.swap.drift import fit\n"
        "rows = numpy.random.default_rng(0).normal(size=(60, 4))\n"
        "for kind in ('procrustes', 'ridge'):\n    fit(rows, rows, kind=kind).map.apply(rows)\n"
        "assert not {'torch', 'scipy', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_best_map_judges_by_real_queries_where_there_are_some(spaces: Spaces) -> None:
    new, old = spaces(600, 24, 24, noise=0.4, seed=13)
    queries = np.random.default_rng(3).normal(size=(80, 24))
    fits = [fit(new, old, kind=kind, queries=queries) for kind in KINDS]
    chosen = best_map(new, old, kinds=KINDS, queries=queries)
    assert chosen.quality.query_overlap == max(one.quality.query_overlap or 0 for one in fits)
    assert len({one.quality.query_overlap for one in fits}) == 2
