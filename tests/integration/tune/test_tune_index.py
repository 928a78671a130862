"""What `tune_index` measures is what brute force says, and it leaves the collection and the machine as they were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

import rows as support
from diptych import Collection
from diptych.config import parse_config
from diptych.config.models import SearchParams
from diptych.config.storage import VectorStorage
from diptych.errors import TuneError
from diptych.evaluate import ann_recall
from diptych.types import Run
from diptych_edge import EdgeClient
from diptych_lab.tune import Setup, tune_index
from diptych_lab.tune.sample import Sample
from named_server import STORE, placed

COUNT, MANY = 900, 10**7
DENSE: dict[str, Any] = {"adapter": "rows", "count": COUNT}


def setup(storage: dict[str, Any], **params: Any) -> Setup:
    return Setup(VectorStorage.model_validate(storage), SearchParams.model_validate(params))


EXACT = setup({}, exact=True)
SCALAR = setup({"quantization": {"kind": "scalar", "always_ram": True}, "on_disk": True}, rescore=True, oversampling=3)
ROUGH = setup({"quantization": {"kind": "binary", "always_ram": True}, "on_disk": True}, rescore=False)
FIRST = setup({"first_stage": {"dimension": 32, "oversampling": 1}, "on_disk": True})


@pytest.fixture(autouse=True)
def temporary(on_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary folders go where a test can see them, and where their size on disk is known."""
    monkeypatch.setattr("tempfile.tempdir", str(on_disk))
    return on_disk


def filled(where: str | dict[str, Any], slots: dict[str, Any] | None = None, **sections: Any) -> Collection:
    place = {"store": where} if isinstance(where, str) else where
    raw = {**place, "collection": "c", "slots": slots or {"dense": DENSE}, **sections}
    made = Collection.open(parse_config(raw), registry=support.registry())
    made.populate({"id": str(n), "text": str(n)} for n in range(COUNT))
    return made


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with placed(STORE, tmp_path / "store", "c") as place, filled(place) as made:
        yield made


def contents(found: Collection) -> tuple[Any, ...]:
    points, _ = found.client.scroll("c", limit=10_000, with_vectors=True)
    told = found.client.get_collection("c")
    return told.config, sorted((point.id, str(point.vector), str(point.payload)) for point in points)


@pytest.mark.slow
def test_every_setup_is_measured_and_nothing_is_left_behind(collection: Collection, temporary: Path) -> None:
    before = contents(collection)
    found = tune_index(collection.handle, setups=[EXACT, SCALAR, ROUGH, FIRST], sample=600, points=MANY)
    assert contents(collection) == before
    assert list(temporary.glob("diptych-tune-*")) == []
    assert (found.collection, found.slot, found.dimension, found.points) == ("c", "dense", 64, COUNT)
    assert (found.sample, found.queries, found.held_out, found.k) == (640, 160, True, 10)  # a fifth is held out
    rows = {row.setup: row for row in found.rows}
    assert len(rows) == 5
    assert [row.setup for row in found.rows if row.setup.now] == [Setup(VectorStorage(), now=True)]
    assert rows[EXACT].recall == 1.0
    assert rows[SCALAR].recall > 0.98
    assert rows[ROUGH].recall < rows[SCALAR].recall
    assert rows[ROUGH].memory < rows[SCALAR].memory < rows[EXACT].memory
    assert rows[EXACT].memory >= 4 * 64
    assert rows[SCALAR].disk > rows[EXACT].disk
    assert list(found.rows) == sorted(found.rows, key=lambda row: (row.memory, row.p50))
    assert all(0 < row.p50 <= row.p95 for row in found.rows)
    assert found.reached
    assert found.chosen.recall >= 0.98


