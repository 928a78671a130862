"""A server that crashes around the end of a swap: nothing that it acknowledged is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Collection
from diptych.collection.verify import verify
from diptych.metadata.store import RETIRED, raw_metadata, update_metadata
from diptych.stores import open_store, retired_vectors
from diptych.stores.retired_vectors import drop_orphans, existing
from diptych.swap import ApplyOptions, transitions
from diptych.swap.transitions import write
from diptych.testing.fakes import FakeDenseEncoder
from diptych.types import Document
from swaps import Faults, Make, Open

FIRST: dict[str, Any] = {"adapter": "fake-dense", "dimension": 8}
SECOND, THIRD = {**FIRST, "seed": 1}, {**FIRST, "seed": 2}
UNGATED = ApplyOptions(gate=False)
SECOND_LASTS = 0.1
both = pytest.mark.parametrize("server", ["1.18.3", "1.19.0"], indirect=True)


def corpus(size: int, word: str = "old") -> list[Document]:
    return [Document(str(n), f"{word} word{n % 7} number{n}") for n in range(size)]


def texts(client: QdrantBase) -> list[str]:
    return sorted(record.payload["text"] for record in client.scroll("c", limit=1000)[0] if record.payload)


def kept(client: QdrantBase) -> set[str]:
    return set(client.get_collection("c").config.metadata.get(RETIRED) or {})  # type: ignore[union-attr]


@pytest.fixture
def server(request: pytest.FixtureRequest, small_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that flushes each second, in a world where a second is short."""
    monkeypatch.setattr(retired_vectors, "FLUSHES", retired_vectors.FLUSHES * SECOND_LASTS)
    return small_server(flush=1, second=SECOND_LASTS, version=getattr(request, "param", "1.18.3"))


@pytest.fixture
def far(server: Any) -> Iterator[QdrantBase]:
    """Its client."""
    client = open_store(server.url)
    yield client
    client.close()


def swapped(far: QdrantBase, config: Make, opened: Open) -> Collection:
    """A collection of 30 documents that has moved to the second encoder and keeps the first one's vectors."""
    found = opened(far, config({"dense": FIRST}))
    found.populate(corpus(30))
    assert found.apply(config({"dense": SECOND}), UNGATED).outcome == "cut over"
    return opened(far)


ENDS: dict[str, tuple[Callable[[Collection, Make], Any], str, str, int]] = {
    "finish": (lambda found, config: found.finish(), "finished", "dense.2", 1),
    "a second swap": (lambda found, config: found.apply(config({"dense": THIRD}), UNGATED), "cut over", "dense.3", 2),
}


@both
@pytest.mark.parametrize("end", ENDS)
def test_a_crash_after_the_end_of_a_swap_loses_no_document(
    server: Any, far: QdrantBase, config: Make, opened: Open, faults: Faults, end: str
) -> None:
    work, outcome, live, seed = ENDS[end]
    found = swapped(far, config, opened)
    assert found.populate(corpus(40, "new")).changed == 30
    done = work(found, config)
    assert (done.outcome, done.dropped, done.retired, done.warnings) == (outcome, ("dense.1",), (), ())
    assert server.crash() == 0
    assert texts(far) == sorted(document.text for document in corpus(40, "new"))
    assert faults(far, live, FakeDenseEncoder(dimension=8, seed=seed)) == []


def test_dropping_without_the_wait_would_lose_documents(
    small_server: Callable[..., Any], config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retired_vectors, "FLUSHES", 0)
    server = small_server(flush=1000, version="1.18.3")
    found = swapped(open_store(server.url), config, opened)
    found.populate(corpus(40, "new"))
    assert found.finish().dropped == ("dense.1",)
    assert server.crash() > 0
    assert found.count() < 40


