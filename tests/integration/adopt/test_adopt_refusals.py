"""What cannot be adopted is refused in words that say what to do; what may surprise is a warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

import diptych_adapters.hooks
from diptych import Registry
from diptych.adopt import adopt, stated_layout
from diptych.collection.collection import Collection
from diptych.config.models import Config
from diptych.errors import CollectionError, CollectionNotFound, FingerprintMismatch, StoreError, StoreUnsupported
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.store import read_metadata
from diptych.populate import populate
from diptych.swap import ApplyOptions
from diptych.testing import (
    FakeCalibratedEncoder,
    FakeDenseEncoder,
    FakeMultiVectorEncoder,
    FakeSparseEncoder,
    fakes_plugin,
)

TEXTS = [f"alpha{n} beta{n % 7} gamma{n % 5}" for n in range(40)]
DENSE = {"dense": {"adapter": "fake-dense", "dimension": 16}}
COSINE = models.VectorParams(size=16, distance=models.Distance.COSINE)


def config(slots: Mapping[str, Any] = DENSE, **populate: Any) -> Config:
    raw = {"collection": "c", "slots": slots, "populate": populate, "cache": {"enabled": False}}
    return Config.model_validate(raw)


def encoded(texts: list[str], **options: Any) -> list[list[float]]:
    return [vector.tolist() for vector in FakeDenseEncoder(dimension=16, **options).encode_document(texts)]


def fill(
    client: QdrantClient,
    payloads: list[dict[str, Any]],
    vectors: list[Any],
    params: Any = COSINE,
    sparse: Any = None,
) -> None:
    client.create_collection("c", vectors_config=params, sparse_vectors_config=sparse)
    points = [
        models.PointStruct(id=n, vector=vector, payload=payload)
        for n, (payload, vector) in enumerate(zip(payloads, vectors, strict=True))
    ]
    if points:
        client.upsert("c", points)


def plain(texts: list[str] = TEXTS) -> list[dict[str, Any]]:
    return [{"text": text, "kind": "x"} for text in texts]


def titled() -> list[dict[str, Any]]:
    return [{"text": text, "title": f"delta{n % 3} head"} for n, text in enumerate(TEXTS)]


def test_a_collection_that_is_not_there(memory: QdrantClient, registry: Registry) -> None:
    with pytest.raises(CollectionNotFound, match="there is no collection 'c'"):
        adopt(memory, "c", config(), registry=registry)


TITLED = [f"{payload['title']} {payload['text']}" for payload in titled()]
NOISE = np.random.default_rng(1).normal(scale=0.06, size=(40, 16))
SPARSE = {"sp": models.SparseVectorParams()}
WORDS = {"adapter": "qdrant-text-index"}
UNKNOWN = [{"body": text, "sku": "extra"} for text in TEXTS]
STATED = {"layout": stated_layout(text="body")}


def slot(**options: Any) -> dict[str, Any]:
    return {"dense": {**DENSE["dense"], **options}}


@dataclass(frozen=True)
class Refused:
    """A collection, a config and what the refusal says; the vectors are of the texts unless others are given."""

    says: str
    payloads: list[dict[str, Any]] = field(default_factory=plain)
    vectors: Sequence[Any] = field(default_factory=lambda: encoded(TEXTS))
    params: Any = field(default_factory=lambda: COSINE)
    sparse: Any = None
    slots: Mapping[str, Any] = field(default_factory=slot)
    given: Mapping[str, Any] = field(default_factory=dict)
    populate: Mapping[str, Any] = field(default_factory=dict)


REFUSED: dict[str, Refused] = {
    "empty": Refused("the collection is empty: there is nothing to adopt", [], []),
    "text index": Refused(
        r"a text index has no vectors that show what made it\n(.*\n)+  do: adopt without this slot, and add it",
        slots={**DENSE, "words": WORDS},
    ),
    "no text": Refused(
        r"the points hold no text\n.*\n  got: payload keys id, kind\n.*\n.*--text",
        [{"kind": 3, "id": n} for n in range(40)],
    ),
    "no payload": Refused("got: points without payload", [{} for _ in TEXTS]),
    "two layouts": Refused(
        r"several layouts\n.*\n  got: 30 of 40 sampled as by hand, 10 of 40 sampled as langchain",
        [*({"page_content": text, "metadata": {}} for text in TEXTS[:10]), *plain(TEXTS[10:])],
    ),
    "unknown slot": Refused("the config has no slot 'nope'", given={"vectors": {"nope": ""}}),
    "unknown vector": Refused("the collection has no vector 'nope'", given={"vectors": {"dense": "nope"}}),
    "impossible vector": Refused(
        "the slot's encoder cannot have made this vector", sparse=SPARSE, given={"vectors": {"dense": "sp"}}
    ),
    "two slots of one vector": Refused(
        "two slots use the vector ''",
        slots={**DENSE, "again": DENSE["dense"]},
        given={"vectors": {"dense": "", "again": ""}},
    ),
    "another dimension": Refused(
        r"no vector that the slot's encoder could have made\n.*\n  got: the unnamed vector \(dense, 16, Cosine\)\n"
        "  expected: dense, 32, cosine",
        slots=slot(dimension=32),
    ),
    "another kind": Refused(
        r"got: the unnamed vector.*\n  expected: sparse", slots={"lexical": {"adapter": "fake-sparse"}}
    ),
    "another distance": Refused(
        r"got: the unnamed vector \(dense, 16, Manhattan\)",
        params=models.VectorParams(size=16, distance=models.Distance.MANHATTAN),
    ),
    "a vector that no point has": Refused(
        r"no point has this vector\n.*slot 'lexical'",
        sparse=SPARSE,
        slots={**DENSE, "lexical": {"adapter": "fake-sparse"}},
    ),
}
MISMATCHED: dict[str, Refused] = {
    "an unknown title": Refused(
        r"do: .*--text KEY --title KEY", UNKNOWN, encoded([f"extra {text}" for text in TEXTS]), given=STATED
    ),
    "title and text": Refused(
        r"set populate\.input: \[title, text\] in the config .*median 1.0000, lowest 1.0000",
        titled(),
        encoded(TITLED),
        populate={"input": ["text"]},
    ),
    "text alone": Refused(r"set populate\.input: \[text\] in the config \(with that: cosine", titled()),
    "as queries": Refused("the documents were encoded as queries", slots=slot(document_prompt="please note")),
    "a usual prompt": Refused(
        "set the encoder's document_prompt: 'search_document: '",
        vectors=encoded([f"search_document: {text}" for text in TEXTS]),
    ),
    "lengths": Refused(
        "did not make these vectors",
        params=models.VectorParams(size=16, distance=models.Distance.DOT),
        slots=slot(similarity="dot", normalized=False),
    ),
    "another precision": Refused(
        r"\(cosine 0\.9[5-9]\d\d\)(.*\n)+  do: this may be the same model at another precision",
        vectors=(np.array(encoded(TEXTS)) + NOISE).tolist(),
    ),
}


@pytest.mark.parametrize("case", [*REFUSED, *MISMATCHED])
def test_what_cannot_be_adopted_is_refused_with_what_to_do(memory: QdrantClient, case: str) -> None:
    own = {**REFUSED, **MISMATCHED}[case]
    registry = Registry(fakes_plugin, diptych_adapters.hooks, installed=False)
    fill(memory, own.payloads, [*own.vectors], own.params, own.sparse)
    with pytest.raises(FingerprintMismatch if case in MISMATCHED else CollectionError, match=own.says):
        adopt(memory, "c", config(own.slots, **own.populate), registry=registry, **own.given)
    assert read_metadata(memory, "c") is None


def test_one_that_diptych_made_and_one_that_it_adopted(memory: QdrantClient, registry: Registry) -> None:
    fill(memory, plain(), encoded(TEXTS))
    adopt(memory, "c", config(), registry=registry)
    with pytest.raises(CollectionError, match=r"is already managed by diptych\n.*\n  got: adopted by .* at 20"):
        adopt(memory, "c", config(), registry=registry)
    populate(CollectionHandle(memory, "own", config(), registry), [{"id": "a", "text": "alpha"}])
    with pytest.raises(CollectionError, match=r"got: created by .*\n.*\n  do: open it as it is: diptych info"):
        adopt(memory, "own", config(), registry=registry)


def test_a_wrong_adoption_is_replaced_until_a_swap_begins(memory: QdrantClient, registry: Registry) -> None:
    fill(memory, [{"text": text, "code": f"c{n}"} for n, text in enumerate(TEXTS)], encoded(TEXTS))
    adopt(memory, "c", config(), registry=registry)
    wrong, other = Collection.open(memory, "c", registry=registry), config({"dense": {**DENSE["dense"], "seed": 2}})
    assert (wrong.search(TEXTS[7], limit=1)[0].id, wrong.get(["c7"])) == ("7", [])
    with pytest.raises(CollectionError, match=r"do: open it .*; if the adoption was wrong: diptych adopt --again"):
        adopt(memory, "c", config(), registry=registry)
    with pytest.raises(FingerprintMismatch):
        adopt(memory, "c", other, registry=registry, again=True)
    adopt(memory, "c", config(), registry=registry, again=True, layout=stated_layout(text="text", id="code"))
    wrong.handle.catch_up()
    assert wrong.search(TEXTS[7], limit=1)[0].id == "c7"
    assert [document.text for document in wrong.get(["c7"])] == [TEXTS[7]]
    metadata = read_metadata(memory, "c")
    assert metadata is not None
    assert [event.what for event in metadata.history] == ["adopted", "adopted"]
    right = Collection(CollectionHandle(memory, "c", config(), registry))
    assert right.apply(other, ApplyOptions(gate=False)).outcome == "cut over"
    with pytest.raises(CollectionError, match=r"expected: a collection adopted without media, and with no swap since"):
        adopt(memory, "c", other, registry=registry, again=True)


def test_some_points_without_text_are_counted(memory: QdrantClient, registry: Registry) -> None:
    fill(memory, [*plain(TEXTS[:36]), {"text": ""}, {}, {"kind": "y"}, {"text": None}], encoded(TEXTS))
    report = adopt(memory, "c", config(), registry=registry)
    assert report.warnings[0].startswith("4 points have no text under 'text': they are searched, but")
    assert [slot.sampled for slot in report.slots] == [36]


def test_points_with_a_title_alone_are_not_compared(memory: QdrantClient, registry: Registry) -> None:
    payloads = [*titled()[:36], *({"title": f"delta{n}"} for n in range(4))]
    inputs = [f"{own['title']} {own['text']}" for own in titled()[:36]]
    fill(memory, payloads, encoded([*inputs, *(f"other{n}" for n in range(4))]))
    report = adopt(memory, "c", config(), registry=registry)
    assert [(slot.sampled, slot.lowest > 0.99) for slot in report.slots] == [(36, True)]
    assert [warning for warning in report.warnings if "other vectors" in warning] == []


def test_ambiguous_vectors_are_listed_and_the_user_decides(memory: QdrantClient, registry: Registry) -> None:
    vectors = [{"a": one, "b": two} for one, two in zip(encoded(TEXTS), encoded(TEXTS, seed=4), strict=True)]
    fill(memory, plain(), vectors, {"a": COSINE, "b": COSINE})
    with pytest.raises(CollectionError, match="several vectors could belong to the slot") as caught:
        adopt(memory, "c", config(), registry=registry)
    assert caught.value.got == "'a' (dense, 16, Cosine); 'b' (dense, 16, Cosine)"
    assert caught.value.do == "say which: --slot dense=a"
    with pytest.raises(FingerprintMismatch, match="slot 'dense', vector 'b'"):
        adopt(memory, "c", config(), vectors={"dense": "b"}, registry=registry)
    report = adopt(memory, "c", config(), vectors={"dense": "a"}, registry=registry)
    (warning,) = report.warnings
    assert warning.startswith("'b' (dense, 16, Cosine) belongs to no slot")


def test_the_distance_decides_between_vectors_of_one_dimension(memory: QdrantClient, registry: Registry) -> None:
    dot = models.VectorParams(size=16, distance=models.Distance.DOT)
    vectors = [{"a": one, "b": two} for one, two in zip(encoded(TEXTS, seed=4), encoded(TEXTS), strict=True)]
    fill(memory, plain(), vectors, {"a": dot, "b": COSINE})
    assert adopt(memory, "c", config(), registry=registry).slots[0].vector == "b"


def test_what_one_slot_takes_no_other_gets(memory: QdrantClient, registry: Registry) -> None:
    dot = models.VectorParams(size=16, distance=models.Distance.DOT)
    slots = {**DENSE, "other": {"adapter": "fake-dense", "dimension": 16, "seed": 4, "similarity": "dot"}}
    vectors = [{"a": one, "b": two} for one, two in zip(encoded(TEXTS, seed=4), encoded(TEXTS), strict=True)]
    fill(memory, plain(), vectors, {"a": dot, "b": COSINE})
    report = adopt(memory, "c", config(slots), registry=registry)
    assert {slot.name: slot.vector for slot in report.slots} == {"dense": "b", "other": "a"}


def test_a_config_that_asks_for_another_storage(memory: QdrantClient, registry: Registry) -> None:
    fill(memory, plain(), encoded(TEXTS))
    slots = {"dense": {**DENSE["dense"], "storage": {"on_disk": True}}}
    with pytest.raises(CollectionError, match="the config's storage differs from that of the vectors"):
        adopt(memory, "c", config(slots), registry=registry)
    memory.delete_collection("c")
    fill(memory, plain(), encoded(TEXTS), COSINE.model_copy(update={"on_disk": True}))
    assert adopt(memory, "c", config(slots), registry=registry).points == 40


def test_a_few_alien_points_are_named_and_many_refused(memory: QdrantClient, registry: Registry) -> None:
    texts = [f"alpha{n} beta{n % 7}" for n in range(64)]
    vectors = encoded(texts)
    vectors[10:12] = encoded(["something else", "and another"])
    fill(memory, plain(texts), vectors)
    (warning,) = adopt(memory, "c", config(), registry=registry).warnings
    assert "2 of 64 sampled points have other vectors than the encoder makes of their texts" in warning
    memory.delete_collection("c")
    fill(memory, plain(texts), [*encoded(texts[:40]), *encoded(texts[40:], seed=8)])
    with pytest.raises(FingerprintMismatch, match="did not make these vectors"):
        adopt(memory, "c", config(), registry=registry)


def test_points_without_the_vector_are_counted(memory: QdrantClient, registry: Registry) -> None:
    vectors: list[Any] = [{"v": vector} for vector in encoded(TEXTS)]
    vectors[4:9] = [{} for _ in range(5)]
    fill(memory, plain(), vectors, {"v": COSINE})
    report = adopt(memory, "c", config(), registry=registry)
    assert report.warnings == ("5 points have no 'v' (dense, 16, Cosine): slot 'dense' does not find them",)
    assert report.slots[0].sampled == 35


def test_a_calibrated_encoder_is_calibrated_on_the_collection(memory: QdrantClient, registry: Registry) -> None:
    encoder = FakeCalibratedEncoder(uses_idf=True)
    encoder.calibrate(encoder.measure(TEXTS))
    vectors = [
        {"sp": models.SparseVector(indices=v.indices.tolist(), values=v.values.tolist())}
        for v in encoder.encode_document(TEXTS)
    ]
    fill(memory, plain(), vectors, {}, {"sp": models.SparseVectorParams(modifier=models.Modifier.IDF)})
    slots = {"lexical": {"adapter": "fake-calibrated", "uses_idf": True}}
    report = adopt(memory, "c", config(slots), registry=registry)
    assert report.slots[0].lowest == pytest.approx(1)
    assert not report.warnings
    metadata = read_metadata(memory, "c")
    assert metadata is not None
    assert metadata.live.slots["lexical"].statistics == {"documents": 40.0, "tokens": 120.0}


def test_a_sparse_vector_without_the_idf_that_the_encoder_wants(memory: QdrantClient, registry: Registry) -> None:
    vectors = [
        {"sp": models.SparseVector(indices=v.indices.tolist(), values=v.values.tolist())}
        for v in FakeSparseEncoder().encode_document(TEXTS)
    ]
    fill(memory, plain(), vectors, {}, {"sp": models.SparseVectorParams()})
    slots = {"lexical": {"adapter": "fake-sparse", "uses_idf": True}}
    (warning,) = adopt(memory, "c", config(slots), registry=registry).warnings
    assert warning == (
        "slot 'lexical': 'sp' (sparse) has no IDF modifier, and the encoder's scores are meant with it; "
        "on a server, update_collection adds one"
    )


def test_multi_vectors_are_adopted(memory: QdrantClient, registry: Registry) -> None:
    multi = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    params = models.VectorParams(size=32, distance=models.Distance.COSINE, multivector_config=multi)
    vectors = [{"late": v.tolist()} for v in FakeMultiVectorEncoder().encode_document(TEXTS)]
    fill(memory, plain(), vectors, {"late": params})
    report = adopt(memory, "c", config({"late": {"adapter": "fake-multivector"}}), registry=registry)
    assert report.slots[0].lowest == pytest.approx(1)
    with pytest.raises(CollectionError, match="is already managed by diptych"):
        adopt(memory, "c", config({"late": {"adapter": "fake-multivector", "seed": 2}}), registry=registry)


def test_euclidean_vectors_are_ranked_by_nearness(memory: QdrantClient, registry: Registry) -> None:
    fill(memory, plain(), encoded(TEXTS), models.VectorParams(size=16, distance=models.Distance.EUCLID))
    (warning,) = adopt(memory, "c", config(), registry=registry).warnings
    assert "is compared by euclidean, and the encoder's vectors are meant for cosine" in warning
    hits = Collection.open(memory, "c", registry=registry).search(TEXTS[7], limit=3)
    assert hits[0].document.text == TEXTS[7]
    assert hits[0].score > hits[1].score > hits[2].score


def test_a_stated_layout_wins_and_wrong_keys_are_told(memory: QdrantClient, registry: Registry) -> None:
    payloads = [{"text": "never encoded", "note": {"de": text}, "nr": f"n{n % 20}"} for n, text in enumerate(TEXTS)]
    fill(memory, payloads, encoded(TEXTS))
    with pytest.raises(CollectionError, match="not every point has an id of its own"):
        adopt(memory, "c", config(), layout=stated_layout(text="note.de", id="nr"), registry=registry)
    with pytest.raises(CollectionError, match="no sampled point has both the slot's vector and a text"):
        adopt(memory, "c", config(), layout=stated_layout(text="nothing"), registry=registry)
    with pytest.raises(CollectionError, match="unknown layout"):
        stated_layout("lanchain")
    with pytest.raises(CollectionError, match=r"needs the key of the text\n.*\n  do: .*--text KEY"):
        stated_layout(title="t")
    found = adopt(memory, "c", config(), registry=registry).layout
    assert (found.text, found.id) == ("note.de", None)


def test_the_numbers_of_generations_begin_after_vectors_that_are_there(
    memory: QdrantClient, registry: Registry
) -> None:
    vectors = [{"dense.4": vector} for vector in encoded(TEXTS)]
    fill(memory, plain(), vectors, {"dense.4": COSINE})
    adopt(memory, "c", config(), registry=registry)
    metadata = read_metadata(memory, "c")
    assert metadata is not None
    assert metadata.numbers == {"dense": 4}
    collection = Collection.open(memory, "c", registry=registry)
    collection.apply(config({"dense": {**DENSE["dense"], "seed": 5}}), ApplyOptions(unmeasured=True))
    assert collection.handle.read().live.vectors() == {"dense.5"}


def test_a_key_that_may_not_write(registry: Registry) -> None:
    class ReadOnly(QdrantClient):
        """A client whose key may only read."""

        def update_collection(self, *args: Any, **kwargs: Any) -> bool:
            raise UnexpectedResponse(403, "Forbidden", b"read-only key", httpx.Headers())

    client = ReadOnly(":memory:")
    fill(client, plain(), encoded(TEXTS))
    with pytest.raises(StoreError, match=r"the store refuses the key\n  got: 403 Forbidden: read-only key"):
        adopt(client, "c", config(), registry=registry)
    client.close()


def test_a_store_that_keeps_no_metadata_says_so(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.metadata.store.PATIENCE", 0.1)

    class Old(QdrantClient):
        """A client of a server before collections had metadata."""

        def update_collection(self, *args: Any, **kwargs: Any) -> bool:
            return True

    client = Old(":memory:")
    fill(client, plain(), encoded(TEXTS))
    with pytest.raises(StoreUnsupported, match="the store keeps no metadata of collections"):
        adopt(client, "c", config(), registry=registry)
    client.close()
