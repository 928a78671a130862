from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client.client_base import QdrantBase

import diptych
from diptych import Collection, Registry
from diptych.errors import StoreError
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import populate
from diptych.reports import PopulateReport
from diptych.slots.guard import TEXTS
from diptych.testing import FakeDenseEncoder, fakes_plugin
from diptych.types import SparseVector
from diptych_edge import EdgeClient

Contents = Callable[[QdrantBase], dict[Any, tuple[Any, Any]]]
OpenHandle = Callable[..., CollectionHandle]


def corpus(size: int, *, words: int = 6) -> list[dict[str, Any]]:
    def text(i: int) -> str:
        return " ".join(f"word{(i * 7 + k) % 31}" for k in range(words + i % 3)) + f" only{i}"

    return [{"id": f"d{i}", "text": text(i), "title": f"title {i}", "section": i % 4} for i in range(size)]


def encoded_documents(handle: CollectionHandle, slot: str = "dense") -> list[str]:
    """What a fake encoder was given to encode, without the guard's canaries."""
    calls = handle.slots[slot].encoder.calls
    return [text for call in calls for text in call.inputs if call.side == "document" and text not in TEXTS]


def test_every_document_becomes_one_whole_point(
    client: QdrantBase, open_handle: OpenHandle, contents: Contents
) -> None:
    documents = corpus(30)
    handle = open_handle(client)
    report = populate(handle, documents)
    assert (report.read, report.new, report.complete) == (30, 30, True)
    assert report.encoded == {"dense": 30, "lexical": 30}
    by_id = {payload["_diptych"]["id"]: (payload, vectors) for payload, vectors in contents(client).values()}
    assert by_id.keys() == {d["id"] for d in documents}
    payload, vectors = by_id["d17"]
    assert {k: v for k, v in payload.items() if k != "_diptych"} == {
        k: documents[17][k] for k in payload if k != "_diptych"
    }
    text = f"{documents[17]['title']} {documents[17]['text']}"
    expected = FakeDenseEncoder(dimension=16).encode_document([text])[0]
    assert np.allclose(vectors["dense.1"], expected, atol=1e-6)
    (lexical,) = handle.slots["lexical"].encoder.encode_document([text])
    assert isinstance(lexical, SparseVector)
    assert vectors["lexical.1"] == [lexical.indices.tolist(), lexical.values.tolist()]


def test_only_changed_documents_are_encoded_again(
    client: QdrantBase, open_handle: OpenHandle, contents: Contents
) -> None:
    populate(open_handle(client), corpus(30))
    documents = corpus(31)
    documents[3]["text"] = "entirely other words"
    documents[4]["section"] = "elsewhere"
    handle = open_handle(client)
    report = populate(handle, documents)
    assert (report.new, report.changed, report.unchanged) == (1, 2, 28)
    assert sorted(encoded_documents(handle)) == sorted(
        f"{d['title']} {d['text']}" for d in (documents[i] for i in (3, 4, 30))
    )
    found = {payload["_diptych"]["id"]: payload for payload, _ in contents(client).values()}
    assert found["d3"]["text"] == "entirely other words"
    assert found["d4"]["section"] == "elsewhere"
    assert len(found) == 31


def test_statistics_are_those_of_the_documents_that_are_indexed(memory: QdrantBase, open_handle: OpenHandle) -> None:
    good: list[dict[str, Any]] = [{"id": i, "text": "one two three"} for i in range(5)]
    bad: list[dict[str, Any]] = [
        {"id": 0, "text": "another text of many more words"},
        {"id": "x", "text": " "},
        {"text": "no id " * 50},
    ]
    handle = open_handle(memory)
    populate(handle, [*good, *good, *bad])
    assert handle.metadata is not None
    assert handle.metadata.live.slots["lexical"].statistics == {"documents": 5.0, "tokens": 15.0}
    assert handle.slots["lexical"].encoder.average_length == 3.0


