"""Pairs for a drift map are drawn from all over a collection, and tell of the old encoder alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from diptych.metadata.models import Generation
from diptych.slots.drift_maps import Map
from diptych.swap.backfill.drift_fallback import live_pairs
from diptych.swap.drift import fit
from diptych.types import Floats

WIDTH = 12


def generation(number: int) -> Generation:
    facts = {"adapter": "fake-dense", "options": {}, "space": "s", "numerics": "n"}
    return Generation.model_validate({"number": number, "vector": f"dense.{number}", "kind": "dense", **facts})


OLD, NEW = generation(1), generation(2)


def spaces(count: int, noise: float = 0.3) -> tuple[Floats, Floats]:
    """New and old vectors: the one a turn of the other, and not quite."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))
    old = rng.normal(size=(count, WIDTH))
    new = old @ turn + noise * rng.normal(size=old.shape)
    return np.asarray(new, np.float32), np.asarray(old, np.float32)


def fill(client: QdrantBase, new: Floats, old: Floats, *, lacking: Sequence[int] = ()) -> None:
    """Points 0 to n; those of `lacking` have no new vector."""
    params = models.VectorParams(size=WIDTH, distance=models.Distance.COSINE)
    client.create_collection("c", vectors_config={OLD.vector: params, NEW.vector: params})
    points = [
        models.PointStruct(
            id=row, vector={OLD.vector: theirs.tolist()} | ({} if row in lacking else {NEW.vector: ours.tolist()})
        )
        for row, (ours, theirs) in enumerate(zip(new, old, strict=True))
    ]
    client.upsert("c", points)


def rows_of(found: Floats, whole: Floats) -> list[int]:
    """Which rows of `whole` the unit rows of `found` are."""
    return np.asarray(found @ whole.T / np.linalg.norm(whole, axis=1)).argmax(axis=1).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("whole", [1000, 0], ids=["read", "probed"])
def test_pairs_are_drawn_from_all_over_the_points_that_have_both_vectors(
    client: QdrantBase, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old = spaces(400)
    fill(client, new, old, lacking=range(300, 400))
    monkeypatch.setattr("diptych.swap.backfill.drift_fallback.MOST_PAIRS", 60)
    monkeypatch.setattr("diptych.swap.backfill.drift_fallback.MOST_IDS_READ", whole)
    ours, theirs = live_pairs(client, "c", NEW, OLD)
    rows = rows_of(theirs, old)
    assert rows_of(ours, new) == rows, "row by row the same document"
    assert len(set(rows)) == 60
    assert max(rows) < 300
    assert abs(np.mean(rows) - 150) < 50, "from all over, not the first"
    again, _ = live_pairs(client, "c", NEW, OLD)
    assert rows_of(again, new) == rows


def test_pairs_of_which_a_vector_is_zero_are_left_out(client: QdrantBase) -> None:
    new, old = spaces(30)
    new[3], old[5] = 0, 0
    fill(client, new, old)
    found, _ = live_pairs(client, "c", NEW, OLD)
    assert sorted(rows_of(found, spaces(30)[0])) == [row for row in range(30) if row not in (3, 5)]


def test_documents_that_were_written_through_a_map_are_no_pairs(client: QdrantBase) -> None:
    new, old = spaces(300)
    drift = fit(new[:200], old[:200]).map
    written = np.concatenate([old[:200], drift.apply(new[200:])])
    fill(client, new, np.asarray(written, np.float32))
    everything, _ = live_pairs(client, "c", NEW, OLD)
    assert len(everything) == 300
    ours, theirs = live_pairs(client, "c", NEW, OLD, [drift])
    assert sorted(rows_of(ours, new)) == list(range(200))
    assert sorted(rows_of(theirs, old)) == list(range(200))


def test_in_a_collection_without_pairs_there_are_none(client: QdrantBase) -> None:
    new, old = spaces(20)
    fill(client, new, old, lacking=range(20))
    identity = Map("procrustes", np.eye(WIDTH, dtype=np.float32), np.zeros(WIDTH, np.float32))
    assert [len(side) for side in live_pairs(client, "c", NEW, OLD, [identity])] == [0, 0]
