"""A small collection in memory and in Edge, and a swap of it up to the gate, made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client.client_base import QdrantBase

from diptych.config import parse_config
from diptych.errors import RemoteError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.view import View
from diptych.hookspecs import hookimpl
from diptych.metadata.models import Generation
from diptych.metadata.payloads import NATIVE
from diptych.populate import populate
from diptych.protocols import Fingerprint
from diptych.registry import Registry
from diptych.specs import AdapterSpec
from diptych.swap import ApplyOptions, apply, rollback
from diptych.testing import FakeDenseEncoder, fakes_plugin
from diptych.types import Document, Floats

Slots: TypeAlias = Mapping[str, Mapping[str, Any]]


def unit(rows: NDArray[Any]) -> Floats:
    """Rows of length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


class BrokenEncoder(FakeDenseEncoder):
    """An encoder that keeps its contract and yet finds nothing."""

    def __init__(self, *, dimension: int = 64) -> None:
        super().__init__(dimension=dimension)
        self.fingerprint = Fingerprint(type(self).__name__, "numpy")


class NoiseEncoder(BrokenEncoder):
    """Broken: queries and documents have nothing to do with each other."""

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors drawn at random, the same for the same text."""
        rows = np.zeros((len(inputs), self.dimension), np.float32)
        for row, text in enumerate(inputs):
            rows[row] = np.random.default_rng(sum(map(ord, text))).normal(size=self.dimension)
        return unit(rows)


class ConstantEncoder(BrokenEncoder):
    """Broken: all documents get one vector, but for a trifle."""

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors that hardly differ."""
        return unit(1 + 1e-3 * super().encode_document(inputs))


class ZeroEncoder(BrokenEncoder):
    """Broken: texts without the word `known` get a zero vector."""

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors, many of them zero."""
        rows = super().encode_document(inputs)
        rows[[("known" not in text) for text in inputs]] = 0
        return rows


class TwoEncoder(BrokenEncoder):
    """Broken: documents get one of two vectors."""

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors by the parity of a text's length."""
        return np.eye(self.dimension, dtype=np.float32)[[len(text) % 2 for text in inputs]]


class MoodyEncoder(BrokenEncoder):
    """Broken: another model behind the same name, once `moved` is set."""

    moved: ClassVar[bool] = False

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors of another space, once moved."""
        rows = super().encode_document(inputs)
        return np.ascontiguousarray(rows[:, ::-1]) if MoodyEncoder.moved else rows


class RetiredEncoder(BrokenEncoder):
    """An encoder behind an API that answers no more, once `retired` is set."""

    retired: ClassVar[bool] = False

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """Vectors, while the API is there."""
        if RetiredEncoder.retired:
            raise RemoteError("the endpoint answers 410 Gone")
        return super().encode_query(inputs)


class Broken:
    """A plugin that brings them."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        """An adapter for each."""
        return [
            AdapterSpec(name=name, kind="dense", factory=f"{__name__}:{made.__name__}", summary="broken")
            for name, made in BROKEN.items()
        ]


BROKEN = {
    "noise": NoiseEncoder,
    "constant": ConstantEncoder,
    "zero": ZeroEncoder,
    "two": TwoEncoder,
    "moody": MoodyEncoder,
    "retired": RetiredEncoder,
}


@dataclass(frozen=True)
class Swapping:
    """A filled collection whose slots can be exchanged for others, up to the gate."""

    handle: CollectionHandle
    documents: Sequence[Document]

    def to(self, slots: Slots, *, search: Mapping[str, Any] | None = None, skip: int = 0) -> tuple[View, View]:
        """Views of what is live and of what would be; `skip` points get no new vector."""
        client, live = self.handle.client, self.handle.read().live.slots
        if self.handle.read().swap is not None:
            rollback(self.handle)
        config = parse_config({"collection": "c", "slots": slots, **({"search": search} if search else {})})
        again = frozenset(name for name in slots if name in live and _said(live[name]) != slots[name])
        apply(self.handle, config, ApplyOptions(again=again, gate=False, cut_over=False))
        metadata = self.handle.read()
        assert metadata.swap is not None
        points: list[Any] = [NATIVE.point_id(document, self.handle.registry) for document in self.documents[:skip]]
        for own in metadata.swap.building.values() if skip else ():
            if own.kind == "text_index":
                client.delete_payload("c", [own.vector], points=points)
            else:
                client.delete_vectors("c", [own.vector], points=points)
        old = self.handle.at(metadata.live, metadata)
        return old, self.handle.at(metadata.swap.target, metadata, config.search if search else None)


def _said(live: Generation) -> dict[str, Any]:
    return {"adapter": live.adapter, **live.options}


Swaps: TypeAlias = Callable[..., Swapping]


def corpus(size: int) -> list[Document]:
    """Documents of common and rare words, each with a first sentence of its own."""
    random = np.random.default_rng(11)
    common, rare = [f"word{n}" for n in range(60)], [f"rare{n}" for n in range(400)]

    def words(count: int) -> str:
        chosen = (common if random.random() < 0.5 else rare for _ in range(count))
        return " ".join(words[random.integers(0, len(words))] for words in chosen)  # as `choice`, at a hundredth

    return [Document(f"d{n}", f"{words(8)}. {words(int(random.integers(10, 40)))}.") for n in range(size)]


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The fakes, broken ones, and what is installed."""
    return Registry(fakes_plugin, Broken())


@pytest.fixture
def client(memory: QdrantBase) -> QdrantBase:
    """What a gate measures is the same in any store."""
    return memory


@pytest.fixture
def swapping(client: QdrantBase, registry: Registry, tmp_path: Path) -> Swaps:
    """Fills a collection with these slots."""

    def fill(slots: Slots, *, documents: Sequence[Document] | None = None, size: int = 120, **more: Any) -> Swapping:
        config = parse_config({"store": "memory:", "collection": "c", "slots": slots, **more})
        handle = CollectionHandle(client, "c", config, registry)
        found = corpus(size) if documents is None else documents
        populate(handle, found, report_path=tmp_path / "aside")
        return Swapping(handle, found)

    return fill
