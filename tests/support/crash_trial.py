"""A crash in the midst of work: documents are written all the time, encoders swapped, and the server killed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from diptych import Collection, Registry
from diptych.config.models import Config
from diptych.metadata.payloads import NATIVE
from diptych.stores.versions import server_version
from diptych.swap import ApplyOptions
from diptych.testing import fakes_plugin
from diptych.testing.fakes import FakeDenseEncoder
from diptych.types import Document
from qdrant_process import QdrantProcess

DIMENSION, FIRST, BATCH = 16, 300, 11
ADDS_VECTORS = (1, 18)  # a server of this version adds vectors to a collection
REGISTRY = Registry(fakes_plugin, installed=False)
UNGATED = ApplyOptions(gate=False)


def slots(seed: int) -> dict[str, Any]:
    return {"dense": {"adapter": "fake-dense", "dimension": DIMENSION, "seed": seed}}


def config(url: str, seed: int) -> Config:
    populate = {"chunk": 64, "retries": 0}
    return Config.model_validate({"store": url, "collection": "c", "slots": slots(seed), "populate": populate})


@dataclass
class Found:
    """What a crash left: documents compared, those lost, and those with an older payload or another text's vector.

    `met_writer`: whether documents were still being written at the kill. Only then does the kill count as a crash.
    """

    met_writer: bool = True
    compared: int = 0
    lost: list[str] = field(default_factory=list)
    older: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """How many."""
        return len(self.lost) + len(self.older) + len(self.mixed)


class Writer:
    """Short populates without an end, in a thread; `acknowledged` is what they have brought in, by document id.

    What a populate was writing when the server died may be there or not: `unsure` has its texts.

    Args:
        first: the config that makes the collection.
        seed: of what is written.
    """

    def __init__(self, first: Config, seed: int) -> None:
        self.acknowledged: dict[str, str] = {}
        self.unsure: dict[str, str] = {}
        self._first, self._random, self._over = first, random.Random(seed), threading.Event()
        self.ended: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def first(self) -> None:
        """Make the collection."""
        with Collection.open(self._first, registry=REGISTRY) as collection:
            self._write(collection, FIRST)

    def start(self) -> None:
        """Go on in the background."""
        self._thread.start()

    @property
    def writes(self) -> bool:
        """Whether it is still at work, neither stopped nor ended by an error."""
        return self._thread.is_alive() and self.ended is None

    def stop(self) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with Collection.stored(self._first, registry=REGISTRY) as collection:
                while not self._over.is_set():
                    self._write(collection, BATCH)
        except Exception as error:  # the server is gone, as each call of the client says in its own way
            self.ended = error

    def _write(self, collection: Collection, size: int) -> None:
        numbers = self._random.sample(range(len(self.acknowledged) + 2 * size), size)
        documents = [self._document(number) for number in numbers]
        texts = {document.id: document.text for document in documents}
        self.unsure = texts
        report = collection.populate(documents)
        assert report.set_aside == 0, report
        self.acknowledged |= texts
        self.unsure = {}

    def _document(self, number: int) -> Document:
        return Document(str(number), f"word{number % 17} number{number} {self._random.random()}")


def compare(url: str, writer: Writer) -> Found:
    """The whole collection beside what was acknowledged."""
    client, found = QdrantClient(url=url, timeout=60, check_compatibility=False), Found()
    with Collection.open(url, "c", registry=REGISTRY) as collection:
        (live,) = collection.handle.read().live.slots.values()
    encoder = FakeDenseEncoder(dimension=DIMENSION, seed=int(live.options.get("seed", 0)))
    held = {document.id: (document.text, record) for record, document in _documents(client)}
    for identifier, text in writer.acknowledged.items():
        found.compared += 1
        if identifier not in held:
            found.lost.append(identifier)
            continue
        have, record = held[identifier]
        if have not in (text, writer.unsure.get(identifier)):
            found.older.append(identifier)
        if not _fits(encoder, have, record, live.vector):
            found.mixed.append(identifier)
    client.close()
    return found


def _documents(client: QdrantClient) -> list[tuple[models.Record, Document]]:
    records, _ = client.scroll("c", limit=1_000_000, with_payload=True, with_vectors=True)
    return [(record, NATIVE.read(record.id, record.payload)) for record in records]


def _fits(encoder: FakeDenseEncoder, text: str, record: models.Record, vector: str) -> bool:
    vectors: Any = record.vector
    (wanted,) = encoder.encode_document([text])
    return vector in vectors and bool(np.allclose(wanted, vectors[vector], atol=1e-4))


def written(collection: Collection, url: str) -> None:
    """Writes alone, by two at once."""
    for start in range(0, 10 * FIRST, 64):
        collection.populate(Document(f"own-{n}", f"word{n % 17} own{n}") for n in range(start, start + 64))


def applied(collection: Collection, url: str) -> None:
    """A swap, whose old vector is kept."""
    collection.apply(config(url, 1), UNGATED)


def finished(collection: Collection, url: str) -> None:
    """A swap, and finish."""
    collection.apply(config(url, 1), UNGATED)
    collection.finish()


def two_swaps(collection: Collection, url: str) -> None:
    """Two swaps in a row; the second one drops what the first had kept."""
    collection.apply(config(url, 1), UNGATED)
    collection.apply(config(url, 2), UNGATED)
    collection.finish()


def given_up(collection: Collection, url: str) -> None:
    """A swap that is given up before its cut-over."""
    collection.apply(config(url, 1), ApplyOptions(gate=False, cut_over=False))
    collection.rollback()


def rolled_back(collection: Collection, url: str) -> None:
    """A swap, back to what was before, and forward again."""
    collection.apply(config(url, 1), UNGATED)
    collection.rollback()
    collection.rollback()


WORK: Mapping[str, Callable[[Collection, str], None]] = {
    "populate": written,
    "apply": applied,
    "finish": finished,
    "two swaps": two_swaps,
    "give up": given_up,
    "rollback": rolled_back,
}


def crash(server: QdrantProcess, work: str, *, flush: int, seed: int, lasts: float | None = None) -> Found:
    """Write all the time, do the work, and kill the server; what is there when it is up again.

    On a server before 1.18 writes begin when the work is done: a swap copies the collection there, and ends only if
    writers rest.

    Args:
        lasts: kill at any moment of the work, which lasts about so long; else up to 1.5 s after it.
    """
    within, until_done = (1.5, True) if lasts is None else (lasts, False)
    writer = Writer(config(server.url, 0), seed)
    writer.first()
    with closing(QdrantClient(url=server.url, check_compatibility=False)) as client:
        client.update_collection("c", optimizers_config=models.OptimizersConfigDiff(flush_interval_sec=flush))
        rests = until_done and (server_version(client) or ADDS_VECTORS) < ADDS_VECTORS
    failed = list[Exception]()
    worker = threading.Thread(target=_work, args=(server.url, work, failed), daemon=True)
    if not rests:
        writer.start()
    worker.start()
    if until_done:
        worker.join()
        if rests:
            writer.start()
            time.sleep(3)  # so that something is written
        assert not failed, failed
        assert writer.ended is None, writer.ended
    time.sleep(random.Random(seed).uniform(0, within))
    met_writer = writer.writes and not failed  # work that has ended by itself is no work to be killed in
    server.kill()
    writer.stop()
    worker.join()
    server.start()
    return replace(compare(server.url, writer), met_writer=met_writer)


def settled(found: Sequence[Found]) -> str:
    """The sum of trials. Only kills that met a live writer count as crashes; what the others left counts all the same.

    Raises:
        AssertionError: something was lost, older or mixed, or no kill met a live writer.
    """
    met = [own for own in found if own.met_writer]
    parts = {"lost": "lost", "older": "with an older payload", "mixed": "with a vector of another text"}
    counts = [f"{sum(len(getattr(own, name)) for own in found)} {text}" for name, text in parts.items()]
    missing = len(found) - len(met)
    missed = f" ({missing} more kills met no writer, or work that had failed)" if missing else ""
    documents = sum(own.compared for own in met)
    said = f"{len(met)} crashes{missed}, {documents:,} acknowledged documents: {', '.join(counts)}"
    assert not any(own.faults for own in found), said
    assert met, f"no kill met a live writer: {said}"
    return said


def _work(url: str, work: str, failed: list[Exception]) -> None:
    try:
        with Collection.open(url, "c", registry=REGISTRY) as collection:
            WORK[work](collection, url)
    except Exception as error:  # as above
        failed.append(error)
