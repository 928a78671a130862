"""Texts from the original source, points that lack a vector, and clean-up: what a swap must not leave behind."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych import Registry
from diptych.errors import ApplyRunning, SwapError
from diptych.metadata.payloads import NATIVE
from diptych.populate.store import Store
from diptych.stores import retired_vectors
from diptych.swap import ApplyOptions
from diptych.swap.documents import SourceDocuments
from diptych.swap.gate.gate import run_gate
from diptych.types import Document
from swaps import DENSE, NEW_ENCODER, OTHER, Faults, Killed, Make, Meanwhile, Open, corpus

THIRD: dict[str, Any] = {**DENSE, "seed": 2}
LEXICAL: dict[str, Any] = {"adapter": "fake-calibrated", "dimension": 512}
APPLYING = importlib.import_module("diptych.swap.apply")  # the package's attribute of that name is the function


# the original source


def test_a_document_that_changes_while_texts_come_from_the_source_gets_the_vector_of_its_new_text(
    client: QdrantBase, config: Make, opened: Open, faults: Faults
) -> None:
    found = opened(client, config({"dense": DENSE}))
    found.populate(corpus(60))
    writing = opened(client)
    changed = [Document(str(n), f"quite other text {n}") for n in range(30, 60)]
    with SourceDocuments(found.handle, corpus(60)) as source:
        options = ApplyOptions(documents=source, gate=False)
        found.apply(config({"dense": OTHER}), options, progress=Meanwhile(lambda: writing.populate(changed)))
    assert faults(client, "dense.2", NEW_ENCODER) == []


def test_an_encoder_that_is_calibrated_measures_the_source_where_payloads_have_no_text(
    client: QdrantBase, config: Make, opened: Open
) -> None:
    found = opened(client, config({"dense": DENSE}))
    found.populate(corpus(30))
    client.delete_payload("c", ["text"], points=models.Filter())
    both = config({"dense": DENSE, "lexical": LEXICAL})
    with pytest.raises(SwapError, match=r"slot 'lexical' is calibrated .*, and there are none with a text"):
        found.apply(both)
    with SourceDocuments(found.handle, corpus(30)) as source:
        found.apply(both, ApplyOptions(documents=source))
    statistics = found.handle.read().live.slots["lexical"].statistics
    assert statistics is not None
    assert statistics["documents"] == 30


# points that lack a vector


def test_a_repair_that_is_killed_before_it_looked_again_is_done_again(
    client: QdrantBase, config: Make, opened: Open, faults: Faults, monkeypatch: pytest.MonkeyPatch, fakes: Registry
) -> None:
    found = opened(client, config({"dense": DENSE}))
    found.populate(corpus(20))
    writing = opened(client)
    found.apply(config({"dense": OTHER}), ApplyOptions(cut_over=False))
    client.delete_vectors(
        "c", ["dense.2"], [NATIVE.point_id(Document("3", ""), fakes)]
    )  # a populate that had no new encoder

    def killed(points: Store, given: Sequence[models.PointVectors]) -> set[int | str]:
        writing.populate([Document("3", "quite another text")])
        add(points, given)
        raise Killed

    add = Store.add_vectors
    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_vectors", killed)
        with pytest.raises(Killed):
            found.apply(config({"dense": OTHER}))
    assert faults(client, "dense.2", NEW_ENCODER) != []
    assert opened(client).apply(config({"dense": OTHER})).outcome == "cut over"
    assert faults(client, "dense.2", NEW_ENCODER) == []


# clean-up


def test_no_swap_begins_while_another_still_clears_up_after_its_cut_over(
    client: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(client, config({"dense": DENSE}))
    first.populate(corpus(20))
    second = opened(client)
    first.apply(config({"dense": OTHER}))
    drop, refused = retired_vectors.drop_orphans, list[str]()

    def between(*given: Any, **more: Any) -> retired_vectors.Dropped:
        if more:  # the rest, for which the lease is not needed
            return drop(*given, **more)
        with pytest.raises(ApplyRunning) as told:
            second.apply(config({"dense": DENSE}))
        refused.append(told.value.what)
        return drop(*given)

    with monkeypatch.context() as patch:
        patch.setattr(APPLYING, "drop_orphans", between)
        assert first.apply(config({"dense": THIRD})).outcome == "cut over"
    assert refused == ["a swap is being applied to the collection already"]
    assert second.apply(config({"dense": DENSE})).outcome == "cut over"


def test_a_stop_during_the_gate_leaves_the_old_encoder_live(
    memory: QdrantBase, config: Make, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, stopped = opened(memory, config({"dense": DENSE})), threading.Event()
    found.populate(corpus(20))

    def interrupted(*given: Any, **options: Any) -> Any:
        stopped.set()
        return run_gate(*given, **options)

    monkeypatch.setattr("diptych.swap.gate.decision.run_gate", interrupted)
    assert found.apply(config({"dense": OTHER}), stopped=stopped).outcome == "filled"
    assert found.handle.read().live.slots["dense"].vector == "dense.1"
