"""`Scratch`: small collections of a sample in a temporary folder that is always deleted."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from qdrant_client import models

from diptych.config.models import Stored, VectorStorage
from diptych.handle.create import first_stage_params, vector_params
from diptych.metadata.models import Prefix
from diptych.search.pipeline import search_params
from diptych.search.qdrant.query import Nearest
from diptych.types import Floats
from diptych_edge import EdgeClient
from diptych_lab.tune.grid import Setup
from diptych_lab.tune.sample import Sample

NAME, VECTOR = "sample", "v"
PAGE = 1000  # points written in one call
THRESHOLD = 10_000  # kB of a vector: below, Qdrant builds no index, and scans instead of using a graph


@dataclass(frozen=True, slots=True)
class Built:
    """A collection of the sample: its client, the seconds to build it, and bytes on disk and in memory."""

    client: EdgeClient
    seconds: float
    disk: int
    memory: int


@dataclass(frozen=True, slots=True)
class _Facts:
    """The facts of an encoder from which parameters are made."""

    dimension: int
    similarity: str


class Scratch:
    """A context manager: embedded stores in a temporary folder, one for each way of storing the sample.

    Args:
        sample: what is stored.
        points: of the collection that it stands for. Qdrant decides by bytes whether to index, to quantize and to use
            the graph; the thresholds are made smaller as the sample is, so that it decides as it does there.
    """

    def __init__(self, sample: Sample, points: int) -> None:
        self._sample, self._share = sample, min(1.0, len(sample.documents) / points)
        self._folder = tempfile.TemporaryDirectory(prefix="diptych-tune-", ignore_cleanup_errors=True)
        self._stores = ExitStack()

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stores.close()
        finally:
            self._folder.cleanup()

    def build(self, storage: VectorStorage) -> Built:
        """Write the sample with this storage, and build its index.

        Raises:
            StoreError, ConfigError: that cannot be.
        """
        begin, folder = time.perf_counter(), Path(tempfile.mkdtemp(dir=self._folder.name))
        client = self._stores.enter_context(EdgeClient(folder, share=False))
        first, vectors = _first(storage), self._params(storage)
        optimizers = models.OptimizersConfigDiff(indexing_threshold=self._scaled(THRESHOLD))
        hnsw = models.HnswConfigDiff(full_scan_threshold=self._scaled(THRESHOLD))
        client.create_collection(NAME, vectors_config=vectors, optimizers_config=optimizers, hnsw_config=hnsw)
        for points in _points(self._sample.documents, first):
            client.upsert(NAME, points)
        client.optimize(NAME)
        seconds = time.perf_counter() - begin
        parts = [_bytes(folder, VECTOR, storage)]
        if first is not None and storage.first_stage is not None:
            parts.append(_bytes(folder, first.vector, storage.first_stage))
        return Built(client, seconds, sum(disk for disk, _ in parts), sum(memory for _, memory in parts))

    def ask(self, built: Built, query: list[float], setup: Setup, k: int) -> list[tuple[str, float]]:
        """The first `k` documents with their scores, searched like diptych's search does; a distance is negative."""
        nearest = Nearest(query, VECTOR, search_params(setup.params), k)
        request = nearest.request(_first(setup.storage), {"quantization": setup.storage.quantization})
        (answer,) = built.client.query_batch_points(NAME, [request])
        sign = -1 if self._sample.similarity == "euclidean" else 1
        return [(str(point.id), sign * point.score) for point in answer.points]

    def _params(self, storage: VectorStorage) -> dict[str, models.VectorParams]:
        facts = _Facts(self._sample.documents.shape[1], self._sample.similarity)
        full, first = vector_params(facts, "dense", storage), _first(storage)
        assert isinstance(full, models.VectorParams), "the slot is dense"
        params_by_name = {VECTOR: full}
        if first is not None and storage.first_stage is not None:
            params_by_name[first.vector] = first_stage_params(full, storage.first_stage)
        for params in params_by_name.values():
            if params.hnsw_config and params.hnsw_config.full_scan_threshold:
                params.hnsw_config.full_scan_threshold = self._scaled(params.hnsw_config.full_scan_threshold)
        return params_by_name

    def _scaled(self, threshold: int) -> int:
        return max(1, round(threshold * self._share))


def _first(storage: VectorStorage) -> Prefix | None:
    return Prefix.of(VECTOR, storage.model_dump(include={"first_stage"}))


def _points(documents: Floats, first: Prefix | None) -> Iterator[list[models.PointStruct]]:
    for start in range(0, len(documents), PAGE):
        page = []
        for number, row in enumerate(documents[start : start + PAGE], start):
            vectors = {VECTOR: row} if first is None else {VECTOR: row, first.vector: row[: first.dimension]}
            page.append(models.PointStruct.model_construct(id=number, vector=vectors, payload={}))
        yield page


def _bytes(folder: Path, vector: str, stored: Stored) -> tuple[int, int]:
    """Bytes of a vector's files on disk, and of the part that Qdrant keeps in memory with these settings."""
    originals = copies = graph = 0
    for file in folder.rglob("*"):
        part = next((parent.name for parent in file.parents if parent.name.endswith(f"-{vector}")), "")
        if not part or not file.is_file():
            continue
        size = 512 * file.stat().st_blocks  # what is allocated: some files are mostly holes
        if part.startswith("vector_index-"):
            graph += size
        elif "quantized" in file.relative_to(folder).as_posix():
            copies += size
        else:
            originals += size
    quantized = stored.quantization
    copies_stay = quantized is not None and (quantized.always_ram or not stored.on_disk)
    graph_stays = not (stored.hnsw and stored.hnsw.on_disk)
    memory = (0 if stored.on_disk else originals) + copies * copies_stay + graph * graph_stays
    return originals + copies + graph, memory
