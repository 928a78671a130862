"""The specs of the experimental adapters, which load models as `diptych_adapters` does. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from diptych.protocols import Kind
from diptych.specs import AdapterSpec
from diptych_adapters.model_options import PromptOptions
from diptych_adapters.specs import CARRIED


class UniDECOptions(PromptOptions):
    """Options of `unidec`."""

    head: Literal["joint", "classifier"] = Field(
        "joint", description="Vectors to make: both heads' concatenated, or the classifier's only."
    )


def _adapter(name: str, kind: Kind, factory: str, options: str, summary: str) -> AdapterSpec:
    return AdapterSpec(
        name=name,
        kind=kind,
        factory=f"diptych_experimental.{factory}.of",
        options=f"diptych_experimental.{options}",
        summary=f"Experimental. {summary}",
        requires=("torch", "sentence_transformers"),
        extra="diptych[torch]",
        carried=CARRIED,
    )


ADAPTERS = [
    _adapter(
        "unidec",
        "dense",
        "unidec_encoder:UniDECEncoder",
        "adapters:UniDECOptions",
        "Models of the recipe unidec: dual encoder and classifier as one vector.",
    ),
    _adapter(
        "yes-no",
        "reranker",
        "yes_no:YesNoReranker",
        "yes_no:YesNoOptions",
        "Local causal language models that answer yes or no, scored by the probability of the next token.",
    ),
]