def test_a_moved_average_is_reported_and_a_small_addition_is_no_drift(
    memory: QdrantBase, open_handle: OpenHandle
) -> None:
    populate(open_handle(memory), corpus(260))
    assert populate(open_handle(memory), [{"id": "short", "text": "one"}]).warnings == ()
    longer = [{"id": f"long{i}", "text": "many words " * 50} for i in range(40)]
    (warning,) = populate(open_handle(memory), longer).warnings
    assert "slot 'lexical': the average of 'tokens' per document is " in warning
    assert "% higher than when" in warning
    assert warning.endswith("`diptych plan` shows what it costs to recalibrate, `diptych apply` does it.")
    assert populate(open_handle(memory), longer).warnings == (), "nothing was written"


def test_what_a_collection_warns_of_is_in_the_log(
    memory: QdrantBase, open_handle: OpenHandle, caplog: pytest.LogCaptureFixture
) -> None:
    Collection(open_handle(memory)).populate(corpus(260))
    assert not caplog.records
    longer = [{"id": f"long{i}", "text": "many words " * 50} for i in range(40)]
    (warning,) = Collection(open_handle(memory)).populate(longer).warnings
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("diptych.populate", "WARNING")
    assert record.getMessage() == f"collection 'c': {warning}"


def test_rejected_documents_are_in_the_log(
    memory: QdrantBase, open_handle: OpenHandle, caplog: pytest.LogCaptureFixture
) -> None:
    bad: list[Any] = [{"text": "of nobody"}, *({"id": f"empty{i}", "text": " "} for i in range(4))]
    collection = Collection(open_handle(memory))
    report = collection.populate([*corpus(5), *bad])
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("diptych.populate", "WARNING")
    assert record.getMessage() == (
        f"collection 'c': 5 of 10 documents were rejected: number 5: {report.examples[0].reason}; "
        "'empty0': empty document; 'empty1': empty document; 2 more. "
        "All of them, with the reasons, are in diptych-set-aside-c.jsonl"
    )
    caplog.clear()
    collection.populate(bad[-1:], dry_run=True)
    (record,) = caplog.records
    assert record.getMessage() == "collection 'c': 1 of 1 documents would be rejected: 'empty3': empty document"


def test_a_text_index_gets_the_input_as_payload(
    client: QdrantBase, open_handle: OpenHandle, contents: Contents
) -> None:
    slots = {"dense": {"adapter": "fake-dense", "dimension": 8}, "words": {"adapter": "text-index"}}
    handle = open_handle(client, slots, TextIndexPlugin())
    report = populate(handle, corpus(5))
    assert report.encoded == {"dense": 5}
    ((payload, vectors), *_) = contents(client).values()
    assert payload["_words"] == f"{payload['title']} {payload['text']}"
    assert vectors.keys() == {"dense.1"}


def test_payload_indexes_that_a_crash_left_out_are_made_at_the_next_run(
    tmp_path: Path, open_handle: OpenHandle
) -> None:
    with EdgeClient(tmp_path / "store") as client:
        populate(open_handle(client, indexes={"section": "integer"}), corpus(3))
        client.delete_payload_index("c", "section")
        populate(open_handle(client, indexes={"section": "integer"}), corpus(3))
        assert client.get_collection("c").payload_schema.keys() == {"section"}


def test_an_embedded_populate_ends_optimised_even_when_the_run_before_did_not(
    tmp_path: Path, open_handle: OpenHandle
) -> None:
    class Failing(EdgeClient):
        def optimize(self, *args: Any, **kwargs: Any) -> Any:
            raise StoreError("no space left")

    slots = {"dense": {"adapter": "fake-dense", "dimension": 1024, "record": False}}
    documents = [{"id": i, "text": f"word{i % 50}"} for i in range(2600)]  # 10.4 MB of vectors; Edge indexes from 10
    with Failing(tmp_path / "store") as client:
        report = populate(open_handle(client, slots, chunk=1024), documents)
        assert report.warnings == ("all is written, but the collection could not be optimised: no space left",)
        assert client.needs_optimizing("c")
    with EdgeClient(tmp_path / "store") as reopened:
        assert populate(open_handle(reopened, slots), documents).unchanged == 2600
        assert not reopened.needs_optimizing("c")
        assert reopened.get_collection("c").indexed_vectors_count == 2600


