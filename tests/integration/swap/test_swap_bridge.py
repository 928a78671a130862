"""A drift map answers for an encoder that is gone, until the back-fill of its successor ends."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from qdrant_client import QdrantClient

from diptych.errors import AdapterFactoryError, RemoteError
from diptych.handle.collection_handle import CollectionHandle
from diptych.hookspecs import hookimpl
from diptych.metadata.store import DRIFT
from diptych.populate import populate
from diptych.registry import Registry
from diptych.runtime.phases import Unwatched
from diptych.search import search
from diptych.specs import AdapterSpec
from diptych.swap import ApplyOptions, ApplyReport, apply, finish, rollback, status
from diptych.testing import FakeDenseEncoder
from diptych.types import Floats, Query
from spaces import WIDTH, Turned, config, corpus, judged


class Old(FakeDenseEncoder):
    """The encoder that filled the collection; not to be made once `retired`, not answering while `unreachable`."""

    retired = unreachable = False
    seed = 0  # another one is another model behind the name

    def __init__(self) -> None:
        if self.retired:
            raise ConnectionError("410 Gone: the model is retired")
        super().__init__(dimension=WIDTH, seed=self.seed)

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        if self.unreachable:
            raise RemoteError("the endpoint does not answer")
        return super().encode_query(inputs)


class Other:
    """An encoder whose vectors are in no relation to the old one's: drawn anew for each text."""

    dimension, similarity = WIDTH, "cosine"

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        drawn = np.empty((len(inputs), WIDTH), np.float32)
        for row, text in enumerate(inputs):
            drawn[row] = np.random.default_rng(list(text.encode())).normal(size=WIDTH)
        return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        return self.encode_query(inputs)


class Near(Turned):
    """Turned, and a little of another space: a map comes near, and carries nothing over exactly."""

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        mixed = super().encode_document(inputs) + 0.3 * Other().encode_document(inputs)
        return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float32)


class Child(FakeDenseEncoder):
    """The old encoder's space and a little of another: its queries do as well on the old vectors as they are."""

    def __init__(self) -> None:
        super().__init__(dimension=WIDTH)
        self.fingerprint = type(self.fingerprint)(f"{self.fingerprint.space} child", "numpy")

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        mixed = super().encode_document(inputs) + 0.1 * Other().encode_document(inputs)
        return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), np.float32)


class Silent(Turned):
    """Turned, but texts that hold one of `mute` get a vector of zeros."""

    mute = ("banor",)

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        vectors = super().encode_document(inputs)
        vectors[[any(word in text for word in self.mute) for text in inputs]] = 0
        return vectors


class Mute(Silent):
    mute = ("",)


class Souring(Turned):
    """Turned, until it has encoded some documents; then its vectors are in no relation to anything."""

    left = 300

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        type(self).left -= len(inputs)
        return super().encode_document(inputs) if self.left > 0 else Other().encode_document(inputs)


class Adapters:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        return [
            AdapterSpec(name="old", kind="dense", factory=f"{__name__}:Old", summary="Old."),
            AdapterSpec(name="turned", kind="dense", factory=f"{Turned.__module__}:Turned", summary="Turned."),
            AdapterSpec(name="near", kind="dense", factory=f"{__name__}:Near", summary="Nearly turned."),
            AdapterSpec(name="child", kind="dense", factory=f"{__name__}:Child", summary="A child of the old one."),
            AdapterSpec(name="silent", kind="dense", factory=f"{__name__}:Silent", summary="Turned, with zeros."),
            AdapterSpec(name="souring", kind="dense", factory=f"{__name__}:Souring", summary="Turned at first."),
            AdapterSpec(name="mute", kind="dense", factory=f"{__name__}:Mute", summary="Nothing but zeros."),
            AdapterSpec(name="unrelated", kind="dense", factory=f"{__name__}:Other", summary="Another."),
        ]


@pytest.fixture
def registry() -> Registry:
    return Registry(Adapters(), installed=False)


def found(handle: CollectionHandle, text: str) -> list[str]:
    return [hit.id for hit in search(handle, [text])[0]]


