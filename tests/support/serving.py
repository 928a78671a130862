"""A server on a real socket, in a thread, and a small collection to serve."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych_serve.service.server import address, listen, server_of
from waiting import until as until

ANIMALS = {
    "cat": "the cat sleeps on the warm mat",
    "dog": "the dog barks at the post man",
    "owl": "the owl hunts mice at night",
    "hen": "the hen lays an egg every day",
}
SLOTS = {
    "dense": {"adapter": "fake-dense", "expand": {"cat": "feline"}},
    "lexical": {"adapter": "fake-sparse"},
    "long": {"adapter": "fake-dense", "dimension": 64, "storage": {"first_stage": {"dimension": 16}}},
}
SEARCH = {"retrieve": {"dense": 10, "lexical": 10}, "rerank": [{"adapter": "fake-reranker", "candidates": 5}]}


FAKES = """\
import sys
from diptych import Registry
from diptych.cli import main
from diptych.cli.run_command import Session
from diptych.testing import fakes_plugin
main(sys.argv[1:], session=Session(Registry(fakes_plugin, installed=False)))
"""  # the command, with the fakes alone as adapters


def animals(folder: Path, registry: Registry, *, name: str = "animals", **changes: Any) -> Collection:
    """A filled collection in an embedded store."""
    config = {
        "store": f"edge:{folder / 'qdrant'}",
        "collection": name,
        "slots": SLOTS,
        "search": SEARCH,
        "cache": {"enabled": False},
        **changes,
    }
    collection = Collection.open(parse_config(config), registry=registry)
    collection.populate({"id": key, "text": text, "letter": key[0]} for key, text in ANIMALS.items())
    return collection


def judged(folder: Path, queries: Mapping[str, tuple[str, Mapping[str, int]]]) -> Path:
    """A BEIR folder of queries by id, each with its text and the grades of documents."""
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": key, "text": text} for key, (text, _) in queries.items()]
    (folder / "queries.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    grades = [f"{key}\t{name}\t{grade}\n" for key, (_, own) in queries.items() for name, grade in own.items()]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(grades))
    return folder


@contextmanager
def served(app: Any, **times: Any) -> Iterator[str]:
    """The URL of an application that runs in a thread until the end of the block."""
    with listen("127.0.0.1", 0) as listening:
        server = server_of(app, grace=60, **times)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started)
            yield address(listening, "127.0.0.1")
        finally:
            server.should_exit = True
            thread.join(90)