def test_nothing_to_index_makes_no_collection(client: QdrantBase, open_handle: OpenHandle) -> None:
    report = populate(open_handle(client), [{"id": 1, "text": ""}])
    assert not client.collection_exists("c")
    assert report.warnings == ("no document can be indexed, so the collection was not created",)
    assert (report.read, report.set_aside) == (1, 1)
    assert populate(open_handle(client), []).warnings == report.warnings


def test_a_collection_is_filled_further_without_a_config(memory: QdrantBase, open_handle: OpenHandle) -> None:
    populate(open_handle(memory), corpus(5))
    handle = CollectionHandle(memory, "c", None, Registry(fakes_plugin, installed=False))
    report = populate(handle, corpus(9))
    assert (report.new, report.unchanged) == (4, 5)


def test_plugins_are_told_and_a_failing_one_becomes_a_warning(memory: QdrantBase, open_handle: OpenHandle) -> None:
    told: list[PopulateReport] = []
    report = populate(open_handle(memory, SPARSE, Listener(told)), corpus(3))
    assert told == [report]
    (warning,) = populate(open_handle(memory, SPARSE, FailingListener()), corpus(3)).warnings
    assert re.fullmatch(
        r"diptych_after_populate of plugin '.*FailingListener' failed: RuntimeError: the mail server is down", warning
    )


def test_progress_counts_every_document_in_every_stage(memory: QdrantBase, open_handle: OpenHandle) -> None:
    bad = {"id": "late", "text": "poison"}
    slots = {"dense": {"adapter": "fake-dense", "nan_word": "poison"}, "lexical": {"adapter": "fake-calibrated"}}
    seen = Stages()
    populate(open_handle(memory, slots), [*corpus(100), bad, {"id": "", "text": "x"}], progress=seen)
    assert seen.totals == {"measure": 102, "read": 102, "index": 101}
    assert seen.done == {"measure": 102, "read": 102, "index": 101}
    again = Stages()
    populate(open_handle(memory, slots), iter(corpus(100)), progress=again)
    assert (again.totals, again.done) == ({"read": None, "index": None}, {"read": 100, "index": 100})
    third = Stages()
    populate(open_handle(memory, slots), corpus(7), progress=third)
    assert (third.totals, third.done) == ({"read": 7, "index": 7}, {"read": 7, "index": 7})


def test_the_report_adds_up(memory: QdrantBase, open_handle: OpenHandle) -> None:
    populate(open_handle(memory), corpus(10))
    documents: list[Any] = [*corpus(12), corpus(1)[0], {"id": "d1", "text": "other"}, {"id": None, "text": "x"}, 3.5]
    documents[2] = {"id": "d2", "text": "changed"}
    report = populate(open_handle(memory), documents)
    assert (report.new, report.changed, report.unchanged, report.duplicates, report.set_aside) == (2, 1, 9, 1, 3)
    assert report.read == 16
    lines = [json.loads(line) for line in Path(report.report_file).read_text().splitlines()]
    assert [line["position"] for line in lines] == [13, 14, 15]
    assert [(e.id, e.position, e.reason) for e in report.examples] == [tuple(line.values()) for line in lines]


SPARSE: Mapping[str, Any] = {"lexical": {"adapter": "fake-sparse"}}


class Stages:
    """A Progress that adds up."""

    def __init__(self) -> None:
        self.totals: dict[str, int | None] = {}
        self.done: dict[str, int] = {}

    def begin(self, stage: str, total: int | None) -> None:
        self.totals[stage], self.done[stage] = total, 0

    def advance(self, stage: str, n: int) -> None:
        self.done[stage] += n


class Listener:
    def __init__(self, told: list[PopulateReport]) -> None:
        self._told = told

    @diptych.hookimpl
    def diptych_after_populate(self, report: PopulateReport) -> None:
        self._told.append(report)


class FailingListener:
    @diptych.hookimpl
    def diptych_after_populate(self, report: PopulateReport) -> None:
        raise RuntimeError("the mail server is down")


class TextIndexPlugin:
    @diptych.hookimpl
    def diptych_register_adapters(self) -> list[diptych.AdapterSpec]:
        factory = "diptych_adapters.lexical:QdrantTextIndex"
        return [diptych.AdapterSpec(name="text-index", kind="text_index", factory=factory, summary="Qdrant's own")]
