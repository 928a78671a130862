"""Documents that are inserted, changed and deleted while the encoder is swapped: none is lost, none is stale."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Collection, hookimpl
from diptych.errors import DiptychError, PopulateError, SwapError
from diptych.handle.collection_handle import CollectionHandle
from diptych.specs import AdapterSpec
from diptych.swap import ApplyOptions
from diptych.types import Document
from swaps import NEW, NEW_ENCODER, OLD, OLD_ENCODER, Faults, Make, Meanwhile, Open


def document(number: int, version: int = 0) -> Document:
    return Document(str(number), f"word{number % 17} word{number % 23} number{number} version{version}")


def corpus(size: int) -> list[Document]:
    return [document(number) for number in range(size)]


class Flickering:
    """Deletes a point just before a write that names it and puts it back before anybody looks, so many times."""

    def __init__(self, client: QdrantBase, patch: pytest.MonkeyPatch, times: int) -> None:
        self._client, self._left, self.flickers = client, times, 0
        for name in ("update_vectors", "batch_update_points"):
            patch.setattr(client, name, self._around(getattr(client, name)))

    def _around(self, write: Callable[..., object]) -> Callable[..., object]:
        def call(name: str, points: list[Any], *args: Any, **kwargs: Any) -> object:
            if self._left <= 0:
                return write(name, points, *args, **kwargs)
            identifier = getattr(points[0], "id", None) or points[0].set_payload.points[0]
            (record,) = self._client.retrieve(name, [identifier], with_vectors=True)
            self._client.delete(name, models.PointIdsList(points=[identifier]))
            self._left, self.flickers = self._left - 1, self.flickers + 1
            try:
                return write(name, points, *args, **kwargs)
            finally:
                back = models.PointStruct(id=record.id, vector=record.vector, payload=record.payload)
                self._client.upsert(name, [back])

        return call


@pytest.mark.parametrize("times", [1, 3, 100])
def test_a_point_that_is_deleted_and_written_anew_between_two_looks_is_filled(
    client: QdrantBase, config: Make, opened: Open, faults: Faults, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    found = opened(client, config(OLD))
    found.populate(corpus(40))
    flickering = Flickering(client, monkeypatch, times)
    assert found.apply(config(NEW)).outcome == "cut over"
    assert flickering.flickers == times
    assert faults(client, "dense.2", NEW_ENCODER) == []


def test_a_text_index_is_filled_although_a_point_is_deleted_and_written_anew(
    edge: QdrantBase, config: Make, everything: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Collection(CollectionHandle(edge, "c", config(OLD), everything))
    found.populate(corpus(20))
    flickering = Flickering(edge, monkeypatch, 3)
    assert found.apply(config({**OLD, "words": {"adapter": "qdrant-text-index"}})).outcome == "cut over"
    assert flickering.flickers == 3
    records, _ = edge.scroll("c", limit=100)
    assert all((record.payload or {})["_words"] == (record.payload or {})["text"] for record in records)


def test_a_write_that_the_store_refuses_for_another_reason_still_ends_the_apply(
    client: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = opened(client, config(OLD))
    found.populate(corpus(20))
    calls = []

    def refuse(*_: object, **__: object) -> None:
        calls.append(1)
        raise ValueError("could not broadcast input array")

    monkeypatch.setattr(client, "update_vectors", refuse)
    with pytest.raises(PopulateError, match=r"(?s)refuses the new vectors.*could not broadcast"):
        found.apply(config(NEW))
    assert len(calls) == 1


class Elsewhere:
    """A plugin with encoders that the other process does not have."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        """`elsewhere` and `abroad`."""
        factory = "diptych.testing.fakes:FakeDenseEncoder"
        names = ("elsewhere", "abroad")
        return [AdapterSpec(name=name, kind="dense", factory=factory, summary="only in one process") for name in names]


ELSEWHERE: dict[str, Any] = {"dense": {"adapter": "elsewhere", "dimension": 16, "seed": 1}}


def test_what_a_populate_without_the_new_encoder_writes_is_filled_before_the_cut_over(
    client: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    poor = opened(client, config(OLD))
    poor.populate(corpus(60))
    rich = opened(client, None, Elsewhere())
    reports = []

    def write() -> None:
        reports.append(poor.populate([document(number, 1) for number in range(50, 70)]))

    report = rich.apply(config(ELSEWHERE), progress=Meanwhile(write, 24))
    assert report.outcome == "cut over"
    assert any("'dense.2' is being built and was not written here" in text for text in reports[0].warnings)
    assert faults(client, "dense.2", NEW_ENCODER) == []
    assert faults(client, "dense.1", OLD_ENCODER) == []


def test_a_populate_without_the_new_encoder_stops_at_the_cut_over_and_apply_fills_what_it_left(
    client: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    opened(client, config(OLD)).populate(corpus(40))
    poor, rich = opened(client, config(OLD)), opened(client, None, Elsewhere())
    rich.apply(config(ELSEWHERE), ApplyOptions(cut_over=False))

    def cut_over() -> None:
        """Apply; again, as the error says, where the populate wrote points without the vector just before the gate."""
        for _ in range(20):
            try:
                rich.apply(config(ELSEWHERE))
                return
            except SwapError as error:
                if "lack vector" not in str(error):
                    raise
        pytest.fail("the gate found points without the new vector 20 times")

    def documents() -> Iterator[Document]:
        yield from (document(number, 1) for number in range(24))
        cut_over()
        yield from (document(number, 1) for number in range(24, 200))

    with pytest.raises(DiptychError, match="no adapter is called 'elsewhere'") as told:
        poor.populate(documents())
    assert any("became live while this run went on without it" in note for note in told.value.__notes__)
    with pytest.raises(DiptychError, match="no adapter is called 'elsewhere'"):
        poor.populate(corpus(5))
    rich.apply(config(ELSEWHERE))
    assert faults(client, "dense.2", NEW_ENCODER) == []


def test_of_several_earlier_encoders_that_are_gone_each_is_known_to_be_behind(
    client: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    other = {**OLD["dense"], "seed": 7}
    gone = {"a": ELSEWHERE["dense"], "b": {"adapter": "abroad", "dimension": 16}}
    rich = opened(client, config(gone), Elsewhere())
    rich.populate(corpus(20))
    rich.apply(config({"a": other, "b": other}))
    poor = opened(client, config({"a": other, "b": other}))
    poor.populate(corpus(25))
    assert poor.handle.read().behind == ("a.1", "b.1")
    with pytest.raises(SwapError, match=r"a\.1, b\.1 could not be written"):
        poor.rollback()
    assert opened(client, None, Elsewhere()).apply(config({**gone, "b": other})).encoded == {"a.3": 25}
    assert faults(client, "a.3", NEW_ENCODER) == []
    assert poor.handle.read().behind == ()
