"""`AnchorOptions`: which queries a reranker scores against every document of a slot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from diptych.protocols import Kind

ANCHORS = "anchors"  # the key beside a reranker's own options


class AnchorOptions(BaseModel):
    """Anchors of a slot: queries that its reranker scores against every document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: Annotated[str, Field(min_length=1)] = Field(
        description="Text file with an anchor a line, such as past queries; `diptych anchors build` writes it from "
        "titles where there is none."
    )


def anchored(kind: Kind, options: Mapping[str, Any]) -> bool:
    """Whether an adapter of this kind, with these options, stores a reranker's scores of anchors."""
    return kind == "reranker" and has_anchors(options)


def has_anchors(options: Mapping[str, Any]) -> bool:
    """Whether the options of a slot or generation name anchors."""
    return options.get(ANCHORS) is not None
