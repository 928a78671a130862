"""What diptych knows of its model adapters before any model library is imported."""

from __future__ import annotations

from diptych.specs import AdapterSpec

_PACKAGE = "diptych_adapters"
_OPTIONS = f"{_PACKAGE}.model_options"
_TORCH = ("torch", "sentence_transformers")

SPECS = [
    AdapterSpec(
        name="sentence-transformers",
        kind="dense",
        factory=f"{_PACKAGE}.sentence_transformers:SentenceTransformerEncoder.of",
        options=f"{_OPTIONS}:SentenceTransformersOptions",
        summary="Any dense model of sentence-transformers: folder, hub name or wheel.",
        requires=_TORCH,
        extra="diptych[torch]",
    ),
    AdapterSpec(
        name="token-vectors",
        kind="multivector",
        factory=f"{_PACKAGE}.token_vectors:TokenVectorEncoder.of",
        options=f"{_OPTIONS}:TokenVectorsOptions",
        summary="Late interaction without training: the normalised token vectors of any dense model.",
        requires=_TORCH,
        extra="diptych[torch]",
    ),
]
