from __future__ import annotations

import datetime
import json
import math
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase

import diptych
from diptych import Document
from diptych.errors import ContractError, PopulateError
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import Rejected, populate

Contents = Callable[[QdrantBase], dict[Any, tuple[Any, Any]]]
OpenHandle = Callable[..., CollectionHandle]
GOOD = [{"id": f"good{i}", "text": f"words of number {i}"} for i in range(10)]
DENSE: Mapping[str, Any] = {"dense": {"adapter": "fake-dense", "dimension": 8}}


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else []


BAD: dict[str, tuple[Any, str, str]] = {
    "null id": ({"id": None, "text": "x"}, "", r"no usable id \(got None\)"),
    "no id at all": ({"text": "x"}, "", r"no usable id \(got None\)"),
    "empty id": ({"id": "", "text": "x"}, "", "a document has no id"),
    "boolean id": ({"id": True, "text": "x"}, "", r"no usable id \(got True\)"),
    "float id": ({"id": 1.5, "text": "x"}, "", r"no usable id \(got 1.5\)"),
    "list as id": ({"id": ["a"], "text": "x"}, "", r"no usable id \(got \['a'\]\)"),
    "a mapping as id": ({"_id": {"$oid": "1"}, "text": "x"}, "", "no usable id"),
    "no text": ({"id": "a"}, "a", r"no text \(got the keys \['id'\]\) \(expected the key \"text\" with a string"),
    "null text": (
        {"id": "a", "text": None},
        "a",
        r"text of a document is not a string \(got None\) \(expected a string",
    ),
    "a number as text": ({"id": "a", "text": 3}, "a", r"text of a document is not a string \(got int\)"),
    "bytes as text": ({"id": "a", "text": b"x"}, "a", r"text of a document is not a string \(got bytes\)"),
    "a list as text": ({"id": "a", "text": ["x"]}, "a", r"text of a document is not a string \(got list\)"),
    "NaN as text": ({"id": "a", "text": math.nan}, "a", r"text of a document is not a string \(got float\)"),
    "empty text": ({"id": "a", "text": ""}, "a", "empty document"),
    "blank text": ({"id": "a", "text": " \n\t", "title": " "}, "a", "empty document"),
    "a number as title": (
        {"id": "a", "text": "x", "title": 4},
        "a",
        r"title of a document is not a string \(got int\)",
    ),
    "too long": ({"id": "a", "text": "x" * 2001}, "a", r"too long \(got 2001 characters\) \(expected at most 2000"),
    "too long with its title": ({"id": "a", "text": "x" * 1999, "title": "yy"}, "a", "too long"),
    "metadata is a list": ({"id": "a", "text": "x", "metadata": ["y"]}, "a", r"metadata is not a mapping \(got list\)"),
    "reserved key": ({"id": "a", "text": "x", "_diptych": {}}, "a", "reserved key '_diptych'"),
    "reserved key inside": ({"id": "a", "text": "x", "metadata": {"title": "y"}}, "a", "reserved key 'title'"),
    "key that is not text": (
        {"id": "a", "text": "x", "metadata": {1: 2}},
        "a",
        r"key of the metadata is not text \(got 1",
    ),
    "infinite metadata": ({"id": "a", "text": "x", "n": math.inf}, "a", r"not finite \(got inf\)"),
    "NaN in metadata": ({"id": "a", "text": "x", "n": [{"m": math.nan}]}, "a", r"not finite \(got nan\)"),
    "a set in metadata": ({"id": "a", "text": "x", "tags": {"b"}}, "a", r"metadata is not JSON \(got set\)"),
    "an object in metadata": ({"id": "a", "text": "x", "o": object()}, "a", r"metadata is not JSON \(got object\)"),
    "bottomless metadata": ({"id": "a", "text": "x", "deep": deep(80)}, "a", "nested too deeply"),
    "an integer that no store keeps": ({"id": "a", "text": "x", "n": 2**64}, "a", "beyond 64 bits"),
    "numpy's infinity": ({"id": "a", "text": "x", "n": np.float32(np.inf)}, "a", "not finite"),
    "half a surrogate in metadata": ({"id": "a", "text": "x", "n": ["\ud800"]}, "a", "not valid Unicode"),
    "half a surrogate": ({"id": "a", "text": "broken \ud800 text"}, "a", r"not valid Unicode \(got '\\ud800'\)"),
    "half a surrogate in the id": ({"id": "a\udfff", "text": "x"}, "a\udfff", "not valid Unicode"),
    "half a surrogate in a key": ({"id": "a", "text": "x", "\ud800": 1}, "a", "not valid Unicode"),
    "duplicate id": ({"id": "good3", "text": "something else"}, "good3", "duplicate id with other text"),
    "duplicate id, other title": ({**GOOD[3], "title": "t"}, "good3", "duplicate id with other text"),
    "duplicate id, other metadata": ({**GOOD[3], "n": 1}, "good3", "duplicate id with other text"),
    "a string": ("just text", "", r"not a document \(got str\)"),
    "nothing": (None, "", r"not a document \(got NoneType\)"),
    "a list": (["a", "x"], "", r"not a document \(got list\)"),
    "a Document of a wrong type": (Document(7, "x"), "7", "id of a document is not a string"),  # type: ignore[arg-type]
    "a Document without text": (Document("a", None), "a", r"text of a document is not a string \(got None\)"),  # type: ignore[arg-type]
    "a Document with metadata that is none": (Document("a", "x", "", None), "a", "not a mapping"),  # type: ignore[arg-type]
    "an unreadable line": (Rejected("f.jsonl:7", "not JSON: bad"), "f.jsonl:7", "not JSON: bad"),
    "NaN from an encoder": ({"id": "a", "text": "a nanword"}, "a", "non-finite vector from slot 'dense'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_document_is_set_aside_with_its_reason_and_the_run_goes_on(
    memory: QdrantBase, open_handle: OpenHandle, case: str
) -> None:
    bad, identifier, reason = BAD[case]
    slots = {"dense": {"adapter": "fake-dense", "dimension": 8, "nan_word": "nanword"}}
    handle = open_handle(memory, slots, max_characters=2000)
    report = populate(handle, [*GOOD[:5], bad, *GOOD[5:]])
    assert (report.read, report.new, report.set_aside, report.complete) == (11, 10, 1, False)
    (entry,) = report.examples
    assert (entry.id, entry.position) == (identifier, 5)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(entry.reason)
    (line,) = Path(report.report_file).read_text().splitlines()
    assert json.loads(line) == {"id": identifier, "position": 5, "reason": entry.reason}
    assert memory.count("c").count == 10


def test_the_report_file_is_made_only_when_needed_and_where_asked(
    memory: QdrantBase, open_handle: OpenHandle, tmp_path: Path
) -> None:
    report = populate(open_handle(memory), GOOD)
    assert (report.report_file, report.complete) == ("", True)
    assert not list(tmp_path.rglob("*.jsonl"))
    assert populate(open_handle(memory), ["bad"]).report_file == "diptych-set-aside-c.jsonl"  # type: ignore[list-item]
    asked = tmp_path / "new folder" / "bad.jsonl"
    assert populate(open_handle(memory), ["bad"], report_path=asked).report_file == str(asked)  # type: ignore[list-item]
    assert asked.exists()


def test_a_document_that_turns_bad_keeps_its_point(
    memory: QdrantBase, open_handle: OpenHandle, contents: Contents
) -> None:
    populate(open_handle(memory), GOOD)
    before = contents(memory)
    report = populate(open_handle(memory), [{"id": "good1", "text": ""}])
    assert report.set_aside == 1
    assert contents(memory) == before


def test_metadata_of_other_libraries_becomes_json(
    client: QdrantBase, open_handle: OpenHandle, contents: Contents
) -> None:
    number = uuid.UUID(int=5)
    metadata = {
        "day": datetime.date(2026, 1, 2), "at": datetime.datetime(2026, 1, 2, 3, 4), "uuid": number,
        "count": np.int64(7), "price": Decimal("1.5"), "row": np.array([1, 2]), "pair": (1, 2),
    }  # fmt: skip
    document = Document("a", "text", "", metadata)
    assert populate(open_handle(client), [document]).new == 1
    ((payload, _),) = contents(client).values()
    assert {key: payload[key] for key in metadata} == {
        "day": "2026-01-02", "at": "2026-01-02T03:04:00", "uuid": str(number),
        "count": 7, "price": 1.5, "row": [1, 2], "pair": [1, 2],
    }  # fmt: skip
    assert populate(open_handle(client), [document]).unchanged == 1


def test_texts_that_crash_the_encoder_are_found_among_the_good_ones(
    memory: QdrantBase, open_handle: OpenHandle
) -> None:
    slots = {"touchy": {"adapter": "touchy"}}
    bad = [{"id": "bad1", "text": "a crashword"}, {"id": "bad2", "text": "crashword again"}]
    report = populate(open_handle(memory, slots, Touchy(), chunk=64), [bad[0], *GOOD, bad[1]])
    assert (report.new, report.set_aside) == (10, 2)
    assert report.encoded == {"touchy": 10}
    for entry in report.examples:
        assert entry.reason == "the encoder of slot 'touchy' fails on it: ValueError: cannot tokenize crashword"


def test_a_corpus_of_texts_that_crash_a_working_encoder_is_set_aside(
    memory: QdrantBase, open_handle: OpenHandle
) -> None:
    crashing = [{"id": i, "text": f"crashword {i}"} for i in range(20)]
    report = populate(open_handle(memory, {"touchy": {"adapter": "touchy"}}, Touchy()), crashing)
    assert (report.new, report.set_aside) == (0, 20)


def test_an_encoder_that_works_no_more_ends_the_run(
    memory: QdrantBase, open_handle: OpenHandle, contents: Contents
) -> None:
    slots = {"touchy": {"adapter": "touchy", "good_calls": 6}}  # two make the canaries
    with pytest.raises(PopulateError, match="an encoder fails even for plain inputs") as caught:
        populate(open_handle(memory, slots, Touchy(), chunk=4), GOOD)
    assert "slot 'touchy'" in str(caught.value)
    assert "OSError: the device is gone" in str(caught.value)
    kept = len(contents(memory))
    assert caught.value.__notes__ == [f"{kept} documents were acknowledged by the store in this run and are kept"]
    report = populate(open_handle(memory, {"touchy": {"adapter": "touchy"}}, Touchy()), GOOD)
    assert (report.unchanged, report.new) == (kept, 10 - kept)


def test_a_broken_contract_ends_the_run(memory: QdrantBase, open_handle: OpenHandle) -> None:
    slots = {"touchy": {"adapter": "touchy", "lies_from": 4}}
    with pytest.raises(ContractError, match="wrong dimension"):
        populate(open_handle(memory, slots, Touchy()), GOOD)


def test_points_that_the_store_refuses_are_found_and_set_aside(open_handle: OpenHandle, contents: Contents) -> None:
    client = Particular(":memory:")
    documents: list[Any] = [*GOOD, {"id": "odd", "text": "words", "odd": True}]
    report = populate(open_handle(client, chunk=64), documents)
    assert (report.new, report.set_aside) == (10, 1)
    assert report.examples[0].reason == "the store refuses it: ValueError: odd payload"
    assert len(contents(client)) == 10
    client.close()


def test_a_store_that_refuses_everything_ends_the_run(open_handle: OpenHandle) -> None:
    client = Particular(":memory:")
    with pytest.raises(PopulateError, match="the store refuses every document"):
        populate(open_handle(client), [{"id": i, "text": "words", "odd": True} for i in range(4)])
    client.close()


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("-1", r"point id that Qdrant does not take \(got '-1'\)"),
        (-1, r"point id that Qdrant does not take \(got -1\)"),
        (2**64, "point id that Qdrant does not take"),
        (3, "another document of the source has the same point id"),
    ],
)
def test_a_plugin_whose_point_ids_cannot_be_used(
    memory: QdrantBase, open_handle: OpenHandle, choice: Any, reason: str
) -> None:
    report = populate(open_handle(memory, DENSE, PointIds({"good3": 3, "good4": choice})), GOOD[3:5])
    assert (report.new, report.set_aside) == (1, 1)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(report.examples[0].reason)


