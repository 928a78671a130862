"""diptych itself, in the environment that runs the benchmarks. The encoder is loaded once and kept over all rounds."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from qdrant_client import models

from diptych import Collection, hookimpl
from diptych.config.models import Config
from diptych.metadata.payloads import NATIVE
from diptych.registry import Registry
from diptych.specs import AdapterSpec
from diptych.types import Document
from machine import OURS
from peers.stores import NAME, pieces

PACKAGES = OURS
ADAPTERS = {
    "dense": "sentence-transformers",
    "sparse": "sentence-transformers-sparse",
    "cross-encoder": "cross-encoder",
}


class Kept:
    """An adapter by whose name a config gets the encoder that is loaded already."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        factory = f"{__name__}:kept"
        return [AdapterSpec(name="kept", kind="dense", factory=factory, summary="the encoder that is measured")]


LOADED: dict[int, Any] = {}


def kept(number: int) -> Any:
    return LOADED[number]


class Peer:
    """`options` are the adapter's; `store` among them is the store's URL, a new folder of Edge unless given."""

    def __init__(self, model: str, *, kind: str, threads: int, options: Mapping[str, Any]) -> None:
        os.environ["DIPTYCH_CACHE"] = "off"  # or the second round would encode nothing
        torch.set_num_threads(threads)
        own = {key: value for key, value in options.items() if key != "store"}
        own = {"trained_as": "masked-lm", **own} if kind == "sparse" else own
        self._encoder: Any = Registry.default().create(ADAPTERS[kind], {"model": model, "device": "cpu", **own})
        self._url, self._kind = options.get("store", ""), kind
        self.numerics = str(getattr(self._encoder, "numerics", ""))
        LOADED[id(self)] = self._encoder
        self._collection: Any = None
        self._folder: Any = None

    def encode(self, inputs: Sequence[Any]) -> Any:
        if self._kind == "cross-encoder":
            return self._encoder.predict([(query, document) for query, document in inputs])
        return self._encoder.encode_document(inputs)

    def array(self, found: Any) -> Any:
        """Sparse vectors as rows of a dense matrix, to compare them."""
        if self._kind != "sparse":
            return found
        rows = np.zeros((len(found), self._encoder.dimension), np.float32)
        for row, vector in zip(rows, found, strict=True):
            row[vector.indices] = vector.values
        return rows

    def new(self) -> None:
        """A collection in a store of its own; what was there before goes."""
        self.close()
        self._folder = tempfile.TemporaryDirectory()
        given = {
            "store": self._url or f"edge:{Path(self._folder.name) / 'store'}",
            "collection": NAME,
            "slots": {"dense": {"adapter": "kept", "number": id(self)}},
            "search": {"remember": 0},  # the same queries are put beside each of the others
        }
        self._collection = Collection.open(Config.model_validate(given), registry=Registry(Kept(self._encoder)))

    def populate(self, texts: Sequence[str]) -> None:
        self._collection.populate(
            [Document(str(n), text) for n, text in enumerate(texts)],
            report_path=Path(self._folder.name) / "set-aside.jsonl",
        )

    def fill(self, texts: Sequence[str], vectors: Any) -> None:
        """Points as populate writes them, then the index, as populate makes it at its end."""
        handle, client = self._collection.handle, self._collection.client
        handle.create({})
        make: Any = models.PointStruct.model_construct  # as it is, without pydantic's look at every number
        for piece in pieces(texts, vectors):
            points = [
                make(
                    id=n,
                    vector={handle.slots["dense"].vector: np.asarray(row, np.float32)},
                    payload=NATIVE.write(Document(str(n), text), "0" * 32),
                )
                for n, text, row in piece
            ]
            client.upsert(NAME, points)
        if hasattr(client, "optimize"):
            client.optimize(NAME)

    def count(self) -> int:
        return int(self._collection.client.count(NAME).count)

    def query(self, text: str, limit: int) -> list[int]:
        return [int(hit.id) for hit in self._collection.search(text, limit=limit)]

    def close(self) -> None:
        if self._collection is not None:
            self._collection.close()
            self._folder.cleanup()
            self._collection = None
