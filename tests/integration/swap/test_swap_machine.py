"""Swaps, writes and kills in any order, beside a model: nothing is lost or mixed, and `status` tells the truth.

Each step is taken by a process of its own, which may die after any of its writes. What it leaves is what it found, or
what it was to make of it, or a swap under way; the steps that follow go on from there, or back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.linalg import norm
from qdrant_client import QdrantClient, models

from diptych import AdapterSpec, Collection, Registry, hookimpl
from diptych.config.models import Config
from diptych.copying import copy_collection, sides
from diptych.errors import StateChanged, SwapError
from diptych.handle import collection_handle
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.models import CollectionMetadata, Generation, State
from diptych.passages.token_pooling import ReducedEncoder, ReduceOptions
from diptych.populate import Progress
from diptych.search import Retrieve
from diptych.stores.retired_vectors import existing
from diptych.swap import ApplyOptions, rollback
from diptych.swap.documents import SourceDocuments
from diptych.testing import FakeDenseEncoder, fakes_plugin
from diptych.testing.fakes import FakeCalibratedEncoder, FakeMultiVectorEncoder
from diptych.types import Document, Hit, SparseVector
from mortal import SharedStore, outlived
from spaces import PUPIL, Pupil
from swaps import Meanwhile


class Students:
    """A plugin."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        """`pupil`."""
        return [PUPIL]


FAKES = Registry(fakes_plugin, Students(), installed=False)
FIRST: dict[str, Any] = {"adapter": "fake-dense", "dimension": 16}
LEXICAL: dict[str, Any] = {"adapter": "fake-calibrated", "dimension": 512}
FEWER = {"kind": "ward", "keep": 2}
STUDENT = "with a student"
SLOTS: dict[str, dict[str, Any]] = {
    "first": {"dense": FIRST},
    "second": {"dense": {**FIRST, "seed": 1}},
    "third": {"dense": {**FIRST, "seed": 2, "dimension": 24}},
    "prompted": {"dense": {**FIRST, "query_prompt": "find"}},  # other queries of the same vectors
    "both": {"dense": FIRST, "lexical": LEXICAL},
    "both others": {"dense": {**FIRST, "seed": 1}, "lexical": {**LEXICAL, "dimension": 256}},
    STUDENT: {"dense": {**FIRST, "query": {"student": "near", "adapter": "pupil", "dimension": 16}}},
    "staged": {"dense": {**FIRST, "storage": {"first_stage": {"dimension": 8, "oversampling": 2}}}},
    "late": {"dense": FIRST, "late": {"adapter": "fake-multivector", "dimension": 8}},
    "fewer": {"dense": FIRST, "late": {"adapter": "fake-multivector", "dimension": 8, "reduce": FEWER}},
}
ROUND = dict(zip(SLOTS, [*SLOTS][1:] + [*SLOTS][:1], strict=True))
QUERIES = ("word1 number4", "word2 version1")
ALL = 100  # hits: more than there are documents


@dataclass(frozen=True)
class Setup:
    """What answers: slots by name, and the number of hits."""

    slots: str
    limit: int = 10

    @property
    def config(self) -> Config:
        """As a user writes it; what the gate measures is not the point here."""
        gate = {"sample": 4, "unmeasured": 1, "seconds": 600}
        raw = {"collection": "c", "slots": SLOTS[self.slots], "search": {"limit": self.limit}, "swap": {"gate": gate}}
        return Config.model_validate({**raw, "populate": {"chunk": 4, "retries": 0}})


@dataclass(frozen=True)
class Held:
    """What a collection holds: what answers, what a rollback would give back, and what a swap under way is to give."""

    live: Setup
    previous: Setup | None = None
    swap: Setup | None = None


def held(metadata: CollectionMetadata) -> Held:
    """By the metadata."""
    swap, previous = metadata.swap, metadata.previous
    return Held(
        setup(metadata.live, metadata.search),
        setup(previous, metadata.previous_search) if previous else None,
        setup(swap.target, swap.search) if swap else None,
    )


def setup(state: State, search: Mapping[str, Any] | None) -> Setup:
    slots = {
        name: {"adapter": own.adapter, **own.options, **({"storage": own.storage} if own.storage else {})}
        for name, own in state.slots.items()
    }
    for name, asking in state.asking.items():
        options = dict(asking.generation.options)
        slots[name]["query"] = {"student": options.pop("model"), "adapter": asking.generation.adapter, **options}
    (known,) = (name for name, wanted in SLOTS.items() if wanted == slots)
    return Setup(known, (search or {})["limit"])


MADE_BY = {"dense": FakeDenseEncoder, "sparse": FakeCalibratedEncoder, "multivector": FakeMultiVectorEncoder}


def encoder_of(generation: Generation) -> Any:
    """The encoder that made a generation, made anew."""
    options = {**generation.options}
    reduce = options.pop("reduce", None)
    made = (Pupil if generation.adapter == "pupil" else MADE_BY[generation.kind])(**options)
    if reduce:
        return ReducedEncoder(made, ReduceOptions(**reduce))
    if isinstance(made, FakeCalibratedEncoder):
        made.calibrate(generation.statistics or {})
    return made


def text(number: int, version: int) -> str:
    return f"word{number % 3} number{number} version{version}"


def score(query: Any, document: Any) -> float:
    if isinstance(query, SparseVector):
        weights = dict(zip(document.indices.tolist(), document.values.tolist(), strict=True))
        query = zip(query.indices.tolist(), query.values.tolist(), strict=True)
        return float(sum(weights.get(index, 0.0) * own for index, own in query))
    return float((query @ document.T).max(axis=1).sum() if query.ndim == 2 else query @ document)


def scores(state: State, slot: str, query: str, documents: Mapping[str, str]) -> dict[str, float]:
    """By document, as brute force gives them; a sparse query finds only what has a word of it."""
    generation, student = state.slots[slot], state.asking.get(slot)
    (asked,) = encoder_of(student.generation if student else generation).encode_query([query])
    made = encoder_of(generation).encode_document([*documents.values()])
    by_id = {name: score(asked, own) for name, own in zip(documents, made, strict=True)}
    return {name: own for name, own in by_id.items() if own or generation.kind != "sparse"}


def alike(hits: Sequence[Hit], expected: Mapping[str, float]) -> bool:
    return {hit.id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-5)


numbers = st.lists(st.integers(0, 11), min_size=1, max_size=6, unique=True)
versions = st.integers(0, 3)
setups = st.builds(Setup, st.sampled_from([*SLOTS]), st.sampled_from([10, 3]))
wishes = st.none() | setups  # None goes on with the swap under way, or begins one to the next
deaths = st.none() | st.none() | st.integers(1, 5) | st.integers(1, 34)  # after which write the process dies
steps = st.sampled_from(["apply", "apply", "apply", "fill", "rollback", "rollback", "finish"])
moves = st.tuples(steps, deaths)


@pytest.fixture(autouse=True)
def _follows_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that serve look at the metadata in `Swaps.follow`, and not by a clock."""
    monkeypatch.setattr(collection_handle, "REFRESH", 1000.0)


