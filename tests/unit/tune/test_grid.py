"""The setups that are measured, and how they are named and written into a config."""

from __future__ import annotations

import pytest

from diptych.config import parse_config
from diptych.config.models import SearchParams
from diptych.config.storage import VectorStorage
from diptych_lab.tune import Setup, grid


def test_the_grid_holds_each_kind_of_quantization_graphs_half_precision_and_first_stages() -> None:
    setups = grid(384)
    quantized = {setup.storage.quantization.kind for setup in setups if setup.storage.quantization}
    assert quantized == {"scalar", "binary", "product", "turbo"}
    assert {setup.storage.first_stage.dimension for setup in setups if setup.storage.first_stage} == {192, 96}
    assert {setup.storage.hnsw.m for setup in setups if setup.storage.hnsw} == {8, 16, 32}
    assert {setup.storage.datatype for setup in setups} == {None, "float16"}
    assert len({(setup.stored, setup.asked) for setup in setups}) == len(setups) <= 30


def test_a_byte_is_tried_only_where_it_holds_the_numbers() -> None:
    assert "uint8" in {setup.storage.datatype for setup in grid(64, whole_numbers=True)}


def test_no_first_stages_are_tried_where_hardly_anything_would_be_left() -> None:
    assert not [setup for setup in grid(40) if setup.storage.first_stage]


@pytest.mark.parametrize(
    ("storage", "params", "stored", "asked"),
    [
        ({}, {}, "float32", "default"),
        ({"datatype": "float16", "on_disk": True}, {"exact": True}, "float16, on disk", "exact"),
        ({"hnsw": {"m": 8}}, {"hnsw_ef": 64}, "float32, m 8", "ef 64"),
        ({"quantization": {"kind": "scalar"}}, {"rescore": False}, "scalar", "no rescore"),
        ({"quantization": {"kind": "turbo", "bits": "bits2"}}, {"oversampling": 4}, "turbo bits2", "rescore x4"),
        ({"quantization": {"kind": "product"}}, {"rescore": True}, "product x16", "rescore x1"),
        (
            {"first_stage": {"dimension": 96, "quantization": {"kind": "scalar"}}},
            {"hnsw_ef": 32, "rescore": False},
            "first 96 x4, scalar",
            "ef 32, no rescore",
        ),
    ],
)
def test_a_setup_is_named_by_what_it_says(
    storage: dict[str, object], params: dict[str, object], stored: str, asked: str
) -> None:
    setup = Setup(VectorStorage.model_validate(storage), SearchParams.model_validate(params))
    assert (setup.stored, setup.asked) == (stored, asked)


def test_the_config_of_each_setup_is_one_that_diptych_reads_back_as_it_is() -> None:
    for setup in grid(384):
        said = setup.config("dense")
        slots = {"dense": {"adapter": "fake-dense", **said.get("slots", {}).get("dense", {})}}
        read = parse_config({"store": "memory:", "collection": "c", "slots": slots, "search": said.get("search", {})})
        assert (read.slots["dense"].storage, read.search.params) == (setup.storage, setup.params)
