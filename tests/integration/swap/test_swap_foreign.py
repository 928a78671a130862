"""What others keep in a collection, vectors and payload keys, is theirs: a swap takes no name of it and drops none."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Collection, Registry
from diptych.adopt import adopt
from diptych.handle.collection_handle import CollectionHandle
from diptych.stores.retired_vectors import existing
from diptych.swap import ApplyOptions
from diptych.testing.fakes import FakeDenseEncoder
from diptych.types import Document
from named_server import require_vector_names
from swaps import DENSE, OTHER, Killed, Make, Open

INDEX: dict[str, Any] = {"adapter": "qdrant-text-index"}
COSINE = models.VectorParams(size=16, distance=models.Distance.COSINE)
TEXTS = [f"word{n % 17} number{n}" for n in range(40)]
OWN, FOREIGN = FakeDenseEncoder(dimension=16), FakeDenseEncoder(dimension=16, seed=3)


# vectors


def fill(client: QdrantBase, *foreign: str) -> None:
    """Points with `dense.1`, made by an encoder that can be named, and others beside it."""
    client.create_collection("c", vectors_config=dict.fromkeys(("dense.1", *foreign), COSINE))
    own, other = (encoder.encode_document(TEXTS).tolist() for encoder in (OWN, FOREIGN))
    points = [
        models.PointStruct(id=n, payload={"text": text}, vector={"dense.1": own[n], **dict.fromkeys(foreign, other[n])})
        for n, text in enumerate(TEXTS)
    ]
    client.upsert("c", points)


def untouched(client: QdrantBase, vector: str) -> bool:
    records, _ = client.scroll("c", limit=100, with_vectors=[vector])
    expected = FOREIGN.encode_document([str((record.payload or {})["text"]) for record in records])
    found = [record.vector[vector] for record in records]  # type: ignore[index, call-overload]
    return len(found) == len(TEXTS) and bool(np.allclose(expected, np.asarray(found, np.float32), atol=1e-5))


def test_vectors_that_are_named_like_generations_stay_the_users_through_adoption_and_swaps(
    client: QdrantBase, config: Make, opened: Open, fakes: Registry
) -> None:
    require_vector_names(client)
    fill(client, "dense.2", "late.1")
    adopt(client, "c", config({"dense": DENSE}), vectors={"dense": "dense.1"}, registry=fakes)
    found = opened(client)
    assert found.status().orphans == ()
    assert found.apply(config({"dense": DENSE})).outcome == "nothing to do"
    both = {"dense": DENSE, "late": {**DENSE, "seed": 5}}
    assert found.apply(config(both)).encoded == {"late.2": 40}
    assert found.apply(config({**both, "dense": OTHER})).encoded == {"dense.3": 40}
    assert found.finish().dropped == ("dense.1",)
    assert existing(client, "c") == {"dense.2", "dense.3", "late.1", "late.2"}
    assert untouched(client, "dense.2")
    assert untouched(client, "late.1")


def test_a_vector_that_a_user_adds_to_a_collection_of_ours_is_not_taken_for_a_leftover(
    client: QdrantBase, config: Make, opened: Open
) -> None:
    require_vector_names(client)
    found = opened(client, config({"dense": DENSE}))
    found.populate([{"id": str(n), "text": text} for n, text in enumerate(TEXTS)])
    named = models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=16, distance=models.Distance.COSINE))
    client.create_vector_name("c", "dense.2", named)
    assert found.status().orphans == ()
    assert found.apply(config({"dense": OTHER})).encoded == {"dense.3": 40}
    found.rollback()
    found.finish()
    assert existing(client, "c") == {"dense.1", "dense.2"}


def test_vectors_of_which_a_kill_left_no_word_but_their_names_are_dropped_and_only_they(
    client: QdrantBase, config: Make, opened: Open, fakes: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_vector_names(client)
    fill(client, "late.1")
    adopt(client, "c", config({"dense": DENSE}), vectors={"dense": "dense.1"}, registry=fakes)

    create = client.create_vector_name

    def create_and_die(*args: Any) -> None:
        create(*args)
        raise Killed

    both = {"dense": DENSE, "late": {**DENSE, "seed": 5}}
    with monkeypatch.context() as patch:
        patch.setattr(client, "create_vector_name", create_and_die)
        with pytest.raises(Killed):
            opened(client).apply(config(both))
    assert opened(client).status().orphans == ("late.2",)
    assert opened(client).apply(config({"dense": DENSE})).outcome == "nothing to do"
    assert existing(client, "c") == {"dense.1", "late.1"}
    assert opened(client).apply(config(both)).encoded == {"late.2": 40}
    assert untouched(client, "late.1")


# payload keys


def keys(client: QdrantBase, key: str) -> Mapping[int | str, Any]:
    records, _ = client.scroll("c", limit=100)
    payloads = [record.payload or {} for record in records]
    return {payload["_diptych"]["id"]: payload[key] for payload in payloads if key in payload}


def documents(size: int, **metadata: Any) -> list[Document]:
    return [Document(str(n), TEXTS[n], metadata={**metadata, "own": n}) for n in range(size)]


@pytest.mark.parametrize("value", ["the user's", 7, None, [], {"nested": True}])
def test_a_text_index_takes_no_payload_key_that_some_point_has(
    edge: QdrantBase, config: Make, everything: Registry, value: Any
) -> None:
    found = Collection(CollectionHandle(edge, "c", config({"dense": DENSE}), everything))
    found.populate([*documents(20), Document("other", "another text", metadata={"_lexical": value})])
    both = config({"dense": DENSE, "lexical": INDEX})
    found.apply(both)
    assert found.handle.slots["lexical"].vector == "_lexical_2"
    assert found.search("another")[0].document.metadata == {"_lexical": value}
    assert keys(edge, "_lexical") == {"other": value}
    found.rollback()
    found.finish()
    assert keys(edge, "_lexical") == {"other": value}
    assert keys(edge, "_lexical_2") == {}


def test_a_text_index_takes_no_payload_key_that_the_user_has_indexed(
    edge: QdrantBase, config: Make, everything: Registry
) -> None:
    found = Collection(CollectionHandle(edge, "c", config({"dense": DENSE}), everything))
    found.populate(documents(20))
    edge.create_payload_index("c", "_lexical", field_schema=models.PayloadSchemaType.KEYWORD)
    found.apply(config({"dense": DENSE, "lexical": INDEX}))
    assert found.handle.slots["lexical"].vector == "_lexical_2"


def test_a_document_that_has_a_payload_key_of_a_text_index_is_set_aside_and_not_overwritten(
    edge: QdrantBase, config: Make, everything: Registry
) -> None:
    """In a new collection as well as in one to which a swap brings the text index while a populate runs."""
    own = config({"lexical": INDEX}, populate={"chunk": 4})
    first = Collection(CollectionHandle(edge, "new", own, everything))
    report = first.populate([*documents(3), Document("other", "a text", metadata={"_lexical": "theirs"})])
    assert (report.new, [one.id for one in report.examples]) == (3, ["other"])
    assert "reserved key '_lexical'" in report.examples[0].reason
    started, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[Document]:
        yield from documents(30)
        started.set()
        assert go_on.wait(120)
        yield from (Document(f"late{n}", f"a text {n}", metadata={"_lexical": "theirs"}) for n in range(20))

    populating = Collection(CollectionHandle(edge, "c", config({"dense": DENSE}), everything))
    populating.populate(documents(10))
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(populating.populate, slowly())
        assert started.wait(120)
        applying = Collection(CollectionHandle(edge, "c", None, everything))
        applying.apply(config({"dense": DENSE, "lexical": INDEX}), ApplyOptions(gate=False))
        go_on.set()
        report = writing.result()
    assert (report.set_aside, edge.count("c").count) == (20, 30)
    assert "theirs" not in keys(edge, "_lexical").values()
