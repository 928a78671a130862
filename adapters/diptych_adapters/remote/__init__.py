"""Encoders and rerankers behind HTTP: OpenAI-compatible, text-embeddings-inference, Cohere and Jina.

Begin with `endpoint`, which sends requests by `http_exchange`, repeats them, checks what comes back and notices when
the model behind an address changes; then `adapters`.
"""

from __future__ import annotations

from diptych.protocols import Kind
from diptych.specs import AdapterSpec


def _remote(name: str, kind: Kind, factory: str, summary: str) -> AdapterSpec:
    return AdapterSpec(
        name=name,
        kind=kind,
        factory=f"{__name__}.adapters:{factory}",
        summary=summary,
        options=f"{__name__}.options:{factory.removesuffix('Encoder')}Options",
        requires=("httpx", "tenacity"),
        extra="diptych[remote]",
        remote=True,
    )


SPECS = [
    AdapterSpec.of_variants(
        "remote",
        "Embeddings over HTTP: any OpenAI-compatible server, Cohere, or text-embeddings-inference",
        "api",
        {
            "openai": _remote("openai", "dense", "OpenAIEncoder", "any OpenAI-compatible server, /embeddings"),
            "cohere": _remote("cohere", "dense", "CohereEncoder", "Cohere, /embed of the second interface"),
            "tei": _remote("tei", "dense", "TeiEncoder", "text-embeddings-inference, /embed"),
        },
    ),
    _remote("tei-sparse", "sparse", "TeiSparseEncoder", "text-embeddings-inference, /embed_sparse"),
    AdapterSpec.of_variants(
        "remote-reranker",
        "Rerankers over HTTP: /rerank of Cohere, Jina, Voyage, vLLM or text-embeddings-inference",
        "api",
        {
            "cohere": _remote("rerank-api", "reranker", "ApiReranker", "/rerank of Cohere, Jina, Voyage or vLLM"),
            "tei": _remote("tei-reranker", "reranker", "TeiReranker", "/rerank of text-embeddings-inference"),
        },
    ),
    _remote(
        "yes-no-api",
        "reranker",
        "YesNoApiReranker",
        "Chat models that answer yes or no, scored by log-probabilities: any OpenAI-compatible /v1/chat/completions",
    ),
]
