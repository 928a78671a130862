"""Whether a collection's documents are still like those that its encoder was chosen for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from diptych import Collection, Document, Registry
from diptych.config.models import Config
from diptych.metadata.store import SAMPLE, raw_metadata, update_metadata
from diptych.slots.data_shift import BANDWIDTHS, DIMENSIONS, KEPT, LEAST, compared, data_shift, keep_samples, projected
from diptych.swap import ApplyOptions
from diptych.testing import fakes_plugin
from diptych.types import Floats

CONFIG: dict[str, Any] = {
    "store": "memory:",
    "collection": "texts",
    "slots": {"dense": {"adapter": "fake-dense"}, "words": {"adapter": "fake-sparse"}},
}
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


def samples(collection: Collection) -> dict[str, Any]:
    stored = raw_metadata(collection.client, collection.name)
    return {key: raw for key, raw in stored.items() if key.startswith(SAMPLE) and raw}


def kept(collection: Collection, **options: bool) -> list[str]:
    return keep_samples(collection.client, collection.name, collection.handle.read(), **options)


def shift_of(collection: Collection) -> Any:
    metadata = collection.handle.read()
    slot = metadata.live.slots["dense"]
    return data_shift(collection.client, collection.name, "dense", slot, metadata.layout)


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


def test_samples_of_one_distribution_differ_as_chance_says() -> None:
    chances = [compared(rows(40, seed=2 * n), rows(60, seed=2 * n + 1), permutations=99)[1] for n in range(100)]
    assert sum(chance <= 0.1 for chance in chances) <= 20
    assert 0.35 < np.mean(chances) < 0.65


def test_samples_of_two_distributions_differ_beyond_chance() -> None:
    assert compared(rows(60, seed=0), rows(60, seed=1, mean=0.5))[1] == 0.001


def test_equal_rows_are_no_shift() -> None:
    assert compared(np.ones((20, 4), np.float32), np.ones((30, 4), np.float32))[1] == 1.0


def test_long_vectors_keep_their_distances_roughly_and_short_ones_exactly() -> None:
    long, short = rows(50, seed=0, dimension=1024), rows(50, seed=0, dimension=DIMENSIONS)
    assert projected(short) is short
    shorter = projected(long)
    assert shorter.shape == (50, DIMENSIONS)
    ratio = np.linalg.norm(shorter[1:] - shorter[0], axis=1) / np.linalg.norm(long[1:] - long[0], axis=1)
    assert 0.7 < ratio.min() < 1 < ratio.max() < 1.3
    np.testing.assert_allclose(projected(np.eye(513, dtype=np.float32))[0, :2], [-0.0318036, 0.0131422], atol=1e-6)


def test_other_documents_are_a_shift_and_are_named(collection: Collection) -> None:
    collection.populate(documents(SEA, 300, "sea"))
    assert samples(collection) == {}
    assert shift_of(collection) is None
    assert kept(collection) == []
    before = samples(collection)
    assert before.keys() == {f"{SAMPLE}dense"}
    assert len(before[f"{SAMPLE}dense"]["vectors"]) == pytest.approx(KEPT * 64 * 4 / 3, abs=4)
    same = shift_of(collection)
    assert (same.points, same.compared, same.shifted) == (300, 300, False)
    collection.populate(documents(LAND, 300, "land"))
    assert kept(collection, renew=True) == []
    assert samples(collection) == before
    shift = shift_of(collection)
    assert shift.shifted
    assert shift.compared == 600
    assert len(shift.examples) == 3
    assert all(name.startswith("land") for name in shift.examples)


def test_a_new_sample_accepts_todays_documents(collection: Collection) -> None:
    collection.populate(documents(SEA, 300, "sea"))
    kept(collection)
    collection.populate(documents(LAND, 300, "land"))
    assert shift_of(collection).shifted
    assert kept(collection) == []
    assert not shift_of(collection).shifted


def test_few_documents_have_no_sample_and_this_is_said(collection: Collection) -> None:
    collection.populate(documents(SEA, LEAST - 1, "sea"))
    assert kept(collection) == ["slot 'dense' has too few vectors for a sample: 200 are needed"]
    assert samples(collection) == {}
    collection.populate(documents(LAND, 1, "land"))
    assert kept(collection) == []
    assert samples(collection)[f"{SAMPLE}dense"]["points"] == LEAST


@pytest.mark.parametrize("asked", [True, False])
def test_a_cut_over_takes_a_sample_of_the_new_vectors_where_there_was_one(collection: Collection, asked: bool) -> None:
    collection.populate(documents(SEA, 250, "sea"))
    if asked:
        kept(collection)
    new = Config.model_validate({**CONFIG, "slots": {**CONFIG["slots"], "dense": {"adapter": "fake-dense", "seed": 1}}})
    assert collection.apply(new, ApplyOptions(gate=False)).outcome == "cut over"
    assert [raw["vector"] for raw in samples(collection).values()] == ["dense.2"] * asked
    assert (shift_of(collection) is not None) == asked


def test_a_sample_of_a_dropped_slot_goes(collection: Collection) -> None:
    collection.populate(documents(SEA, 250, "sea"))
    kept(collection)
    own = samples(collection)[f"{SAMPLE}dense"]
    changes = {f"{SAMPLE}dense": {**own, "vector": "dense.7"}, f"{SAMPLE}gone": own}
    update_metadata(collection.client, collection.name, changes)
    assert shift_of(collection) is None
    kept(collection, renew=True)
    assert {key: raw["vector"] for key, raw in samples(collection).items()} == {f"{SAMPLE}dense": "dense.1"}


@pytest.mark.parametrize(
    "edit",
    [
        {"vectors": "AA==="},
        {"vectors": "AAAA"},
        {"dimensions": 60},
        {"dimensions": 0},
        {"scale": "large"},
        {"scale": 0},
        {"more": 1},
    ],
    ids=str,
)
def test_a_sample_that_was_edited_counts_as_none_until_another_is_taken(
    collection: Collection, edit: dict[str, Any]
) -> None:
    collection.populate(documents(SEA, 250, "sea"))
    kept(collection)
    own = samples(collection)[f"{SAMPLE}dense"]
    update_metadata(collection.client, collection.name, {f"{SAMPLE}dense": {**own, **edit}})
    assert shift_of(collection) is None
    kept(collection)
    assert shift_of(collection) is not None


def test_a_store_that_refuses_the_sample_is_a_warning(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError("this key only reads collections")

    monkeypatch.setattr("diptych.slots.data_shift.update_metadata", refused)
    collection.populate(documents(SEA, 250, "sea"))
    (warning,) = kept(collection)
    assert warning.startswith("no sample of the vectors could be kept")
    assert warning.endswith("PermissionError: this key only reads collections")
