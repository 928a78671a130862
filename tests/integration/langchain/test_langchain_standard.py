"""LangChain's own standard tests, as `langchain-tests` brings them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever

from diptych import Collection, Registry
from diptych.encoders import Encoders
from diptych.testing import fakes_plugin
from diptych_adapters.langchain import DiptychEmbeddings, DiptychRetriever, DiptychVectorStore

if not os.environ.get("CI"):  # where a missing package is an error
    pytest.importorskip("langchain_tests")
INTEGRATION, UNIT = (import_module(f"langchain_tests.{name}_tests") for name in ("integration", "unit"))
DENSE = {"dense": {"adapter": "fake-dense"}}
HYBRID = {**DENSE, "lexical": {"adapter": "fake-calibrated"}}
ENCODERS = Encoders.open(registry=Registry(fakes_plugin, installed=False))


class TestVectorStore(INTEGRATION.VectorStoreIntegrationTests):  # type: ignore[misc, name-defined]
    """One dense slot, in memory."""

    @pytest.fixture
    def vectorstore(self, opened: Any) -> DiptychVectorStore:
        return DiptychVectorStore(opened(DENSE))


class TestHybridVectorStore(INTEGRATION.VectorStoreIntegrationTests):  # type: ignore[misc, name-defined]
    """A dense and a sparse slot, fused, on Qdrant Edge."""

    @pytest.fixture
    def vectorstore(self, opened: Any, tmp_path: Path) -> DiptychVectorStore:
        return DiptychVectorStore(opened(HYBRID, f"edge:{tmp_path / 'qdrant'}"))


class TestHybridVectorStoreOnAServer(INTEGRATION.VectorStoreIntegrationTests):  # type: ignore[misc, name-defined]
    """The same on the named server."""

    @pytest.fixture
    def vectorstore(self, opened: Any) -> DiptychVectorStore:
        return DiptychVectorStore(opened(HYBRID, "server"))


class FakeEmbeddings:
    """A dense adapter by its name."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return DiptychEmbeddings

    @property
    def embedding_model_params(self) -> Mapping[str, Any]:
        return {"encoder": "fake-dense", "source": ENCODERS, "options": {"dimension": 8}}


class TestEmbeddings(FakeEmbeddings, INTEGRATION.EmbeddingsIntegrationTests):  # type: ignore[misc, name-defined]
    pass


class TestEmbeddingsAlone(FakeEmbeddings, UNIT.EmbeddingsUnitTests):  # type: ignore[misc, name-defined]
    """`test_init_from_env` looks at nothing: an encoder takes its options, not the environment."""


class TestRetriever(INTEGRATION.RetrieversIntegrationTests):  # type: ignore[misc, name-defined]
    """The number of documents is diptych's `limit`."""

    num_results_arg_name = "limit"
    retriever_query_example = "convert audio"

    @pytest.fixture(autouse=True)
    def _filled(self, opened: Any) -> None:
        self.collection: Collection = opened(HYBRID)
        texts = ("convert audio files", "audio player", "convert images", "mail reader")
        self.collection.populate([{"id": str(n), "text": text} for n, text in enumerate(texts)])

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return DiptychRetriever

    @property
    def retriever_constructor_params(self) -> Mapping[str, Any]:
        return {"collection": self.collection}
