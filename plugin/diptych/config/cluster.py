"""The `cluster` section: how a server spreads a collection over its nodes, and which stores support that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from diptych.config.problems import Problem
from diptych.config.section import Positive, Section

EMBEDDED = ("edge:", "local:", "memory:")


class ClusterConfig(Section):
    """Shards, replicas and consistency of a collection on a Qdrant server; what is not set is the server's default."""

    shards: Positive | None = Field(None, description="Parts the collection is split into; with shard keys, of each.")
    replicas: Positive | None = Field(None, description="Copies of each shard, on machines of their own.")
    write_consistency: Positive | None = Field(
        None, description="Copies that must have taken a write before it is acknowledged."
    )
    ordering: Literal["weak", "medium", "strong"] | None = Field(None, description="How writes are put in order.")
    read_consistency: Positive | Literal["majority", "quorum", "all"] | None = Field(
        None, description="Copies that must agree on an answer, or a rule for how many."
    )
    shard_key: str | int | None = Field(
        None, description="Shard key of all documents: one collection for several users of it, each with its own key."
    )
    shard_by: str | None = Field(
        None, min_length=1, description="Metadata key whose value is a document's shard key, such as a tenant."
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