def test_a_plugin_that_fails_to_choose_a_point_id(memory: QdrantBase, open_handle: OpenHandle) -> None:
    report = populate(open_handle(memory, DENSE, PointIds({"good3": 3})), GOOD[3:5])
    assert report.examples[0].reason == "a plugin could not choose the point id (got KeyError: 'good4')"


def test_a_point_of_another_document_or_of_others_is_never_overwritten(
    memory: QdrantBase, open_handle: OpenHandle, contents: Contents
) -> None:
    from qdrant_client import models

    populate(open_handle(memory, DENSE, PointIds({"good0": 0})), GOOD[:1])
    memory.upsert("c", [models.PointStruct(id=1, vector={"dense.1": [1.0] * 8}, payload={"mine": True})])
    before = contents(memory)
    report = populate(open_handle(memory, DENSE, PointIds({"good1": 0, "good2": 1})), GOOD[1:3])
    assert [entry.reason for entry in report.examples] == [
        "its point id 0 belongs to document 'good0'",
        "its point id 1 belongs to a point that diptych did not write",
    ]
    assert contents(memory) == before


@pytest.mark.parametrize("given", ["corpus.jsonl", {"id": 1, "text": "x"}, Document("a", "x"), 7, None])
def test_what_holds_no_documents_is_refused_at_once(memory: QdrantBase, open_handle: OpenHandle, given: Any) -> None:
    with pytest.raises(
        PopulateError, match=f"the source is not an iterable of documents\n  got: {type(given).__name__}"
    ):
        populate(open_handle(memory), given)


