"""Presets of `diptych init --provider`: encoders and rerankers of services and servers, by their published interfaces.

Each follows the provider's documentation of 2026-11-27. The models are suggestions; the provider's others work, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diptych.cli.setup.template import SlotChoice, scalar
from diptych.errors import ConfigError
from qdrant_edge_client.validation_messages import nearest


@dataclass(frozen=True, slots=True)
class Provider:
    """A dense slot, and a reranker where the provider has one."""

    adapter: str
    options: Mapping[str, Any]
    reranker: Mapping[str, Any] | None = None

    @property
    def slot(self) -> SlotChoice:
        """The slot of the new file."""
        return SlotChoice("dense", self.adapter, self.options)

    @property
    def stage(self) -> str:
        """The reranker as a stage in one line of YAML; empty without one."""
        if self.reranker is None:
            return ""
        return f"rerank: [{{{', '.join(f'{key}: {scalar(value)}' for key, value in self.reranker.items())}}}]"


def _rerank_api(base_url: str, model: str, **options: Any) -> dict[str, Any]:
    return {"adapter": "rerank-api", "base_url": base_url, "model": model, **options, "candidates": 50}


PROVIDERS: dict[str, Provider] = {
    "openai": Provider(
        "openai", {"api_key_env": "OPENAI_API_KEY", "model": "text-embedding-3-small", "encoding_format": "base64"}
    ),
    "cohere": Provider(
        "cohere",
        {"api_key_env": "COHERE_API_KEY", "model": "embed-v4.0"},
        _rerank_api("https://api.cohere.com/v2", "rerank-v3.5", api_key_env="COHERE_API_KEY"),
    ),
    "jina": Provider(
        "openai",
        {
            "base_url": "https://api.jina.ai/v1",
            "api_key_env": "JINA_API_KEY",
            "model": "jina-embeddings-v3",
            "query_fields": {"task": "retrieval.query"},
            "document_fields": {"task": "retrieval.passage"},
        },
        _rerank_api(
            "https://api.jina.ai/v1",
            "jina-reranker-v2-base-multilingual",
            api_key_env="JINA_API_KEY",
            fields={"return_documents": False},
        ),
    ),
    "voyage": Provider(
        "openai",
        {
            "base_url": "https://api.voyageai.com/v1",
            "api_key_env": "VOYAGE_API_KEY",
            "model": "voyage-3.5",
            "encoding_format": "base64",
            "query_fields": {"input_type": "query"},
            "document_fields": {"input_type": "document"},
        },
        _rerank_api("https://api.voyageai.com/v1", "rerank-2.5", api_key_env="VOYAGE_API_KEY", count_field="top_k"),
    ),
    "mistral": Provider(
        "openai",
        {
            "base_url": "https://api.mistral.ai/v1",
            "api_key_env": "MISTRAL_API_KEY",
            "model": "mistral-embed",
            "batch_size": 32,
        },
    ),
    "ollama": Provider(
        "openai",
        {
            "base_url": "http://localhost:11434/v1",
            "model": "nomic-embed-text",
            "batch_size": 32,
            "query_prompt": "search_query: ",
            "document_prompt": "search_document: ",
        },
    ),
    "vllm": Provider(
        "openai",
        {
            "base_url": "http://localhost:8000/v1",
            "model": "intfloat/e5-base-v2",
            "query_prompt": "query: ",
            "document_prompt": "passage: ",
        },
        _rerank_api("http://localhost:8001/v1", "BAAI/bge-reranker-v2-m3"),
    ),
    "tei": Provider(
        "tei",
        {"base_url": "http://localhost:8080", "query_prompt": "query: ", "document_prompt": "passage: "},
        {"adapter": "tei-reranker", "base_url": "http://localhost:8081", "candidates": 50},
    ),
}


def provider_of(name: str) -> Provider:
    """The provider of that name.

    Raises:
        ConfigError: there is no such provider.
    """
    if name not in PROVIDERS:
        expected = ", ".join(PROVIDERS)
        raise ConfigError("--provider names no provider", got=name, expected=expected, do=nearest(name, PROVIDERS))
    return PROVIDERS[name]
