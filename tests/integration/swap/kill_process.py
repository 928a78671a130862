"""The process of the tests of kills: forked for each task, it works with a store in a folder and dies when told to.

It reads a task as a line of JSON and prints a line of what came of it.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import ir_measures  # noqa: F401  # else each child that needs them would import them anew
import numpy as np
import scipy.cluster.hierarchy
import scipy.special  # noqa: F401

from diptych import AdapterSpec, Collection, Registry, hookimpl
from diptych.config.models import Config
from diptych.copying import copy_collection
from diptych.errors import SwapError
from diptych.evaluate import Qrels
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.store import APPLY, CLAIM
from diptych.populate import populate
from diptych.protocols import Fingerprint, Pair
from diptych.swap import ApplyOptions, Judged
from diptych.swap.backfill import backfill
from diptych.swap.backfill.documents import SourceDocuments
from diptych.testing import FakeDenseEncoder, fakes_plugin
from diptych.testing.fakes import FakeReranker
from diptych.types import Floats, Query
from diptych_edge import EdgeClient
from spaces import PUPIL

WRITES = (
    "update_collection", "create_vector_name", "delete_vector_name", "update_vectors", "upsert", "set_payload",
    "batch_update_points", "delete_payload", "create_payload_index", "delete_payload_index", "create_collection",
)  # fmt: skip


class Mortal(EdgeClient):
    """Dies after its `last` write. `marks` are the writes that changed the metadata, the lease apart."""

    writes: ClassVar[int] = 0
    last: ClassVar[int | None] = None
    marks: ClassVar[list[int]] = []


def dying(name: str) -> Any:
    whole = getattr(EdgeClient, name)

    @functools.wraps(whole)  # clients that share a store read its signature
    def call(self: EdgeClient, *args: Any, **kwargs: Any) -> Any:
        answer = whole(self, *args, **kwargs)
        Mortal.writes += 1
        if any(key != APPLY and not key.startswith(CLAIM) for key in kwargs.get("metadata") or {}):
            Mortal.marks.append(Mortal.writes)
        if Mortal.writes == Mortal.last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    return call


class Retired(FakeDenseEncoder):
    """Gone once there is a file `gone` in the folder."""

    def __init__(self, *, dimension: int) -> None:
        if Path("gone").exists():
            raise ConnectionError("410 Gone: the model is retired")
        super().__init__(dimension=dimension)


class Smooth(FakeReranker):
    """A reranker whose scores hardly ever tie, unlike shares of words."""

    def __init__(self, *, log: str = "") -> None:
        super().__init__(record=False, log=log)
        self.fingerprint = Fingerprint("smooth", "numpy")
        self._words = FakeDenseEncoder(dimension=24, seed=3, record=False)

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]`: cosines of the sums of word vectors."""
        self.called("pair", ["\t".join(pair) for pair in pairs])
        queries, documents = (self._words.encode_query([pair[side] for pair in pairs]) for side in (0, 1))
        return np.asarray((queries * documents).sum(axis=1), np.float32)


class BringsAdapters:
    """A plugin."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        """`pupil`, `retired` and `smooth`."""
        return [
            PUPIL,
            AdapterSpec(name="retired", kind="dense", factory=f"{__name__}:Retired", summary="gone one day"),
            AdapterSpec(name="smooth", kind="reranker", factory=f"{__name__}:Smooth", summary="no equal scores"),
        ]


REGISTRY = Registry(fakes_plugin, BringsAdapters())


def work(task: Mapping[str, Any]) -> dict[str, Any]:
    os.chdir(task["folder"])
    Mortal.last = task.get("last")
    backfill.CHECKPOINT = task.get("checkpoint", 0.0)  # one a page unless told: more moments to be killed at
    config = Config.model_validate({"collection": "c", **task["config"]})
    with Mortal(task.get("store", "store")) as client:
        if task["do"] == "look":
            return looked(client, task["queries"])
        if task["do"] == "populate":
            handle = CollectionHandle(client, "c", config, REGISTRY)
            populate(handle, task["corpus"], sync=bool(task.get("sync")), max_deleted=1.0)
            return {}
        try:
            outcome = copied(client) if task["do"] == "copy" else taken(client, config, task)
        except SwapError as refusal:
            outcome = refusal.what
    return {"outcome": outcome, "writes": Mortal.writes, "marks": Mortal.marks}


def taken(client: EdgeClient, config: Config, task: Mapping[str, Any]) -> str:
    opened = Collection.stored(client, "c", registry=REGISTRY)
    opened.handle.populate_config = config.populate
    if task["do"] == "apply":
        return opened.apply(config, options_of(opened, task.get("options") or {})).outcome
    return opened.rollback().outcome if task["do"] == "rollback" else opened.finish().outcome


def copied(target: EdgeClient) -> str:
    """Copies the collection of the folder's store."""
    with EdgeClient("store") as source:
        return "verified" if copy_collection(source, "c", target, batch=8, registry=REGISTRY).verified else "counted"


def looked(client: EdgeClient, queries: Sequence[str]) -> dict[str, Any]:
    """What a collection answers: id, score and scores by stage."""
    opened = Collection.stored(client, "c", registry=REGISTRY)
    return {"answers": [[[hit.id, hit.score, dict(hit.stages)] for hit in opened.search(query)] for query in queries]}


def options_of(opened: Collection, asked: Mapping[str, Any]) -> ApplyOptions:
    judged, source = asked.get("judged"), asked.get("source")
    more = {name: value for name, value in asked.items() if name not in ("judged", "source")}
    return ApplyOptions(
        judged=judgements(judged) if judged else None,
        documents=SourceDocuments(opened.handle, source) if source else None,
        **more,
    )


def judgements(documents: list[dict[str, Any]]) -> Judged:
    qrels = Qrels({str(document["id"]): {str(document["id"]): 1} for document in documents})
    return Judged([Query(document["text"], str(document["id"])) for document in documents], qrels)


def forked(task: Mapping[str, Any]) -> dict[str, Any]:
    """What a process of its own said, and whether it was `killed`."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = work(task)
        except BaseException:
            answer = {"failed": traceback.format_exc()}
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    if task.get("seconds") is not None:
        time.sleep(task["seconds"])
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader) as file:
        said = file.read()
    _, status = os.waitpid(child, 0)
    return {"killed": os.WIFSIGNALED(status), **(json.loads(said) if said else {})}


if __name__ == "__main__":
    for name in WRITES:
        setattr(Mortal, name, dying(name))
    for line in sys.stdin:
        print(json.dumps(forked(json.loads(line))), flush=True)
