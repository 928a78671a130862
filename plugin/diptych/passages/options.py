"""`PassageOptions`: how the documents of a slot are cut into passages."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

OPTION = "passages"  # the key beside an adapter's own options


class PassageOptions(BaseModel):
    """Passages inside documents, in tokens of the slot's own encoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: Annotated[int, Field(ge=16)] = Field(
        200, description="The most tokens of a passage, its context included; no more than the encoder reads."
    )
    overlap: Annotated[int, Field(ge=0)] | None = Field(
        None, description="The most tokens that a passage shares with the one before it; a fifth of them unless set."
    )
    context: tuple[Literal["title", "headings"], ...] = Field(
        ("title",), description="Stands before each passage: the title, and the headings above it in Markdown."
    )
    pooling: Literal["each", "late"] = Field(
        "each",
        description="each: a passage is encoded by itself. late: the mean of its token vectors, made in one pass over "
        "as many passages as the encoder reads; only for mean-pooled encoders that read several.",
    )

    @model_validator(mode="after")
    def _advances(self) -> Self:
        if self.shared * 2 > self.tokens:
            raise ValueError(f"overlap is at most half of tokens, here {self.tokens // 2}")
        return self

    @property
    def shared(self) -> int:
        """The overlap in tokens."""
        return self.tokens // 5 if self.overlap is None else self.overlap
