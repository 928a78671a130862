"""A small collection in memory and in Edge, and a swap of it up to the gate, made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from diptych.config.models import Config, SearchConfig, SlotConfig
from diptych.errors import RemoteError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.hookspecs import hookimpl
from diptych.metadata.models import Generation, Reading, State, vector_name
from diptych.metadata.payloads import NATIVE
from diptych.populate import populate
from diptych.populate.points import PointMaker
from diptych.protocols import Calibrated, Fingerprint
from diptych.registry import Registry
from diptych.slots.slot import Slot
from diptych.specs import AdapterSpec
from diptych.stores import retired_vectors
from diptych.swap import vectors
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
        metadata = self.handle.read()
        live = metadata.live.slots
        target = {
            name: self._generation(name, SlotConfig.model_validate(slot), live, skip) for name, slot in slots.items()
        }
        config = SearchConfig.model_validate(search) if search else None
        old = self.handle.at(metadata.live, metadata)
        return old, self.handle.at(State(slots=target), metadata, config)

    def _generation(self, name: str, wanted: SlotConfig, live: Mapping[str, Generation], skip: int) -> Generation:
        have = live.get(name)
        if have is not None and (have.adapter, have.options) == (wanted.adapter, wanted.options):
            return have
        number = have.number + 1 if have else 1
        registry, client = self.handle.registry, self.handle.client
        slot = Slot(name, wanted, None, registry)
        vector = vector_name(name, slot.kind, number)
        inputs = [Reading().of(document.title, document.text) for document in self.documents]
        statistics = slot.encoder.measure(inputs) if isinstance(slot.encoder, Calibrated) else None
        made = slot.generation = slot.describe(number=number, vector=vector, reading=Reading(), statistics=statistics)
        retired_vectors.drop(client, self.handle.name, vector, slot.kind)  # of a state that was tried before
        vectors.create(client, self.handle.name, slot, registry, (name,))
        self._fill(slot, vector, inputs, skip)
        return made

    def _fill(self, slot: Slot, vector: str, inputs: Sequence[str], skip: int) -> None:
        client, name, maker = self.handle.client, self.handle.name, PointMaker(self.handle.client)
        points = [NATIVE.point_id(document, self.handle.registry) for document in self.documents]
        if slot.kind == "text_index":
            for point, text in list(zip(points, inputs, strict=True))[skip:]:
                client.set_payload(name, {vector: text}, points=[point])
            return
        made = [
            models.PointVectors.model_construct(id=point, vector=maker.vectors({vector: encoded}, {vector: slot}))
            for point, encoded in zip(points, slot.encode("document", inputs), strict=True)
        ]
        client.update_vectors(name, made[skip:])


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
def memory() -> Iterator[QdrantBase]:
    """An empty store in memory."""
    made = QdrantClient(":memory:")
    yield made
    made.close()


@pytest.fixture
def client(memory: QdrantBase) -> QdrantBase:
    """What a gate measures is the same in any store."""
    return memory


@pytest.fixture
def swapping(client: QdrantBase, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Swaps:
    """Fills a collection with these slots."""
    monkeypatch.setenv("DIPTYCH_CACHE", "off")

    def fill(slots: Slots, *, documents: Sequence[Document] | None = None, size: int = 120, **more: Any) -> Swapping:
        config = Config.model_validate({"store": "memory:", "collection": "c", "slots": slots, **more})
        handle = CollectionHandle(client, "c", config, registry)
        found = corpus(size) if documents is None else documents
        populate(handle, found, report_path=tmp_path / "aside")
        return Swapping(handle, found)

    return fill
