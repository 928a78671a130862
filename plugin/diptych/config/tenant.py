"""The tenants of a collection: several in one, told apart by a metadata key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field, field_validator

from diptych.config.cluster import EMBEDDED, ClusterConfig
from diptych.config.problems import Problem
from diptych.config.section import Section

_TAKEN = ("text", "title", "_diptych")


class TenantConfig(Section):
    """Which metadata key names a document's tenant, and whether every query must name a tenant."""

    field: str = Field(pattern=r"^[\w-]+$", description="Metadata key whose value, a text, is the document's tenant.")
    required: bool = Field(True, description="Refuse questions without a tenant, and documents that have none.")
    shard_keys: bool = Field(
        False,
        description="On a cluster: a shard key for each tenant, so that a search asks that tenant's shards alone.",
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
