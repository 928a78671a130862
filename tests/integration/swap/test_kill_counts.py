"""Populates and applies killed at random moments until a count is reached: 0 lost, 0 double, 0 stale.

The counts are DIPTYCH_POPULATE_KILLS (8 unless set) and DIPTYCH_APPLY_KILLS (6). At the end of each round the store is
compared with brute force: every document once, and every vector as its encoder makes it of the text.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.metadata.models import CollectionMetadata, Generation
from diptych.testing.fakes import FakeCalibratedEncoder, FakeDenseEncoder
from diptych.types import SparseVector
from diptych_edge import EdgeClient
from killed import CHUNK, Processes, fake, plain

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="the tests fork")]
POPULATE_KILLS = int(os.environ.get("DIPTYCH_POPULATE_KILLS", "8"))
APPLY_KILLS = int(os.environ.get("DIPTYCH_APPLY_KILLS", "6"))
SIZE, SEED = 160, int(os.environ.get("DIPTYCH_KILL_SEED", "11"))
Corpus = Sequence[Mapping[str, Any]]


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    made.close()


def slots(seed: int) -> dict[str, Any]:
    dense = fake("dense", dimension=16, seed=seed, delay=0.004)
    return {"dense": dense, "lexical": fake("calibrated", dimension=512 - seed, delay=0.002)}


def changing(version: int) -> Corpus:
    """The documents of a version: a third of them have changed since the one before, some are new, some are gone."""
    return [
        {"id": n, "text": f"word{n % 17} word{n % 23} number{n} version{(version + n) // 3}", "version": version // 2}
        for n in range(5 * version, 5 * version + SIZE)
    ]


def faults(folder: Path, documents: Corpus) -> Counter[str]:
    """What is lost, double, superfluous, missing or stale, counted over documents and vectors."""
    with EdgeClient(folder / "store") as client:
        points, _ = client.scroll("c", limit=100_000, with_vectors=True)
        metadata = client.get_collection("c").config.metadata or {}
        assert client.count("c", exact=True).count == len(points)
    ids = Counter(str((point.payload or {})["_diptych"]["id"]) for point in points)
    wanted = {str(document["id"]): document for document in documents}
    found = Counter(lost=len(wanted.keys() - ids), superfluous=len(ids.keys() - wanted), double=0)
    found["double"] += sum(count - 1 for count in ids.values())
    texts = [str((point.payload or {})["text"]) for point in points]
    kept = [wanted[str((point.payload or {})["_diptych"]["id"])] for point in points]
    found["stale payload"] += sum(text != own["text"] for text, own in zip(texts, kept, strict=True))
    for vector, (_, generation) in CollectionMetadata.model_validate(metadata["diptych"]).written().items():
        right = [rows(one) for one in made(generation, texts)]
        there = [plain(point.vector or {}).get(vector) for point in points]
        found["missing vector"] += sum(one is None for one in there)
        found["stale vector"] += sum(
            one is not None and not same(one, other) for one, other in zip(there, right, strict=True)
        )
    return +found


def made(generation: Generation, texts: Sequence[str]) -> Iterable[Any]:
    """The vectors of the texts, by an encoder of our own."""
    if generation.kind == "dense":
        return FakeDenseEncoder(dimension=16, seed=generation.options["seed"]).encode_document(texts)
    lexical = FakeCalibratedEncoder(dimension=generation.options["dimension"])
    lexical.calibrate(generation.statistics or {})
    return lexical.encode_document(texts)


def rows(vector: Any) -> Any:
    """A vector in plain values, as `plain` has those of the store."""
    if isinstance(vector, SparseVector):
        return [vector.indices.tolist(), vector.values.tolist()]
    return vector.tolist()


def same(one: Any, other: Any) -> bool:
    if one and isinstance(one[0], list):  # sparse: indices and values
        return bool(one[0] == other[0] and np.allclose(one[1], other[1], atol=1e-5))
    return bool(np.allclose(one, other, atol=1e-5))


class Killing:
    """Runs a task until it ends by itself, killed after a random while each time before.

    The whiles adapt, so that about two of three runs are killed, however fast the machine is.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance, self._longest, self.kills = chance, 0.5, 0

    def until_done(self, run: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        """What the last run said."""
        while (said := run(seconds=self._chance.uniform(0.0, self._longest)))["killed"]:
            self._longest, self.kills = self._longest * 1.15, self.kills + 1
        self._longest *= 0.75
        return said


def test_populates_killed_at_random_moments_lose_nothing_double_nothing_and_leave_nothing_stale(
    processes: Processes, tmp_path: Path
) -> None:
    killing, version, config = Killing(random.Random(SEED)), 0, {"slots": slots(0)}
    (tmp_path / "work").mkdir()
    while killing.kills < POPULATE_KILLS:
        version += 1
        task: dict[str, Any] = {"folder": tmp_path / "work", "do": "populate", "config": config}
        run = partial(processes.run, **task, corpus=changing(version), sync=True)
        killing.until_done(run)
        assert faults(tmp_path / "work", changing(version)) == {}, f"version {version}, after {killing.kills} kills"
    print(f"{killing.kills} kills of populate in {version} rounds")


def test_applies_killed_at_random_moments_lose_nothing_double_nothing_and_leave_nothing_stale(
    processes: Processes, tmp_path: Path
) -> None:
    killing, seed, documents = Killing(random.Random(SEED)), 0, changing(0)
    (tmp_path / "work").mkdir()
    processes.run(tmp_path / "work", "populate", {"slots": slots(0)}, corpus=documents)
    while killing.kills < APPLY_KILLS:
        seed += 1
        config = {"slots": slots(seed), "populate": {"chunk": CHUNK}, "swap": {"gate": {"sample": 4, "unmeasured": 1}}}
        said = killing.until_done(partial(processes.run, tmp_path / "work", "apply", config))
        assert said["outcome"] in ("cut over", "nothing to do")
        assert faults(tmp_path / "work", documents) == {}, f"swap {seed}, after {killing.kills} kills"
    print(f"{killing.kills} kills of apply in {seed} swaps")
