"""Warns if a collection was created with other `cluster` settings than the config's. `apply` changes none of them."""

from __future__ import annotations

from qdrant_client import models

from diptych.config.cluster import ClusterConfig


def spread_warnings(cluster: ClusterConfig, params: models.CollectionParams) -> list[str]:
    """A sentence for each setting that the collection was created with another value of."""
    custom = params.sharding_method == models.ShardingMethod.CUSTOM
    compared = {
        "shards": (cluster.shards, params.shard_number or 1),
        "replicas": (cluster.replicas, params.replication_factor or 1),
        "write_consistency": (cluster.write_consistency, params.write_consistency_factor or 1),
    }
    sentences = [
        _sentence(key, str(has), str(configured))
        for key, (configured, has) in compared.items()
        if configured not in (None, has)
    ]
    for key in ("shard_key", "shard_by"):
        configured = getattr(cluster, key)
        if configured is not None and not custom:
            sentences.append(_sentence(key, "no shard keys", repr(configured)))
    return sentences


def _sentence(key: str, has: str, configured: str) -> str:
    return (
        f"cluster.{key}: the collection has {has}, the config says {configured}. `apply` cannot change that in place: "
        "copy the collection into a new one with `diptych copy`, or leave the setting as it was"
    )
