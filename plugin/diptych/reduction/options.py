"""`ReduceOptions`: how many vectors a document of a multi-vector slot keeps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

REDUCE = "reduce"  # the key beside an adapter's own options


class ReduceOptions(BaseModel):
    """Store fewer vectors for each document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["ward"] = Field("ward", description="The means of clusters of similar vectors, by Ward's method.")
    keep: Annotated[int, Field(ge=1, strict=True)] = Field(
        32, description="The most vectors of a document, or of each passage with `passages`."
    )
