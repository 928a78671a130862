"""A kill while a named vector is added or dropped, at whichever of Edge's files, leaves a collection that opens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from diptych.errors import StoreError
from diptych_edge import EdgeClient
from diptych_edge.engine.folders import Record

SIZE, WIDTH, LATER = 600, 64, 20
DENSE = models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=8, distance=models.Distance.COSINE))
SPARSE = models.SparseVectorNameConfig(sparse=models.SparseVectorConfig())
PENDING: Mapping[str, dict[str, Any]] = {
    "add dense": {"add": "b", "config": {"dense": {"size": 8, "distance": "Cosine"}}},
    "add sparse": {"add": "b", "config": {"sparse": {}}},
    "drop dense": {"drop": "b"},
    "drop sparse": {"drop": "b"},
}
REACHED: tuple[set[str], ...] = (  # Edge writes its log first and its config last; segments have no order of their own
    {"wal"},
    {"wal", "segment 0"},
    {"wal", "segment 1"},
    {"wal", "segment 0", "segment 1"},
    {"segment 1"},
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A collection of two segments: `without` a second vector, with a `dense` or `sparse` one, and dropped again."""
    folder = tmp_path_factory.mktemp("stores")
    params = models.VectorParams(size=WIDTH, distance=models.Distance.COSINE)
    with EdgeClient(folder / "without") as client:
        optimizers = models.OptimizersConfigDiff(indexing_threshold=1)
        client.create_collection("c", vectors_config={"a": params}, optimizers_config=optimizers)
        client.upsert("c", _points(0, SIZE))
        client.optimize("c")
        client.upsert("c", _points(SIZE, SIZE + LATER))
        assert client.get_collection("c").segments_count == 2
    for name, config in (("dense", DENSE), ("sparse", SPARSE)):
        shutil.copytree(folder / "without", folder / name)
        with EdgeClient(folder / name) as client:
            client.create_vector_name("c", "b", config)
        shutil.copytree(folder / name, folder / f"dropped {name}")
        with EdgeClient(folder / f"dropped {name}") as client:
            client.delete_vector_name("c", "b")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("change", PENDING)
def test_a_change_of_vectors_that_reached_some_of_edges_files_is_finished_at_opening(
    stores: Mapping[str, Path], tmp_path: Path, change: str
) -> None:
    verb, kind = change.split()
    before, after = ("without", kind) if verb == "add" else (kind, f"dropped {kind}")
    for number, changed in enumerate(REACHED):
        store = _mixed(stores[before], stores[after], tmp_path / str(number), changed)
        folder = next(store.glob("collections/*"))
        replace(Record.read(folder), pending=PENDING[change]).write(folder)
        for _ in range(2):  # and once more, for what was mended must stay so
            _check(store, kind if verb == "add" else "")


def test_files_that_differ_without_a_change_under_way_are_left_alone(
    stores: Mapping[str, Path], tmp_path: Path
) -> None:
    store = _mixed(stores["without"], stores["dense"], tmp_path / "store", {"segment 0"})
    with EdgeClient(store) as client, pytest.raises(StoreError, match="are damaged"):
        client.count("c")


def test_a_change_of_vectors_that_is_done_is_not_done_over_at_opening(tmp_path: Path) -> None:
    """Edge's segments say the number of the last operation they hold, the first being 0; later ones are done over."""
    params = models.VectorParams(size=WIDTH, distance=models.Distance.COSINE)
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", vectors_config={"a": params})
        client.upsert("c", _points(0, 2))
        client.create_vector_name("c", "b", DENSE)
        assert _held(tmp_path) == 1
        client.delete_vector_name("c", "b")
        assert _held(tmp_path) == 2


def _held(store: Path) -> int:
    found: int = json.loads(next(store.glob("collections/*/*/segments/*/segment.json")).read_text())["version"]
    return found


def _points(start: int, end: int) -> list[models.PointStruct]:
    rows = np.random.default_rng(start).normal(size=(end - start, WIDTH))
    return [models.PointStruct(id=start + n, vector={"a": row.tolist()}) for n, row in enumerate(rows)]


def _mixed(before: Path, after: Path, target: Path, changed: set[str]) -> Path:
    """The store as it was before, but for these files, which are as after the change."""
    shutil.copytree(before, target)
    place, source = (next(store.glob("collections/*/shard-*")) for store in (target, after))
    segments = sorted(path.name for path in (place / "segments").iterdir())
    named = {"segment 0": f"segments/{segments[0]}", "segment 1": f"segments/{segments[1]}"}
    for part in changed:
        path = named.get(part, part)
        if (source / path).is_dir():
            shutil.rmtree(place / path)
            shutil.copytree(source / path, place / path)
        else:
            shutil.copy(source / path, place / path)
    (place / "diptych-seal.json").unlink()  # it is broken while a collection is open
    return target


def _check(store: Path, kind: str) -> None:
    with EdgeClient(store) as client:
        params = client.get_collection("c").config.params
        assert params.vectors.keys() | (params.sparse_vectors or {}).keys() == ({"a", "b"} if kind else {"a"})  # type: ignore[union-attr]
        assert client.count("c").count == SIZE + LATER
        assert len(client.query_points("c", [1.0] * WIDTH, using="a", limit=5).points) == 5
        if kind:
            made: Any = [1.0] * 8 if kind == "dense" else models.SparseVector(indices=[1], values=[1.0])
            ends = [0, SIZE + 1]
            client.update_vectors("c", [models.PointVectors(id=point, vector={"b": made}) for point in ends])
            assert {point.id for point in client.query_points("c", made, using="b").points} == set(ends)
