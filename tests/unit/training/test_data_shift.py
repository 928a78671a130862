"""Whether a collection's documents are still like those that its encoder was chosen for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych import Collection, Document, Registry
from diptych.config import parse_config
from diptych.errors import CollectionError
from diptych.metadata.store import raw_metadata, update_metadata
from diptych.swap import ApplyOptions
from diptych.testing import fakes_plugin
from diptych.types import Floats
from diptych_experimental.data_shift import (
    BANDWIDTHS,
    LEAST,
    VectorSample,
    compared,
    data_shift,
    take_sample,
)

CONFIG: dict[str, Any] = {
    "store": "memory:",
    "collection": "texts",
    "slots": {"dense": {"adapter": "fake-dense"}, "words": {"adapter": "fake-sparse"}},
}
OTHER = {**CONFIG, "slots": {**CONFIG["slots"], "dense": {"adapter": "fake-dense", "seed": 1}}}
SEA, LAND = ["wave", "tide", "reef", "gull", "sail", "crab"], ["hill", "road", "barn", "corn", "plough", "horse"]


def documents(words: list[str], count: int, name: str) -> list[Document]:
    rng = random.Random(0)
    return [Document(f"{name}{n}", " ".join(rng.choices(words, k=5))) for n in range(count)]


def rows(count: int, *, seed: int, mean: float = 0.0, dimension: int = 8) -> Floats:
    return np.random.default_rng(seed).normal(mean, 1, (count, dimension)).astype(np.float32)


@pytest.fixture
def collection() -> Iterator[Collection]:
    with Collection.open(CONFIG, registry=Registry(fakes_plugin, installed=False)) as opened:
        yield opened


def test_the_discrepancy_is_the_formula_over_all_pairs() -> None:
    then, now = rows(12, seed=0), rows(9, seed=1, mean=0.5)
    both = np.concatenate([then, now]).astype(np.float64)
    distances = np.array([[np.sum((a - b) ** 2) for b in both] for a in both])
    median = np.median(distances[np.triu_indices(len(both), 1)])

    def kernel(i: int, j: int) -> float:
        return float(np.mean([np.exp(-distances[i, j] / (2 * b * median)) for b in BANDWIDTHS]))

    one, other = range(12), range(12, 21)
    within = np.mean([kernel(i, j) for i in one for j in one if i != j])
    among = np.mean([kernel(i, j) for i in other for j in other if i != j])
    between = np.mean([kernel(i, j) for i in one for j in other])
    found, _, witness = compared(then, now, permutations=9)
    assert found == pytest.approx(within + among - 2 * between, abs=1e-5)
    expected = np.mean([kernel(12, j) for j in other if j != 12]) - np.mean([kernel(12, j) for j in one])
    assert witness[0] == pytest.approx(expected, abs=1e-5)


def test_samples_differ_by_chance_alone_where_they_come_from_one_distribution() -> None:
    chances = [compared(rows(40, seed=2 * n), rows(60, seed=2 * n + 1), permutations=99)[1] for n in range(100)]
    assert sum(chance <= 0.1 for chance in chances) <= 20
    assert 0.35 < np.mean(chances) < 0.65
    assert compared(rows(60, seed=0), rows(60, seed=1, mean=0.5))[1] == 0.001
    assert compared(np.ones((20, 4), np.float32), np.ones((30, 4), np.float32))[1] == 1.0


def test_other_documents_are_a_shift_and_are_named(collection: Collection, tmp_path: Path) -> None:
    collection.populate(documents(SEA, 300, "sea"))
    take_sample(collection, "dense").save(tmp_path / "sea.npz")
    sample = VectorSample.load(tmp_path / "sea.npz")
    assert (sample.points, sample.vectors.shape) == (300, (256, 64))
    same = data_shift(collection, "dense", sample)
    assert (same.compared, same.shifted) == (300, False)
    collection.populate(documents(LAND, 300, "land"))
    shift = data_shift(collection, "dense", sample)
    assert (shift.compared, shift.shifted) == (600, True)
    assert len(shift.examples) == 3
    assert all(name.startswith("land") for name in shift.examples)
    assert not data_shift(collection, "dense", take_sample(collection, "dense")).shifted


def test_what_cannot_be_compared_is_an_error(collection: Collection) -> None:
    collection.populate(documents(SEA, LEAST - 1, "sea"))
    with pytest.raises(CollectionError) as few:
        take_sample(collection, "dense")
    assert (few.value.got, few.value.where) == ("199", "slot 'dense'")
    collection.populate(documents(LAND, 1, "land"))
    sample = take_sample(collection, "dense")
    assert collection.apply(parse_config(OTHER), ApplyOptions(gate=False)).outcome == "cut over"
    with pytest.raises(CollectionError) as other:
        data_shift(collection, "dense", sample)
    assert other.value.got == sample.fingerprint


def test_a_sample_that_an_earlier_release_kept_in_the_collection_goes_with_the_next_change(
    collection: Collection,
) -> None:
    collection.populate(documents(SEA, 20, "sea"))
    update_metadata(collection.client, collection.name, {"diptych_sample_dense": {"vector": "dense.1"}})
    assert collection.apply(parse_config(OTHER), ApplyOptions(gate=False)).outcome == "cut over"
    assert not raw_metadata(collection.client, collection.name).get("diptych_sample_dense")
