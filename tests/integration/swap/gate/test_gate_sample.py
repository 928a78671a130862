"""The gate's sample: the same at every run, and cheap however many points there are."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych.swap import documents as documents_module
from diptych.swap.documents import excerpt, known_item, sample_documents, sample_points
from diptych.swap.gate.answers import remembering, sampled_points
from diptych.types import Document


@pytest.fixture(params=["memory", "edge"])
def client(request: pytest.FixtureRequest) -> QdrantBase:
    """Stores list their points in orders of their own."""
    found: QdrantBase = request.getfixturevalue(request.param)
    return found


def fill(client: QdrantBase, ids: Sequence[int | str], name: str = "c") -> None:
    vectors = {"v": models.VectorParams(size=2, distance=models.Distance.DOT)}
    client.create_collection(name, vectors_config=vectors)
    if ids:
        client.upsert(name, [models.PointStruct(id=point, vector={"v": [1.0, 2.0]}) for point in ids])


def hashed(count: int) -> list[int | str]:
    return [str(uuid.uuid5(uuid.NAMESPACE_URL, str(n))) for n in range(count)]


def test_the_sample_is_the_same_at_every_run_and_another_in_another_collection(client: QdrantBase) -> None:
    ids = hashed(200)
    fill(client, ids)
    fill(client, ids, "d")
    sample = sample_points(client, "c", 50)
    assert sample == sample_points(client, "c", 50)
    assert len(set(sample)) == 50
    assert set(sample) <= set(ids)
    assert sample_points(client, "c", 20) == sample[:20]
    assert sample != sample_points(client, "d", 50)
    assert sorted(map(str, sample_points(client, "c", 500))) == sorted(map(str, ids))


def test_points_of_a_large_collection_are_drawn_by_the_store_and_kept_within_a_run(
    client: QdrantBase, monkeypatch: pytest.MonkeyPatch, swapping: Callable[..., Any]
) -> None:
    monkeypatch.setattr(documents_module, "MOST_IDS_READ", 0)
    ids = [*range(150), *hashed(150)]
    fill(client, ids, "d")
    sample = sample_points(client, "d", 40)
    assert len(set(sample)) == len(sample) == 40
    assert set(sample) <= set(ids)
    view = remembering(swapping({"dense": {"adapter": "fake-dense"}}).handle.view)
    assert sampled_points(view, 20) == sampled_points(view, 20)


@pytest.mark.parametrize(
    ("title", "text", "expected"),
    [
        ("A title of words", "Some text. More.", "A title of words"),
        ("", "The first sentence. The second.", "The first sentence."),
        ("", "Version 1.2 has e.g. no sentence. Another.", "Version 1.2 has e.g."),
        ("lame", "An MP3 encoder. It encodes.", "lame An MP3 encoder."),
        ("", "Short. And then more words. End.", "Short. And then more words."),
        ("", "最初の文です。次の文です。", "最初の文です。 次の文です。"),
        ("", "word " * 100, ("word " * 40).strip()),
        ("", "x" * 300, "x" * 200),
        ("", "   ", ""),
        ("title", "", "title"),
    ],
)
def test_a_known_item_is_the_title_or_the_first_sentence(title: str, text: str, expected: str) -> None:
    assert known_item(title, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two three", "one two three"),
        (" ".join(map(str, range(20))), "6 7 8 9 10 11 12 13"),
        (" ".join(map(str, range(1000))), "46 47 48 49 50 51 52 53"),
        ("文" * 300 + "章" * 300, "章" * 40),
        ("", ""),
    ],
)
def test_an_excerpt_is_from_the_middle_of_what_encoders_read(text: str, expected: str) -> None:
    assert excerpt(text) == expected


def test_documents_come_in_the_samples_order_without_repeats_and_blanks(swapping: Callable[..., Any]) -> None:
    documents = [
        Document("a", "first text of all"),
        Document("b", "second text of all", title="with a title"),
        Document("c", "first text of all"),
        Document("d", "third text of all " * 500),
    ]
    handle = swapping({"dense": {"adapter": "fake-dense"}}, documents=documents).handle
    points = sample_points(handle.client, "c", 10)
    found = sample_documents(handle.view, [*points, 12345])
    assert [document.point for document in found] == [p for p in points if p in {d.point for d in found}]
    assert {document.id for document in found} in ({"a", "b", "d"}, {"b", "c", "d"})
    by_id = {document.id: document for document in found}
    assert by_id["b"].item == "with a title"
    assert len(by_id["d"].item) <= 200
