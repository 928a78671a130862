"""The conformance kit on the lexical adapters."""

from __future__ import annotations

import pytest

from diptych.testing import SparseEncoderContract, TextIndexContract
from diptych_adapters.lexical import Bm25, NGrams, QdrantTextIndex


class TestBm25(SparseEncoderContract):
    asymmetric = True

    @pytest.fixture
    def encoder(self) -> Bm25:
        made = Bm25()
        made.calibrate(made.measure(self.texts))
        return made


class TestBm25WithoutLanguage(SparseEncoderContract):
    asymmetric = True

    @pytest.fixture
    def encoder(self) -> Bm25:
        made = Bm25(language="none", ascii_folding=True, min_token_length=1, k1=0.0, b=1.0)
        made.calibrate(made.measure(self.texts))
        return made


class TestBm25OfCodeInSeveralLanguages(SparseEncoderContract):
    asymmetric = True

    @pytest.fixture
    def encoder(self) -> Bm25:
        made = Bm25(language="multilingual", identifiers=True)
        made.calibrate(made.measure(self.texts))
        return made


class TestNGrams(SparseEncoderContract):
    asymmetric = True

    @pytest.fixture
    def encoder(self) -> NGrams:
        made = NGrams(minimum=3, maximum=4)
        made.calibrate(made.measure(self.texts))
        return made


class TestQdrantTextIndex(TextIndexContract):
    @pytest.fixture
    def text_index(self) -> QdrantTextIndex:
        return QdrantTextIndex()
