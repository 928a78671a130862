"""From all token vectors of a document to a few of them and back, with edits between."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Collection, Registry
from diptych.collection.verify import mend, verify
from diptych.config.models import SlotConfig
from diptych.errors import FingerprintMismatch
from diptych.plugins.token_pooling import ReducedEncoder, ReduceOptions
from diptych.slots.slot import Slot
from diptych.swap import plan
from diptych.swap.plan import Estimate
from diptych.testing import FakeMultiVectorEncoder, fakes_plugin
from diptych.types import Document
from swaps import Make, Open

PLAIN: dict[str, Any] = {"late": {"adapter": "fake-multivector", "dimension": 16}}
WITH: dict[str, Any] = {"late": {**PLAIN["late"], "reduce": {"kind": "ward", "keep": 5}}}
INNER = FakeMultiVectorEncoder(dimension=16)
REDUCED = ReducedEncoder(INNER, ReduceOptions(kind="ward", keep=5))
QUERY = "word3 word5 word11"


def corpus(size: int, seed: int = 0) -> list[Document]:
    chance = random.Random(seed)
    texts = (" ".join(f"word{chance.randrange(17)}" for _ in range(chance.randint(3, 40))) for _ in range(size))
    return [Document(str(n), f"number{n} {text}") for n, text in enumerate(texts)]


def scored_by(collection: Collection) -> str:
    """Whose document vectors gave the hits' scores; queries are whole in any case."""
    hits = collection.search(QUERY, limit=5)
    (query,), texts = INNER.encode_query([QUERY]), [hit.document.text for hit in hits]
    for name, encoder in (("plain", INNER), ("reduced", REDUCED)):
        expected = [float((query @ own.T).max(axis=1).sum()) for own in encoder.encode_document(texts)]
        if np.allclose(expected, [hit.score for hit in hits], atol=1e-4):
            return name
    return "nobody"


def test_plan_tells_the_swap_and_its_size_and_apply_and_rollback_carry_it(
    client: QdrantBase, config: Make, opened: Open
) -> None:
    collection = opened(client, config(PLAIN))
    collection.populate(corpus(40))
    (step,) = plan(collection.handle, config(WITH)).steps
    assert (step.action, step.encode) == ("re-encode", 40)
    assert "reduce: unset -> {kind: ward, keep: 5}" in step.why
    texts = [document.text for document in corpus(40)]
    means = [np.mean([len(own) for own in encoder.encode_document(texts)]) for encoder in (INNER, REDUCED)]
    assert step.reduced == pytest.approx(means)
    assert step.disk == int(means[1] * 16 * 4 * 40)
    collection.apply(config(WITH))
    assert scored_by(collection) == "reduced"
    collection.populate([Document("new", f"{QUERY} " * 9), *corpus(3, seed=1)])
    assert scored_by(collection) == "reduced"
    collection.rollback()
    assert scored_by(collection) == "plain"


def test_another_number_is_a_swap_and_none_is_one_back(client: QdrantBase, config: Make, opened: Open) -> None:
    collection = opened(client, config(WITH))
    collection.populate(corpus(20))
    for reduce in ({"kind": "ward", "keep": 6}, None):
        slot = {**PLAIN["late"], **({"reduce": reduce} if reduce else {})}
        assert [step.action for step in plan(collection.handle, config({"late": slot})).steps] == ["re-encode"]
    assert [step.action for step in plan(collection.handle, config(WITH)).steps] == ["keep"]
    with pytest.raises(FingerprintMismatch, match="reduce"):
        opened(client, config(PLAIN)).search(QUERY)


def test_reduced_documents_are_explained_and_verified_and_whole_ones_among_them_mended(
    memory: QdrantBase, config: Make, opened: Open
) -> None:
    collection = opened(memory, config(WITH))
    collection.populate(corpus(20))
    for hit, explanation in zip(collection.search(QUERY), collection.explain(QUERY), strict=True):
        (query,), (document,) = INNER.encode_query([QUERY]), REDUCED.encode_document([hit.document.text])
        assert hit.score == pytest.approx(float((query @ document.T).max(axis=1).sum()), abs=1e-4)
        assert explanation.slots["late"].score == pytest.approx(hit.score, abs=1e-5)
    assert verify(collection.handle, sample=None).passed
    whole = INNER.encode_document([hit.document.text])[0].tolist()
    vector = {collection.handle.slots["late"].vector: whole}
    memory.update_vectors("c", [models.PointVectors(id=hit.point, vector=vector)])
    report = verify(collection.handle, sample=None)
    assert {name: [*ids.values()] for name, ids in report.vectors.items()} == {"late": [hit.id]}
    assert mend(collection.handle, report) == (1, 0)
    assert verify(collection.handle, sample=None).passed


@pytest.mark.parametrize("passages", [{}, {"passages": {"tokens": 16, "overlap": 2}}])
def test_an_estimate_encodes_each_sampled_text_once(monkeypatch: pytest.MonkeyPatch, passages: dict[str, Any]) -> None:
    """Vectors before the reduction are counted on the way; the sample was encoded a second time for them."""
    read = list[str]()
    encode = FakeMultiVectorEncoder.encode_document

    def seen(encoder: FakeMultiVectorEncoder, inputs: Sequence[str]) -> Any:
        read.extend(inputs)
        return encode(encoder, inputs)

    monkeypatch.setattr(FakeMultiVectorEncoder, "encode_document", seen)
    slot = Slot(
        "late", SlotConfig.model_validate({**WITH["late"], **passages}), None, Registry(fakes_plugin, installed=False)
    )
    texts = [document.text for document in corpus(40)]
    estimate = Estimate.of(slot, texts)
    assert estimate.reduced is not None
    assert estimate.reduced[0] > estimate.reduced[1]
    last = texts[-1]
    assert sum(last.endswith(one) and one != "" for one in read) == 1