class Swaps(RuleBasedStateMachine):
    """A collection, what its history says that it holds, and a process that serves all the while."""

    @initialize(first=setups.filter(lambda own: own.slots != STUDENT))  # which an apply admits
    def begin(self, first: Setup) -> None:
        """A collection of eight documents."""
        self.store, self.held, self.documents = SharedStore(), Held(first), {str(n): text(n, 0) for n in range(8)}
        creating = Collection(CollectionHandle(self.store.client(), "c", first.config, FAKES))
        creating.populate([Document(*item) for item in self.documents.items()])
        self.serving, self.tidy, self.died = self.opened(), True, False

    def opened(self, client: QdrantClient | None = None) -> Collection:
        """As another process opens it, whatever the config."""
        found = Collection(CollectionHandle(client or self.store.client(), "c", None, FAKES))
        found.handle.populate_config = Setup("first").config.populate
        return found

    @rule(changed=numbers, version=versions, death=deaths, by_serving=st.booleans())
    def write(self, changed: list[int], version: int, death: int | None, by_serving: bool) -> None:
        """Documents, new ones and others, by a new process, or by one that has seen no swap since it began."""
        new = {str(n): text(n, version) for n in changed}
        client = self.store.client(None if by_serving else death)
        writer = self.serving if by_serving else self.opened(client)
        if outlived(client, partial(self.populate, writer, new)):
            return
        seen, self.tidy = self.texts(), False
        assert all(seen[name] in (own, new.get(name)) for name, own in self.documents.items())
        assert all(new[name] == own for name, own in seen.items() if name not in self.documents)
        self.documents = seen  # what it was writing may be there or not

    def populate(self, writer: Collection, new: Mapping[str, str]) -> None:
        assert writer.populate([Document(*item) for item in new.items()]).set_aside == 0
        self.documents = {**self.documents, **new}

    @rule(gone=numbers, death=deaths)
    def delete(self, gone: list[int], death: int | None) -> None:
        """Some documents, but not the first two."""
        names, client = [str(n) for n in gone if n > 1], self.store.client(death)
        if not outlived(client, lambda: self.opened(client).delete(names) if names else None):
            assert self.documents.items() >= self.texts().items() >= self.without(names).items()
            self.documents, self.tidy = self.texts(), False
            return
        self.documents = self.without(names)

    def without(self, names: Sequence[str]) -> dict[str, str]:
        return {name: own for name, own in self.documents.items() if name not in names}

    @rule(moves=st.lists(moves, min_size=1, max_size=3), wanted=wishes, changed=numbers)
    def swap(self, moves: list[tuple[str, int | None]], wanted: Setup | None, changed: list[int]) -> None:
        """Steps of swaps, while documents are written by a process that knew nothing of them."""
        write = partial(self.populate, self.serving, {str(n): text(n, 9) for n in changed})
        for step, death in moves:
            self.take(step, wanted, death, Meanwhile(write))
            self.every_document_is_there_once_with_every_vector_of_its_text()

    @rule(step=steps, wanted=wishes, death=deaths, version=versions)
    def swap_while_a_populate_runs(self, step: str, wanted: Setup | None, death: int | None, version: int) -> None:
        """A populate that began before the step and ends after it."""
        new = {str(n): text(n, version) for n in range(10)}

        def documents() -> Iterator[Document]:
            for name, own in new.items():
                yield Document(name, own)
                if name == "5":
                    self.take(step, wanted, death, None)

        assert self.opened().populate(documents()).set_aside == 0
        self.documents = {**self.documents, **new}

    @rule(wanted=setups)
    def follow(self, wanted: Setup) -> None:
        """The process that serves looks at the metadata, as it does every two seconds, and a plan changes nothing."""
        before = self.opened().handle.read()
        planned = self.opened().plan(wanted.config, sample=4)
        assert planned.pending == (self.held.swap is not None or wanted != self.held.live)
        with pytest.raises(StateChanged):
            rollback(self.opened().handle, seen="another state")
        assert self.opened().handle.read() == before
        self.serving.handle.catch_up()
        self.a_process_that_serves_is_answered_by_what_it_knows()
        live = self.serving.handle.metadata
        assert live is not None
        assert live.live == before.live

    def take(self, step: str, wish: Setup | None, death: int | None, progress: Progress | None) -> None:
        """The step, by a process that may die in it; then what is held is one of what the step leads through."""
        wanted = wish or self.held.swap or Setup(ROUND[self.held.live.slots])
        client = self.store.client(death)
        found, outcomes = self.opened(client), list[str]()
        led = {"apply": self.applied, "fill": self.filled, "rollback": self.rolled_back, "finish": self.finished}[step]
        expected, through = led(wanted)

        def work() -> None:
            try:
                if step in ("apply", "fill"):
                    options = ApplyOptions(cut_over=step == "apply")
                    outcomes.append(found.apply(wanted.config, options, progress=progress).outcome)
                else:
                    outcomes.append(getattr(found, step)().outcome)
            except SwapError as refusal:
                outcomes.append(refusal.what)

        alive = outlived(client, work)
        assert not alive or outcomes[0] in expected
        now = held(self.opened().handle.read())
        assert now == through[-1] if alive else now in through
        self.held = now
        self.tidy = alive and (self.tidy or outcomes[0] in ("cut over", "finished", "nothing to finish"))
        self.died = now.swap is not None and (self.died or not alive)

    def applied(self, wanted: Setup) -> tuple[Sequence[str], list[Held]]:
        """The outcomes of an apply, and what is held before, under way and after it."""
        expected, through = self.filled(wanted)
        last = through[-1]
        if last.swap is not None and last.swap.slots == wanted.slots:
            return ("cut over",), [*through, Held(last.swap, last.live)]
        if expected == ("measured",):
            return ("changed settings",), [last, Held(wanted, last.previous)]
        return expected, through

    def filled(self, wanted: Setup) -> tuple[Sequence[str], list[Held]]:
        """The same, if it stops before the cut-over."""
        live, previous, swap = self.held.live, self.held.previous, self.held.swap
        if swap is not None:
            return ("filled" if swap.slots == wanted.slots else "another swap is under way",), [self.held]
        if wanted.slots == live.slots:
            return ("nothing to do" if wanted == live else "measured",), [self.held]
        return ("filled",), [self.held, Held(live, previous, wanted)]

    def rolled_back(self, _: Setup) -> tuple[Sequence[str], list[Held]]:
        """The same of a rollback."""
        live, previous, swap = self.held.live, self.held.previous, self.held.swap
        if swap is not None:
            return ("abandoned",), [self.held, Held(live, previous)]
        if previous is None:
            return ("there is nothing to roll back to",), [self.held]
        return ("rolled back",), [self.held, Held(previous, live)]

    def finished(self, _: Setup) -> tuple[Sequence[str], list[Held]]:
        """The same of a finish."""
        live, previous, swap = self.held.live, self.held.previous, self.held.swap
        if previous is None and swap is not None:
            return ("there is nothing to finish: the swap under way has not cut over yet",), [self.held]
        done = ("finished", "nothing to finish") if previous is None and not self.tidy else ("nothing to finish",)
        return ("finished",) if previous else done, [self.held, Held(live, None, swap)]

    def texts(self) -> dict[str, str]:
        records, _ = self.store.client().scroll("c", limit=ALL)
        payloads = [record.payload or {} for record in records]
        return {payload["_diptych"]["id"]: payload["text"] for payload in payloads}

    @invariant()
    def every_document_is_there_once_with_every_vector_of_its_text(self) -> None:
        """None is missing or stale; a swap under way may lack some, and a page that a kill left is read again."""
        assert self.texts() == self.documents
        client, metadata = self.store.client(), self.opened().handle.read()
        records, _ = client.scroll("c", limit=ALL, with_vectors=True)
        assert len(records) == len(self.documents)
        building = {own.vector for own in metadata.swap.building.values()} if metadata.swap else set()
        texts, lacking = [str((record.payload or {})["text"]) for record in records], dict[str, int]()
        for vector, (_, generation) in metadata.written().items():
            made = encoder_of(generation).encode_document(texts)
            found: list[Any] = [(record.vector or {}).get(vector) for record in records]  # type: ignore[union-attr]
            right = all(have is None or same(have, own) for have, own in zip(found, made, strict=True))
            if first := generation.first_stage:
                right = right and all(
                    have is None
                    or same(record.vector[first.vector], own[: first.dimension] / norm(own[: first.dimension]))  # type: ignore[index, call-overload]
                    for record, have, own in zip(records, found, made, strict=True)
                )
            assert right or (vector in building and self.died), vector
            lacking[vector] = sum(have is None for have in found)
        assert {vector for vector, count in lacking.items() if count} <= building
        self.status_is(metadata, lacking, existing(client, "c"))

    def status_is(self, metadata: CollectionMetadata, lacking: Mapping[str, int], there: set[str]) -> None:
        """What status says is what was counted."""
        status, orphaned = self.opened().status(), there - metadata.needed()
        assert (status.documents, status.can_roll_back) == (len(self.documents), self.held.previous is not None)
        assert {own.vector: own.missing for own in status.vectors} == lacking
        assert set(status.orphans) == orphaned
        assert not (orphaned and self.tidy), "what nobody needs is dropped, unless something died"
        live = {own.vector for own in status.vectors if own.role == "live"}
        assert live == metadata.live.vectors()
        assert {own.slot for own in status.vectors if own.role == "live"} == SLOTS[self.held.live.slots].keys()
        swap = status.swap
        assert (swap is not None) == (self.held.swap is not None)
        if swap is not None and metadata.swap is not None:
            whole = not any(lacking[own.vector] for own in metadata.swap.building.values())
            assert (swap.running, swap.filled) == (False, whole)
        if self.held.previous is None and swap is None and self.tidy:
            assert there == metadata.needed(), "a finished swap leaves no old vectors"

    @invariant()
    def a_search_is_answered_by_what_is_live(self) -> None:
        """By each slot alone, with scores that its encoder gives all documents; and by the whole pipeline."""
        found = self.opened()
        live = found.handle.read().live
        for name in live.slots:
            for query in QUERIES:
                hits = found.search(query, pipeline=Retrieve(name, ALL), limit=ALL)
                assert alike(hits, scores(live, name, query, self.documents))
        assert len(found.search(QUERIES[0])) == min(self.held.live.limit, len(self.documents))

    @invariant()
    def a_process_that_serves_is_answered_by_what_it_knows(self) -> None:
        """Never by a mixture, and never with an error: where its vectors have been dropped it finds those that live."""
        hits = self.serving.search(QUERIES[0], pipeline=Retrieve("dense", ALL), limit=ALL)
        known = self.serving.handle.metadata
        assert known is not None
        if known.live.slots["dense"].vector in self.opened().handle.read().needed():  # else it is written no more
            assert alike(hits, scores(known.live, "dense", QUERIES[0], self.documents))


