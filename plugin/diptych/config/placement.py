"""The placement of a collection's documents: shards and replicas on a server, and tenants told apart by a key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from diptych.config.problems import Problem
from diptych.config.section import Positive, Section

EMBEDDED = ("edge:", "local:", "memory:")
_TAKEN = ("text", "title", "_diptych")  # keys of a document that cannot name its tenant


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
