"""Rollback and finish: what they promise when something is missing: points, encoders, or the rest of the process."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Collection, hookimpl
from diptych.errors import AdapterFactoryError, SwapError
from diptych.metadata.models import QueryEncoder
from diptych.specs import AdapterSpec
from diptych.swap import ApplyOptions
from diptych.swap.transitions import write
from diptych.testing.fakes import FakeDenseEncoder
from swaps import DENSE, NEW_ENCODER, OLD_ENCODER, OTHER, Faults, Make, Open, corpus


def live(found: Collection) -> dict[str, str]:
    return {name: own.vector for name, own in found.handle.read().live.slots.items()}


# points that the earlier vectors miss


def written_by_others(client: QdrantBase, vector: str) -> None:
    (made,) = NEW_ENCODER.encode_document(["word1 foreign"]).tolist()
    client.upsert("c", [models.PointStruct(id=7, vector={vector: made}, payload={"text": "word1 foreign"})])


def test_a_rollback_says_how_many_points_it_does_not_find_any_more_and_apply_fills_them(
    client: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    found = opened(client, config({"dense": DENSE}))
    found.populate(corpus(20))
    found.apply(config({"dense": OTHER}))
    assert found.rollback().warnings == ()
    assert found.rollback().warnings == ()
    written_by_others(client, "dense.2")
    (warning,) = found.rollback().warnings
    assert "slot 'dense' does not find 1 of 21 points, which have no 'dense.1'; to fill them, put the live" in warning
    assert live(found) == {"dense": "dense.1"}
    found.apply(config({"dense": DENSE}))
    assert faults(client, "dense.1", OLD_ENCODER) == []


def test_a_rollback_is_done_also_where_the_points_cannot_be_counted(
    client: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = opened(client, config({"dense": DENSE}))
    found.populate(corpus(20))
    found.apply(config({"dense": OTHER}))

    def count(*_: object, **__: object) -> None:
        raise TimeoutError("too many points")

    monkeypatch.setattr(client, "count", count)
    done = found.rollback()
    assert (done.outcome, live(found)) == ("rolled back", {"dense": "dense.1"})
    assert "how many points lack 'dense.1' could not be counted: TimeoutError: too many points" in done.warnings[0]


class Fragile(FakeDenseEncoder):
    """An encoder behind an API that answers no more, once it is `retired`."""

    retired: ClassVar[bool] = False

    def __init__(self) -> None:
        if Fragile.retired:
            raise ConnectionError("410 Gone")
        super().__init__(dimension=16)


class BringsFragile:
    """A plugin."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        """`fragile`."""
        return [AdapterSpec(name="fragile", kind="dense", factory=f"{__name__}:Fragile", summary="may be gone")]


@pytest.fixture
def swapped(client: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch) -> QdrantBase:
    """A collection that moved away from an encoder just before that was retired."""
    monkeypatch.setattr(Fragile, "retired", False)
    found = opened(client, config({"dense": {"adapter": "fragile"}}), BringsFragile())
    found.populate(corpus(20))
    found.apply(config({"dense": OTHER}))
    monkeypatch.setattr(Fragile, "retired", True)
    return client


def test_a_rollback_that_would_miss_documents_of_a_populate_is_refused_and_can_be_forced(
    swapped: QdrantBase, opened: Open
) -> None:
    found = opened(swapped)
    report = found.populate(corpus(23))
    assert "`diptych rollback` is refused without `--anyway`" in report.warnings[0]
    with pytest.raises(SwapError, match=r"(?s)lacks documents .*or roll back at once.* diptych rollback --anyway"):
        found.rollback()
    done = opened(swapped, None, BringsFragile()).rollback(anyway=True)
    assert (done.outcome, live(found)) == ("rolled back", {"dense": "dense.1"})
    assert "does not find 3 of 23 points" in done.warnings[0]
    opened(swapped, None, BringsFragile()).rollback()
    assert live(found) == {"dense": "dense.2"}


# encoders that are gone


def test_a_handle_that_serves_changes_nothing_when_the_earlier_encoder_cannot_be_loaded(
    swapped: QdrantBase, opened: Open
) -> None:
    serving = opened(swapped, None, BringsFragile())
    before = [hit.id for hit in serving.search("word3 number3")]
    with pytest.raises(SwapError, match=r"(?s)nothing was changed: .* cannot be loaded.*slot 'dense'.*410 Gone"):
        serving.rollback()
    assert live(serving) == {"dense": "dense.2"}
    assert [hit.id for hit in serving.search("word3 number3")] == before
    assert [hit.id for hit in opened(swapped, None, BringsFragile()).search("word3 number3")] == before


def test_a_handle_that_has_loaded_nothing_goes_back_whatever_became_of_the_encoder(
    swapped: QdrantBase, opened: Open
) -> None:
    """An operator must get back from a machine without the models; whether they work is told by those that serve."""
    assert opened(swapped, None, BringsFragile()).rollback().outcome == "rolled back"
    found = opened(swapped, None, BringsFragile())
    with pytest.raises(AdapterFactoryError, match="410 Gone"):
        found.search("word3")
    assert opened(swapped).rollback().outcome == "rolled back"
    assert found.handle.read().live.slots["dense"].adapter == "fake-dense"


def test_a_swap_is_not_given_up_by_a_handle_that_serves_when_the_old_encoder_is_needed_again_and_gone(
    client: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fragile, "retired", False)
    found = opened(client, config({"dense": {"adapter": "fragile"}}), BringsFragile())
    found.populate(corpus(60))
    monkeypatch.setattr(Fragile, "retired", True)
    serving = opened(client, None, BringsFragile())
    serving.apply(config({"dense": OTHER}), ApplyOptions(cut_over=False, gate=False))
    metadata = serving.handle.read()
    assert metadata.swap is not None
    asking = QueryEncoder(generation=metadata.swap.building["dense"])
    live = metadata.live.model_copy(update={"asking": {"dense": asking}})  # as releases with --switch-queries left it
    write(client, "c", metadata, metadata.model_copy(update={"live": live}))
    serving.handle.catch_up()
    before = [hit.id for hit in serving.search("word3")]
    with pytest.raises(SwapError, match=r"(?s)nothing was changed: .* cannot be loaded.*410 Gone"):
        serving.rollback()
    assert [hit.id for hit in serving.search("word3")] == before
    assert opened(client, None, BringsFragile()).rollback().outcome == "abandoned"


def test_storage_that_changed_along_with_an_encoder_is_taken_back_without_loading_any(
    edge: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fragile, "retired", False)
    fragile = {"adapter": "fragile"}
    found = opened(edge, config({"dense": DENSE, "second": fragile}), BringsFragile())
    found.populate(corpus(20))
    stored = {**fragile, "storage": {"quantization": {"kind": "scalar"}}}
    found.apply(config({"dense": OTHER, "second": stored}))
    assert quantization(edge, "second.1") is not None
    monkeypatch.setattr(Fragile, "retired", True)
    assert opened(edge, None, BringsFragile()).rollback().outcome == "rolled back"
    assert quantization(edge, "second.1") is None


def quantization(client: QdrantBase, vector: str) -> Any:
    params = client.get_collection("c").config.params.vectors
    assert isinstance(params, dict)
    return params[vector].quantization_config


# kills


def test_plan_says_that_a_swap_under_way_keeps_the_search_settings_it_began_with(
    memory: QdrantBase, config: Make, opened: Open
) -> None:
    found = opened(memory, config({"dense": DENSE}))
    found.populate(corpus(60))
    slots, edited = {"dense": OTHER}, {"search": {"limit": 3}}
    kept = "the swap under way keeps the settings that it began with"
    assert not any(kept in warning for warning in found.plan(config(slots, **edited)).warnings)
    found.apply(config(slots), ApplyOptions(cut_over=False))
    assert not any(kept in warning for warning in found.plan(config(slots)).warnings)
    assert sum(kept in warning for warning in found.plan(config(slots, **edited)).warnings) == 1
    found.apply(config(slots, **edited))
    assert found.handle.read().search == config(slots).search.model_dump(mode="json")
    assert found.plan(config(slots, **edited)).search_why == "search.limit: 10 -> 3"