def test_a_crash_after_a_swap_was_given_up_loses_no_document(
    server: Any, far: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    found = opened(far, config({"dense": FIRST}))
    found.populate(corpus(30))
    found.apply(config({"dense": SECOND}), ApplyOptions(gate=False, cut_over=False))
    found.populate(corpus(40, "new"))
    done = found.rollback()
    assert (done.outcome, done.dropped, done.retired) == ("abandoned", ("dense.2",), ())
    assert server.crash() == 0
    assert texts(far) == sorted(document.text for document in corpus(40, "new"))
    assert faults(far, "dense.1", FakeDenseEncoder(dimension=8)) == []


def test_a_populate_that_began_before_finish_goes_on_without_the_retired_vector(
    server: Any, far: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    found = swapped(far, config, opened)
    elsewhere = opened(open_store(server.url))

    def arriving() -> Iterator[Document]:
        for n, document in enumerate(corpus(60, "new")):
            if n == 30:  # the first of them are written, some are on their way
                done = elsewhere.finish(later=True)
                assert (*done.retired, *done.dropped) == ("dense.1",)
            yield document

    report = found.populate(arriving())
    assert (report.new, report.changed, report.set_aside) == (30, 30, 0)
    elsewhere.finish()  # drops it, unless populate came so late that it did
    assert existing(far, "c") == {"dense.2"}
    server.crash()  # may decline a write that was on its way when the vector was retired: it was written again
    assert texts(far) == sorted(document.text for document in corpus(60, "new"))
    assert faults(far, "dense.2", FakeDenseEncoder(dimension=8, seed=1)) == []


def test_a_populate_whose_write_names_a_dropped_vector_is_refused_once_and_goes_on(
    server: Any, far: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = swapped(far, config, opened)
    elsewhere, upsert, writes = opened(open_store(server.url)), type(far).upsert, list[int]()

    def late(client: Any, name: str, points: Any, **options: Any) -> Any:
        """A writer that was held up between its look at the metadata and its write."""
        writes.append(len(points))
        if len(writes) == 1:
            assert elsewhere.finish().dropped == ("dense.1",)
        return upsert(client, name, points, **options)

    monkeypatch.setattr(type(far), "upsert", late)
    report = found.populate(corpus(4, "new"))
    assert (report.changed, report.set_aside, writes) == (4, 0, [4, 4])
    assert server.crash() == 0
    assert set(texts(far)) >= {document.text for document in corpus(4, "new")}


def test_a_write_that_came_after_the_retirement_is_written_again_and_survives_being_declined(
    server: Any, far: QdrantBase, config: Make, opened: Open, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = swapped(far, config, opened)
    elsewhere, upsert, named = opened(open_store(server.url)), type(far).upsert, list[bool]()

    def late(client: Any, name: str, points: Any, **options: Any) -> Any:
        """A writer that was held up between its look at the metadata and its write."""
        named.append("dense.1" in points[0].vector)
        if len(named) == 1:
            assert elsewhere.finish(later=True).retired == ("dense.1",)
            server.flush()  # of what was written before
        return upsert(client, name, points, **options)

    monkeypatch.setattr(server, "_second", 1000.0)  # nothing else is flushed
    monkeypatch.setattr(retired_vectors, "FLUSHES", 1000)
    monkeypatch.setattr(type(far), "upsert", late)
    assert found.populate(corpus(4, "new")).changed == 4
    monkeypatch.setattr(retired_vectors, "FLUSHES", 0)
    assert elsewhere.finish().dropped == ("dense.1",)
    assert named == [True, False]
    assert server.crash() == 1
    assert set(texts(far)) >= {document.text for document in corpus(4, "new")}
    assert faults(far, "dense.2", FakeDenseEncoder(dimension=8, seed=1)) == []


@pytest.fixture
def patient(small_server: Callable[..., Any]) -> Any:
    """A server whose flushes are far apart."""
    return small_server(flush=1000, version="1.18.3")


def test_what_finish_left_for_later_is_dropped_by_the_next_populate_once_it_is_safe(
    patient: Any, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_store(patient.url)
    found = swapped(client, config, opened)
    done = found.finish(later=True)
    assert (done.outcome, done.dropped, done.retired) == ("finished", (), ("dense.1",))
    assert "dense.1: retired, no longer written; the server may still have to flush" in done.warnings[0]
    assert found.status().orphans == ("dense.1",)
    found.populate(corpus(31))
    assert found.finish(later=True).retired == ("dense.1",)
    assert existing(client, "c") == {"dense.1", "dense.2"}
    monkeypatch.setattr(retired_vectors, "FLUSHES", 0)  # an hour later
    found.populate(corpus(32))
    assert existing(client, "c") == {"dense.2"}
    assert found.finish().outcome == "nothing to finish"
    assert kept(client) == {"dense.1"}
    assert found.apply(config({"dense": THIRD}), UNGATED).retired == ()
    assert kept(client) == set()


@pytest.mark.parametrize(("took", "writes"), [(0.5, 1), (20, 2)])
def test_a_retirement_that_took_long_to_write_counts_from_when_it_was_written(
    patient: Any, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch, took: float, writes: int
) -> None:
    """Until the metadata were written, another process could write the vector that they retire."""
    found, written = swapped(open_store(patient.url), config, opened), list[str]()

    def update(client: QdrantBase, name: str, changes: Mapping[str, Any]) -> Any:
        done = update_metadata(client, name, changes)
        if changes.get(RETIRED):
            written.append(datetime.now(UTC).isoformat())
        return done

    monkeypatch.setattr(transitions, "update_metadata", update)
    monkeypatch.setattr(transitions, "time", SimpleNamespace(monotonic=count(0, took).__next__))
    found.finish(later=True)
    assert len(written) == writes
    dated = raw_metadata(found.client, "c")[RETIRED]["dense.1"]["at"]
    assert (dated > written[0]) == (writes == 2)


@pytest.mark.parametrize(
    ("clock", "age", "dropped"),
    [("own", 30, True), ("own", 3, False), ("other", 30, False), ("other", 120, True), ("other", -30, False)],
)
def test_a_date_by_another_machines_clock_counts_only_beyond_what_clocks_may_differ_by(
    small_server: Callable[..., Any], config: Make, opened: Open, clock: str, age: float, dropped: bool
) -> None:
    client = open_store(small_server(flush=3).url)  # nine seconds are waited for
    found = swapped(client, config, opened)
    assert found.finish(later=True).retired == ("dense.1",)
    retired = client.get_collection("c").config.metadata[RETIRED]["dense.1"]  # type: ignore[index]
    at = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
    changed = {**retired, "at": at, "clock": retired["clock"] if clock == "own" else "that of another machine"}
    client.update_collection("c", metadata={RETIRED: {"dense.1": changed}})
    left = drop_orphans(client, "c", found.handle.read())
    assert (left.dropped, left.waiting) == ((("dense.1",), ()) if dropped else ((), ("dense.1",)))


def test_a_vector_that_a_kill_left_without_a_date_waits_from_the_moment_it_is_found(
    patient: Any, config: Make, opened: Open
) -> None:
    client = open_store(patient.url)
    found = opened(client, config({"dense": FIRST}))
    found.populate(corpus(3))
    before = found.handle.read()
    metadata = before.model_copy(update={"leftover": {"dense.2": "dense"}})
    write(client, "c", before, metadata)  # an apply says what it is about to create ...
    params = models.DenseVectorConfig(size=8, distance=models.Distance.COSINE)
    client.create_vector_name("c", "dense.2", models.DenseVectorNameConfig(dense=params))  # ... and is killed
    assert drop_orphans(client, "c", found.handle.read()).waiting == ("dense.2",)
    report = found.apply(config({"dense": SECOND}), ApplyOptions(gate=False, later=True))
    assert (set(report.encoded), report.retired) == ({"dense.3"}, ("dense.2",))


@both
def test_what_a_crash_had_damaged_is_found_by_verify_and_mended_by_populate_and_apply(
    server: Any, far: QdrantBase, config: Make, opened: Open, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_second", 1000.0)  # nothing is flushed
    monkeypatch.setattr(retired_vectors, "FLUSHES", 0)  # and nothing waited for, as in earlier releases
    found = opened(far, config({"dense": FIRST}))
    found.populate(corpus(30))
    server.flush()
    found.apply(config({"dense": SECOND}), UNGATED)
    found.populate(corpus(30, "new"))
    found.apply(config({"dense": THIRD}), UNGATED)
    assert found.finish().dropped == ("dense.2",)
    assert server.crash() > 0
    found = opened(far)
    report = verify(found.handle, sample=None)
    assert report.faulty > 0
    assert faults(far, "dense.3", FakeDenseEncoder(dimension=8, seed=2))
    found.populate(corpus(30, "new"))
    assert verify(found.handle, sample=None).passed
    assert texts(far) == sorted(document.text for document in corpus(30, "new"))
    points = [record.id for record in far.scroll("c", limit=5)[0]]
    far.delete_vectors("c", ["dense.3"], points=points)
    assert verify(found.handle).faulty == 5
    assert found.populate(corpus(30, "new")).changed == 5
    far.delete_vectors("c", ["dense.3"], points=points)
    assert found.apply(config({"dense": THIRD})).outcome == "filled gaps"
    assert faults(far, "dense.3", FakeDenseEncoder(dimension=8, seed=2)) == []


def test_a_populate_never_drops_a_vector_that_an_apply_is_just_creating(
    server: Any, far: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retired_vectors, "FLUSHES", 0)
    found = opened(far, config({"dense": FIRST}))
    found.populate(corpus(3))
    before = found.handle.read()
    write(far, "c", before, before.model_copy(update={"leftover": {"dense.2": "dense"}}))
    params = models.DenseVectorConfig(size=8, distance=models.Distance.COSINE)
    far.create_vector_name("c", "dense.2", models.DenseVectorNameConfig(dense=params))
    found.populate(corpus(5))  # between the creation and the announcement of the swap
    assert existing(far, "c") == {"dense.1", "dense.2"}