def maps(handle: CollectionHandle) -> list[str]:
    """The drift maps that the collection's metadata holds."""
    return [key for key in handle.client.get_collection("c").config.metadata or {} if "drift" in key]


@pytest.mark.slow
def test_a_drift_map_answers_for_an_encoder_that_is_gone(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    client, documents = QdrantClient(":memory:"), corpus(900)
    handle = CollectionHandle(client, "c", config("old"), registry)
    populate(handle, documents)
    before = found(handle, documents[0]["text"])
    monkeypatch.setattr(Old, "retired", True)
    later = CollectionHandle(client, "c", None, registry)
    with pytest.raises(AdapterFactoryError, match="410 Gone"):
        found(later, documents[0]["text"])
    options = ApplyOptions(bridge=True, cut_over=False, judged=judged(documents), gate=False)
    report = apply(later, config("turned"), options)
    assert report.outcome == "filled"
    asking = status(later).vectors[0].asking
    assert "turned" in asking
    assert "through a drift map" in asking
    assert "nDCG@10" in asking
    assert report.asking == {"dense": asking}
    assert found(later, documents[0]["text"]) == before, "a rotation is found exactly"
    served = CollectionHandle(client, "c", None, registry)
    assert found(served, documents[0]["text"]) == before, "whoever opens the collection asks through the map too"
    populate(served, [{"id": "new", "text": documents[0]["text"]}])
    assert "new" in found(served, documents[0]["text"]), "documents written meanwhile are found"
    assert apply(later, config("turned")).outcome == "cut over"
    for handle in (later, served):
        assert set(found(handle, documents[0]["text"])[:2]) == {"0", "new"}, "both hold the text asked for"
    assert not maps(later)


@pytest.fixture
def retired(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CollectionHandle]:
    """`retired(count)`: a collection of so many documents as a new process opens it once its encoder is gone."""

    def opened(count: int) -> CollectionHandle:
        client = QdrantClient(":memory:")
        populate(CollectionHandle(client, "c", config("old"), registry), corpus(count))
        monkeypatch.setattr(Old, "retired", True)
        return CollectionHandle(client, "c", None, registry)

    return opened


BRIDGE = ApplyOptions(bridge=True, cut_over=False, gate=False)


def test_documents_whose_vectors_are_zero_are_left_out_of_the_fit(retired: Callable[..., CollectionHandle]) -> None:
    handle = retired(400)
    report = apply(handle, config("silent"), BRIDGE)
    assert (report.outcome, report.warnings) == ("filled", ())
    assert "through a drift map" in status(handle).vectors[0].asking


def test_too_few_documents_of_both_encoders_are_a_warning_and_end_nothing(
    retired: Callable[..., CollectionHandle],
) -> None:
    handle = retired(300)
    report = apply(handle, config("mute"), BRIDGE)
    assert report.outcome == "filled"
    (warning,) = report.warnings
    said = "no drift map is fitted: 0 documents have a vector of both encoders that is not zero, 50 are needed"
    # Encoding may have run ahead to the last document when the first map is fitted.
    assert warning in [f"slot 'dense', {encoded} of 300 documents encoded: {said}" for encoded in (256, 300)]


def test_a_collection_too_small_to_judge_a_map_says_so(retired: Callable[..., CollectionHandle]) -> None:
    report = apply(retired(150), config("turned"), BRIDGE)
    assert report.warnings == ("no drift map is fitted: the collection has 150 documents, 200 are needed to judge one",)


def test_judged_queries_are_what_a_map_is_chosen_and_offered_by(retired: Callable[..., CollectionHandle]) -> None:
    handle = retired(300)
    unanswered = Query("nothing answers this", "unjudged")
    asked = judged(corpus(300))
    apply(handle, config("turned"), replace(BRIDGE, judged=replace(asked, queries=[*asked.queries, unanswered])))
    asking = status(handle).vectors[0].asking
    assert "the same with 300 real queries 1.00 (without a map 0.0" in asking
    assert "over 300 queries" in asking


def test_a_map_that_carries_nothing_over_is_not_offered_and_the_reason_is_told(
    retired: Callable[..., CollectionHandle],
) -> None:
    handle = retired(500)
    report = apply(handle, config("unrelated"), BRIDGE)
    assert any("no drift map is offered" in warning and "kept" in warning for warning in report.warnings)
    assert status(handle).vectors[0].asking == ""


def test_an_old_encoder_that_works_is_not_bridged(registry: Registry) -> None:
    client, documents = QdrantClient(":memory:"), corpus(300)
    handle = CollectionHandle(client, "c", config("old"), registry)
    populate(handle, documents)
    before = found(handle, documents[0]["text"])
    report = apply(handle, config("turned"), BRIDGE)
    assert report.warnings == ("slot 'dense': the old encoder works and goes on answering, so no drift map is fitted",)
    assert status(handle).vectors[0].asking == ""
    assert found(handle, documents[0]["text"]) == before


def test_an_encoder_that_does_not_answer_is_gone(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    client = QdrantClient(":memory:")
    populate(CollectionHandle(client, "c", config("old"), registry), corpus(300))
    monkeypatch.setattr(Old, "unreachable", True)
    later = CollectionHandle(client, "c", None, registry)
    assert not apply(later, config("turned"), BRIDGE).warnings
    assert "through a drift map" in status(later).vectors[0].asking


def test_an_encoder_that_the_guard_refuses_is_gone(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    client = QdrantClient(":memory:")
    populate(CollectionHandle(client, "c", config("old"), registry), corpus(300))
    monkeypatch.setattr(Old, "seed", 1)
    later = CollectionHandle(client, "c", None, registry)
    assert not apply(later, config("turned"), BRIDGE).warnings
    assert "through a drift map" in status(later).vectors[0].asking


def test_a_map_is_withdrawn_when_more_documents_show_that_it_is_not_good_enough(
    retired: Callable[..., CollectionHandle], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        monkeypatch.setattr(Old, "retired", False)
        monkeypatch.setattr(Souring, "left", 300)
        handle = retired(900)
        report = apply(handle, config("souring"), BRIDGE)
        if any("is withdrawn" in warning for warning in report.warnings):
            break
        # Encoding was so far ahead of the first fit that this saw sour vectors, too: then no map ever served.
        assert all("no drift map is offered" in warning for warning in report.warnings)
    (warning,) = report.warnings
    assert "the drift map that served is withdrawn, and the slot answers nothing until the cut-over: " in warning
    assert "does not come near enough to the old vectors" in warning
    assert (report.asking, status(handle).vectors[0].asking) == ({}, "")
    assert [event.what for event in handle.read().history] == ["created", "began", *2 * ["switched queries"]]
    assert "does not come near enough" in handle.read().history[-1].why
    assert not maps(handle)
    for view in (handle, CollectionHandle(handle.client, "c", None, handle.registry)):
        with pytest.raises(AdapterFactoryError, match="410 Gone"):
            found(view, "banor")


@pytest.mark.slow
def test_an_old_encoder_that_comes_back_takes_over_from_the_map(
    retired: Callable[..., CollectionHandle], monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = retired(300)
    assert apply(handle, config("turned"), BRIDGE).asking
    monkeypatch.setattr(Old, "retired", False)
    report = apply(handle, config("turned"), BRIDGE)
    assert report.asking == {}
    assert report.warnings == (
        "slot 'dense': the old encoder works again and makes the queries; the drift map is withdrawn",
    )
    assert not maps(handle)
    assert found(handle, corpus(1)[0]["text"])[0] == "0"


def test_a_slot_that_is_not_bridged_is_left_as_it_is(retired: Callable[..., CollectionHandle]) -> None:
    handle = retired(300)
    apply(handle, config("unrelated"), BRIDGE)
    assert [event.what for event in handle.read().history] == ["created", "began"]
    assert not maps(handle)


class OnceServed(Unwatched):
    """Does something as soon as a map serves."""

    def __init__(self, handle: CollectionHandle, act: Callable[[], object]) -> None:
        self._handle, self._act, self._done = handle, act, False

    def advance(self, stage: str, n: int) -> None:
        if not self._done and status(self._handle).vectors[0].asking:
            self._done = True
            self._act()


def measured(report: ApplyReport) -> tuple[int, int]:
    """How many documents were back-filled, and how many pairs counted, when the map was measured that serves."""
    done, pairs = re.findall(
        r"^.*?: ([\d,]+) of [\d,]+ documents encoded.* of (\d+) documents that", report.asking["dense"]
    )[0]
    return int(done.replace(",", "")), int(pairs)


def populate_through(handle: CollectionHandle) -> None:
    """500 more documents, by a process that has the new encoder and the map."""
    documents = [{"id": f"new {n}", "text": document["text"]} for n, document in enumerate(corpus(500))]
    assert populate(CollectionHandle(handle.client, "c", None, handle.registry), documents).new == 500


@pytest.mark.slow
def test_what_is_populated_through_a_map_does_not_count_when_it_is_measured_again(
    retired: Callable[..., CollectionHandle],
) -> None:
    handle = retired(900)
    report = apply(handle, config("near"), BRIDGE, progress=OnceServed(handle, lambda: populate_through(handle)))
    _, pairs = measured(report)
    assert pairs <= 900, "of 500 that were populated none counts"


@pytest.mark.slow
def test_an_apply_that_goes_on_after_a_kill_knows_the_map_that_serves(
    retired: Callable[..., CollectionHandle],
) -> None:
    handle, stopped = retired(2400), threading.Event()
    report = apply(handle, config("near"), BRIDGE, progress=OnceServed(handle, stopped.set), stopped=stopped)
    before, _ = measured(report)
    populate_through(handle)
    done, pairs = measured(apply(CollectionHandle(handle.client, "c", None, handle.registry), config("near"), BRIDGE))
    assert before < done, "it is measured anew"
    assert pairs <= 2400, "of 500 that were populated none counts"


@pytest.mark.slow
def test_a_map_that_is_exact_stays(retired: Callable[..., CollectionHandle]) -> None:
    handle, first = retired(900), list[str]()
    note = OnceServed(handle, lambda: first.append(status(handle).vectors[0].asking))
    report = apply(handle, config("turned"), BRIDGE, progress=note)
    assert report.warnings == ()
    assert [report.asking["dense"]] == first, "it was not fitted again"


@pytest.mark.slow
@pytest.mark.parametrize("end", ["cut over", "abandoned", "rolled back", "finished"])
def test_a_map_that_a_kill_left_without_a_use_goes_with_the_next_change(
    retired: Callable[..., CollectionHandle], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    handle = retired(300)
    monkeypatch.setattr(Old, "retired", False)
    apply(handle, config("turned"), ApplyOptions(cut_over=end in ("rolled back", "finished"), gate=False))
    handle.client.update_collection("c", metadata={f"{DRIFT}dense": {"format": 1}})
    if end == "cut over":
        assert apply(handle, config("turned"), ApplyOptions(gate=False)).outcome == end
    else:
        assert (finish(handle) if end == "finished" else rollback(handle)).outcome == end
    assert not maps(handle)


@pytest.mark.slow
def test_a_swap_that_is_given_up_leaves_no_map(retired: Callable[..., CollectionHandle]) -> None:
    handle = retired(300)
    apply(handle, config("turned"), BRIDGE)
    assert maps(handle) == [f"{DRIFT}dense"]
    later = CollectionHandle(handle.client, "c", None, handle.registry)
    assert rollback(later).outcome == "abandoned"
    assert not maps(later)
    assert status(later).vectors[0].asking == ""


def test_a_map_that_queries_do_not_need_serves_for_the_documents_that_are_written_meanwhile(
    retired: Callable[..., CollectionHandle],
) -> None:
    handle = retired(300)
    report = apply(handle, config("child"), BRIDGE)
    assert "queries do as well without a map" in report.asking["dense"]
    served = CollectionHandle(handle.client, "c", None, handle.registry)
    populate(served, [{"id": "new", "text": "banor demit fisal gotev lurok"}])
    assert found(served, "banor demit fisal gotev lurok")[0] == "new"
