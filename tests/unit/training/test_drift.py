"""Drift maps: how they are fitted and measured, and the bridge that searches an old slot through one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from diptych import AdapterSpec, Collection, Registry, hookimpl
from diptych.errors import SwapError
from diptych.metadata.store import raw_metadata, update_metadata
from diptych.swap import ApplyOptions
from diptych.testing import FakeDenseEncoder, fakes_plugin
from diptych.types import Floats
from diptych_experimental.drift import (
    GAIN,
    KINDS,
    LIKENESS,
    PAIRS,
    Bridge,
    DriftMap,
    MapKind,
    Pairs,
    Quality,
    fit,
    measure,
    offer,
    ridge,
    shared,
)
from spaces import Turned, config, corpus

GOOD = Quality("ridge", 1000, 100, 0.93, 0.75, 0.71, 0.69, unmapped_kept=0.41, unmapped_overlap=0.42)
IDENTITY = DriftMap("procrustes", np.eye(12, dtype=np.float32), np.zeros(12, np.float32))


def some(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def spaces(size: int, new: int, old: int, *, noise: float, seed: int, shift: float = 0.3) -> tuple[Floats, Floats]:
    """New and old vectors of `size` documents around 30 topics; without noise a rotation and a shift tell all."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(30, min(new, old)))[rng.integers(0, 30, size)]
    latent = latent + 0.5 * rng.normal(size=latent.shape)
    sides = []
    for dimension in (new, old):
        turn, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
        rows = latent @ turn[: latent.shape[1]] + shift * rng.normal(size=dimension)
        sides.append(np.asarray(rows + noise * rng.normal(size=rows.shape), np.float32))
    return sides[0], sides[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("new_size", "old_size"), [(24, 24), (16, 24), (24, 16)])
def test_a_rotated_and_shifted_space_is_mapped_back_also_between_different_dimensions(
    kind: MapKind, new_size: int, old_size: int
) -> None:
    found = fit(*spaces(600, new_size, old_size, noise=0.0, seed=1, shift=0.0), kind=kind).quality
    assert min(found.likeness, found.kept, found.overlap) > 0.9
    assert (found.unmapped_overlap is None) == (new_size != old_size)
    assert fit(*spaces(600, 24, 24, noise=0.0, seed=3, shift=2.0), kind=kind).quality.kept > 0.9


def test_ridge_is_least_squares_when_pairs_are_many_and_the_relation_linear() -> None:
    rng = np.random.default_rng(6)
    new = rng.normal(size=(3000, 8))
    old = new @ rng.normal(size=(8, 5)) + 1.0
    pairs = Pairs.of(new, old, "dot", "dot")
    found = ridge(pairs, pairs)
    solution = np.linalg.lstsq(np.hstack([new, np.ones((3000, 1))]), old, rcond=None)[0]
    np.testing.assert_allclose(found.weight, solution[:-1], atol=2e-3)
    np.testing.assert_allclose(found.bias, solution[-1], atol=2e-3)
    np.testing.assert_allclose(found.apply(new[:3]), new[:3] @ found.weight + found.bias, rtol=1e-4)


def test_quality_is_measured_on_pairs_that_were_not_fitted_on_and_the_seed_decides_which() -> None:
    new, unrelated = np.random.default_rng(10).normal(size=(2, 300, 48))
    found = fit(new, unrelated, kind="ridge")
    assert (found.quality.pairs, found.quality.held_out) == (300, 30)
    assert found.quality.kept < 0.2
    everything = Pairs.of(new, unrelated, "cosine", "cosine")
    assert measure(found.map, everything, np.arange(300)).likeness > found.quality.likeness + 0.1
    assert fit(new, unrelated, kind="ridge").quality == found.quality
    assert fit(new, unrelated, kind="ridge", seed=5).quality != found.quality


def with_row(value: float) -> Any:
    rows = some(60, 4)
    rows[7] = value
    return rows


@pytest.mark.parametrize(
    ("new", "old", "options", "got"),
    [
        (some(49, 4), some(49, 4), {}, "49"),
        (some(60, 4), some(59, 4), {}, "60 new, 59 old"),
        (with_row(0), some(60, 4), {}, "1 of 60, first row 7"),
        (some(60, 4), with_row(0), {}, "1 of 60, first row 7"),
        (with_row(np.nan), some(60, 4), {}, "1 rows, first row 7"),
        (some(60, 4), with_row(np.inf), {}, "1 rows, first row 7"),
        (some(60, 4)[:, 0], some(60, 4), {}, "(60,)"),
        (some(60, 4), some(60, 4), {"kind": "mlp"}, "'mlp'"),
        (some(60, 12), some(60, 8), {"queries": some(5, 8)}, "(5, 8)"),
    ],
)
def test_pairs_and_queries_that_do_not_fit_are_refused(new: Any, old: Any, options: Any, got: str) -> None:
    with pytest.raises(SwapError) as refused:
        fit(new, old, **options)
    assert refused.value.got == got


