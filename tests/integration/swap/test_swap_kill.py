"""A process is killed by SIGKILL after its writes in apply, rollback and finish; the next one goes on or back.

The file runs as a program of its own, which imports everything once and forks for each step on an embedded store.
Stored vectors change their encoder and their storage, and a text index becomes a sparse vector.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from diptych import Collection, Registry
from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
from diptych.testing import fakes_plugin
from diptych.types import Document
from diptych_edge import EdgeClient
from diptych_edge.health.repair import copy_sparse
from interrupting import interrupted
from mortal import WRITES

REGISTRY = Registry(fakes_plugin)
DENSE: dict[str, Any] = {"adapter": "fake-dense", "dimension": 16}
STORAGE = {"on_disk": True, "quantization": {"kind": "scalar"}}
BEFORE = {"dense": DENSE, "second": {**DENSE, "seed": 5}, "lexical": {"adapter": "qdrant-text-index"}}
ALL_CHANGE = {
    "dense": {**DENSE, "dimension": 24, "seed": 1},
    "second": {**DENSE, "seed": 5, "storage": STORAGE},
    "lexical": {"adapter": "fake-calibrated", "dimension": 256},
}
STORAGE_CHANGES = {**BEFORE, "second": ALL_CHANGE["second"]}


@pytest.mark.slow(first=True)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks")
@pytest.mark.parametrize(("step", "least"), [("apply", 6), ("storage", 4), ("rollback", 3), ("finish", 4)])
def test_a_step_that_is_killed_after_its_writes_is_taken_again_or_undone(step: str, least: int) -> None:
    assert int(interrupted(Path(__file__), step)) >= least


def main(step: str) -> int:
    """Kill the step after each of its writes, an apply after every third; returns how often."""
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start"
        child(populate, start)
        if step in ("rollback", "finish"):
            child(applied, start, ALL_CHANGE)
        take, again = {
            "apply": (lambda store: applied(store, ALL_CHANGE), (lambda store: back(store, "rollback"),)),
            "storage": (lambda store: applied(store, STORAGE_CHANGES), (lambda store: applied(store, BEFORE),)),
            "rollback": (lambda store: back(store, "rollback"), ()),
            "finish": (lambda store: back(store, "finish"), ()),
        }[step]
        undisturbed = copied(start, Path(folder) / "undisturbed")
        child(take, undisturbed)
        ended, begun = (child(answering, store) for store in (undisturbed, start))
        for kills, last in enumerate(count(1, 3 if step == "apply" else 1)):
            for number, (go_on, expected) in enumerate([(take, ended), *((undo, begun) for undo in again)]):
                store = copied(start, Path(folder) / f"{last}.{number}")
                if child(dying, take, store, last) is not None:
                    assert child(answering, store) == ended
                    return kills
                found = child(answering, store)
                if step != "rollback" or found != ended:  # one that has happened would go forward again
                    child(go_on, store)
                found = child(answering, store)
                assert found[number:] == expected[number:], f"{step}, killed after write {last}"
                shutil.rmtree(store)
    raise AssertionError("it never ends by itself")


def child(work: Callable[..., Any], *arguments: Any) -> Any:
    """What the work returns in a process of its own; None where that was killed."""
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.write(writer, json.dumps(work(*arguments)).encode())
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as file:
        said = file.read()
    _, status = os.waitpid(process, 0)
    assert status in (0, signal.SIGKILL), "see above"
    return json.loads(said) if status == 0 else None


def dying(work: Callable[[Path], Any], store: Path, last: int) -> Any:
    """The work, by a process that kills itself after so many writes to the store."""
    writes = count(1)

    def deadly(whole: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(whole)  # clients that share a store read its signature
        def call(*args: Any, **options: Any) -> Any:
            answer = whole(*args, **options)
            if next(writes) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call

    for name in WRITES:
        setattr(EdgeClient, name, deadly(getattr(EdgeClient, name)))
    return work(store)


def config(slots: dict[str, Any]) -> Config:
    gate = {"sample": 4, "unmeasured": 1}
    return Config.model_validate(
        {
            "collection": "c",
            "slots": slots,
            "populate": {"chunk": 8},
            "swap": {"gate": gate},
            "cache": {"enabled": False},
        }
    )


def populate(store: Path) -> int:
    with EdgeClient(store) as client:
        found = Collection(CollectionHandle(client, "c", config(BEFORE), REGISTRY))
        return found.populate([Document(str(n), f"word{n % 17} number{n}") for n in range(9)]).new


def applied(store: Path, slots: dict[str, Any]) -> str:
    with EdgeClient(store) as client:
        found = Collection.stored(client, "c", registry=REGISTRY)
        found.handle.populate_config = config(slots).populate
        return found.apply(config(slots)).outcome


def back(store: Path, step: str) -> str:
    with EdgeClient(store) as client:
        found = Collection.stored(client, "c", registry=REGISTRY)
        if step == "rollback" and found.handle.read().swap is None and found.handle.read().previous is None:
            return "nothing has begun"
        return str(getattr(found, step)().outcome)


def answering(store: Path) -> Any:
    """What is kept, which an undone step need not restore; live slots, texts and live vectors, and their storage."""
    with EdgeClient(store) as client:
        points, _ = client.scroll("c", limit=100, with_vectors=True)
        config = client.get_collection("c").config
    own = (config.metadata or {})["diptych"]
    names = {slot["vector"] for slot in own["live"]["slots"].values()}
    params = {**(config.params.vectors or {}), **(config.params.sparse_vectors or {})}  # type: ignore[dict-item]
    kept = {
        str(point.id): [
            (point.payload or {})["text"],
            {name: plain(have) for name, have in both(point) if name in names},
        ]
        for point in points
    }
    # Once it was set, a place can only be set to what it was by default, not be unset.
    stored = {name: re.sub("on_disk=(False|None)", "", repr(params.get(name))) for name in sorted(names)}
    rest = [own["previous"], own["swap"] and "under way", sorted(params)]
    return json.loads(json.dumps([rest, own["live"], kept, stored]))


def both(point: models.Record) -> Any:
    """Vectors and payload keys by name."""
    return [*(point.vector or {}).items(), *(point.payload or {}).items()]  # type: ignore[union-attr]


def plain(vector: Any) -> Any:
    if isinstance(vector, models.SparseVector):
        return [vector.indices, np.array(vector.values, np.float32).tolist()]
    return vector if isinstance(vector, str) else np.array(vector, np.float32).tolist()


def copied(store: Path, target: Path) -> Path:
    shutil.copytree(store, target, copy_function=copy_sparse)
    return target


if __name__ == "__main__":
    print(main(sys.argv[1]))
