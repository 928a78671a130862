"""The options of the adapters of media models. Cheap to import: no model library."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from diptych_adapters.model_options import ModelOptions


class MediaModelOptions(ModelOptions):
    """Options of the `transformers-...` adapters."""

    device: str | None = Field(None, description="cpu, cuda, cuda:1 ...; cuda where there is one when not given.")
    precision: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Of weights and arithmetic.")
    batch_size: int = Field(16, ge=1, description="Inputs that go through the model at once, at most.")
    normalize: bool = Field(True, description="Make vectors unit length.")
    pooling: Literal["cls", "mean", "pooler"] | None = Field(
        None,
        description="How token vectors become one: the first, the mean, or the model's own pooler; the family's usual "
        "way when not given. Not for models of media and text, which have a projection of their own.",
    )

    @property
    def trust_remote_code(self) -> bool:
        """False: these adapters run no code that comes with a model."""
        return False


class SentenceTransformersImageOptions(ModelOptions):
    """Options of `sentence-transformers-image`."""

    device: str | None = Field(None, description="cpu, cuda, cuda:1, mps ...; the fastest present when not given.")
    precision: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Of weights and arithmetic; as the weights are stored when not given."
    )
    batch_size: int = Field(16, ge=1, description="Inputs that go through the model at once.")
    query_prompt: str | None = Field(
        None, description="Put before each query that is a text; the model's own when not given, '' for none."
    )
    document_prompt: str | None = Field(
        None, description="Put before each document that is a text; the model's own when not given, '' for none."
    )
    truncate_dim: int | None = Field(None, ge=1, description="Keep the first so many dimensions (Matryoshka models).")