def test_overlaps_are_those_of_the_answers_themselves() -> None:
    one, other = np.array([[1, 2, 3, 4]] * 2), np.array([[4, 3, 2, 1], [4, 9, 8, 7]])
    np.testing.assert_array_equal(shared(one, other), [1, 0.25])
    new, old = spaces(150, 12, 12, noise=0.5, seed=4)
    held_out = np.array([3, 50, 149])
    found = measure(IDENTITY, Pairs.of(new, old, "cosine", "cosine"), held_out)

    def top(query: Any, documents: Any, row: int) -> set[int]:
        scores = documents @ query / np.linalg.norm(documents, axis=1)
        return set(sorted((i for i in range(150) if i != row), key=lambda i: -scores[i])[:10])

    target = [top(new[row], new, row) for row in held_out]
    by_old, by_new = ([top(side[row], old, row) for row in held_out] for side in (old, new))
    for mine, wanted, value in (
        (by_old, target, found.old_overlap),
        (by_new, target, found.unmapped_overlap),
        (by_new, by_old, found.unmapped_kept),
    ):
        assert value == pytest.approx(np.mean([len(a & b) / 10 for a, b in zip(mine, wanted, strict=True)]))
    assert (found.overlap, found.kept) == (found.unmapped_overlap, found.unmapped_kept)  # the map is the identity


@pytest.mark.parametrize(
    ("changes", "yes", "unmapped", "why"),
    [
        ({}, True, False, "likeness 0.93; of the old encoder's top 10 kept 0.75 (without a map 0.41)"),
        ({"pairs": PAIRS}, True, False, "Measured of ridge on 100 of 200 documents that both encoded"),
        ({"pairs": PAIRS - 1}, False, False, "199 pairs are too few to judge a map by: back-fill 200"),
        ({"likeness": LIKENESS}, True, False, "the map comes near enough"),
        ({"likeness": LIKENESS - 0.01}, False, False, "does not come near enough to the old vectors (asked: 0.80)"),
        ({"unmapped_kept": None, "unmapped_overlap": None}, True, False, "kept 0.75;"),
        ({"unmapped_kept": GOOD.kept - GAIN + 0.01}, False, True, "queries do as well without a map"),
        ({"query_overlap": 0.7, "unmapped_query_overlap": 0.7}, False, True, "queries do as well without a map"),
        (
            {"queries": 35, "query_overlap": 0.66, "unmapped_query_overlap": 0.61, "unmapped_kept": 0.99},
            True,
            False,
            "the same with 35 real queries 0.66 (without a map 0.61)",
        ),
    ],
)
def test_a_map_is_offered_by_its_figures(changes: dict[str, Any], yes: bool, unmapped: bool, why: str) -> None:
    found = offer(replace(GOOD, **changes))
    assert (found.yes, found.unmapped) == (yes, unmapped)
    assert why in found.why


class Hosted(FakeDenseEncoder):
    """A model of an API that is gone once it is `retired`."""

    retired = False

    def __init__(self) -> None:
        if Hosted.retired:
            raise ConnectionError("410 Gone")
        super().__init__(dimension=48)


class Unrelated(FakeDenseEncoder):
    """Knows whole texts alone, so that nothing linear carries its vectors over."""

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        return super().encode_document([text.replace(" ", "") for text in inputs])


class Plugin:
    @staticmethod
    @hookimpl
    def diptych_register_adapters() -> list[AdapterSpec]:
        made = {"hosted": "Hosted", "turned": "Turned", "unrelated": "Unrelated"}
        return [AdapterSpec(name=name, kind="dense", factory=f"{__name__}:{made[name]}", summary="") for name in made]


@pytest.fixture
def collection(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    """300 documents, half-way from an encoder that is gone to one of the same space turned."""
    registry = Registry(fakes_plugin, Plugin, installed=False)
    with Collection.open(config("hosted"), registry=registry) as opened:
        opened.populate(corpus(300))
        yield opened


def test_a_bridge_answers_for_an_encoder_that_is_gone(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SwapError) as early:
        Bridge.of(collection, "dense", Turned())  # type: ignore[arg-type]
    assert early.value.where == "slot 'dense'"
    collection.apply(config("turned"), ApplyOptions(cut_over=False, gate=False))
    monkeypatch.setattr(Hosted, "retired", True)
    with Collection.open(collection.client, "c", registry=collection.handle.registry) as later:
        bridge = Bridge.of(later, "dense", Turned(), [document["text"] for document in corpus(20)])  # type: ignore[arg-type]
        assert bridge.fitted.quality.queries == 20
        for document in corpus(5):
            assert bridge.search(document["text"], limit=3)[0].id == document["id"]


def test_queries_through_a_map_of_an_earlier_release_go_back_to_the_slots_own_encoder_with_a_warning(
    collection: Collection,
) -> None:
    collection.apply(config("turned"), ApplyOptions(cut_over=False, gate=False))
    raw = json.loads(json.dumps(raw_metadata(collection.client, "c")["diptych"]))
    asking = {"generation": raw["swap"]["target"]["slots"]["dense"], "why": "fitted", "student": False}
    raw["live"]["asking"] = {"dense": {**asking, "drift": "diptych_drift_dense"}}
    update_metadata(collection.client, "c", {"diptych": raw, "diptych_drift_dense": {"format": 1}})
    registry, text = collection.handle.registry, corpus(1)[0]["text"]
    with pytest.warns(UserWarning, match=r"slot 'dense': an earlier release .* diptych apply, or diptych rollback"):
        later = Collection.open(collection.client, "c", registry=registry)
    with warnings.catch_warnings(action="ignore"), later:
        assert later.search(text)[0].id == "0"
        assert later.apply(config("turned"), ApplyOptions(gate=False)).outcome == "cut over"
    assert later.search(text)[0].id == "0"
    assert not raw_metadata(collection.client, "c").get("diptych_drift_dense")
