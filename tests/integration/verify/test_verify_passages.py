"""`verify` and `mend` where passages are points: what is missing, wrong or left over is found, and made right."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from diptych import Collection, Document, Registry
from diptych.collection.verify import mend, verify
from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
from diptych.stores.passage_points import PARENT
from diptych.testing import fakes_plugin
from qdrant_edge_client import EdgeClient

SLOTS = {"dense": {"adapter": "fake-dense", "passages": {"tokens": 24, "overlap": 4, "layout": "points"}}}
BESIDE = "c.dense.1.passages"


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    client = EdgeClient(tmp_path)
    config = Config.model_validate({"collection": "c", "slots": SLOTS})
    made = Collection(CollectionHandle(client, "c", config, Registry(fakes_plugin, installed=False)))
    chance = random.Random(2)
    texts = [" ".join(f"w{chance.randrange(60)}." for _ in range(chance.randint(5, 150))) for _ in range(30)]
    made.populate(Document(str(n), own) for n, own in enumerate(texts))
    yield made
    client.close()


def passages(collection: Collection, document: str) -> list[Any]:
    """The points of a document's passages, in order."""
    (point,) = (hit.point for hit in collection.search("w1", limit=30) if hit.id == document)
    records, _ = collection.client.scroll(BESIDE, limit=1000, with_vectors=True)
    own = [record for record in records if (record.payload or {})[PARENT] == str(point)]
    return sorted(own, key=lambda record: (record.payload or {})["place"])


def test_passages_that_are_missing_wrong_or_left_over_are_found_and_mended(collection: Collection) -> None:
    client, before = collection.client, collection.client.count(BESIDE).count
    first, second = passages(collection, "3"), passages(collection, "4")
    client.delete(BESIDE, models.PointIdsList(points=[first[0].id]))
    other = [-number for number in second[0].vector["dense.1"]]
    client.update_vectors(BESIDE, [models.PointVectors(id=second[0].id, vector={"dense.1": other})])
    gone = {PARENT: "77", "text": "?", "place": 0, "of": 1}
    client.upsert(BESIDE, [models.PointStruct(id=1, vector={"dense.1": other}, payload=gone)])
    report = verify(collection.handle, sample=0)
    assert (report.passed, report.faulty, report.vectors) == (False, 2, {})
    (line,) = report.lines()
    assert "dense: passages of 2 documents are not those of their vectors; 1 passages are left over" in line
    mend(collection.handle, report)
    assert verify(collection.handle, sample=0).passed
    assert client.count(BESIDE).count == before
    assert [own.id for own in passages(collection, "3")] == [own.id for own in first]


def test_passages_that_are_left_over_alone_are_told_and_deleted(collection: Collection) -> None:
    gone = {PARENT: "77", "text": "?", "place": 0, "of": 1}
    collection.client.upsert(BESIDE, [models.PointStruct(id=1, vector={"dense.1": [1.0] * 64}, payload=gone)])
    report = verify(collection.handle, sample=0)
    assert (report.passed, report.faulty, report.repairable) == (False, 0, True)
    mend(collection.handle, report)
    assert verify(collection.handle, sample=0).passed


def test_a_collection_of_passages_that_is_gone_is_made_again(collection: Collection) -> None:
    expected = [(hit.id, round(hit.score, 4)) for hit in collection.search("w1 w2", limit=20)]
    collection.client.delete_collection(BESIDE)
    report = verify(collection.handle, sample=0)
    assert report.lines() == [f"dense: collection '{BESIDE}' of its passages is gone"]
    mend(collection.handle, report)
    assert verify(collection.handle, sample=0).passed
    assert [(hit.id, round(hit.score, 4)) for hit in collection.search("w1 w2", limit=20)] == expected


def test_writers_of_the_same_document_leave_it_with_its_passages(collection: Collection) -> None:
    """The worst order: one deletes what another has written just before it wrote the document."""
    client: Any = collection.client
    point: Any = next(hit.point for hit in collection.search("w1", limit=30) if hit.id == "5")
    late: list[Any] = []
    delete = client.delete

    def interleaved(name: str, selector: Any, **options: Any) -> Any:
        if name == BESIDE and not late:
            late.append(1)
            collection.populate([Document("5", "w8 w9. " * 40)])  # another writer, whole, while the first cleans up
            record = client.retrieve("c", [point], with_vectors=False)[0]
            assert "w8" in (record.payload or {})["text"]
            chosen = models.Filter(must=[models.FieldCondition(key=PARENT, match=models.MatchValue(value=str(point)))])
            delete(BESIDE, models.FilterSelector(filter=chosen))  # all of them, those of the other writer, too
        return delete(name, selector, **options)

    client.delete = interleaved
    collection.populate([Document("5", "w6 w7. " * 40)])
    client.delete = delete
    assert late
    assert verify(collection.handle, sample=0).passed
    assert collection.search("w8 w9", limit=1)[0].id == "5"