def same(have: Any, made: Any) -> bool:
    """Whether the store has the vector that an encoder made."""
    if isinstance(made, SparseVector):
        found = dict(zip(have.indices, have.values, strict=True))
        return found == pytest.approx(dict(zip(made.indices.tolist(), made.values.tolist(), strict=True)), abs=1e-6)
    return np.shape(have) == np.shape(made) and bool(np.allclose(have, made, atol=1e-5))


Swaps.TestCase.settings = settings(max_examples=80, stateful_step_count=12)
TestSwaps = Swaps.TestCase


# rarer ways, killed after each third write


@pytest.mark.parametrize("way", ["texts from the source", "a copy of a swapped collection"])
def test_a_rarer_way_that_is_killed_is_taken_up_again_and_leads_back(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "place_of", lambda _: "memory")  # one store, whose clients have names of their own
    old, new = Setup("first").config, Setup("second").config
    texts = {str(n): text(n, 0) for n in range(8)}
    documents = [Document(*item) for item in texts.items()]

    def opened(client: QdrantClient, name: str = "c") -> Collection:
        return Collection(CollectionHandle(client, name, None, FAKES))

    def taken(client: QdrantClient) -> None:
        found = opened(client)
        if way.startswith("a copy"):
            copy_collection(client, "c", client, "copy", batch=2, retries=0)
        else:
            with SourceDocuments(found.handle, documents) as source:
                found.apply(new, ApplyOptions(documents=source))

    def answered_by(seed: int, found: Collection) -> bool:
        encoder = FakeDenseEncoder(dimension=16, seed=seed)
        made = encoder.encode_query(QUERIES) @ encoder.encode_document([*texts.values()]).T
        return all(
            alike(found.search(query, limit=ALL), dict(zip(texts, map(float, row), strict=True)))
            for query, row in zip(QUERIES, made, strict=True)
        )

    name = "copy" if way.startswith("a copy") else "c"
    for last in range(1, 100, 3):
        store = SharedStore()
        Collection(CollectionHandle(store.client(), "c", old, FAKES)).populate(documents)
        if name == "copy":
            opened(store.client()).apply(new)
        else:
            store.client().delete_payload("c", ["text"], points=models.Filter())
        client = store.client(last)
        if alive := outlived(client, partial(taken, client)):
            break
        taken(store.client())
        found = opened(store.client(), name)
        assert answered_by(1, found), f"killed after write {last}"
        assert found.rollback().outcome == "rolled back"
        assert answered_by(0, found), f"killed after write {last}"
    assert (alive, last > 6) == (True, True)
