"""Damages files of an embedded store, one at a time, and says what became of it: a program of its own.

    python edge_damage.py build FOLDER closed|killed
    python edge_damage.py try FOLDER SCRATCH SEED FIRST LAST

A trial ends `right` (it opens, and all is there), `told` (an error that names a way out) or `found` (by `verify`), else
in words that say what went wrong. It is a program, because what goes wrong may end the process.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from qdrant_client import models

from diptych import Collection, Registry
from diptych.collection.verify import verify
from diptych.config import parse_config
from diptych.errors import DiptychError
from diptych.testing import fakes_plugin

DOCUMENTS = [{"id": f"d{n}", "text": f"document {n} tells of item {n * 7}", "n": n} for n in range(460)]
KINDS = ("delete", "empty", "halve", "flip", "zero")


def opened(store: Path) -> Collection:
    int8 = {"quantization": {"kind": "scalar"}}
    slots = {"dense": {"adapter": "fake-dense", "storage": int8}, "words": {"adapter": "fake-sparse"}}
    config = {"store": f"edge:{store}", "collection": "docs", "slots": slots, "cache": {"enabled": False}}
    return Collection.open(parse_config(config), registry=Registry(fakes_plugin, installed=False))


def build(store: Path, how: str) -> None:
    """A collection of two segments; `killed` has changes in its log alone."""
    collection = opened(store)
    collection.populate(DOCUMENTS[:400])
    client: Any = collection.handle.client
    client.update_collection("docs", optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1))
    client.optimize("docs")
    collection.close()
    collection = opened(store)
    collection.populate(DOCUMENTS[400:])
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    collection.close()


def damage(store: Path, chance: random.Random) -> str:
    """Damage one file; what was done."""
    files = [path for path in store.glob("collections/**/*") if path.is_file() and path.stat().st_size]
    path, kind = chance.choice(sorted(files, key=_order)), chance.choice(KINDS)
    content = bytearray(path.read_bytes())
    held = [place for place in range(0, len(content), 64) if any(content[place : place + 64])]
    place = chance.choice(held or [0])
    if kind == "delete":
        path.unlink()
        return f"{kind} {path.relative_to(store)}"
    if kind == "flip":
        place += chance.randrange(min(64, len(content) - place))
        content[place] ^= 1 << chance.randrange(8)
    elif kind == "zero":
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    path.write_bytes(content[: {"empty": 0, "halve": len(content) // 2}.get(kind, len(content))])
    return f"{kind} {path.relative_to(store)} at {place}"


def _order(path: Path) -> tuple[bool, str]:
    """The same order of files in each build: the names of shards and segments are made by chance."""
    segment = next((parent for parent in path.parents if parent.parent.name == "segments"), path)
    return (segment / "id_tracker.mappings").exists(), re.sub(r"[0-9a-f]{12}|[0-9a-f-]{36}", "", str(path))


def outcome(store: Path) -> str:
    try:
        with opened(store) as collection:
            return _looked_at(collection)
    except DiptychError as error:
        return "told" if error.do else f"told without a way out: {error}"
    except BaseException as error:
        return f"unexpected {type(error).__name__}: {error}"


def _looked_at(collection: Collection) -> str:
    if not collection.handle.exists:
        return "silent: the collection is gone"
    report = verify(collection.handle, sample=None)
    found = {document.id: (document.text, document.metadata) for document in collection.documents()}
    if found != {str(own["id"]): (own["text"], {"n": own["n"]}) for own in DOCUMENTS}:
        return "found" if report.faulty else f"silent: {len(found)} documents, not {len(DOCUMENTS)}, or other ones"
    if report.faulty:
        return "found"
    collection.populate([{"id": "new", "text": "a new text", "n": 0}, {**DOCUMENTS[3], "text": "another text"}])
    now = {document.id: document.text for document in collection.documents()}
    return "right" if (now.get("new"), now["d3"]) == ("a new text", "another text") else "silent: changes are ignored"


def main(action: str, store: Path, *rest: str) -> None:
    if action == "build":
        return build(store, rest[0])
    scratch, seed, first, last = Path(rest[0]), *map(int, rest[1:])
    for number in range(first, last):
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(store, scratch, ignore=shutil.ignore_patterns(".socket"))
        done = damage(scratch, random.Random(f"{seed} {number}"))
        print(f"{number}\t{done}", flush=True)
        print(f"{number}\t{outcome(scratch)}".replace("\n", " "), flush=True)
    return None


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
