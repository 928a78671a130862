"""What `diptych.yaml` may say, as pydantic models. Every default is one that a careful engineer would choose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, PrivateAttr, SecretStr, field_validator, model_validator

from diptych.config.cluster import ClusterConfig, cluster_problems
from diptych.config.pipeline import pipeline_problems
from diptych.config.problems import PipelineProblems
from diptych.config.section import Positive, Section
from diptych.config.source import Source
from diptych.config.storage import slot_problems
from diptych.config.tenant import TenantConfig, tenant_problems

CANDIDATES = 100  # of a slot whose number is not given: ten times the default limit
IndexType = Literal["keyword", "integer", "float", "bool", "datetime", "uuid", "geo", "text"]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Hnsw(Section):
    """The graph index of a dense vector; None leaves Qdrant's default."""

    m: Annotated[int, Field(ge=0)] | None = Field(None, description="Edges of a node; 0 builds no graph.")
    ef_construct: Positive | None = Field(None, description="Neighbours looked at while building.")
    full_scan_threshold: Annotated[int, Field(ge=0)] | None = Field(None, description="KB below which to scan.")
    on_disk: bool | None = Field(None, description="Keep the graph on disk.")


class Quantization(Section):
    """Smaller copies of the vectors, for a first pass that is rescored with the originals."""

    kind: Literal["scalar", "binary", "product", "turbo"] = Field(description="int8, 1 to 2 bits, codebooks, or turbo.")
    always_ram: bool | None = Field(None, description="Keep the quantized vectors in memory.")
    quantile: Annotated[float, Field(gt=0.5, le=1)] | None = Field(None, description="scalar: share of values kept.")
    compression: Literal["x4", "x8", "x16", "x32", "x64"] = Field("x16", description="product: compression.")
    encoding: Literal["one_bit", "two_bits", "one_and_half_bits"] | None = Field(None, description="binary: encoding.")
    bits: Literal["bits1", "bits1_5", "bits2", "bits4"] | None = Field(None, description="turbo: bits per value.")


class Stored(Section):
    """How Qdrant stores a named vector."""

    hnsw: Hnsw | None = Field(None, description="Graph index; None is Qdrant's default, and none where it is not used.")
    quantization: Quantization | None = Field(None, description="Quantized copies; off unless set.")
    on_disk: bool | None = Field(None, description="Keep the vectors on disk.")
    datatype: Literal["float32", "float16", "uint8"] | None = Field(None, description="Stored number format.")


class FirstStage(Stored):
    """The beginning of each vector, searched instead of all of it; the whole vectors score the best anew."""

    dimension: Positive = Field(description="How many leading numbers; the encoder must be made for it (Matryoshka).")
    oversampling: Annotated[float, Field(ge=1)] = Field(4, description="Candidates scored anew for each one wanted.")


class VectorStorage(Stored):
    """How Qdrant stores a slot's vectors."""

    first_stage: FirstStage | None = Field(
        None, description="A shorter vector, searched first; then the whole one has no graph unless `hnsw` is set."
    )


def _gather_options(raw: Any, own: tuple[str, ...]) -> Any:
    """`raw` with all keys but `own` moved under `options`; what is no mapping is left to pydantic."""
    nested = (raw.get("options") or {}) if isinstance(raw, dict) else None
    if not isinstance(nested, dict):
        return raw
    rest = {key: value for key, value in raw.items() if key not in (*own, "options")}
    return {**{key: raw[key] for key in own if key in raw}, "options": {**nested, **rest}}


class SlotConfig(Section):
    """One slot: an adapter, its options (any further key), and how its vectors are stored."""

    adapter: str = Field(description="Name of an adapter; `diptych adapters` lists them.")
    storage: VectorStorage = Field(default_factory=VectorStorage, description="How Qdrant stores the vectors.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the adapter.")

    @model_validator(mode="before")
    @classmethod
    def _collect_options(cls, raw: Any) -> Any:
        """Keys that are not the slot's own are the adapter's options."""
        return _gather_options(raw, ("adapter", "storage"))


class RrfFusion(Section):
    """Reciprocal rank fusion: the sum of weight / (k + rank), ranks from 1 as in the paper."""

    kind: Literal["rrf"] = "rrf"
    k: Positive = Field(60, description="The paper's k, with ranks from 1; Qdrant's own k is one larger.")
    weights: dict[str, Weight] = Field(default_factory=dict, description="Weight of a slot; 1 unless set.")


class DbsfFusion(Section):
    """Distribution-based score fusion: scores scaled by mean plus and minus three deviations, then added."""

    kind: Literal["dbsf"]


