"""The specs of the adapters that call a server."""

from __future__ import annotations

from diptych.protocols import Kind
from diptych.specs import AdapterSpec

_OPTIONS = "diptych_adapters.remote.options"


def _remote(name: str, kind: Kind, factory: str, options: str, summary: str) -> AdapterSpec:
    return AdapterSpec(
        name=name,
        kind=kind,
        factory=f"diptych_adapters.remote.{factory}",
        summary=summary,
        options=f"{_OPTIONS}:{options}",
        requires=("httpx", "tenacity"),
        extra="diptych[remote]",
        remote=True,
    )


SPECS = [
    _remote("openai", "dense", "dense:OpenAIEncoder", "OpenAIOptions", "any OpenAI-compatible /v1/embeddings"),
    _remote("cohere", "dense", "dense:CohereEncoder", "CohereOptions", "Cohere's /v2/embed"),
    _remote("tei", "dense", "dense:TeiEncoder", "TeiOptions", "text-embeddings-inference, /embed"),
    _remote(
        "tei-sparse",
        "sparse",
        "sparse:TeiSparseEncoder",
        "TeiSparseOptions",
        "text-embeddings-inference, /embed_sparse",
    ),
    _remote(
        "tei-reranker", "reranker", "rerank:TeiReranker", "TeiRerankerOptions", "text-embeddings-inference, /rerank"
    ),
    _remote("rerank-api", "reranker", "rerank:ApiReranker", "RerankApiOptions", "Cohere, Jina, Voyage or vLLM /rerank"),
]
