"""Encoders and rerankers behind HTTP: OpenAI-compatible, text-embeddings-inference, Cohere and Jina.

Begin with `endpoint`, which sends requests by `http_exchange`, repeats them, checks what comes back and notices when
the model behind an address changes; then `adapters`.
"""

from __future__ import annotations

from diptych.protocols import Kind
from diptych.specs import AdapterSpec


def _remote(name: str, kind: Kind, factory: str, options: str, summary: str, **aliases: dict[str, str]) -> AdapterSpec:
    return AdapterSpec(
        name=name,
        kind=kind,
        factory=f"{__name__}.{factory}",
        summary=summary,
        options=f"{__name__}.options:{options}",
        requires=("httpx", "tenacity"),
        extra="diptych[remote]",
        aliases={alias.replace("_", "-"): implied for alias, implied in aliases.items()},
        remote=True,
    )


SPECS = [
    _remote(
        "remote",
        "dense",
        "adapters:remote",
        "RemoteDenseOptions",
        "Embeddings over HTTP: any OpenAI-compatible server, Cohere, or text-embeddings-inference",
        openai={"api": "openai"},
        cohere={"api": "cohere"},
        tei={"api": "tei"},
    ),
    _remote(
        "tei-sparse",
        "sparse",
        "adapters:TeiSparseEncoder",
        "TeiSparseOptions",
        "text-embeddings-inference, /embed_sparse",
    ),
    _remote(
        "remote-reranker",
        "reranker",
        "adapters:remote_reranker",
        "RemoteRerankerOptions",
        "Rerankers over HTTP: /rerank of Cohere, Jina, Voyage, vLLM or text-embeddings-inference",
        rerank_api={"api": "cohere"},
        tei_reranker={"api": "tei"},
    ),
    _remote(
        "yes-no-api",
        "reranker",
        "adapters:YesNoApiReranker",
        "YesNoApiOptions",
        "Chat models that answer yes or no, scored by log-probabilities: any OpenAI-compatible /v1/chat/completions",
    ),
]
