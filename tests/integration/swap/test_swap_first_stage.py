"""A first stage goes wherever its vector goes: into a swap, through writes meanwhile, back, and away with it."""

from __future__ import annotations

from typing import Any

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych.stores.retired_vectors import existing
from named_server import require_vector_names
from swaps import Make, Open, corpus

FIRST: dict[str, Any] = {"dimension": 8, "oversampling": 2}
PLAIN: dict[str, Any] = {"adapter": "fake-dense", "dimension": 16}
STAGED: dict[str, Any] = {**PLAIN, "storage": {"first_stage": FIRST}}


def test_a_vector_of_somebody_elses_by_the_name_is_left_alone(client: QdrantBase, config: Make, opened: Open) -> None:
    require_vector_names(client)
    found = opened(client, config({"dense": PLAIN}))
    found.populate(corpus(20))
    dense = models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=3, distance=models.Distance.DOT))
    client.create_vector_name("c", "dense.2.first", dense)
    (step,) = found.plan(config({"dense": STAGED})).steps
    assert (step.action, step.encode) == ("re-encode", 20)
    assert "storage.first_stage: unset ->" in step.why
    found.apply(config({"dense": STAGED}))
    assert existing(client, "c") == {"dense.1", "dense.2.first", "dense.3", "dense.3.first"}


def test_its_graph_and_quantization_change_in_place_and_its_length_makes_it_anew(
    edge: QdrantBase, config: Make, opened: Open
) -> None:
    found = opened(edge, config({"dense": STAGED}))
    found.populate(corpus(20))
    scalar = {**FIRST, "quantization": {"kind": "scalar"}, "hnsw": {"m": 24}, "oversampling": 5}
    wanted = config({"dense": {**PLAIN, "storage": {"first_stage": scalar}}})
    assert [step.action for step in found.plan(wanted).steps] == ["storage"]
    assert found.apply(wanted).outcome == "changed settings"
    own: Any = edge.get_collection("c").config.params.vectors
    assert own["dense.1.first"].quantization_config.scalar.type == models.ScalarType.INT8
    assert own["dense.1.first"].hnsw_config.m == 24
    assert own["dense.1"].quantization_config is None
    assert found.apply(config({"dense": STAGED})).outcome == "changed settings"
    own = edge.get_collection("c").config.params.vectors
    assert own["dense.1.first"].quantization_config is None
    longer = config({"dense": {**PLAIN, "storage": {"first_stage": {"dimension": 12}}}})
    assert [step.action for step in found.plan(longer).steps] == ["re-encode"]
    assert found.apply(longer).outcome == "cut over"
    assert found.finish().dropped == ("dense.1",)
    assert existing(edge, "c") == {"dense.2", "dense.2.first"}


def test_the_plan_counts_the_bytes_of_both(edge: QdrantBase, config: Make, opened: Open) -> None:
    found = opened(edge, config({"dense": PLAIN}))
    found.populate(corpus(20))
    stored = {"on_disk": True, "first_stage": {"dimension": 8, "datatype": "float16", "hnsw": {"m": 4}}}
    (step,) = found.plan(config({"dense": {**PLAIN, "storage": stored}})).steps
    first = 8 * 2 + 2 * 4 * 4
    assert (step.disk, step.memory) == (20 * (16 * 4 + first), 20 * first)
