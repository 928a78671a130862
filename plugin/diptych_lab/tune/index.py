"""`tune_index`: indexes a sample of a collection's vectors with many settings and measures each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Literal, TypeAlias

import numpy as np
from qdrant_client import models

from diptych.config import SearchParams, Stored, VectorStorage
from diptych.config.load import yaml_of
from diptych.display import Display, Displayed, Table, size
from diptych.errors import TuneError
from diptych.evaluate import ann_recall, times
from diptych.handle.create import first_stage_params, vector_params
from diptych.metadata.models import Prefix
from diptych.runtime.phases import Progress, Unwatched
from diptych.search import CollectionHandle, View, search_params
from diptych.search.query import Nearest
from diptych.slots.slot import Slot
from diptych.types import Run
from diptych_edge import EdgeClient
from diptych_lab.tune import trials
from diptych_lab.tune.sample import Sample, draw
from diptych_lab.tune.search_report import params_text

NAME, VECTOR = "sample", "v"
WRITTEN = 1000  # points written in one call
THRESHOLD = 10_000  # kB of a vector: below, Qdrant builds no index, and scans instead of using a graph

SHORTEST = 32  # numbers of a first stage that is tried unasked
_QUANTIZED: tuple[tuple[dict[str, Any], tuple[float, ...]], ...] = (
    ({"kind": "scalar"}, (1, 2)),
    ({"kind": "turbo", "bits": "bits4"}, (1, 2)),
    ({"kind": "turbo", "bits": "bits2"}, (2, 4)),
    ({"kind": "binary", "encoding": "two_bits"}, (4, 8)),
    ({"kind": "binary", "encoding": "one_bit"}, (4, 8)),
    ({"kind": "product", "compression": "x16"}, (4,)),
)
_GRAPHS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (8, 100, (64, 128)),
    (16, 100, (32, 64, 128)),
    (32, 200, (128,)),
)  # m, ef_construct and hnsw_ef

SAMPLE, HELD_OUT, ROUNDS = 10_000, 200, 3


def tune_index(
    handle: CollectionHandle | View,
    slot: str | None = None,
    *,
    setups: Sequence[Setup] | None = None,
    queries: Sequence[str] = (),
    sample: int = SAMPLE,
    points: int | None = None,
    k: int = 10,
    rule: Rule | None = None,
    progress: Progress | None = None,
) -> IndexReport:
    """Measure recall against exact search, latency and bytes of each setup on a sample of the slot's own vectors.

    The collection is only read. The sample is written to an embedded store in a temporary folder, once for each way of
    storing it; each query is put to all setups, in an order that changes, so that a busy moment touches them alike.

    Args:
        handle: the open collection.
        slot: a dense one; the only one unless given.
        setups: what is measured beside what the collection has; `grid` unless given.
        queries: texts that the slot's encoder encodes; 200 of the sampled vectors are held out unless given.
        sample: vectors that are indexed at most.
        points: measure as in a collection that holds so many; as many as it holds unless given.
        k: of the recall.
        rule: what is chosen.
        progress: receives the progress of the stages `read`, `build` and `ask`.

    Raises:
        TuneError: the slot is not dense, has too few vectors, or there is none to choose.
        CollectionNotFound: nothing has been populated yet.
    """
    view, watching, chosen_by = handle.now(), progress or Unwatched(), rule or Rule()
    tuned_slot = slot_to_tune(view, slot)
    drawn_sample = draw(view, tuned_slot, size=sample, held_out=HELD_OUT, texts=queries, progress=watching)
    default_setups = grid(drawn_sample.documents.shape[1], whole_numbers=drawn_sample.whole_numbers)
    storage = tuned_slot.generation.storage if tuned_slot.generation else {}
    now = Setup(VectorStorage.model_validate(storage), view.search_config.params, now=True)
    wanted = default_setups if setups is None else setups
    tried_setups = [now, *(setup for setup in wanted if replace(setup, now=True) != now)]
    with Scratch(drawn_sample, points or drawn_sample.points) as scratch:
        rows = _measured(scratch, drawn_sample, tried_setups, k, watching)
    front = trials.with_front(rows, lambda row: (-row.recall, row.p50, row.memory))
    rows = sorted(front, key=lambda row: (row.memory, row.p50))
    best, reached = chosen_by.choose(rows)
    return IndexReport(
        collection=view.name,
        slot=tuned_slot.name,
        dimension=drawn_sample.documents.shape[1],
        similarity=drawn_sample.similarity,
        points=drawn_sample.points,
        as_of=points or drawn_sample.points,
        sample=len(drawn_sample.documents),
        queries=len(drawn_sample.queries),
        held_out=drawn_sample.held_out,
        k=k,
        rows=tuple(rows),
        chosen=best,
        rule=str(chosen_by),
        reached=reached,
    )


def _measured(scratch: Scratch, sample: Sample, setups: Sequence[Setup], k: int, progress: Progress) -> list[IndexRow]:
    """A row for each setup: each storage is built once, then all setups are asked in turn; one more round warms up."""
    storages = list(dict.fromkeys(map(_key, setups)))
    progress.begin("build", len(storages))
    built = {}
    for key in storages:
        built[key] = scratch.build(VectorStorage.model_validate_json(key))
        progress.advance("build", 1)
    queries = [row.tolist() for row in sample.queries]
    rankings: list[dict[str, list[tuple[str, float]]]] = [{} for _ in setups]

    def ask(place: int, number: int) -> None:
        setup = setups[place]
        rankings[place][str(number)] = scratch.ask(built[_key(setup)], queries[number], setup, k)

    count = len(queries)
    progress.begin("ask", ROUNDS * count)
    advance = partial(progress.advance, "ask")
    measured = times(ask, range(len(setups)), range(count), rounds=ROUNDS, warm_up=count, advance=advance)
    truth, points, rows = sample.exact(2 * k), len(sample.documents), list[IndexRow]()
    for setup, ranking, milliseconds in zip(setups, rankings, measured, strict=True):
        p50, p95 = np.percentile(milliseconds, (50, 95)).tolist()
        own = built[_key(setup)]
        recall = ann_recall(Run(setup.stored, ranking), truth, k)
        rows.append(IndexRow(setup, recall, p50, p95, own.memory / points, own.disk / points, own.seconds))
    return rows


def _key(setup: Setup) -> str:
    """What must be built for it, as text; the number of first-stage candidates is only a search setting."""
    return setup.storage.model_dump_json(exclude_none=True, exclude={"first_stage": {"oversampling"}})


def slot_to_tune(view: View, name: str | None) -> Slot:
    """The slot of this name; without one the only dense slot.

    Raises:
        TuneError: it is not clear which.
    """
    if name is not None:
        return view.slot(name)
    dense = [slot for slot in view.slots.values() if slot.kind == "dense"]
    if len(dense) == 1:
        return dense[0]
    raise TuneError(
        "which slot is to be tuned?" if dense else "the collection has no dense slot",
        where=f"collection {view.name!r}",
        got=", ".join(f"{slot.name} ({slot.kind})" for slot in view.slots.values()),
        do="name one: --slot NAME" if dense else "",
    )


Least: TypeAlias = Literal["memory", "latency", "disk"]
COSTS: dict[Least, str] = {"memory": "memory", "latency": "p50", "disk": "disk"}


@dataclass(frozen=True, slots=True)
class Rule:
    """Chooses, among rows with enough recall, the one with the least of something; among equals the fastest.

    Raises:
        TuneError: an invalid recall, or an unknown quantity.
    """

    recall: float = 0.98
    least: Least = "memory"

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise TuneError("the recall is out of range", got=self.recall, expected="more than 0, at most 1")
        if self.least not in COSTS:
            raise TuneError("there is no such measure", got=self.least, expected=", ".join(COSTS))

    def choose(self, rows: Sequence[IndexRow]) -> tuple[IndexRow, bool]:
        """The row, and whether it has the recall; if none has, the one that comes closest."""
        fitting = [row for row in rows if row.recall >= self.recall]
        if not fitting:
            return max(rows, key=lambda row: (row.recall, -row.p50)), False
        return min(fitting, key=lambda row: (getattr(row, COSTS[self.least]), row.p50)), True

    def __str__(self) -> str:
        return f"least {self.least} with a recall of {self.recall:g} or more"


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to store and search a slot's vectors, in the config's terms.

    Args:
        now: whether the collection has it already.
    """

    storage: VectorStorage
    params: SearchParams = field(default_factory=SearchParams)
    now: bool = False

    @property
    def stored(self) -> str:
        """How the vectors are stored: `float32, m 16`, `turbo bits2`, `first 96`."""
        storage, first = self.storage, self.storage.first_stage
        parts = [f"first {first.dimension} x{first.oversampling:g}"] if first else []
        for section in (first, storage) if first else (storage,):
            if section.quantization:
                quantization = section.quantization
                compression = quantization.compression if quantization.kind == "product" else None
                size = compression or quantization.encoding or quantization.bits
                parts.append(f"{quantization.kind} {size}" if size else quantization.kind)
            if section.hnsw and section.hnsw.m is not None:
                parts.append(f"m {section.hnsw.m}")
        if not (first or storage.quantization):
            parts.insert(0, storage.datatype or "float32")
        return ", ".join([*parts, *(["on disk"] if storage.on_disk and not (first or storage.quantization) else [])])

    @property
    def asked(self) -> str:
        """How they are searched: `ef 128`, `rescore x4`."""
        return params_text(search_params(self.params)) or "default"

    def config(self, slot: str) -> dict[str, Any]:
        """The sections of a config file for it, without empty ones."""
        storage, params = (
            part.model_dump(mode="json", exclude_none=True, exclude_unset=True) for part in (self.storage, self.params)
        )
        slots = {"slots": {slot: {"storage": storage}}} if storage else {}
        return {**slots, **({"search": {"params": params}} if params else {})}


