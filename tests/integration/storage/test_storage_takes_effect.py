"""Each way of storing vectors really changes what lies in the store, and answers come out as brute force says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client import models

import rows as support
from diptych import Collection
from diptych.config import Config, parse_config
from diptych.errors import CollectionError
from diptych.swap import ApplyOptions

COUNT, LIMIT = 1500, 10
QUERIES = [f"q{n}" for n in range(support.QUERIES)]
Answers: TypeAlias = list[list[tuple[int, float]]]
QUANTIZATIONS: list[dict[str, Any]] = [
    {"kind": "scalar"},
    {"kind": "scalar", "quantile": 0.9, "always_ram": True},
    *({"kind": "binary", "encoding": encoding} for encoding in ("one_bit", "one_and_half_bits", "two_bits")),
    *({"kind": "product", "compression": compression} for compression in ("x16", "x32", "x64")),
    *({"kind": "turbo", "bits": bits} for bits in ("bits1", "bits1_5", "bits2", "bits4")),
]


def words(quantization: Mapping[str, Any]) -> str:
    return " ".join(map(str, quantization.values()))


def config(
    path: Path | str, storage: Mapping[str, Any], params: Mapping[str, Any] | None = None, **options: Any
) -> Config:
    raw = {
        "store": path if isinstance(path, str) else f"edge:{path}",
        "collection": "c",
        "slots": {"dense": {"adapter": "rows", "count": COUNT, **options, "storage": dict(storage)}},
        "search": {"params": dict(params or {})},
    }
    return parse_config(raw)


@contextmanager
def opened(wanted: Config) -> Iterator[Collection]:
    with Collection.open(wanted, registry=support.registry()) as collection:
        yield collection


def fill(wanted: Config) -> None:
    """Populate, and have quantized copies and graphs built, which Qdrant does from 10 MB of vectors on."""
    with opened(wanted) as collection:
        collection.populate({"id": str(n), "text": str(n)} for n in range(COUNT))
        collection.client.update_collection("c", optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1))
        collection.client.optimize("c")  # type: ignore[attr-defined]


def answers(path: Path, storage: Mapping[str, Any], params: Mapping[str, Any], **options: Any) -> Answers:
    with opened(config(path, storage, params, **options)) as collection:
        found = collection.search_batch(QUERIES, limit=LIMIT)
    return [[(int(hit.id), hit.score) for hit in hits] for hits in found]


def truth(**options: Any) -> NDArray[Any]:
    """The score of every document for every query."""
    table = support.Rows(count=COUNT, **options)
    return table.queries @ table.rows.T


def recall(found: Answers, scores: NDArray[Any]) -> float:
    exact = np.argsort(-scores, axis=1)[:, :LIMIT]
    pairs = zip(found, exact.tolist(), strict=True)
    return float(np.mean([len({n for n, _ in own} & set(best)) / LIMIT for own, best in pairs]))


def deviation(found: Answers, scores: NDArray[Any]) -> float:
    """How far scores are from the true ones, at most."""
    return max(abs(score - float(scores[q, n])) for q, own in enumerate(found) for n, score in own)


def segments(path: Path) -> list[dict[str, Any]]:
    """What Qdrant itself notes of the vectors in each segment that is optimised."""
    notes = [json.loads(file.read_text())["config"]["vector_data"] for file in path.rglob("segment.json")]
    return [note for note in notes if note["dense.1"]["index"]["type"] == "hnsw"]


@pytest.mark.slow
@pytest.mark.parametrize("quantization", QUANTIZATIONS, ids=words)
def test_quantization_is_built_and_oversampling_with_rescoring_makes_up_for_what_it_loses(
    quantization: dict[str, Any], tmp_path: Path
) -> None:
    storage, scores = {"quantization": quantization}, truth()
    fill(config(tmp_path, storage))
    (own,) = segments(tmp_path)
    built = own["dense.1"]["quantization_config"][quantization["kind"]]
    assert {key: value for key, value in quantization.items() if key != "kind"}.items() <= built.items()
    rough = answers(tmp_path, storage, {"rescore": False})
    fine = answers(tmp_path, storage, {"rescore": True, "oversampling": 20})
    assert deviation(rough, scores) > 1e-4  # the quantized copies give the scores
    assert deviation(fine, scores) < 1e-6  # the originals do
    assert recall(fine, scores) > recall(rough, scores)
    assert recall(fine, scores) > 0.97


def test_float16_rounds_vectors_and_nothing_else(tmp_path: Path) -> None:
    storage, table = {"datatype": "float16"}, support.Rows(count=COUNT)
    fill(config(tmp_path, storage))
    rounded = table.queries.astype(np.float16).astype(np.float32) @ table.rows.astype(np.float16).astype(np.float32).T
    found = answers(tmp_path, storage, {"exact": True})
    assert deviation(found, rounded) < 1e-5
    assert 1e-6 < deviation(found, truth()) < 1e-3
    assert recall(found, rounded) == 1.0
    with opened(config(tmp_path, storage)) as collection:
        (record,) = collection.client.scroll("c", limit=1, with_vectors=True)[0]
        stored = np.array(record.vector["dense.1"])  # type: ignore[index, call-overload]
        row = table.rows[int(record.payload["text"])]  # type: ignore[index]
    assert np.array_equal(stored, row.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("on_disk", [False, True])
def test_vectors_graph_and_quantized_copies_lie_where_the_config_says(on_disk: bool, tmp_path: Path) -> None:
    storage = {
        "on_disk": on_disk,
        "hnsw": {"m": 8, "ef_construct": 50, "on_disk": on_disk},
        "quantization": {"kind": "scalar", "always_ram": not on_disk},
    }
    fill(config(tmp_path, storage))
    (own,) = segments(tmp_path)
    assert own["dense.1"]["storage_type"] == ("Mmap" if on_disk else "InRamMmap")
    graph = own["dense.1"]["index"]["options"]
    assert (graph["m"], graph["ef_construct"], graph["on_disk"]) == (8, 50, on_disk)
    assert own["dense.1"]["quantization_config"]["scalar"]["always_ram"] is not on_disk
    assert recall(answers(tmp_path, storage, {"rescore": True, "oversampling": 4}), truth()) > 0.97


@pytest.mark.slow
def test_another_storage_than_the_collections_is_for_apply_and_apply_does_it(tmp_path: Path) -> None:
    fill(config(tmp_path, {}))
    wanted = config(tmp_path, {"quantization": {"kind": "turbo", "bits": "bits2"}, "on_disk": True})
    with pytest.raises(CollectionError, match="differ in how vectors are stored"), opened(wanted):
        pass
    with Collection.stored(wanted, registry=support.registry()) as collection:
        assert [step.action for step in collection.plan(wanted).steps] == ["storage"]
        assert collection.apply(wanted, ApplyOptions(unmeasured=True)).outcome == "changed settings"
    (own,) = segments(tmp_path)
    assert own["dense.1"]["quantization_config"]["turbo"]["bits"] == "bits2"
    assert own["dense.1"]["storage_type"] == "Mmap"


def test_memory_and_server_are_given_the_same_parameters() -> None:
    """Local mode takes them and searches exactly, whatever they say."""
    storage = {"quantization": {"kind": "product", "compression": "x32"}, "on_disk": True, "datatype": "float16"}
    with opened(config("memory:", storage)) as collection:
        collection.populate({"id": str(n), "text": str(n)} for n in range(50))
        asked: Any = collection.client.get_collection("c").config.params.vectors
    own = asked["dense.1"]
    assert own.quantization_config.product.compression == models.CompressionRatio.X32
    assert (own.on_disk, own.datatype) == (True, models.Datatype.FLOAT16)