class LinearFusion(Section):
    """A weighted sum of normalised scores of each slot's candidates."""

    kind: Literal["linear"]
    normalize: Literal["minmax", "zscore"] = Field("minmax", description="How scores are made comparable.")
    weights: dict[str, Weight] = Field(default_factory=dict, description="Weight of a slot; 1 unless set.")


Fusion = Annotated[RrfFusion | DbsfFusion | LinearFusion, Field(discriminator="kind")]


class Rescore(Section):
    """The best candidates scored anew by another slot, usually a multi-vector one."""

    slot: str = Field(description="Slot whose vectors give the new scores.")
    candidates: Positive = Field(50, description="How many are scored anew.")


class EarlyExit(Section):
    """A reranker stops once blocks of further candidates bring nothing into the best that are wanted."""

    block: Positive = Field(10, description="Candidates scored at a time, best first.")
    patience: Positive = Field(2, description="Blocks in a row without a change of the best, after which it stops.")


class RerankStage(Section):
    """A reranker over the best candidates; further keys are its options. Several stages make a cascade."""

    adapter: str = Field(description="Name of a reranker.")
    candidates: Positive = Field(50, description="How many of the previous stage it reads.")
    early_exit: EarlyExit | None = Field(None, description="When to stop before all are scored; all are unless set.")
    weight: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Of its score beside the previous stage's, each scaled from 0 to 1; 1 takes its own alone."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the adapter.")

    @model_validator(mode="before")
    @classmethod
    def _collect_options(cls, raw: Any) -> Any:
        """Keys that are not the stage's own are the reranker's options."""
        return _gather_options(raw, ("adapter", "candidates", "early_exit", "weight"))


class Diversify(Section):
    """Maximal marginal relevance over the candidates of one slot."""

    slot: str = Field(description="Dense slot whose vectors measure likeness.")
    relevance: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="The paper's lambda: 1 is pure relevance, 0 is pure diversity."
    )
    candidates: Positive = Field(100, description="How many candidates it chooses from.")


class SearchParams(Section):
    """Settings of the approximate search."""

    hnsw_ef: Positive | None = Field(None, description="Width of the graph search; None is Qdrant's default.")
    exact: bool = Field(False, description="Scan everything instead of using the graph.")
    oversampling: Annotated[float, Field(ge=1)] | None = Field(None, description="With quantization: factor read.")
    rescore: bool | None = Field(None, description="With quantization: score the candidates with the originals.")


class SearchConfig(Section):
    """The search pipeline, from candidates to hits."""

    retrieve: dict[str, Positive] = Field(
        default_factory=dict, description="Candidates per slot; empty means 100 from each slot that is not a rescorer."
    )
    fuse: Fusion = Field(default_factory=RrfFusion, description="How the slots' candidates become one list.")
    rescore: Rescore | None = Field(None, description="Rescoring by another slot, inside Qdrant.")
    diversify: Diversify | None = Field(None, description="Maximal marginal relevance, inside Qdrant.")
    rerank: list[RerankStage] = Field(default_factory=list, description="Reranker cascade, first stage first.")
    params: SearchParams = Field(default_factory=SearchParams, description="Settings of the approximate search.")
    limit: Positive = Field(10, description="Hits a query returns.")
    score_threshold: float | None = Field(None, description="Hits below this score are dropped.")
    remember: Annotated[int, Field(ge=0)] = Field(
        1024, description="Vectors of the last queries held in memory, per slot; 0 encodes each query anew."
    )

    def retrieved(self, slots: Iterable[str]) -> dict[str, int]:
        """Candidates of each slot that is retrieved from: what `retrieve` says, or 100 of all but the rescorer."""
        rescorer = self.rescore.slot if self.rescore else None
        return dict(self.retrieve) or {name: CANDIDATES for name in slots if name != rescorer}


class PopulateConfig(Section):
    """How documents become points."""

    input: list[Literal["title", "text"]] = Field(["title", "text"], min_length=1, description="What is encoded.")
    separator: str = Field(" ", description="Stands between the parts of the input.")
    max_characters: Positive = Field(1_000_000, description="Longer documents are set aside.")
    chunk: Positive = Field(1024, description="Documents a crash can cost at most.")
    retries: Annotated[int, Field(ge=0)] = Field(5, description="Tries after a store error, with growing pauses.")
    max_deleted: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="Share of the collection's documents that a sync may delete without --yes; 1 allows all."
    )
    indexes: dict[str, IndexType] = Field(default_factory=dict, description="Payload indexes: field to schema type.")


