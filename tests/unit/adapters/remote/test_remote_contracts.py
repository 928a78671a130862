"""The conformance kit on the remote adapters, against the test's server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from diptych.testing import DenseEncoderContract, RerankerContract, SparseEncoderContract
from diptych_adapters.remote.adapters import (
    ApiReranker,
    OpenAIEncoder,
    TeiEncoder,
    TeiReranker,
    TeiSparseEncoder,
    YesNoApiReranker,
)

if TYPE_CHECKING:
    from tests.unit.adapters.remote.conftest import Service


class TestOpenAI(DenseEncoderContract):
    asymmetric = False

    @pytest.fixture
    def encoder(self, service: Service) -> OpenAIEncoder:
        return OpenAIEncoder(base_url=f"{service.url}/v1", model="m", batch_size=5)

    @pytest.fixture
    def sibling(self, service: Service) -> OpenAIEncoder:
        fields = {"input_type": "query"}
        return OpenAIEncoder(base_url=f"{service.url}/v1", model="m", query_prompt="query: ", query_fields=fields)


class TestTei(DenseEncoderContract):
    asymmetric = False

    @pytest.fixture
    def encoder(self, service: Service) -> TeiEncoder:
        return TeiEncoder(base_url=service.url, batch_size=5)

    @pytest.fixture
    def sibling(self, service: Service) -> TeiEncoder:
        return TeiEncoder(base_url=service.url, query_prompt="query: ")


class TestTeiSparse(SparseEncoderContract):
    asymmetric = False

    @pytest.fixture
    def encoder(self, service: Service) -> TeiSparseEncoder:
        return TeiSparseEncoder(base_url=service.url, batch_size=5)

    @pytest.fixture
    def sibling(self, service: Service) -> TeiSparseEncoder:
        return TeiSparseEncoder(base_url=service.url, query_prompt="query: ")


class TestTeiReranker(RerankerContract):
    @pytest.fixture
    def reranker(self, service: Service) -> TeiReranker:
        return TeiReranker(base_url=service.url, batch_size=5)


class TestApiReranker(RerankerContract):
    @pytest.fixture
    def reranker(self, service: Service) -> ApiReranker:
        return ApiReranker(base_url=f"{service.url}/v1", model="m", batch_size=5)


class TestYesNoApi(RerankerContract):
    @pytest.fixture
    def reranker(self, service: Service) -> YesNoApiReranker:
        return YesNoApiReranker(base_url=f"{service.url}/v1", model="m", raw_scores=True)