def test_a_first_stages_recall_is_that_of_two_stages_by_brute_force(tmp_path: Path) -> None:
    table = support.Rows(count=COUNT)
    texts = [f"q{n}" for n in range(support.QUERIES)]
    narrow = setup({"first_stage": {"dimension": 8, "oversampling": 1}})
    with filled(f"edge:{tmp_path / 'store'}") as collection:
        found = tune_index(collection.handle, setups=[narrow], queries=texts, sample=COUNT, points=MANY)
    assert (found.sample, found.queries, found.held_out) == (COUNT, support.QUERIES, False)
    scores = table.queries @ table.rows.T
    exact = np.argsort(-scores, axis=1)[:, :10]
    short = table.rows[:, :8] / np.linalg.norm(table.rows[:, :8], axis=1, keepdims=True)
    passed = np.argsort(-(table.queries[:, :8] @ short.T), axis=1)[:, :100]
    share = np.mean(
        [len(set(best) & set(some)) / 10 for best, some in zip(exact.tolist(), passed.tolist(), strict=True)]
    )
    (row,) = [row for row in found.rows if row.setup == narrow]
    assert 0.3 < share < 1
    assert row.recall == pytest.approx(float(share), abs=0.02)  # the graph may miss one of a hundred candidates


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_the_truth_is_the_exact_search_of_the_engine(similarity: Any, tmp_path: Path) -> None:
    slots = {"dense": {**DENSE, "similarity": similarity}}
    with filled(f"edge:{tmp_path / 'store'}", slots) as collection:
        found = tune_index(collection.handle, setups=[EXACT], sample=500, k=5, points=MANY)
    assert [row.recall for row in found.rows if row.setup == EXACT] == [1.0]
    table = support.Rows(count=COUNT, similarity=similarity)
    truth = Sample(table.rows, table.queries, similarity, COUNT, False).exact(5)
    near = [sorted(np.linalg.norm(table.rows - query, axis=1))[:5] for query in table.queries]
    if similarity == "euclidean":
        for number, distances in enumerate(near):
            assert [-score for _, score in truth.rankings[str(number)]] == pytest.approx(distances, abs=1e-3)
    assert ann_recall(Run("same", truth.rankings), truth, 5) == 1.0


def test_a_collection_below_qdrants_thresholds_is_measured_as_it_is_searched_and_can_be_thought_larger(
    tmp_path: Path,
) -> None:
    """Binary copies are made of any number of points, those of a byte and graphs of 10 MB or more."""
    byte = setup({"quantization": {"kind": "scalar"}}, rescore=False)
    with filled(f"edge:{tmp_path / 'store'}") as collection:
        small = tune_index(collection.handle, setups=[ROUGH, byte], sample=600)
        large = tune_index(collection.handle, setups=[ROUGH, byte], sample=600, points=MANY)
    assert (small.points, small.as_of, large.points, large.as_of) == (COUNT, COUNT, COUNT, MANY)
    recalls = [{row.setup: row.recall for row in found.rows} for found in (small, large)]
    assert recalls[0][byte] == 1.0
    assert recalls[1][byte] < 1.0
    assert max(recalls[0][ROUGH], recalls[1][ROUGH]) < 1.0


def test_an_unnamed_vector_of_an_adopted_collection_is_tuned(tmp_path: Path) -> None:
    table = support.Rows(count=COUNT)
    config = parse_config({"store": f"edge:{tmp_path}", "collection": "c", "slots": {"dense": DENSE}})
    for client in (QdrantClient(":memory:"), EdgeClient(tmp_path / "store")):
        client.create_collection("c", vectors_config=models.VectorParams(size=64, distance=models.Distance.COSINE))
        rows = enumerate(table.rows[:300].tolist())
        client.upsert("c", [models.PointStruct(id=n, vector=row, payload={"text": str(n)}) for n, row in rows])
        with Collection.adopt(config, store=client, registry=support.registry()) as collection:
            found = tune_index(collection.handle, setups=[EXACT], sample=200)
        client.close()
        assert [row.recall for row in found.rows if row.setup == EXACT] == [1.0]


def test_a_slot_that_is_not_dense_or_not_named_is_refused() -> None:
    others = {"words": {"adapter": "fake-sparse"}, "late": {"adapter": "fake-multivector"}}
    slots = {"dense": DENSE, "other": DENSE, **others, "long": {**DENSE, "passages": {"tokens": 16}}}
    reasons = {
        "words": "kind sparse",
        "late": "kind multivector",
        "long": "a vector for each passage",
        None: "dense (d",
    }
    with filled("memory:", slots) as collection:
        for slot, got in reasons.items():
            with pytest.raises(TuneError) as refused:
                tune_index(collection.handle, slot)
            assert str(refused.value.got).startswith(got)
