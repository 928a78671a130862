"""Collections describe themselves: what is created is what is read back, and what does not fit is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from diptych.config import parse_config
from diptych.errors import CollectionError, CollectionNotFound, ContractError, FingerprintMismatch
from diptych.handle.collection_handle import CollectionHandle
from diptych.hookspecs import hookimpl
from diptych.metadata.store import KEY, read_metadata
from diptych.registry import Registry
from diptych.slots.encode import encode
from diptych.specs import AdapterSpec
from diptych.testing import FakeDenseEncoder
from diptych.types import SparseVector
from diptych_edge import EdgeClient

SLOTS: dict[str, Any] = {
    "dense": {"adapter": "fake-dense", "dimension": 32},
    "lexical": {"adapter": "fake-sparse"},
    "late": {"adapter": "fake-multivector", "dimension": 16},
}


def handle(client: QdrantBase, fakes: Registry, slots: dict[str, Any] | None = None, **more: Any) -> CollectionHandle:
    config = parse_config({"store": "memory:", "collection": "c", "slots": slots or SLOTS, **more})
    return CollectionHandle(client, "c", config, fakes)


@pytest.fixture
def client() -> QdrantClient:
    return QdrantClient(":memory:")


def test_each_slot_gets_a_named_vector_of_its_kind(client: QdrantClient, fakes: Registry) -> None:
    handle(client, fakes, search={"retrieve": {"dense": 10, "lexical": 10}}).create({})
    params = client.get_collection("c").config.params
    assert isinstance(params.vectors, dict)
    assert params.sparse_vectors is not None
    assert params.vectors["dense.1"].size == 32
    assert params.vectors["dense.1"].distance == models.Distance.COSINE
    late = params.vectors["late.1"]
    assert late.multivector_config is not None
    assert late.hnsw_config is not None
    assert late.hnsw_config.m == 0, "a slot that only rescores needs no graph"
    assert set(params.sparse_vectors) == {"lexical.1"}


def test_a_collection_opens_without_a_config(client: QdrantClient, fakes: Registry) -> None:
    made = handle(client, fakes, search={"retrieve": {"dense": 7, "lexical": 9}, "limit": 3})
    made.create({})
    opened = CollectionHandle(client, "c", None, fakes)
    assert opened.metadata == made.metadata == read_metadata(client, "c")
    assert opened.search_config == made.search_config
    assert [slot.config.options for slot in opened.slots.values()] == [s.config.options for s in made.slots.values()]
    (now,), (then,) = (h.slot("dense").encode("query", ["a cat"]) for h in (opened, made))
    assert isinstance(now, np.ndarray)
    assert isinstance(then, np.ndarray)
    assert np.array_equal(now, then)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "another encoder made the vectors"),
        ({"query_prompt": "find"}, "another encoder made the vectors"),
        ({"dimension": 48}, "another encoder made the vectors"),
        ({"adapter": "fake-multivector"}, "of another kind"),
    ],
)
def test_a_config_with_another_encoder_is_refused(
    client: QdrantClient, fakes: Registry, change: dict[str, Any], message: str
) -> None:
    handle(client, fakes).create({})
    with pytest.raises(FingerprintMismatch, match=message):
        handle(client, fakes, {**SLOTS, "dense": {**SLOTS["dense"], **change}})


def test_a_mismatch_names_both_fingerprints(client: QdrantClient, fakes: Registry) -> None:
    made = handle(client, fakes)
    made.create({})
    with pytest.raises(FingerprintMismatch) as caught:
        handle(client, fakes, {**SLOTS, "dense": {**SLOTS["dense"], "seed": 3}})
    assert made.slot("dense").encoder.fingerprint.space in caught.value.expected
    assert FakeDenseEncoder(dimension=32, seed=3).fingerprint.space in caught.value.got
    assert caught.value.where == "slot 'dense'; seed: unset in the collection, now 3"


def test_a_changed_option_that_changes_no_vector_is_let_through(client: QdrantClient, fakes: Registry) -> None:
    handle(client, fakes).create({})
    slower = handle(client, fakes, {**SLOTS, "dense": {**SLOTS["dense"], "delay": 0.0}})
    assert slower.slot("dense").changed


def test_a_handle_opened_before_another_process_filled_the_collection_is_guarded_too(
    client: QdrantClient, fakes: Registry
) -> None:
    early = handle(client, fakes, {**SLOTS, "dense": {**SLOTS["dense"], "seed": 3}})
    assert early.slot("dense").encode("query", ["a"])
    handle(client, fakes).create({})
    with pytest.raises(FingerprintMismatch, match="another encoder"):
        early.require()


class Plain:
    """An encoder without a fingerprint, such as the smallest adapter of an outsider."""

    dimension, similarity = 8, "cosine"

    def __init__(self, shade: str = "a") -> None:
        self.shade = shade

    def encode_query(self, inputs: list[str]) -> Any:
        return np.ones((len(inputs), 8), np.float32)

    encode_document = encode_query


def test_without_a_fingerprint_name_and_options_count(client: QdrantClient) -> None:
    class Plugin:
        @hookimpl
        def diptych_register_adapters(self) -> list[AdapterSpec]:
            factory = f"{__name__}:Plain"
            return [AdapterSpec(name=name, kind="dense", factory=factory, summary="") for name in ("one", "two")]

    sys.modules.setdefault(__name__, sys.modules[Plain.__module__])
    registry = Registry(Plugin(), installed=False)
    handle(client, registry, {"dense": {"adapter": "one"}}).create({})
    for changed in ({"adapter": "two"}, {"adapter": "one", "shade": "b"}):
        with pytest.raises(FingerprintMismatch, match="another encoder"):
            handle(client, registry, {"dense": changed})


def test_storage_that_would_have_no_effect_is_refused(client: QdrantClient, fakes: Registry) -> None:
    handle(client, fakes, {**SLOTS, "dense": {**SLOTS["dense"], "storage": {"on_disk": True}}}).create({})
    with pytest.raises(CollectionError, match=r"(?s)how vectors are stored.*slot 'dense', storage.*on_disk"):
        handle(client, fakes)
    assert CollectionHandle(client, "c", None, fakes).slot("dense").config.storage.on_disk is True


def test_a_pipeline_is_kept_for_those_who_open_by_name_where_the_collection_has_none(
    client: QdrantClient, fakes: Registry
) -> None:
    """Only apply replaces one, since it has a gate."""
    handle(client, fakes).create({})
    handle(client, fakes, search={"limit": 2}).keep_pipeline()
    assert CollectionHandle(client, "c", None, fakes).search_config.limit == 10
    client.update_collection("c", metadata={"diptych_search": None})
    handle(client, fakes, search={"limit": 2}).keep_pipeline()
    assert CollectionHandle(client, "c", None, fakes).search_config.limit == 2


def test_a_field_indexed_as_another_type_is_refused(fakes: Registry, tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as edge:
        made = handle(edge, fakes, populate={"indexes": {"year": "integer"}})
        made.create({})
        assert edge.get_collection("c").payload_schema["year"].data_type == models.PayloadSchemaType.INTEGER
        with pytest.raises(CollectionError, match=r"(?s)another type.*indexes\.year.*got: keyword.*expected: integer"):
            handle(edge, fakes, populate={"indexes": {"year": "keyword"}}).ensure_indexes()


def test_other_slots_than_the_collections_are_refused(client: QdrantClient, fakes: Registry) -> None:
    handle(client, fakes).create({})
    with pytest.raises(CollectionError, match="different slots"):
        handle(client, fakes, {"dense": SLOTS["dense"]})


def test_another_document_input_is_refused(client: QdrantClient, fakes: Registry) -> None:
    handle(client, fakes).create({})
    with pytest.raises(CollectionError, match="what the encoders read"):
        handle(client, fakes, populate={"input": ["text"]})


def test_a_collection_that_diptych_did_not_make_is_refused(client: QdrantClient, fakes: Registry) -> None:
    client.create_collection("c", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    with pytest.raises(CollectionError, match=r"(?s)does not know this collection.*diptych adopt"):
        handle(client, fakes)


def test_a_missing_collection_names_those_that_exist(client: QdrantClient, fakes: Registry) -> None:
    with pytest.raises(CollectionNotFound, match="got: the store has no collections"):
        CollectionHandle(client, "d", None, fakes)
    handle(client, fakes).create({})
    with pytest.raises(CollectionNotFound, match=r"(?s)no collection 'd'.*expected: c"):
        CollectionHandle(client, "d", None, fakes)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": 99}, "another format"),
        ({"format": 1, "slots": {"dense": {}}}, "another format"),
        ({"format": 2, "live": {"slots": {"dense": {}}}}, r"damaged(?s:.*)live\.slots\.dense\.number"),
    ],
)
def test_metadata_of_another_format_or_damaged_is_refused(
    client: QdrantClient, fakes: Registry, metadata: dict[str, Any], message: str
) -> None:
    params = models.VectorParams(size=2, distance=models.Distance.DOT)
    client.create_collection("c", vectors_config=params, metadata={KEY: metadata})
    with pytest.raises(CollectionError, match=message):
        read_metadata(client, "c")


def test_an_option_from_the_environment_is_stored_unfilled(
    client: QdrantClient, fakes: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_PROMPT", "hush")
    handle(client, fakes, {"dense": {"adapter": "fake-dense", "query_prompt": "${SECRET_PROMPT}"}}).create({})
    stored = client.get_collection("c").config.metadata
    assert "hush" not in repr(stored)
    assert "${SECRET_PROMPT}" in repr(stored)
    reopened = CollectionHandle(client, "c", None, fakes)
    assert reopened.slot("dense").encoder.query_prompt == "hush"


def test_a_calibrated_encoder_is_calibrated_again_when_the_collection_opens(
    client: QdrantClient, fakes: Registry
) -> None:
    slots = {"lexical": {"adapter": "fake-calibrated"}}
    made = handle(client, fakes, slots)
    assert made.slot("lexical").generation is None
    statistics = made.slot("lexical").encoder.measure(["one two three", "four"])
    made.create({"lexical": statistics})
    opened = CollectionHandle(client, "c", None, fakes)
    assert opened.slot("lexical").generation is not None
    now, then = (h.slot("lexical").encode("document", ["one two"]) for h in (opened, made))
    assert now == then


class Wrong:
    """Returns what it is told to."""

    dimension = 2

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def encode_query(self, inputs: list[str]) -> Any:
        return self.answer


@pytest.mark.parametrize(
    ("kind", "answer", "message"),
    [
        ("dense", np.zeros((2, 2), np.float32), "wrong number of vectors"),
        ("dense", np.zeros((1, 3), np.float32), "wrong dimension"),
        ("dense", np.zeros((1, 2), np.float64), "not a float32 array"),
        ("dense", [[0.0, 1.0]], "not a float32 array"),
        ("multivector", [np.zeros((0, 2), np.float32)], "wrong shape of a multi-vector"),
        ("multivector", [np.zeros((3,), np.float32)], "not a float32 array"),
        ("sparse", [{1: 2.0}], "not a sparse vector"),
        ("sparse", [SparseVector(np.array([1, 0], np.uint32), np.ones(2, np.float32))], "not strictly ascending"),
        ("sparse", [SparseVector(np.array([5], np.uint32), np.ones(1, np.float32))], "out of range"),
    ],
)
def test_what_breaks_the_contract_is_named(kind: Any, answer: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        encode(Wrong(answer), kind, "query", ["a"], where="slot 'x'")
