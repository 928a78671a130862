"""What a config can ask of a live collection beside another encoder, and what stops an apply half-way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Collection, Registry, hookimpl
from diptych.errors import ApplyRunning, GateFailed, PopulateError
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.store import APPLY, metadata_payload, update_metadata
from diptych.specs import AdapterSpec
from diptych.stores.retired_vectors import existing
from diptych.testing.fakes import FakeDenseEncoder
from diptych.types import Document, Floats
from swaps import DENSE, NEW_ENCODER, OLD_ENCODER, OTHER, Faults, Make, Meanwhile, Open

LEXICAL: dict[str, Any] = {"adapter": "fake-calibrated", "dimension": 512}
LATE: dict[str, Any] = {"adapter": "fake-multivector", "dimension": 8}
INDEX: dict[str, Any] = {"adapter": "qdrant-text-index"}


def corpus(size: int) -> list[Document]:
    return [Document(str(n), f"word{n % 17} word{n % 23} number{n}", f"title{n}") for n in range(size)]


def vectors_of(found: Collection) -> dict[str, str]:
    return {name: own.vector for name, own in found.handle.read().live.slots.items()}


# slots


def test_a_slot_changes_its_kind_and_back(edge: QdrantBase, config: Make, everything: Registry) -> None:
    client, kinds = edge, [DENSE, LEXICAL, INDEX, LATE, DENSE]
    found = Collection(CollectionHandle(client, "c", config({"own": kinds[0]}), everything))
    found.populate(corpus(20))
    for number, wanted in enumerate(kinds[1:], 2):
        found.apply(config({"own": wanted}))
        assert found.handle.read().live.slots["own"].number == number
        assert found.search("word5 number5")[0].id == "5"
        found.populate(corpus(20 + number))
        found.finish()
    assert existing(client, "c") == {"own.5"}
    assert "_own_3" not in client.get_collection("c").payload_schema
    records, _ = client.scroll("c", limit=100)
    assert all("_own_3" not in (record.payload or {}) for record in records)


def test_a_handle_of_before_populates_without_bringing_a_dropped_text_index_back(
    edge: QdrantBase, config: Make, everything: Registry
) -> None:
    early = Collection(CollectionHandle(edge, "c", config({"own": INDEX}), everything))
    early.populate(corpus(10))
    late = Collection(CollectionHandle(edge, "c", None, everything))
    late.apply(config({"own": LEXICAL}))
    late.finish()
    early.populate(corpus(12))
    assert not edge.get_collection("c").payload_schema
    assert early.search("number11")[0].id == "11"


# what encoders read


def test_another_input_is_encoded_anew_from_the_payload(
    client: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    titles = config({"dense": DENSE}, populate={"input": ["title"]})
    found = opened(client, titles)
    found.populate(corpus(20))
    report = found.apply(config({"dense": DENSE}))
    assert report.encoded == {"dense.2": 20}
    assert faults(client, "dense.2", OLD_ENCODER) == []
    found.populate([Document("new", "text", "title")])
    records, _ = client.scroll("c", limit=100, with_vectors=True)
    titles_only = OLD_ENCODER.encode_document(["title"])[0].tolist()
    new = next(record for record in records if (record.payload or {})["_diptych"]["id"] == "new")
    assert new.vector["dense.1"] == pytest.approx(titles_only, abs=1e-5)  # type: ignore[index, call-overload]
    found.rollback()
    assert found.handle.view.reading.of("a", "b") == "a"


# storage, numerics, prompts


def params_of(client: QdrantBase, vector: str) -> models.VectorParams:
    found = client.get_collection("c").config.params.vectors
    assert isinstance(found, dict)
    return found[vector]


STORED = {"on_disk": True, "hnsw": {"m": 8}, "quantization": {"kind": "scalar"}}


CHANGES: dict[str, tuple[dict[str, Any], str, dict[str, int]]] = {
    "storage": ({"storage": STORED}, "changed settings", {}),
    "storage and a query prompt": ({"query_prompt": "find", "storage": STORED}, "cut over", {}),
    "an option": ({"record": False}, "changed settings", {}),
    "a number format": ({"storage": {"datatype": "float16"}}, "cut over", {"dense.2": 20}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_only_what_makes_other_vectors_is_encoded_and_all_of_it_is_taken_back(
    edge: QdrantBase, config: Make, opened: Open, change: str
) -> None:
    options, outcome, encoded = CHANGES[change]
    wanted = config({"dense": {**DENSE, **options}})
    found = opened(edge, config({"dense": DENSE}))
    found.populate(corpus(20))
    report = found.apply(wanted)
    assert (report.outcome, report.encoded) == (outcome, encoded)
    if "hnsw" in options.get("storage", {}):
        params = params_of(edge, "dense.1")
        assert (params.on_disk, params.hnsw_config and params.hnsw_config.m) == (True, 8)
        assert params.quantization_config is not None
    if encoded:
        assert params_of(edge, "dense.2").datatype == models.Datatype.FLOAT16
    assert opened(edge, wanted).search("title3 word3 word3 number3")[0].id == "3"
    assert opened(edge).handle.slots["dense"].config.options.get("record") == options.get("record")
    assert found.apply(wanted).outcome == "nothing to do"
    found.apply(config({"dense": DENSE}))
    live = found.handle.read().live.slots["dense"].vector
    assert (live, params_of(edge, live).quantization_config) == ("dense.1", None)


def test_another_backend_of_the_machine_by_the_same_options_is_no_change(
    client: QdrantBase, config: Make, opened: Open
) -> None:
    found = opened(client, config({"dense": DENSE}))
    found.populate(corpus(10))
    metadata = found.handle.read()
    live = metadata.live.slots["dense"].model_copy(update={"numerics": "other float32 cpu"})
    state = metadata.model_copy(update={"live": metadata.live.model_copy(update={"slots": {"dense": live}})})
    update_metadata(client, "c", metadata_payload(state))
    (step,) = found.plan(config({"dense": DENSE})).steps
    assert step.action == "keep"
    assert step.why == "encodes with numpy here, the stored vectors with other float32 cpu; canaries have not changed"
    assert not found.plan(config({"dense": DENSE})).pending
    assert found.apply(config({"dense": DENSE})).outcome == "nothing to do"
    assert found.plan(config({"dense": {**DENSE, "record": False}})).steps[0].action == "numerics"


# documents and encoders that fail


def test_points_without_text_are_reported_and_stop_the_gate_until_they_may_lack_the_vector(
    client: QdrantBase, config: Make, opened: Open
) -> None:
    found = opened(client, config({"dense": DENSE}))
    found.populate(corpus(20))
    client.upsert("c", [models.PointStruct(id=7, vector={"dense.1": [1.0] * 16}, payload={"other": 1})])
    with pytest.raises(GateFailed, match=r"1 of 21 points lack vector 'dense\.2'") as told:
        found.apply(config({"dense": OTHER}))
    assert told.value.context["left"] == {7: "no text in the payload"}
    assert vectors_of(found) == {"dense": "dense.1"}
    report = found.apply(config({"dense": OTHER}, swap={"gate": {"missing": 1}}))
    assert (report.outcome, report.encoded, report.left) == ("cut over", {"dense.2": 0}, {7: "no text in the payload"})


def test_documents_that_an_encoder_cannot_encode_are_named_and_the_others_have_all_vectors(
    client: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    found = opened(client, config({"dense": DENSE, "second": {**DENSE, "seed": 5}}))
    found.populate(corpus(30))
    wanted = {"dense": {**OTHER, "nan_word": "number13"}, "second": {**DENSE, "seed": 6}}
    with pytest.raises(GateFailed, match=r"1 of 30 points lack vector 'dense\.2'") as told:
        found.apply(config(wanted))
    left: Any = told.value.context["left"]
    assert list(left.values()) == ["non-finite vector from slot 'dense'"]
    assert len(faults(client, "dense.2", NEW_ENCODER)) == 1
    assert faults(client, "second.2", FakeDenseEncoder(dimension=16, seed=6)) == []


class Flaky(FakeDenseEncoder):
    """An encoder whose machine fails after some documents, until it is mended."""

    left: ClassVar[int] = 0
    read: ClassVar[int] = 0

    def __init__(self, *, dimension: int = 16) -> None:
        super().__init__(dimension=dimension, seed=1)

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors, as long as it works."""
        own = [text for text in inputs if "number" in text]
        Flaky.left -= len(own)
        if Flaky.left < 0:
            raise OSError("the machine is gone")
        Flaky.read += len(own)
        return super().encode_document(inputs)


