"""The conformance kit on the lexical adapters."""

from __future__ import annotations

from typing import Any

from contracts import contract
from diptych.testing import SparseEncoderContract, TextIndexContract
from diptych_adapters.lexical import Bm25, NGrams, QdrantTextIndex


def calibrated(encoder: Bm25 | NGrams) -> Any:
    encoder.calibrate(encoder.measure(SparseEncoderContract.texts))
    return encoder


BARE: dict[str, Any] = {"language": "none", "ascii_folding": True, "min_token_length": 1, "k1": 0.0, "b": 1.0}
CODE = {"language": "multilingual", "identifiers": True}
LENGTHS = {"minimum": 3, "maximum": 4}

TestBm25, TestBm25WithoutLanguage, TestBm25OfCodeInSeveralLanguages, TestNGrams = (
    contract(SparseEncoderContract, asymmetric=True, encoder=lambda cls, kind=kind, own=own: calibrated(kind(**own)))
    for kind, own in ((Bm25, {}), (Bm25, BARE), (Bm25, CODE), (NGrams, LENGTHS))
)
TestQdrantTextIndex = contract(TextIndexContract, text_index=lambda cls: QdrantTextIndex())
