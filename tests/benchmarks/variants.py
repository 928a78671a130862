"""The ways in which diptych runs a model, and what is wanted of each. A new engine is a new row here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from machine import arithmetic, facts

MINILM = "all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True)
class Variant:
    """Options of the model adapters, and the least ratios that are wanted."""

    options: Mapping[str, Any] = field(default_factory=dict)
    library: str = ""  # of sentence-transformers' encode
    fastembed: str = ""
    cosine: str = ""  # to the vectors of sentence-transformers


VARIANTS: Mapping[str, Variant] = {
    "torch float32": Variant({}, library=">= 1.12"),
    "torch bfloat16": Variant({"precision": "bfloat16"}),
    "openvino float32": Variant({"backend": "openvino"}, library=">= 1.35"),
    "openvino bfloat16": Variant(
        {"backend": "openvino", "precision": "bfloat16"}, library=">= 2.5", cosine=">= 0.9999"
    ),
    "openvino int8": Variant({"backend": "openvino", "precision": "int8"}, library=">= 3.6", fastembed=">= 2"),
    "onnx float32": Variant({"backend": "onnx"}),
}


def fastest(*, seen: bool = True) -> str:
    """What comparisons with whole frameworks run: bfloat16 where the processor multiplies matrices in it.

    Args:
        seen: whether the encoder is shown texts, on which int8 is measured.
    """
    elsewhere = "openvino int8" if seen else "openvino float32"
    return "openvino bfloat16" if arithmetic(facts()) == "AMX" else elsewhere


def chosen(names: str) -> dict[str, Variant]:
    """The variants of a list with commas, - or a blank between their words; all for an empty one.

    Raises:
        SystemExit: naming one that is not there.
    """
    wanted = [name.strip().replace("-", " ") for name in names.split(",") if name.strip()] or list(VARIANTS)
    if unknown := [name for name in wanted if name not in VARIANTS]:
        raise SystemExit(f"no variant {unknown[0]!r}; there are {', '.join(VARIANTS)}")
    return {name: VARIANTS[name] for name in wanted}


def one(names: str) -> tuple[str, Variant]:
    """The variant that is named, the fastest unless one is.

    Raises:
        SystemExit: there is no such variant, or several are named.
    """
    found = chosen(names or fastest())
    if len(found) > 1:
        raise SystemExit(f"one variant is measured here, not {', '.join(found)}")
    return next(iter(found.items()))
