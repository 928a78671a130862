"""The options of the adapters of media models. Cheap to import: no model library."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from diptych_adapters.model_options import ModelOptions


class MediaModelOptions(ModelOptions):
    """Options of `transformers-media`."""

    modality: Literal["image", "image-text", "sound", "sound-text", "video", "series"] = Field(
        description="What the model reads; with `-text` also texts, in the same space."
    )
    device: str | None = Field(None, description="cpu, cuda, cuda:1 ...; null takes cuda if present, else cpu.")
    precision: Literal["float32", "bfloat16", "float16"] = Field("float32", description="Number format of the model.")
    batch_size: int = Field(16, ge=1, description="Maximum inputs per forward pass.")
    normalize: bool = Field(True, description="Scale vectors to unit length.")
    pooling: Literal["cls", "mean", "pooler"] | None = Field(
        None,
        description="How to make one vector of the token vectors: the first, the mean, or the model's own pooler; null"
        " is the family's usual way. Not for models of media and text, which have their own projection.",
    )

    @property
    def trust_remote_code(self) -> bool:
        """False: these adapters run no code that comes with a model."""
        return False


class SentenceTransformersImageOptions(ModelOptions):
    """Options of `sentence-transformers-image`."""

    device: str | None = Field(None, description="cpu, cuda, cuda:1, mps ...; null takes the fastest present.")
    precision: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="Number format of the model; null is as stored."
    )
    batch_size: int = Field(16, ge=1, description="Maximum inputs per forward pass.")
    query_prompt: str | None = Field(
        None, description="Prefix of each query that is a text; null is the model's own, '' is none."
    )
    document_prompt: str | None = Field(
        None, description="Prefix of each document that is a text; null is the model's own, '' is none."
    )
    truncate_dim: int | None = Field(None, ge=1, description="Keep only the first N dimensions (Matryoshka models).")