class TouchyEncoder:
    """Crashes on a word; after `good_calls` calls on everything; from call `lies_from` on its dimension is another."""

    dimension = 4
    similarity = "dot"
    fingerprint = diptych.Fingerprint("touchy")  # whatever its options, which say only how it fails

    def __init__(self, good_calls: int = 10**9, lies_from: int = 10**9) -> None:
        self.good_calls, self.lies_from, self.calls = good_calls, lies_from, 0

    def encode_query(self, inputs: list[str]) -> Any:
        return self.encode_document(inputs)

    def encode_document(self, inputs: list[str]) -> Any:
        self.calls += 1
        if self.calls > self.good_calls:
            raise OSError("the device is gone")
        if any("crashword" in text for text in inputs):
            raise ValueError("cannot tokenize crashword")
        return np.ones((len(inputs), 4 + (self.calls >= self.lies_from)), np.float32)


class Touchy:
    @diptych.hookimpl
    def diptych_register_adapters(self) -> list[diptych.AdapterSpec]:
        spec = diptych.AdapterSpec(
            name="touchy", kind="dense", factory=f"{__name__}:TouchyEncoder", summary="crashes on a word"
        )
        return [spec]


class PointIds:
    def __init__(self, chosen: Mapping[str, Any]) -> None:
        self._chosen = chosen

    @diptych.hookimpl
    def diptych_point_id(self, document: Document) -> Any:
        return self._chosen[document.id]


class Particular(QdrantClient):
    """A store that refuses one kind of payload."""

    def upsert(self, collection_name: str, points: Any, *args: Any, **kwargs: Any) -> Any:
        if any(point.payload.get("odd") for point in points):
            raise ValueError("odd payload")
        return super().upsert(collection_name, points, *args, **kwargs)
