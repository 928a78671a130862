"""The conformance kit on the remote adapters, against the test's server."""

from __future__ import annotations

from contracts import contract
from diptych.testing import DenseEncoderContract, RerankerContract, SparseEncoderContract
from diptych_adapters.remote.adapters import (
    ApiReranker,
    OpenAIEncoder,
    TeiEncoder,
    TeiReranker,
    TeiSparseEncoder,
    YesNoApiReranker,
)

QUERY = {"query_prompt": "query: "}
FIELDS = {"query_fields": {"input_type": "query"}}

TestOpenAI = contract(
    DenseEncoderContract,
    scope="function",
    asymmetric=False,
    encoder=lambda cls, service: OpenAIEncoder(base_url=f"{service.url}/v1", model="m", batch_size=5),
    sibling=lambda cls, service: OpenAIEncoder(base_url=f"{service.url}/v1", model="m", **QUERY, **FIELDS),
)
TestTei = contract(
    DenseEncoderContract,
    scope="function",
    asymmetric=False,
    encoder=lambda cls, service: TeiEncoder(base_url=service.url, batch_size=5),
    sibling=lambda cls, service: TeiEncoder(base_url=service.url, **QUERY),
)
TestTeiSparse = contract(
    SparseEncoderContract,
    scope="function",
    asymmetric=False,
    encoder=lambda cls, service: TeiSparseEncoder(base_url=service.url, batch_size=5),
    sibling=lambda cls, service: TeiSparseEncoder(base_url=service.url, **QUERY),
)
TestTeiReranker = contract(
    RerankerContract, scope="function", reranker=lambda cls, service: TeiReranker(base_url=service.url, batch_size=5)
)
TestApiReranker = contract(
    RerankerContract,
    scope="function",
    reranker=lambda cls, service: ApiReranker(base_url=f"{service.url}/v1", model="m", batch_size=5),
)
TestYesNoApi = contract(
    RerankerContract,
    scope="function",
    reranker=lambda cls, service: YesNoApiReranker(base_url=f"{service.url}/v1", model="m", raw_scores=True),
)
