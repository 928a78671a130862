"""How Qdrant stores a slot's vectors, and where documents lie: shards, replicas and tenants. Includes their checks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from diptych.config.problems import Location, Problem
from diptych.config.section import Positive, Section
from diptych.protocols import Kind

EMBEDDED = ("edge:", "local:", "memory:")
_TAKEN = ("text", "title", "_diptych")  # keys of a document that cannot name its tenant

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_RESERVED = ("rrf", "dbsf", "linear")  # what tables of results call a fusion
_OF_KIND = {"scalar": {"quantile"}, "binary": {"encoding"}, "product": {"compression"}, "turbo": {"bits"}}
_NOT_FOR: dict[Kind, tuple[str, ...]] = {
    "multivector": ("first_stage",),
    "sparse": ("hnsw", "quantization", "first_stage"),
    "text_index": ("hnsw", "quantization", "on_disk", "datatype", "first_stage"),
}


class Hnsw(Section):
    """The graph index of a dense vector; None leaves Qdrant's default."""

    m: Annotated[int, Field(ge=0)] | None = Field(None, description="Edges per node; 0 builds no graph.")
    ef_construct: Positive | None = Field(None, description="Neighbours examined while building.")
    full_scan_threshold: Annotated[int, Field(ge=0)] | None = Field(None, description="Size in KB below which to scan.")
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

    hnsw: Hnsw | None = Field(None, description="Graph index; null is Qdrant's default, and none where it is not used.")
    quantization: Quantization | None = Field(None, description="Quantized copies; null is none.")
    on_disk: bool | None = Field(None, description="Keep the vectors on disk.")
    datatype: Literal["float32", "float16", "uint8"] | None = Field(None, description="Stored number format.")


class FirstStage(Stored):
    """A first stage: searches the first numbers of each vector; the whole vectors rescore the best."""

    dimension: Positive = Field(description="Leading dimensions to search; the encoder must support it (Matryoshka).")
    oversampling: Annotated[float, Field(ge=1)] = Field(4, description="Candidates to rescore per hit.")


class VectorStorage(Stored):
    """How Qdrant stores a slot's vectors."""

    first_stage: FirstStage | None = Field(
        None, description="Shorter vectors to search first; the full ones then have no graph unless `hnsw` is set."
    )


def slot_problems(slots: Mapping[str, VectorStorage]) -> list[Problem]:
    """Slot names that Qdrant or the tables cannot take, and quantization options of another kind."""
    problems = list[Problem]()
    for name in slots:
        if not _NAME.fullmatch(name):
            expected = "a letter, then letters, digits, - and _, at most 63 in all"
            problems.append(Problem(("slots", name), "a slot's name cannot be used", repr(name), expected))
        elif name in _RESERVED:
            do = "that is the name of a fusion; rename it"
            problems.append(Problem(("slots", name), f"a slot cannot be called {name!r}", do=do))
    for name, storage in slots.items():
        at: Location = ("slots", name, "storage")
        problems += _quantization(storage, at)
        if storage.first_stage:
            problems += _quantization(storage.first_stage, (*at, "first_stage"))
    return problems


def storage_problems(kind: Kind, storage: VectorStorage, at: Location) -> Iterator[Problem]:
    """Settings that vectors of this kind do not have."""
    for key in _NOT_FOR.get(kind, ()):
        if key in storage.model_fields_set and getattr(storage, key) is not None:
            yield Problem((*at, "storage", key), f"a slot of kind {kind} has no {key}", do="leave it out")


def _quantization(stored: Stored, at: Location) -> Iterator[Problem]:
    quantization = stored.quantization
    if quantization is None:
        return
    other_options = {key for kind, keys in _OF_KIND.items() if kind != quantization.kind for key in keys}
    for key in sorted(other_options & quantization.model_fields_set):
        options = ", ".join(sorted(_OF_KIND[quantization.kind]))
        what = f"{quantization.kind} quantization has no option {key!r}"
        yield Problem((*at, "quantization", key), what, expected=f"{options}, always_ram")


