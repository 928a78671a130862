"""Populates, syncs, deletions and other programs' payloads in any order, broken off at any call of the store.

The model is a dict of the documents that were acknowledged. After each step the collection holds exactly these, each
once and with the vectors of its text; what a broken step was about to change is as before or as wanted, never mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from qdrant_client import QdrantClient, models

from diptych import Collection, Document, Registry
from diptych.adopt import stated_layout
from diptych.config.models import Config
from diptych.errors import DiptychError, SyncRefused
from diptych.handle.collection_handle import CollectionHandle
from diptych.reports import PopulateReport
from diptych.testing import FakeDenseEncoder, FakeSparseEncoder, fakes_plugin
from store_calls import Breaks, Crash, StoreCalls

T = TypeVar("T")
REGISTRY = Registry(fakes_plugin, installed=False)
DENSE, SPARSE = FakeDenseEncoder(dimension=4), FakeSparseEncoder()
SLOTS = {"dense": {"adapter": "fake-dense", "dimension": 4}, "lexical": {"adapter": "fake-sparse"}}
RETRIED = {"upsert", "delete", "scroll", "retrieve", "count"}
FOREIGN = 10**6  # a point that another program wrote


class Stored(NamedTuple):
    """What a document is: the version of its text, and what another program noted in its payload."""

    version: int
    note: int | None = None


@dataclass(frozen=True)
class Kind:
    """Who wrote the collection: how a payload is read, and how one is written that diptych adopts."""

    read: Callable[[models.Record], tuple[str, str]]
    write: Callable[[int, str], tuple[int, dict[str, Any]]] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    layout: Mapping[str, Any] = field(default_factory=dict)


def _own(record: models.Record) -> tuple[str, str]:
    payload = record.payload or {}
    return payload["_diptych"]["id"], payload["text"]


KINDS: Mapping[str, Kind] = {
    "diptych's own": Kind(_own),
    "tenants": Kind(_own, config={"tenant": {"field": "owner", "required": False}}),
    "LangChain's": Kind(
        lambda record: (str(record.id), (record.payload or {})["page_content"]),
        lambda number, text: (number, {"page_content": text, "metadata": {"owner": owner(number)}}),
        layout={"framework": "langchain"},
    ),
    "with ids of its own": Kind(
        lambda record: ((record.payload or {})["key"], (record.payload or {})["body"]),
        lambda number, text: (100 - number, {"body": text, "key": str(number), "owner": owner(number)}),
        layout={"text": "body", "id": "key"},
    ),
}


def owner(number: int) -> str:
    return "odd" if number % 2 else "even"


def text_of(number: int, version: int) -> str:
    return f"word{number} text{version} version{version} of{number}"


class Break(NamedTuple):
    """Which call of the store fails, whether the store performs it all the same, and whether the process ends there."""

    call: int
    breaks: Breaks
    error: type[BaseException]


NUMBERS = st.integers(1, 9)
SOME = st.dictionaries(NUMBERS, st.integers(0, 2), min_size=1, max_size=6)  # number of a document: version of its text
BREAKS = st.none() | st.builds(
    Break, st.integers(1, 14), st.sampled_from(["before", "after"]), st.sampled_from([Crash, ConnectionError, KeyError])
)


class Writing(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.client = QdrantClient(":memory:")
        self.calls = StoreCalls(self.client)
        self.model: dict[int, Stored] = {}
        self.point: models.Record | None = None

    @initialize(kind=st.sampled_from(list(KINDS)), size=st.integers(3, 9))
    def begin(self, kind: str, size: int) -> None:
        """An empty store; or a collection that another program filled."""
        self.kind, self.config = KINDS[kind], {"collection": "c", "slots": SLOTS, **KINDS[kind].config}
        self.config["cache"] = {"enabled": False}
        if self.kind.write is None:
            return
        self.config["slots"] = {"dense": SLOTS["dense"]}
        self.client.create_collection("c", {"dense": models.VectorParams(size=4, distance=models.Distance.COSINE)})
        for number in range(1, size + 1):
            point, payload = self.kind.write(number, text := text_of(number, 0))
            vector = {"dense": DENSE.encode_document([text])[0].tolist()}
            self.client.upsert("c", [models.PointStruct(id=point, vector=vector, payload=payload)])
            self.model[number] = Stored(0)
        layout = stated_layout(**self.kind.layout)
        Collection.adopt(Config.model_validate(self.config), store=self.client, layout=layout, registry=REGISTRY)

    @rule(versions=SOME, broken=BREAKS, chunk=st.sampled_from([1, 3, 64]), once=st.booleans(), again=st.booleans())
    def populate(self, versions: dict[int, int], broken: Break | None, chunk: int, once: bool, again: bool) -> None:
        """New and changed documents are written, the others left alone."""
        wanted = {number: self._written(number, version) for number, version in versions.items()}
        report = self._step(lambda: self._populate(versions, chunk, once=once), wanted, broken)
        if report is None and again:
            report = self._step(lambda: self._populate(versions, chunk, once=once), wanted)
        assert report is None or report.set_aside == 0

    @rule(versions=SOME, broken=BREAKS, share=st.sampled_from([None, 1.0]), tenant=st.sampled_from([None, "odd"]))
    def sync(self, versions: dict[int, int], broken: Break | None, share: float | None, tenant: str | None) -> None:
        """The same, and what the source does not have is deleted, unless that is too much."""
        tenant = tenant if "tenant" in self.config else None
        versions = {number: version for number, version in versions.items() if tenant in (None, owner(number))}
        mine = {number for number in self.model if tenant in (None, owner(number))}
        gone = mine - versions.keys() if versions else set()
        wanted = {number: self._written(number, version) for number, version in versions.items()}
        options: dict[str, Any] = {"sync": True, "max_deleted": share, "tenant": tenant}
        try:
            report = self._step(
                lambda: self._populate(versions, 64, **options), {**wanted, **dict.fromkeys(gone)}, broken
            )
        except SyncRefused:
            assert share is None
            assert len(gone) > max(len(mine) > 1, len(mine) // 5)
            self.compare({})
            return
        if report is not None:
            assert report.deleted == len(gone)
            assert share or len(gone) <= max(len(mine) > 1, len(mine) // 5) or "tenant" in self.config
            assert report.set_aside == 0

    @rule(numbers=st.sets(NUMBERS, min_size=1, max_size=4), broken=BREAKS)
    def delete(self, numbers: set[int], broken: Break | None) -> None:
        """Documents are deleted by id."""
        there = len(numbers & self.model.keys())
        count = self._step(lambda: self._open().delete([str(n) for n in numbers]), dict.fromkeys(numbers), broken)
        assert count in (None, there)

    @precondition(lambda self: self.kind.write is None and self.model)
    @rule(data=st.data(), note=st.integers(0, 3))
    def another_program_notes(self, data: st.DataObject, note: int) -> None:
        """A program sets a key of a payload, which stays until the document changes."""
        number = data.draw(st.sampled_from(sorted(self.model)))
        here = models.Filter(
            must=[models.FieldCondition(key="_diptych.id", match=models.MatchValue(value=str(number)))]
        )
        self.client.set_payload("c", {"note": note}, here)
        self.model[number] = Stored(self.model[number].version, note)
        self.compare({})

    @precondition(lambda self: self.kind.write is None and self.model and self.point is None)
    @rule()
    def another_program_writes_a_point(self) -> None:
        """It stays as it is."""
        self.client.upsert("c", [models.PointStruct(id=FOREIGN, vector={"dense.1": [1.0] * 4}, payload={"mine": 1})])
        (self.point,) = self.client.retrieve("c", [FOREIGN], with_vectors=True)

    def teardown(self) -> None:
        """Close the store."""
        self.client.close()

    def _written(self, number: int, version: int) -> Stored:
        """The document after a populate with this version: unchanged, or written whole."""
        have = self.model.get(number)
        return have if have and have.version == version else Stored(version)

    def _populate(
        self, versions: Mapping[int, int], chunk: int, *, once: bool = False, **options: Any
    ) -> PopulateReport:
        documents = [
            Document(str(number), text_of(number, version), metadata={"owner": owner(number)})
            for number, version in versions.items()
        ]
        before = dict(self.model)
        trial = None
        if options and not self.calls.armed:
            trial = self._open(chunk).populate(documents, dry_run=True, **options)
            self.compare({})
        report = self._open(chunk).populate(iter(documents) if once else documents, **options)
        assert report.new == len(versions.keys() - before.keys())
        assert report.changed == sum(n in before and before[n].version != v for n, v in versions.items())
        names = ("read", "new", "changed", "unchanged", "deleted")
        assert trial is None or [getattr(trial, name) for name in names] == [getattr(report, name) for name in names]
        return report

    def _open(self, chunk: int = 64) -> Collection:
        config = Config.model_validate({**self.config, "populate": {"chunk": chunk, "retries": 2}})
        return Collection(CollectionHandle(self.client, "c", config, REGISTRY))

    def _step(self, act: Callable[[], T], wanted: Mapping[int, Stored | None], broken: Break | None = None) -> T | None:
        """Do it, and compare what is there then; None if it was broken off, after which each may be as before."""
        if broken is not None:
            self.calls.break_at(*broken)
        try:
            result = act()
        except (Crash, ConnectionError, KeyError, DiptychError) as error:
            if broken is None or isinstance(error, SyncRefused):
                raise
            if broken.error is ConnectionError and self.calls.broken in RETRIED:
                raise AssertionError(f"{self.calls.broken} was not tried again") from error
            result = None
        finally:
            self.calls.break_at(0)
        self.compare(wanted, surely=result is not None)
        return result

    def compare(self, wanted: Mapping[int, Stored | None], *, surely: bool = True) -> None:
        """Check that the collection is the model with `wanted`; unless `surely`, each of these may be as before."""
        found = self._found()
        for number in self.model.keys() | wanted.keys() | found.keys():
            before = self.model.get(number)
            allowed = [wanted.get(number, before), *([] if surely else [before])]
            assert found.get(number) in allowed, f"document {number}: {found.get(number)}, not {allowed}"
        self.model = found

    def _found(self) -> dict[int, Stored]:
        """The documents that are there, read without diptych."""
        if not self.client.collection_exists("c"):
            return {}
        records, _ = self.client.scroll("c", limit=1000, with_payload=True, with_vectors=True)
        others = [record for record in records if record.id == FOREIGN]
        assert others == ([self.point] if self.point else [])
        found: dict[int, Stored] = {}
        for record in records:
            if record.id == FOREIGN:
                continue
            name, text = self.kind.read(record)
            number, version = int(name), int(text.split()[2].removeprefix("version"))
            assert number not in found, f"document {number} is there twice"
            assert text == text_of(number, version)
            _check_vectors(record.vector, text)
            found[number] = Stored(version, (record.payload or {}).get("note"))
        return found


def _check_vectors(vectors: Any, text: str) -> None:
    """That every slot has a vector, of this text."""
    names = {name.partition(".")[0]: vector for name, vector in vectors.items()}
    assert np.allclose(names.pop("dense"), DENSE.encode_document([text])[0], atol=1e-6)
    if lexical := names.pop("lexical", None):
        (expected,) = SPARSE.encode_document([text])
        assert (lexical.indices, lexical.values) == (expected.indices.tolist(), expected.values.tolist())
    assert not names


def test_a_step_broken_off_at_any_call_of_the_store_loses_and_revives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for constant, value in {"store.FIRST_PAUSE": 0.0, "store.PAGE": 3, "sync.PAGE": 3}.items():
        monkeypatch.setattr(f"diptych.populate.{constant}", value)
    # Without shrinking, which takes minutes: the steps of a failure can be read as they are.
    few = settings(max_examples=50, stateful_step_count=15, phases=[Phase.generate])
    run_state_machine_as_test(Writing, settings=few)
