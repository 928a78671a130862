"""The process of test_swap_kill.py: forked for each task, it works with a store in a folder and dies when told to.

It reads a task as a line of JSON and prints a line of what came of it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import ir_measures  # noqa: F401  # else each child that needs them would import them anew
import scipy.special  # noqa: F401

from diptych import AdapterSpec, Collection, Registry, hookimpl
from diptych.config.models import Config
from diptych.errors import SwapError
from diptych.evaluate import Qrels
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.store import APPLY, CLAIM
from diptych.populate import populate
from diptych.swap import ApplyOptions, Judged
from diptych.swap.backfill import backfill
from diptych.swap.backfill.documents import SourceDocuments
from diptych.testing import FakeDenseEncoder, fakes_plugin
from diptych.types import Query
from qdrant_edge_client import EdgeClient

WRITES = (
    "update_collection", "create_vector_name", "delete_vector_name", "update_vectors", "upsert", "set_payload",
    "batch_update_points", "delete_payload", "create_payload_index", "delete_payload_index",
)  # fmt: skip


class Mortal(EdgeClient):
    """Dies after its `last` write. `marks` are the writes that changed the metadata, the lease apart."""

    writes: ClassVar[int] = 0
    last: ClassVar[int | None] = None
    marks: ClassVar[list[int]] = []


def dying(name: str) -> Any:
    whole = getattr(EdgeClient, name)

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


class BringsRetired:
    """A plugin."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        """`retired`."""
        return [AdapterSpec(name="retired", kind="dense", factory=f"{__name__}:Retired", summary="gone one day")]


REGISTRY = Registry(fakes_plugin, BringsRetired())


def work(task: Mapping[str, Any]) -> dict[str, Any]:
    os.chdir(task["folder"])
    Mortal.last = task.get("last")
    backfill.CHECKPOINT = task.get("checkpoint", 0.0)  # one a page unless told: more moments to be killed at
    config = Config.model_validate({"collection": "c", **task["config"]})
    with Mortal("store") as client:
        if task["do"] == "populate":
            handle = CollectionHandle(client, "c", config, REGISTRY)
            populate(handle, task["corpus"], sync=bool(task.get("sync")), max_deleted=1.0)
            return {}
        opened = Collection.stored(client, "c", registry=REGISTRY)
        opened.handle.populate_config = config.populate
        try:
            outcome = taken(opened, config, task)
        except SwapError as refusal:
            outcome = refusal.what
    return {"outcome": outcome, "writes": Mortal.writes, "marks": Mortal.marks}


def taken(opened: Collection, config: Config, task: Mapping[str, Any]) -> str:
    if task["do"] == "apply":
        return opened.apply(config, options_of(opened, task.get("options") or {})).outcome
    return opened.rollback().outcome if task["do"] == "rollback" else opened.finish().outcome


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