class ClusterConfig(Section):
    """Shards, replicas and consistency of a collection on a Qdrant server; what is not set is the server's default."""

    shards: Positive | None = Field(None, description="Shards of the collection; with shard keys, of each key.")
    replicas: Positive | None = Field(None, description="Copies of each shard, on different machines.")
    write_consistency: Positive | None = Field(
        None, description="Copies that must be written before a write is acknowledged."
    )
    ordering: Literal["weak", "medium", "strong"] | None = Field(None, description="Ordering of writes.")
    read_consistency: Positive | Literal["majority", "quorum", "all"] | None = Field(
        None, description="Copies that must agree on an answer: a number or a rule."
    )
    shard_key: str | int | None = Field(
        None, description="Shard key of all documents, for a collection shared by several users with a key each."
    )
    shard_by: str | None = Field(
        None, min_length=1, description="Metadata key that holds a document's shard key, such as a tenant."
    )

    @property
    def given(self) -> dict[str, Any]:
        """What is set, by key."""
        return {key: value for key in type(self).model_fields if (value := getattr(self, key)) is not None}


def cluster_problems(cluster: ClusterConfig, store: str) -> Iterator[Problem]:
    """Settings that an embedded store could not honour, and two ways to choose shard keys at once."""
    settings = cluster.given
    if store.startswith(EMBEDDED):
        for key in settings:
            yield Problem(
                ("cluster", key),
                f"an embedded store is one shard on one machine: it has no {key}",
                got=f"store: {store}",
                expected="store: http(s)://... or grpc(s)://...",
                do="leave it out",
            )
    if {"shard_key", "shard_by"} <= settings.keys():
        what = "shard_key gives all documents one key, shard_by each its own"
        yield Problem(("cluster", "shard_by"), what, do="leave one of them out")


class TenantConfig(Section):
    """Which metadata key names a document's tenant, and whether every query must name a tenant."""

    field: str = Field(pattern=r"^[\w-]+$", description="Metadata key that holds a document's tenant, a text.")
    required: bool = Field(True, description="Reject queries and documents without a tenant.")
    shard_keys: bool = Field(
        False, description="On a cluster: one shard key per tenant, so that a search asks only that tenant's shards."
    )

    @field_validator("field")
    @classmethod
    def _is_free(cls, field: str) -> str:
        """Refuse keys of the document itself: a tenant is named in its metadata."""
        if field in _TAKEN:
            raise ValueError(f"a metadata key, not {', '.join(_TAKEN)}")
        return field


def placement(tenant: TenantConfig | None, cluster: ClusterConfig) -> ClusterConfig:
    """The cluster section, in which shard keys come from the tenant field."""
    if tenant is None or not tenant.shard_keys:
        return cluster
    return cluster.model_copy(update={"shard_by": tenant.field})


def tenant_problems(
    tenant: TenantConfig | None, cluster: ClusterConfig, store: str, indexes: Mapping[str, str]
) -> Iterator[Problem]:
    """Problems with shard keys that cannot be derived, and with an index of the field that cannot serve."""
    if tenant is None:
        return
    indexed = indexes.get(tenant.field, "keyword")
    if indexed != "keyword":
        location = ("populate", "indexes", tenant.field)
        yield Problem(location, "the tenant's field is indexed as keyword", got=indexed, do="leave it out")
    if not tenant.shard_keys:
        return
    place = ("tenant", "shard_keys")
    if not tenant.required:
        yield Problem(place, "a document without a tenant would have no shard key", do="set tenant.required: true")
    if store.startswith(EMBEDDED):
        what = "an embedded store is one shard on one machine: it has no shard keys"
        yield Problem(place, what, got=f"store: {store}", expected="store: http(s)://... or grpc(s)://...")
    if cluster.shard_key is not None or cluster.shard_by not in (None, tenant.field):
        key = "shard_key" if cluster.shard_key is not None else "shard_by"
        yield Problem(("cluster", key), "the tenant's field gives the shard keys", do="leave it out")