class BringsFlaky:
    """A plugin."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        """`flaky`."""
        return [AdapterSpec(name="flaky", kind="dense", factory=f"{__name__}:Flaky", summary="fails", cached=False)]


def test_an_encoder_that_fails_for_good_ends_the_apply_which_goes_on_from_there(
    client: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    found = opened(client, config({"dense": DENSE}), BringsFlaky())
    found.populate(corpus(80))
    Flaky.left, Flaky.read = 40, 0
    with pytest.raises(PopulateError, match=r"(?s)an encoder fails.*the machine is gone"):
        found.apply(config({"dense": {"adapter": "flaky"}}))
    assert (vectors_of(found), Flaky.read) == ({"dense": "dense.1"}, 40)
    Flaky.left = 1000
    assert (
        found.apply(config({"dense": {"adapter": "flaky"}}, swap={"gate": {"sample": 1, "unmeasured": 1}})).outcome
        == "cut over"
    )
    assert faults(client, "dense.2", NEW_ENCODER) == []


# the gate


# who applies


def test_of_two_applies_at_once_the_second_is_refused_and_so_are_rollback_and_finish(
    client: QdrantBase, config: Make, opened: Open
) -> None:
    found = opened(client, config({"dense": DENSE}))
    found.populate(corpus(40))
    refusals = []

    def intrude() -> None:
        other = opened(client)
        for act in (lambda: other.apply(config({"dense": OTHER})), other.rollback, other.finish):
            with pytest.raises(ApplyRunning, match=r"process \d+ of .*, last heard of at") as told:
                act()
            refusals.append(told.value)

    report = found.apply(config({"dense": OTHER}), progress=Meanwhile(intrude, 16))
    assert (report.outcome, len(refusals)) == ("cut over", 3)


def test_an_apply_whose_lease_was_stolen_stops_and_changes_no_state(
    client: QdrantBase, config: Make, opened: Open
) -> None:
    found = opened(client, config({"dense": DENSE}))
    found.populate(corpus(60))

    def steal() -> None:
        raw = (client.get_collection("c").config.metadata or {})[APPLY]
        update_metadata(client, "c", {APPLY: {**raw, "token": "thief", "host": "elsewhere"}})

    with pytest.raises(ApplyRunning, match="is being applied to the collection already"):
        found.apply(config({"dense": OTHER}), progress=Meanwhile(steal, 16))
    after = found.handle.read()
    assert (after.swap is not None, vectors_of(found)) == (True, {"dense": "dense.1"})
    assert (client.get_collection("c").config.metadata or {})[APPLY]["token"] == "thief"
