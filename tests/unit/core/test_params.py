"""Storage settings become Qdrant's parameters, and what would destroy or not affect vectors is refused."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import models

from diptych.config import check_adapters, parse_config
from diptych.config.storage import VectorStorage
from diptych.errors import ConfigError
from diptych.handle.create import vector_params
from diptych.registry import Registry
from diptych.testing import FakeDenseEncoder, FakeMultiVectorEncoder, FakeSparseEncoder


def params(storage: dict[str, Any], encoder: Any = None, kind: Any = "dense", **more: Any) -> Any:
    return vector_params(encoder or FakeDenseEncoder(), kind, VectorStorage.model_validate(storage), **more)


def test_a_dense_slot_has_the_encoders_size_and_distance() -> None:
    for similarity, distance in (("cosine", "Cosine"), ("dot", "Dot"), ("euclidean", "Euclid")):
        found = params({}, FakeDenseEncoder(dimension=9, similarity=similarity))  # type: ignore[arg-type]
        assert (found.size, found.distance.value) == (9, distance)
        assert found.hnsw_config is found.quantization_config is found.on_disk is None


def test_graph_and_placement_are_passed_on() -> None:
    found = params({"hnsw": {"m": 32, "ef_construct": 300}, "on_disk": True, "datatype": "float16"})
    assert (found.hnsw_config.m, found.hnsw_config.ef_construct) == (32, 300)
    assert found.on_disk is True
    assert found.datatype == models.Datatype.FLOAT16


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (
            {"kind": "scalar", "quantile": 0.99, "always_ram": True},
            {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}},
        ),
        ({"kind": "binary", "encoding": "two_bits"}, {"binary": {"encoding": "two_bits"}}),
        ({"kind": "product", "compression": "x8"}, {"product": {"compression": "x8"}}),
        ({"kind": "turbo", "bits": "bits4"}, {"turbo": {"bits": "bits4"}}),
    ],
)
def test_each_kind_of_quantization_is_passed_on(asked: dict[str, Any], expected: dict[str, Any]) -> None:
    found = params({"quantization": asked}).quantization_config
    assert found.model_dump(mode="json", exclude_none=True) == expected


def test_a_sparse_slot_has_the_idf_modifier_when_its_encoder_counts_on_it() -> None:
    with_idf = params({"on_disk": True}, FakeSparseEncoder(uses_idf=True), "sparse")
    assert with_idf.modifier == models.Modifier.IDF
    assert with_idf.index.on_disk is True
    assert params({}, FakeSparseEncoder(uses_idf=False), "sparse").modifier is None


def test_a_rescoring_slot_compares_by_maxsim_and_builds_no_graph() -> None:
    found = params({}, FakeMultiVectorEncoder(), "multivector", indexed=False)
    assert found.multivector_config.comparator == models.MultiVectorComparator.MAX_SIM
    assert found.hnsw_config.m == 0
    assert params({}, FakeMultiVectorEncoder(), "multivector").hnsw_config is None


def test_uint8_is_refused_for_cosine() -> None:
    with pytest.raises(ConfigError, match="uint8 cannot hold"):
        params({"datatype": "uint8"})
    found = params({"datatype": "uint8"}, FakeDenseEncoder(similarity="dot"))
    assert found.datatype == models.Datatype.UINT8


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({"lexical": {"adapter": "fake-sparse", "storage": {"hnsw": {"m": 4}}}}, "sparse has no hnsw"),
        ({"lexical": {"adapter": "fake-sparse", "storage": {"quantization": {"kind": "turbo"}}}}, "no quantization"),
        ({"d": {"adapter": "fake-dense", "storage": {"quantization": {"kind": "scalar", "bits": "bits2"}}}}, "'bits'"),
        (
            {"d": {"adapter": "fake-dense", "storage": {"quantization": {"kind": "turbo", "quantile": 0.9}}}},
            "'quantile'",
        ),
        ({"rrf": {"adapter": "fake-dense"}}, "cannot be called 'rrf'"),
        ({"a/b": {"adapter": "fake-dense"}}, "name cannot be used"),
        ({"": {"adapter": "fake-dense"}}, "name cannot be used"),
    ],
)
def test_settings_without_effect_and_unusable_names_are_refused(
    slots: dict[str, Any], message: str, fakes: Registry
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_adapters(parse_config({"store": "memory:", "collection": "c", "slots": slots}), fakes)


def test_an_unknown_index_type_is_a_config_error() -> None:
    slots = {"dense": {"adapter": "fake-dense"}}
    with pytest.raises(ConfigError, match=r"(?s)populate\.indexes.*keyword"):
        parse_config({"collection": "c", "slots": slots, "populate": {"indexes": {"n": "nonsense"}}})


@pytest.mark.parametrize(
    ("search", "depth"),
    [
        ({"retrieve": {"a": 5, "b": 5}, "limit": 20}, 10),
        ({"rescore": {"slot": "b", "candidates": 7}, "retrieve": {"a": 50}, "limit": 8}, 7),
        ({"retrieve": {"a": 9}, "rerank": [{"adapter": "x", "candidates": 3}], "limit": 4}, 3),
    ],
)
def test_a_limit_that_can_never_be_reached_is_a_config_error(search: dict[str, Any], depth: int) -> None:
    slots = {"a": {"adapter": "fake-dense"}, "b": {"adapter": "fake-multivector"}}
    with pytest.raises(ConfigError, match=rf"(?s)limit can never be reached.*at most {depth},"):
        parse_config({"collection": "c", "slots": slots, "search": search})
    parse_config({"collection": "c", "slots": slots, "search": {**search, "limit": depth}})
    parse_config({"collection": "c", "slots": slots, "search": {"retrieve": {"a": 5}, "limit": 20}})
