"""Scores of anchors are vectors like others: populate, swap, rollback and copies keep them complete."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase

from diptych import Collection
from diptych.collection.explain import Explanation
from diptych.copying import copy_collection
from diptych.plugins.anchor_scores import AnchorEncoder, write_anchors
from diptych.swap import plan
from diptych.testing.fakes import FakeReranker
from diptych.types import Document

WORDS = [f"word{n}" for n in range(20)]
FIRST, OTHERS = ([f"word{n} word{n + step}" for n in range(10)] for step in (5, 7))


def corpus(size: int, seed: int = 0) -> list[Document]:
    chance = random.Random(seed)
    return [Document(f"{seed}-{n}", " ".join(chance.sample(WORDS, 8))) for n in range(size)]


def encoder(anchors: Sequence[str]) -> AnchorEncoder:
    return AnchorEncoder(FakeReranker(), anchors, "any")


def slots(path: Path, anchors: Sequence[str]) -> dict[str, Any]:
    write_anchors(path, anchors)
    return {
        "dense": {"adapter": "fake-dense", "dimension": 16},
        "scores": {"adapter": "fake-reranker", "record": False, "anchors": {"texts": str(path)}},
    }


EXPLORING = {
    "retrieve": {"dense": 20},
    "rerank": [
        {"adapter": "fake-reranker", "record": False, "candidates": 20, "explore": {"anchors": "scores", "budget": 60}}
    ],
}


def explained(collection: Collection) -> Explanation:
    return collection.explain("word1 word2 word3", limit=1)[0]


def test_anchors_follow_populate_swap_rollback_and_finish(
    client: QdrantBase,
    tmp_path: Path,
    config: Callable[..., Any],
    opened: Callable[..., Collection],
    faults: Callable[..., list[str]],
) -> None:
    gate = {"swap": {"gate": {"missing": 0}}}
    plain = config({"dense": {"adapter": "fake-dense", "dimension": 16}})
    one = config(slots(tmp_path / "one.txt", FIRST), search=EXPLORING, **gate)
    other = config(slots(tmp_path / "other.txt", OTHERS), search=EXPLORING, **gate)
    opened(client, plain).populate(corpus(60))

    added = opened(client)
    assert [step.action for step in plan(added.handle, one).steps] == ["keep", "add"]
    assert added.apply(one).outcome == "cut over"
    assert not faults(client, "scores.1", encoder(FIRST))
    assert "no candidates" in explained(opened(client)).notes[0]

    opened(client, one).populate([*corpus(20, seed=1), *(Document(f"0-{n}", f"word{n} anew") for n in range(5))])
    assert not faults(client, "scores.1", encoder(FIRST))

    swapped = opened(client)
    (step,) = [step for step in plan(swapped.handle, other).steps if step.slot == "scores"]
    assert (step.action, step.encode) == ("re-encode", 80)
    assert swapped.apply(other).outcome == "cut over"
    opened(client, other).populate(corpus(5, seed=2))
    assert not faults(client, "scores.2", encoder(OTHERS))
    assert not faults(client, "scores.1", encoder(FIRST)), "the old scores are kept up for a rollback"

    back = opened(client)
    back.rollback()
    assert "no candidates" in explained(opened(client)).notes[0]
    back.finish()
    assert not faults(client, "scores.1", encoder(FIRST))


class StopsAfterAPage:
    """A progress that stops the apply once a page of documents is filled, and gives the next page time to follow."""

    def __init__(self) -> None:
        self.stopped, self.filled = threading.Event(), list[int]()

    def begin(self, stage: str, total: int | None) -> None: ...

    def advance(self, stage: str, n: int) -> None:
        if stage == "fill":
            self.filled.append(n)
            if not self.stopped.is_set():
                time.sleep(1.0)  # what is settled meanwhile must be told as well
                self.stopped.set()


def test_a_page_has_few_documents_where_each_is_scored_for_many_anchors(
    client: QdrantBase, tmp_path: Path, config: Callable[..., Any], opened: Callable[..., Collection]
) -> None:
    whole: Any = {"populate": {"chunk": 1024}}
    plain = config({"dense": {"adapter": "fake-dense", "dimension": 16}}, **whole)
    pairs = [f"{one} {other}" for one in WORDS for other in WORDS if one != other]
    many = config(slots(tmp_path / "many.txt", pairs), search=EXPLORING, swap={"gate": {"missing": 0}}, **whole)
    opened(client, plain).populate(corpus(60))

    progress = StopsAfterAPage()
    opened(client, plain).apply(many, progress=progress, stopped=progress.stopped)
    assert progress.filled[0] * len(pairs) <= 2048, "a kill costs few calls, and the progress moves"
    assert opened(client, plain).apply(many).encoded == {"scores.1": 60 - sum(progress.filled)}


def test_anchors_follow_a_copy(
    client: QdrantBase,
    tmp_path: Path,
    config: Callable[..., Any],
    opened: Callable[..., Collection],
    faults: Callable[..., list[str]],
) -> None:
    opened(client, config(slots(tmp_path / "a.txt", FIRST), search=EXPLORING)).populate(corpus(40))
    target = QdrantClient(":memory:")
    source = opened(client)
    copy_collection(client, "c", target, "c")
    assert not faults(target, "scores.1", encoder(FIRST))
    before, after = explained(source), explained(opened(target))
    assert (before.document.id, before.score, before.notes) == (after.document.id, after.score, after.notes)
