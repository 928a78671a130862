"""Documents, sparse vectors, payloads and runs."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from typing import Any

import numpy as np
import pytest

from diptych.errors import ContractError, DocumentError
from diptych.metadata.payloads import NATIVE, OWN, hashed_point
from diptych.registry import Registry
from diptych.types import Document, Hit, Query, Run, SparseVector


def test_a_mapping_becomes_a_document_and_unknown_keys_its_metadata() -> None:
    raw = {"_id": "a", "title": "T", "text": "words", "metadata": {"year": 1999}, "lang": "en"}
    assert Document.from_mapping(raw) == Document("a", "words", "T", {"lang": "en", "year": 1999})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"text": "x"}, "no usable id"),
        ({"id": None, "text": "x"}, "no usable id"),
        ({"id": True, "text": "x"}, "no usable id"),
        ({"id": 1.5, "text": "x"}, "no usable id"),
        ({"id": "", "text": "x"}, "has no id"),
        (
            {"id": "a", "body": "x"},
            r"(?s)has no text\n.*document 'a'\n.*keys \['id', 'body'\]\n.*\"text\".*--text-column KEY",
        ),
        ({"id": "a", "text": 3}, "text of a document is not a string"),
        ({"id": "a", "text": None}, r"(?s)is not a string\n.*document 'a'\n.*got: None\n.*a string.*do: give it"),
        ({"id": "a", "text": "x", "title": ["t"]}, "title of a document is not a string"),
        ({"id": "a", "text": " \n"}, "empty document"),
        ({"id": "a", "text": "x", "metadata": "no"}, "metadata is not a mapping"),
    ],
)
def test_a_bad_document_says_what_is_wrong(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        Document.from_mapping(raw)


def test_a_payload_gives_the_document_back() -> None:
    document = Document("a", "text", "title", {"section": "sound"})
    payload = NATIVE.write(document, "hash")
    assert payload["section"] == "sound"
    assert payload[OWN] == {"id": "a", "hash": "hash"}
    assert NATIVE.read("point", payload) == document


def test_a_point_written_by_others_answers_with_its_point_id() -> None:
    assert NATIVE.read(12, {"text": "x", "k": 1}) == Document("12", "x", "", {"k": 1})
    assert NATIVE.read(12, None) == Document("12", "")


@pytest.mark.parametrize("key", ["text", "title", OWN])
def test_metadata_cannot_use_a_reserved_key(key: str) -> None:
    with pytest.raises(DocumentError, match=re.escape(f"reserved key '{key}'")):
        NATIVE.write(Document("a", "x", metadata={key: 1}), "hash")


def test_point_ids_are_the_same_in_every_process_and_differ_by_document(fakes: Registry) -> None:
    first = NATIVE.point_id(Document("a", "x"), fakes)
    assert first == "171c26d7-f2c5-5ba8-8ba0-ab66a0e8dbe6"
    assert first == NATIVE.point_id(Document("a", "other text"), fakes)
    assert first != NATIVE.point_id(Document("b", "x"), fakes)
    namespace = uuid.UUID("a0a9d2b2-6f0b-5d0e-9d8b-0c6f3b1f6c11")
    for identifier in ("", "wörter", *map(str, range(300))):
        assert hashed_point(identifier) == str(uuid.uuid5(namespace, identifier))


@pytest.mark.parametrize("metadata", [{}, {"b": 1.5, "a": [None, "ü"]}])
def test_a_content_hash_is_of_one_list_in_json(metadata: dict[str, Any]) -> None:
    document = Document("a", 'text "quoted" wörter', "title\n", metadata)
    written = json.dumps([document.text, document.title, metadata], sort_keys=True)
    assert document.content_hash() == hashlib.sha256(written.encode()).hexdigest()[:32]


def test_a_sparse_vector_from_a_mapping_is_sorted() -> None:
    vector = SparseVector.from_mapping({9: 1.0, 2: 0.5})
    assert vector.indices.tolist() == [2, 9]
    assert vector.indices.dtype == np.uint32
    assert vector.values.dtype == np.float32
    assert vector == SparseVector(np.array([2, 9], np.uint32), np.array([0.5, 1.0], np.float32))


def test_a_sparse_vector_of_unequal_parts_is_refused() -> None:
    with pytest.raises(ContractError, match="differ in shape"):
        SparseVector(np.array([1], np.uint32), np.array([1.0, 2.0], np.float32))


def test_a_run_is_the_hits_of_each_query_in_order() -> None:
    hits = [[Hit(Document("a", "x"), 2.0), Hit(Document("b", "y"), 1.0)], []]
    run = Run.from_hits("name", [Query("q", "1"), Query("r", "2")], hits)
    assert run.rankings == {"1": [("a", 2.0), ("b", 1.0)], "2": []}
