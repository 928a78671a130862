"""Populate and apply through the cache: the same collection, and nothing is encoded that was encoded before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import AdapterSpec, hookimpl
from diptych.config.models import Config
from diptych.errors import PopulateError
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import populate
from diptych.protocols import Similarity
from diptych.search import search
from diptych.slots.guard import TEXTS
from diptych.swap import ApplyOptions, apply, finish
from diptych.testing import FakeDenseEncoder
from diptych.types import Floats

OpenHandle = Callable[..., CollectionHandle]
CORPUS = [{"id": n, "text": f"word{n % 17} word{n % 23} number{n}"} for n in range(300)]
ALL_KINDS: Mapping[str, str] = {"dense": "fake-dense", "sparse": "fake-sparse", "tokens": "fake-multivector"}


def logged(folder: Path, **slots: str) -> dict[str, Any]:
    """Slots whose fakes write down what they encode."""
    return {name: {"adapter": adapter, "log": str(folder / f"{name}.log")} for name, adapter in slots.items()}


def encoded(folder: Path, slot: str) -> list[str]:
    """The documents that a slot's encoder was given so far, the guard's texts aside."""
    path = folder / f"{slot}.log"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [text for line in lines if line["side"] == "document" for text in line["inputs"] if text not in TEXTS]


def contents(client: QdrantBase, name: str) -> dict[Any, Any]:
    found, _ = client.scroll(name, limit=10_000, with_vectors=True)
    return {point.id: (point.payload, _plain(point.vector)) for point in found}


def _plain(vector: Any) -> Any:
    if isinstance(vector, dict):
        return {name: _plain(part) for name, part in vector.items()}
    if isinstance(vector, models.SparseVector):
        return [vector.indices, np.array(vector.values, np.float32).tobytes()]
    return np.array(vector, np.float32).tobytes()


def test_a_collection_filled_from_the_cache_is_the_same_bit_for_bit(
    cache_folder: Path, tmp_path: Path, client: QdrantBase, open_handle: OpenHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = logged(tmp_path, **ALL_KINDS)
    first = populate(open_handle(client, "one", slots), CORPUS)
    calls = {name: encoded(tmp_path, name) for name in slots}
    second = populate(open_handle(client, "two", slots), CORPUS)
    monkeypatch.setenv("DIPTYCH_CACHE", "off")
    third = populate(open_handle(client, "three", slots), CORPUS)
    assert [len(texts) for texts in calls.values()] == [300] * 3
    assert {name: encoded(tmp_path, name)[300:] for name in slots} == {
        name: [str(document["text"]) for document in CORPUS] for name in slots
    }
    assert first.encoded == second.encoded == third.encoded == dict.fromkeys(slots, 300)
    assert first.cache_hits == dict.fromkeys(slots, 0)
    assert second.cache_hits == dict.fromkeys(slots, 300)
    assert third.cache_hits == {}
    assert contents(client, "one") == contents(client, "two") == contents(client, "three")


@pytest.mark.slow
def test_back_to_an_earlier_encoder_encodes_nothing(
    cache_folder: Path, tmp_path: Path, client: QdrantBase, open_handle: OpenHandle
) -> None:
    old, new = logged(tmp_path, old="fake-dense")["old"], logged(tmp_path, new="fake-dense")["new"]
    wanted = [{"dense": old}, {"dense": {**new, "seed": 1}}, {"dense": old}, {"dense": {**new, "seed": 1}}]
    handle = open_handle(client, "c", wanted[0])
    populate(handle, CORPUS)
    before = {point: vectors["dense.1"] for point, (_, vectors) in contents(client, "c").items()}
    for slots in wanted[1:]:
        config = Config.model_validate({"collection": "c", "slots": slots, "populate": {"chunk": 64}})
        report = apply(handle, config, ApplyOptions(gate=False))
        assert report.outcome == "cut over"
        finish(handle)
    assert {point: vectors["dense.4"] for point, (_, vectors) in contents(client, "c").items()} != before
    assert len(encoded(tmp_path, "old")) == len(encoded(tmp_path, "new")) == 300


def test_only_what_is_new_is_encoded(
    cache_folder: Path, tmp_path: Path, client: QdrantBase, open_handle: OpenHandle
) -> None:
    slots = logged(tmp_path, dense="fake-dense")
    populate(open_handle(client, "one", slots), CORPUS[:200])
    handle = open_handle(client, "two", slots)
    report = populate(handle, CORPUS)
    assert (report.new, report.encoded, report.cache_hits) == (300, {"dense": 300}, {"dense": 200})
    assert len(encoded(tmp_path, "dense")) == 300
    renamed = [{**document, "id": f"again {document['id']}"} for document in CORPUS]
    assert populate(handle, renamed).cache_hits == {"dense": 300}, "hits are counted by run"
    assert populate(handle, renamed).cache_hits.get("dense", 0) == 0


def test_encoders_with_corpus_statistics_are_never_kept(
    cache_folder: Path, tmp_path: Path, client: QdrantBase, open_handle: OpenHandle
) -> None:
    slots = logged(tmp_path, lexical="fake-calibrated")
    for name in ("one", "two"):
        report = populate(open_handle(client, name, slots), CORPUS)
        assert report.cache_hits == {}
    assert len(encoded(tmp_path, "lexical")) == 600
    assert not cache_folder.exists()


class Unnamed:
    """An outside encoder without a fingerprint: nothing tells which model is behind it but what it answers."""

    model: ClassVar[FakeDenseEncoder] = FakeDenseEncoder()
    calls: ClassVar[list[str]] = []
    broken: ClassVar[bool] = False
    dimension = 64
    similarity: Similarity = "cosine"

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        return self.model.encode_query(inputs)

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        if Unnamed.broken:
            raise ConnectionError("nobody there")
        Unnamed.calls += [text for text in inputs if text not in TEXTS]
        return self.model.encode_document(inputs)


class Outside:
    """Its plugin."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        make = f"{__name__}:Unnamed"
        return [
            AdapterSpec(name="unnamed", kind="dense", factory=make, summary="tests"),
            AdapterSpec(name="cheap", kind="dense", factory=make, summary="tests", cached=False),
            AdapterSpec(name="pictures", kind="dense", factory=make, summary="tests", accepts=("text", "image")),
        ]


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Outside:
    monkeypatch.setattr(Unnamed, "calls", [])
    return Outside()