class EvaluateConfig(Section):
    """What `diptych evaluate` reads and computes."""

    queries: str | None = Field(None, description="queries.jsonl(.gz), relative to the config file.")
    qrels: str | None = Field(None, description="Judgements in BEIR or TREC form, relative to the config file.")
    metrics: list[str] = Field(["nDCG@10", "MRR@10", "Recall@100"], description="Measures, in ir-measures' names.")


class CacheConfig(Section):
    """The embedding cache on this machine: what was encoded once is not encoded again."""

    enabled: bool = Field(True, description="Keep document vectors for later runs; DIPTYCH_CACHE=off overrides it.")
    path: str | None = Field(
        None, description="Folder of the cache; the user's cache folder unless set. DIPTYCH_CACHE overrides it."
    )
    size: ByteSize = Field(ByteSize(1_000_000_000), description="Bytes it may take, 16MB at least: 500MB, 2GB, 1.5GiB.")

    @field_validator("size")
    @classmethod
    def _has_room(cls, size: ByteSize) -> ByteSize:
        """Below that a transaction would not fit."""
        if size < 16_000_000:
            raise ValueError("at least 16MB")
        return size


class GateConfig(Section):
    """What new encoders must show before they become live."""

    metric: str | None = Field(None, description="With judgements: the measure compared; the first of `evaluate`.")
    margin: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.02, description="With judgements: the loss that the interval of the difference must exclude."
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(0.95, description="Confidence of that interval.")
    sample: Positive = Field(200, description="Without judgements: documents whose neighbours are compared.")
    overlap: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Without judgements: least share of common neighbours; only reported unless set."
    )
    missing: Annotated[int, Field(ge=0)] = Field(0, description="Points that may lack the new vector.")


class SwapConfig(Section):
    """How `diptych apply` re-encodes a live collection."""

    rate: Positive | None = Field(None, description="Documents a second at most; as fast as it goes unless set.")
    pace: Literal["gentle", "full"] | None = Field(
        None,
        description="gentle spares those who search meanwhile; gentle on a server unless set, elsewhere full.",
    )
    parallel: bool = Field(False, description="Re-encode several slots side by side instead of one after another.")
    gate: GateConfig = Field(default_factory=GateConfig, description="What must hold before the cut-over.")


class Config(Section):
    """A whole `diptych.yaml`."""

    store: str | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        "edge:./qdrant",
        description="edge:PATH, http(s)://..., grpc://..., local:PATH or memory:; or a list of a cluster's nodes.",
    )
    api_key: SecretStr | None = Field(None, description="Key of the server; write ${QDRANT_API_KEY}.")
    timeout: Positive = Field(60, description="Seconds to wait for the server.")
    search_timeout: Positive = Field(10, description="Seconds that a search waits for the server.")
    collection: str = Field(min_length=1, description="Name of the collection.")
    slots: dict[str, SlotConfig] = Field(min_length=1, description="Encoders by logical name.")
    search: SearchConfig = Field(default_factory=SearchConfig, description="The search pipeline.")
    populate: PopulateConfig = Field(default_factory=PopulateConfig, description="How documents become points.")
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig, description="Judgements and measures.")
    swap: SwapConfig = Field(default_factory=SwapConfig, description="How encoders are swapped.")
    cache: CacheConfig = Field(default_factory=CacheConfig, description="The embedding cache on this machine.")
    cluster: ClusterConfig = Field(default_factory=ClusterConfig, description="Shards and replicas on a server.")
    tenant: TenantConfig | None = Field(None, description="Whose documents are whose, and who must be named.")

    _source: Source = PrivateAttr(default_factory=Source)

    @property
    def source(self) -> Source:
        """The file this was read from, with the lines of its keys; relative paths started at its folder."""
        return self._source

    @property
    def urls(self) -> tuple[str, ...]:
        """The store's URL; those of all nodes where several are named."""
        return (self.store,) if isinstance(self.store, str) else self.store

    @property
    def place(self) -> str:
        """The store as messages name it."""
        return ", ".join(self.urls)

    def digest(self) -> str:
        """A short hash of everything that it says, secrets as they are written; histories keep it."""
        said = self.model_dump(mode="json", exclude={"api_key"})
        return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:12]

    def from_source(self, source: Source) -> Config:
        """A copy that knows where it came from."""
        copy = self.model_copy()
        copy._source = source
        return copy

    @model_validator(mode="after")
    def _pipeline_fits(self) -> Config:
        """Every slot that the pipeline names is defined, and its stages fit each other."""
        problems = [*slot_problems(self), *pipeline_problems(self), *cluster_problems(self), *tenant_problems(self)]
        if problems:
            raise PipelineProblems(problems)
        return self
