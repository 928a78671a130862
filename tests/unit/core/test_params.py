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
from diptych.testing import FakeDenseEncoder


def params(storage: dict[str, Any], encoder: Any = None) -> Any:
    return vector_params(encoder or FakeDenseEncoder(), "dense", VectorStorage.model_validate(storage))


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