def test_a_model_that_changed_behind_its_name_never_gets_the_vectors_of_the_old_one(
    cache_folder: Path, client: QdrantBase, open_handle: OpenHandle, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = {"dense": {"adapter": "unnamed"}}
    populate(open_handle(client, "one", slots, outside), CORPUS)
    assert populate(open_handle(client, "two", slots, outside), CORPUS).cache_hits == {"dense": 300}
    monkeypatch.setattr(Unnamed, "model", FakeDenseEncoder(seed=1))
    report = populate(open_handle(client, "three", slots, outside), CORPUS)
    assert report.cache_hits == {"dense": 0}
    assert len(Unnamed.calls) == 600
    fresh = FakeDenseEncoder(seed=1).encode_document([str(document["text"]) for document in CORPUS])
    by_id = {payload["_diptych"]["id"]: vectors["dense.1"] for payload, vectors in contents(client, "three").values()}
    for document, vector in zip(CORPUS, fresh, strict=True):
        np.testing.assert_allclose(np.frombuffer(by_id[str(document["id"])], np.float32), vector, atol=1e-6)


@pytest.mark.parametrize("adapter", ["cheap", "pictures"])
def test_cheap_encoders_and_those_that_read_files_are_not_kept(
    cache_folder: Path, client: QdrantBase, open_handle: OpenHandle, outside: Outside, adapter: str
) -> None:
    for name in ("one", "two"):
        assert populate(open_handle(client, name, {"dense": {"adapter": adapter}}, outside), CORPUS).cache_hits == {}
    assert len(Unnamed.calls) == 600


def test_an_encoder_that_works_no_more_ends_the_run_though_its_trial_text_is_in_the_cache(
    cache_folder: Path, client: QdrantBase, open_handle: OpenHandle, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = open_handle(client, "one", {"dense": {"adapter": "unnamed"}}, outside)
    populate(handle, [{"id": "trial", "text": TEXTS[0]}, *CORPUS[:100]])
    monkeypatch.setattr(Unnamed, "broken", True)
    with pytest.raises(PopulateError, match="an encoder fails even for plain inputs"):
        populate(handle, CORPUS)


def test_bad_texts_are_set_aside_again_and_the_good_ones_of_their_piece_are_kept(
    cache_folder: Path, tmp_path: Path, client: QdrantBase, open_handle: OpenHandle
) -> None:
    slots = {"dense": {"adapter": "fake-dense", "nan_word": "number7"}}
    for name, hits in (("one", 0), ("two", 299)):
        report = populate(open_handle(client, name, slots), CORPUS)
        assert (report.new, report.set_aside, report.cache_hits) == (299, 1, {"dense": hits})
        assert "non-finite" in report.examples[0].reason


def test_a_cache_that_fails_is_a_warning_in_the_report(
    cache_folder: Path, client: QdrantBase, open_handle: OpenHandle
) -> None:
    cache_folder.write_text("no folder")
    report = populate(open_handle(client, "one", {"dense": {"adapter": "fake-dense"}}), CORPUS)
    assert (report.new, report.complete, report.cache_hits) == (300, True, {"dense": 0})
    assert [warning.split(":")[0] for warning in report.warnings] == ["the embedding cache was left out"]


def test_searching_does_not_touch_the_cache(cache_folder: Path, client: QdrantBase, open_handle: OpenHandle) -> None:
    slots = {"dense": {"adapter": "fake-dense"}}
    populate(open_handle(client, "one", slots), CORPUS)
    before = {path.name: path.stat().st_mtime_ns for path in cache_folder.iterdir()}
    assert len(search(open_handle(client, "one", slots), ["word1"])[0]) == 10
    assert {path.name: path.stat().st_mtime_ns for path in cache_folder.iterdir()} == before