def of_bits() -> list[Setup]:
    """A setup for 32, 16, 8, 4, 2 bits a number and 1, searched by these alone or rescored by the originals."""
    copies = [setup for setup in _quantized() if setup.storage.quantization and _bits(setup.storage) in (8, 4, 2, 1)]
    kinds = [setup for setup in copies if (setup.stored.partition(" ")[0], _bits(setup.storage)) != ("binary", 2)]
    return [Setup(_storage()), Setup(_storage(datatype="float16")), *kinds]


def bytes_read(storage: VectorStorage, width: int) -> int:
    """Bytes of the numbers of a vector of this width that a search compares; those that only rescore do not count."""
    first = storage.first_stage
    return round((first.dimension if first else width) * _bits(first or storage) / 8)


def _bits(stored: Stored) -> float:
    """Bits a number, as quantized or else as stored."""
    quantization = stored.quantization
    if quantization is None:
        return {"float32": 32, "float16": 16, "uint8": 8}[stored.datatype or "float32"]
    if quantization.kind == "product":
        return 32 / int(quantization.compression[1:])
    binary = {"one_bit": 1, "one_and_half_bits": 1.5, "two_bits": 2}[quantization.encoding or "one_bit"]
    turbo = {"bits1": 1, "bits1_5": 1.5, "bits2": 2, "bits4": 4}[quantization.bits or "bits4"]
    return {"scalar": 8, "binary": binary, "turbo": turbo}[quantization.kind]


