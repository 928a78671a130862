"""The `storage` section of a slot: how Qdrant stores its vectors. Includes the checks of these settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from diptych.config.locations import Location
from diptych.config.problems import Problem
from diptych.config.section import Positive, Section
from diptych.protocols import Kind

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_RESERVED = ("rrf", "dbsf", "linear")  # what tables of results call a fusion
_OF_KIND = {"scalar": {"quantile"}, "binary": {"encoding"}, "product": {"compression"}, "turbo": {"bits"}}
_NOT_FOR: dict[Kind, tuple[str, ...]] = {
    "multivector": ("first_stage",),
    "sparse": ("hnsw", "quantization", "first_stage"),
    "text_index": ("hnsw", "quantization", "on_disk", "datatype", "first_stage"),
}


class Hnsw(Section):
    """The graph index of a dense vector; None leaves Qdrant's default."""

    m: Annotated[int, Field(ge=0)] | None = Field(None, description="Edges per node; 0 builds no graph.")
    ef_construct: Positive | None = Field(None, description="Neighbours examined while building.")
    full_scan_threshold: Annotated[int, Field(ge=0)] | None = Field(None, description="Size in KB below which to scan.")
    on_disk: bool | None = Field(None, description="Keep the graph on disk.")


class Quantization(Section):
    """Smaller copies of the vectors, for a first pass that is rescored with the originals."""

    kind: Literal["scalar", "binary", "product", "turbo"] = Field(description="int8, 1 to 2 bits, codebooks, or turbo.")
    always_ram: bool | None = Field(None, description="Keep the quantized vectors in memory.")
    quantile: Annotated[float, Field(gt=0.5, le=1)] | None = Field(None, description="scalar: share of values kept.")
    compression: Literal["x4", "x8", "x16", "x32", "x64"] = Field("x16", description="product: compression.")
    encoding: Literal["one_bit", "two_bits", "one_and_half_bits"] | None = Field(None, description="binary: encoding.")
    bits: Literal["bits1", "bits1_5", "bits2", "bits4"] | None = Field(None, description="turbo: bits per value.")


class Stored(Section):
    """How Qdrant stores a named vector."""

    hnsw: Hnsw | None = Field(None, description="Graph index; null is Qdrant's default, and none where it is not used.")
    quantization: Quantization | None = Field(None, description="Quantized copies; null is none.")
    on_disk: bool | None = Field(None, description="Keep the vectors on disk.")
    datatype: Literal["float32", "float16", "uint8"] | None = Field(None, description="Stored number format.")


class FirstStage(Stored):
    """A first stage: searches the first numbers of each vector; the whole vectors rescore the best."""

    dimension: Positive = Field(description="Leading dimensions to search; the encoder must support it (Matryoshka).")
    oversampling: Annotated[float, Field(ge=1)] = Field(4, description="Candidates to rescore per hit.")


class VectorStorage(Stored):
    """How Qdrant stores a slot's vectors."""

    first_stage: FirstStage | None = Field(
        None, description="Shorter vectors to search first; the full ones then have no graph unless `hnsw` is set."
    )


def slot_problems(slots: Mapping[str, VectorStorage]) -> list[Problem]:
    """Slot names that Qdrant or the tables cannot take, and quantization options of another kind."""
    problems = [problem for name in slots for problem in _name(name)]
    for name, storage in slots.items():
        at: Location = ("slots", name, "storage")
        problems += _quantization(storage, at)
        if storage.first_stage:
            problems += _quantization(storage.first_stage, (*at, "first_stage"))
    return problems


def storage_problems(kind: Kind, storage: VectorStorage, at: Location) -> Iterator[Problem]:
    """Settings that vectors of this kind do not have."""
    for key in _NOT_FOR.get(kind, ()):
        if key in storage.model_fields_set and getattr(storage, key) is not None:
            yield Problem((*at, "storage", key), f"a slot of kind {kind} has no {key}", do="leave it out")


def _name(name: str) -> Iterator[Problem]:
    if not _NAME.fullmatch(name):
        expected = "a letter, then letters, digits, - and _, at most 63 in all"
        yield Problem(("slots", name), "a slot's name cannot be used", got=repr(name), expected=expected)
    elif name in _RESERVED:
        yield Problem(
            ("slots", name), f"a slot cannot be called {name!r}", do="that is the name of a fusion; rename it"
        )


def _quantization(stored: Stored, at: Location) -> Iterator[Problem]:
    quantization = stored.quantization
    if quantization is None:
        return
    other_options = {key for kind, keys in _OF_KIND.items() if kind != quantization.kind for key in keys}
    for key in sorted(other_options & quantization.model_fields_set):
        options = ", ".join(sorted(_OF_KIND[quantization.kind]))
        what = f"{quantization.kind} quantization has no option {key!r}"
        yield Problem((*at, "quantization", key), what, expected=f"{options}, always_ram")
