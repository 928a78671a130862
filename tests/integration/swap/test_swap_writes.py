"""Documents that are inserted, changed and deleted while the encoder is swapped: none is lost, none is stale."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Collection, hookimpl
from diptych.errors import DiptychError, PopulateError, SwapError
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.payloads import point_id
from diptych.populate import Progress
from diptych.specs import AdapterSpec
from diptych.swap import ApplyOptions
from diptych.testing.fakes import FakeCalibratedEncoder, FakeDenseEncoder
from diptych.types import Document

OLD: dict[str, Any] = {"dense": {"adapter": "fake-dense", "dimension": 16}}
NEW: dict[str, Any] = {"dense": {"adapter": "fake-dense", "dimension": 16, "seed": 1}}
SLOW: dict[str, Any] = {"dense": {**NEW["dense"], "delay": 0.02}}
BOTH = {**OLD, "lexical": {"adapter": "fake-calibrated", "dimension": 512}}
BOTH_NEW = {**SLOW, "lexical": {"adapter": "fake-calibrated", "dimension": 256, "delay": 0.01}}
OLD_ENCODER, NEW_ENCODER = FakeDenseEncoder(dimension=16), FakeDenseEncoder(dimension=16, seed=1)
Open: TypeAlias = Callable[..., Collection]
Make: TypeAlias = Callable[..., Any]
Faults: TypeAlias = Callable[..., list[str]]


def document(number: int, version: int = 0) -> Document:
    return Document(str(number), f"word{number % 17} word{number % 23} number{number} version{version}")


def corpus(size: int) -> list[Document]:
    return [document(number) for number in range(size)]


def texts(client: QdrantBase) -> dict[str, str]:
    records, _ = client.scroll("c", limit=10_000, with_payload=True)
    return {str((r.payload or {})["_diptych"]["id"]): str((r.payload or {})["text"]) for r in records}


class Writer:
    """Makes random changes through populate and the client; knows what must be there in the end."""

    def __init__(self, collection: Collection, start: int, seed: int) -> None:
        self._collection, self._random = collection, random.Random(seed)
        self.expected = {str(number): 0 for number in range(start)}
        self._next = start
        self.counts = {"inserted": 0, "updated": 0, "deleted": 0}

    @property
    def changes(self) -> int:
        """How many were made so far."""
        return sum(self.counts.values())

    def step(self) -> None:
        """Eight changes, inserts and updates in one populate, or three deletes."""
        if self._random.random() < 0.3:
            gone = self._random.sample(sorted(self.expected), 3)
            registry = self._collection.handle.registry
            points: list[Any] = [point_id(Document(name, "x"), registry) for name in gone]
            self._collection.client.delete("c", points_selector=models.PointIdsList(points=points))
            for name in gone:
                del self.expected[name]
            self._count(deleted=3)
            return
        changed = {name: self.expected[name] + 1 for name in self._random.sample(sorted(self.expected), 5)}
        fresh = {str(self._next + n): 0 for n in range(3)}
        self._next += len(fresh)
        self._collection.populate([document(int(name), v) for name, v in {**changed, **fresh}.items()])
        self.expected |= {**changed, **fresh}
        self._count(updated=5, inserted=3)

    def until(self, over: threading.Event) -> None:
        """Steps until it is over."""
        while not over.is_set():
            self.step()

    def check(self, client: QdrantBase) -> None:
        """What is there is what was written last."""
        assert texts(client) == {name: document(int(name), v).text for name, v in self.expected.items()}

    def _count(self, **more: int) -> None:
        self.counts = {name: count + more.get(name, 0) for name, count in self.counts.items()}


class InStep(Progress):
    """Lets a back-fill go no faster than so many writes: when it is almost through, all of them are made."""

    def __init__(self, writer: Writer, writes: int, slots: int) -> None:
        self._writer, self._writes, self._slots = writer, writes, slots
        self._last = self._done = self._before = 0
        self.during = 0

    def begin(self, stage: str, total: int | None) -> None:
        """The writes that count are those from now on."""
        if not self._last:
            self._last, self._before = (total or 0) * self._slots * 4 // 5, self._writer.changes

    def advance(self, stage: str, steps: int) -> None:
        """Waits for its share of the writes."""
        self._done += steps
        wanted, until = self._writes * min(1.0, self._done / self._last), time.monotonic() + 120
        while self.during < wanted:
            assert time.monotonic() < until, "the writer stands still"
            time.sleep(0.001)
            self.during = self._writer.changes - self._before


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True], ids=["through the applying handle", "through a handle of its own"])
def test_500_writes_while_applying_leave_nothing_missing_and_nothing_stale(
    client: QdrantBase, config: Make, opened: Open, faults: Faults, own: bool
) -> None:
    applying = opened(client, config(BOTH))
    applying.populate(corpus(150))
    writer = Writer(opened(client, config(BOTH)) if own else applying, 150, seed=3)
    progress, over = InStep(writer, 500, slots=2), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(writer.until, over)
        try:
            report = applying.apply(config(BOTH_NEW), progress=progress)
        finally:
            over.set()
        writing.result()
    assert report.outcome == "cut over"
    assert progress.during >= 500
    assert min(writer.counts.values()) > 50
    writer.check(client)
    live = applying.handle.read().live.slots
    assert {own.vector for own in live.values()} == {"dense.2", "lexical.2"}
    assert faults(client, "dense.2", NEW_ENCODER) == []
    assert faults(client, "dense.1", OLD_ENCODER) == []
    for number in (1, 2):
        _, generation = applying.handle.read().written()[f"lexical.{number}"]
        lexical = FakeCalibratedEncoder(dimension=generation.options["dimension"])
        lexical.calibrate(generation.statistics or {})
        assert faults(client, f"lexical.{number}", lexical) == []
    applying.rollback()
    assert applying.handle.slots["dense"].vector == "dense.1"
    answer = applying.search("number77 version0", limit=1)
    assert "77" not in writer.expected or answer[0].id


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


SWAPS_WHILE_CHURNING = int(os.environ.get("DIPTYCH_CHURN_SWAPS", "3"))


def test_swaps_in_a_row_while_the_same_documents_are_deleted_and_written_anew_lose_nothing(
    edge: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    """Two threads delete and rewrite a few documents again and again; DIPTYCH_CHURN_SWAPS says how many swaps."""
    client = edge
    applying = opened(client, config(OLD))
    applying.populate(corpus(120))
    churning, over = opened(client, config(OLD)), threading.Event()
    rounds = [0, 0]

    def churn(own: int) -> None:
        mine = [document(number) for number in range(own, 120, 2)]
        ids = [point_id(one, churning.handle.registry) for one in mine]
        chance = random.Random(own)
        while not over.is_set():
            rows = chance.sample(range(len(mine)), 6)
            client.delete("c", models.PointIdsList(points=[ids[row] for row in rows]))
            churning.populate([mine[row] for row in rows])
            rounds[own] += 1

    with ThreadPoolExecutor(2) as pool:
        churners = [pool.submit(churn, own) for own in (0, 1)]
        try:
            for seed in range(1, SWAPS_WHILE_CHURNING + 1):
                wanted = {"dense": {**NEW["dense"], "seed": seed, "delay": 0.005}}
                assert applying.apply(config(wanted), ApplyOptions(gate=False)).outcome == "cut over"
        finally:
            over.set()
        for one in churners:
            one.result()
    assert min(rounds) > SWAPS_WHILE_CHURNING
    assert texts(client) == {one.id: one.text for one in corpus(120)}
    for vector, (_, generation) in applying.handle.read().written().items():
        seed = generation.options.get("seed", 0)
        assert faults(client, vector, FakeDenseEncoder(dimension=16, seed=seed)) == []


class Stages(Progress):
    """Runs something as soon as so many documents were filled."""

    def __init__(self, after: int, act: Callable[[], object]) -> None:
        self._left, self._act = after, act

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, stage: str, steps: int) -> None:
        """Counts."""
        if stage == "fill" and self._left > 0:
            self._left -= steps
            if self._left <= 0:
                self._act()


def slowly(documents: list[Document], started: threading.Event, go_on: threading.Event, after: int) -> Iterator[Any]:
    """The documents; after so many of them it waits to be told to go on."""
    for number, one in enumerate(documents):
        if number == after:
            started.set()
            assert go_on.wait(120)
        yield one


@pytest.mark.parametrize("then", ["nothing", "finish", "rollback", "rollback and finish"])
def test_a_populate_that_began_before_a_swap_and_ends_after_it_writes_what_is_wanted_then(
    client: QdrantBase, config: Make, opened: Open, faults: Faults, then: str
) -> None:
    opened(client, config(OLD)).populate(corpus(60))
    populating, applying = opened(client, config(OLD)), opened(client)
    changed = [document(number, 1) for number in range(90)]
    started, go_on = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(populating.populate, slowly(changed, started, go_on, 40))
        assert started.wait(120)
        assert applying.apply(config(NEW)).outcome == "cut over"
        if "rollback" in then:
            applying.rollback()
        if "finish" in then:
            applying.finish()
        go_on.set()
        report = writing.result()
    assert (report.new, report.changed, report.set_aside) == (30, 60, 0)
    assert texts(client) == {one.id: one.text for one in changed}
    vectors = applying.handle.read().written()
    encoders = {"dense.1": OLD_ENCODER, "dense.2": NEW_ENCODER}
    assert len(vectors) == (1 if "finish" in then else 2)
    assert [faults(client, vector, encoders[vector]) for vector in vectors] == [[] for _ in vectors]


def test_a_populate_meets_each_step_of_a_swap_and_of_its_end(
    client: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    """Begin, abandon, begin, cut-over, rollback, cut-over again by reuse, finish: a document is written after each."""
    opened(client, config(OLD)).populate(corpus(20))
    populating, other = opened(client, config(OLD)), opened(client)
    steps: list[Callable[[], object]] = [
        lambda: other.apply(config(NEW), ApplyOptions(cut_over=False)),
        other.rollback,
        lambda: other.apply(config(NEW), ApplyOptions(cut_over=False)),
        lambda: other.apply(config(NEW)),
        other.rollback,
        lambda: other.apply(config(NEW)),
        other.finish,
    ]

    def documents() -> Iterator[Document]:
        for number, step in enumerate(steps):
            yield from (document(100 * number + n) for n in range(1, 9))
            step()

    populating.populate(documents())
    assert set(other.handle.read().written()) == {"dense.3"}
    assert faults(client, "dense.3", NEW_ENCODER) == []
    assert [own.vector for own in other.handle.read().live.slots.values()] == ["dense.3"]


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

    report = rich.apply(config(ELSEWHERE), progress=Stages(24, write))
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


def test_when_the_earlier_encoder_is_gone_documents_go_on_and_the_way_back_is_closed_with_words(
    client: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    rich = opened(client, config(ELSEWHERE), Elsewhere())
    rich.populate(corpus(30))
    rich.apply(config(OLD))
    poor = opened(client, config(OLD))
    report = poor.populate([document(number) for number in range(30, 40)])
    assert report.new == 10
    assert any("'dense.1' of an earlier generation could not be written" in text for text in report.warnings)
    assert faults(client, "dense.2", OLD_ENCODER) == []
    with pytest.raises(SwapError, match=r"(?s)lacks documents .*dense\.1 could not be written"):
        poor.rollback()
    with pytest.raises(SwapError, match="lacks documents"):
        rich.rollback()
    assert rich.apply(config(ELSEWHERE)).outcome == "cut over"
    assert faults(client, "dense.3", NEW_ENCODER) == []
    assert rich.rollback().outcome == "rolled back"
    assert faults(client, "dense.2", OLD_ENCODER) == []


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
