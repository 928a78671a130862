"""Encoders and rerankers behind HTTP: OpenAI-compatible, text-embeddings-inference, Cohere and Jina.

Begin with `endpoint`, which sends requests by `http_exchange` and repeats them; then `dense`, `sparse` and `rerank`.
`json_answers` checks what comes back, `identity` notices when the model behind an address changes, `secrets` keeps keys
out of logs and errors.
"""

from __future__ import annotations

from diptych.protocols import Kind
from diptych.specs import AdapterSpec


def _remote(name: str, kind: Kind, factory: str, options: str, summary: str) -> AdapterSpec:
    return AdapterSpec(
        name=name,
        kind=kind,
        factory=f"{__name__}.{factory}",
        summary=summary,
        options=f"{__name__}.options:{options}",
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
    _remote(
        "yes-no-api",
        "reranker",
        "yes_no:YesNoApiReranker",
        "YesNoApiOptions",
        "Chat models that answer yes or no, scored by log-probabilities: any OpenAI-compatible /v1/chat/completions",
    ),
]