def grid(dimension: int, *, whole_numbers: bool = False) -> list[Setup]:
    """About 25 setups: graphs, number formats, every kind of quantization, first stages.

    Quantized copies and first stages lie in memory, their originals on disk: that is what one has them for.

    Args:
        dimension: of the vectors.
        whole_numbers: whether a byte can hold each number of them.
    """
    setups = [
        Setup(_storage(hnsw={"m": m, "ef_construct": construct}), SearchParams(hnsw_ef=ef))
        for m, construct, efs in _GRAPHS
        for ef in efs
    ]
    setups.append(Setup(_storage(datatype="float16")))
    if whole_numbers:
        setups.append(Setup(_storage(datatype="uint8")))
    first_stages = [
        Setup(_storage(first_stage={"dimension": first, "oversampling": oversampling}, on_disk=True))
        for first in (dimension // 2, dimension // 4)
        for oversampling in (1, 4)
        if first >= SHORTEST
    ]
    return [*setups, *_quantized(), *first_stages]


def _quantized() -> Iterator[Setup]:
    for quantization, factors in _QUANTIZED:
        storage = _storage(quantization={**quantization, "always_ram": True}, on_disk=True)
        if quantization["kind"] in ("scalar", "turbo"):
            yield Setup(storage, SearchParams(rescore=False))
        yield from (Setup(storage, SearchParams(rescore=True, oversampling=factor)) for factor in factors)


def _storage(**settings: Any) -> VectorStorage:
    return VectorStorage.model_validate(settings)


@dataclass(frozen=True, slots=True)
class IndexRow:
    """The measurements of one setup.

    Args:
        recall: mean share of the exact first k that it finds.
        p50, p95: milliseconds of a query.
        memory, disk: bytes of a point: vectors, quantized copies and graph; memory is what is not only on disk.
        build: seconds to write the sample and build its index.
        front: whether no other row is at least as good in recall, p50 and memory, and better in one of them.
    """

    setup: Setup
    recall: float
    p50: float
    p95: float
    memory: float
    disk: float
    build: float
    front: bool = False


@dataclass(frozen=True, slots=True)
class IndexReport(Displayed):
    """The result of `tune_index`.

    Args:
        collection, slot: whose vectors.
        dimension, similarity: of the vectors.
        points: that the collection holds; `as_of`: by which Qdrant decided whether to build indexes.
        sample: vectors that were indexed.
        queries: that were asked; `held_out` when they are vectors of documents and not of texts.
        k: of the recall.
        rows: by memory, least first.
        chosen: the row that the rule chooses.
        rule: by which, in words.
        reached: whether it has the recall that was wanted.
    """

    collection: str
    slot: str
    dimension: int
    similarity: str
    points: int
    as_of: int
    sample: int
    queries: int
    held_out: bool
    k: int
    rows: tuple[IndexRow, ...]
    chosen: IndexRow
    rule: str
    reached: bool

    def display(self) -> Display:
        """The chosen row, all rows, and the config of the chosen one."""
        rows = [
            (
                trials.mark(front=row.front, chosen=row == self.chosen, present=row.setup.now),
                *(row.setup.stored, row.setup.asked, f"{row.recall:.3f}", f"{row.p50:.2f} ms", f"{row.p95:.2f} ms"),
                *(size(row.memory), size(row.disk), f"{row.build:.1f} s"),
            )
            for row in self.rows
        ]
        columns = ("", "storage", "search", f"recall@{self.k}", "p50", "p95", "memory", "disk", "build")
        reached = self.rule if self.reached else f"nothing is of {self.rule}; this one comes closest"
        asked = "held-out vectors" if self.held_out else "queries"
        counts = f"{self.sample:,} of {self.points:,} vectors of {self.dimension} indexed as in a collection of "
        settings = self.chosen.setup.config(self.slot)
        return Display(
            f"{self.chosen.setup.stored}, searched with {self.chosen.setup.asked}: {reached}",
            [
                f"{self.collection}, slot {self.slot}: {counts}{self.as_of:,}; {self.queries:,} {asked} asked",
                Table(columns, rows, numbers=range(3, 9)),
                f"{trials.LEGEND}; memory and disk are bytes of a point",
                *([f"  {line}" for line in yaml_of(settings).splitlines()] if settings else [DEFAULTS]),
            ],
            mood="good" if self.reached else "neutral",
        )


DEFAULTS = "it is what an empty storage section gives"


@dataclass(frozen=True, slots=True)
class Built:
    """A collection of the sample: its client, the seconds to build it, and bytes on disk and in memory."""

    client: EdgeClient
    seconds: float
    disk: int
    memory: int


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
        for start in range(0, len(self._sample.documents), WRITTEN):
            page = []
            for number, row in enumerate(self._sample.documents[start : start + WRITTEN], start):
                named = {VECTOR: row} if first is None else {VECTOR: row, first.vector: row[: first.dimension]}
                page.append(models.PointStruct.model_construct(id=number, vector=named, payload={}))
            client.upsert(NAME, page)
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
        facts = SimpleNamespace(dimension=self._sample.documents.shape[1], similarity=self._sample.similarity)
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
