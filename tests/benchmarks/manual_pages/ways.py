"""Ways to search long documents: diptych with and without passages, LangChain and Haystack, with one model.

All cut the same number of the model's tokens, and encode with diptych's adapter.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from diptych import Collection
from diptych.config import parse_config
from diptych.encoders import Encoders
from diptych.types import Document, Query
from manual_pages.tokens import Pieces, model_folder
from variants import VARIANTS, fastest

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
TOKENS, OVERLAP, HITS, CHUNKS, SHOWN = 200, 40, 10, 100, 3
BASE = "passages"
OPTIONS: dict[str, Any] = {"model": "all-MiniLM-L6-v2", **VARIANTS[fastest(seen=False)].options}


@dataclass(frozen=True, slots=True)
class Found:
    """A document that was found, and its best passages, best first; none where the way has no passages."""

    document: str
    score: float
    shown: Sequence[str] = ()


Answers = dict[str, list[Found]]
Corpus = Mapping[str, Document]


class Vectors:
    """The model that all sides share; what it has encoded is kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self.encoder = Encoders.open().with_options("sentence-transformers", OPTIONS).required("dense")
        self.folder = folder

    def of_documents(self, texts: Sequence[str]) -> list[list[float]]:
        digest = hashlib.sha256(json.dumps([OPTIONS, *texts]).encode()).hexdigest()
        file = self.folder / f"{digest}.npy"
        if not file.exists():
            np.save(file, np.asarray(self.encoder.encode_document(texts), np.float32))
        vectors: list[list[float]] = np.load(file).tolist()
        return vectors

    def of_query(self, text: str) -> list[float]:
        vector: list[float] = np.asarray(self.encoder.encode_query([text]))[0].tolist()
        return vector


def diptych(
    corpus: Corpus,
    queries: Sequence[Query],
    vectors: Vectors,
    passages: Mapping[str, Any] | None,
    *,
    words: bool = False,
) -> Answers:
    """A collection on Qdrant Edge, with these passages or none, and BM25 beside them or not."""
    dense = {"adapter": "sentence-transformers", **OPTIONS, **({"passages": dict(passages)} if passages else {})}
    slots = {"dense": dense, **({"lexical": {"adapter": "bm25", "language": "english"}} if words else {})}
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "store": f"edge:{folder}",
            "collection": "c",
            "slots": slots,
            "search": {"retrieve": dict.fromkeys(slots, CHUNKS), "limit": HITS},
            "cache": {"path": str(vectors.folder / "documents")},
        }
        with Collection.open(parse_config(config)) as collection:
            collection.populate(list(corpus.values()))
            answers = collection.search_batch(queries, limit=HITS)
    return {
        query.id: [Found(hit.id, hit.score, [passage.text for passage in hit.passages]) for hit in hits]
        for query, hits in zip(queries, answers, strict=True)
    }


def langchain(corpus: Corpus, queries: Sequence[Query], vectors: Vectors) -> Answers:
    """LangChain's splitter, its store of chunks and its retriever of their documents."""
    from langchain_classic.retrievers import ParentDocumentRetriever
    from langchain_core.documents import Document as Text
    from langchain_core.embeddings import Embeddings
    from langchain_core.stores import InMemoryStore
    from langchain_qdrant import QdrantVectorStore
    from langchain_text_splitters import RecursiveCharacterTextSplitter
    from qdrant_client import QdrantClient, models
    from transformers import AutoTokenizer

    class Shared(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return vectors.of_documents(texts)

        def embed_query(self, text: str) -> list[float]:
            return vectors.of_query(text)

    client = QdrantClient(":memory:")
    client.create_collection("c", models.VectorParams(size=384, distance=models.Distance.COSINE))
    store = QdrantVectorStore(client=client, collection_name="c", embedding=Shared())
    splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
        AutoTokenizer.from_pretrained(str(model_folder())), chunk_size=TOKENS, chunk_overlap=OVERLAP
    )
    retriever = ParentDocumentRetriever(
        vectorstore=store, docstore=InMemoryStore(), child_splitter=splitter, search_kwargs={"k": CHUNKS}
    )
    texts = [Text(document.text, metadata={"name": document.id}) for document in corpus.values()]
    retriever.add_documents(texts, ids=list(corpus), batch_size=10**6)
    answers: Answers = {}
    for query in queries:
        parents = [parent.metadata["name"] for parent in retriever.invoke(query.text)][:HITS]
        chunks = store.similarity_search_with_score(query.text, k=CHUNKS)
        found = [(chunk.metadata["name"], chunk.page_content, score) for chunk, score in chunks]
        answers[query.id] = _by_document(found, parents)
    return answers


def haystack(corpus: Corpus, queries: Sequence[Query], vectors: Vectors, *, title: bool) -> Answers:
    """Haystack's splitter, its store of chunks, and its retriever grouped by document."""
    from haystack import Document as Text
    from haystack.components.preprocessors import RecursiveDocumentSplitter
    from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever
    from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

    class ModelTokens(RecursiveDocumentSplitter):  # counts the model's tokens, not those of GPT
        def warm_up(self) -> None:
            self.tiktoken_tokenizer = Pieces()  # type: ignore[assignment] # has the methods that are called
            self._is_warmed_up = True

    splitter = ModelTokens(  # without "sentence", which would fetch data of NLTK
        split_length=TOKENS, split_overlap=OVERLAP, split_unit="token", separators=["\n\n", "\n", r"\. ", " "]
    )
    texts = [Text(content=document.text, meta={"name": document.id}) for document in corpus.values()]
    chunks = splitter.run(texts)["documents"]
    titles = [f"{corpus[chunk.meta['name']].title}\n" if title else "" for chunk in chunks]
    encoded = vectors.of_documents([f"{before}{chunk.content}" for before, chunk in zip(titles, chunks, strict=True)])
    store = QdrantDocumentStore(":memory:", embedding_dim=384, recreate_index=True, progress_bar=False)
    store.write_documents([replace(chunk, embedding=vector) for chunk, vector in zip(chunks, encoded, strict=True)])
    retriever = QdrantEmbeddingRetriever(document_store=store, top_k=HITS, group_by="meta.name", group_size=SHOWN)
    answers: Answers = {}
    for query in queries:
        found = retriever.run(query_embedding=vectors.of_query(query.text))["documents"]
        answers[query.id] = _by_document(
            (chunk.meta["name"], chunk.content or "", chunk.score or 0.0) for chunk in found
        )
    return answers


def _by_document(chunks: Iterable[tuple[str, str, float]], names: Sequence[str] = ()) -> list[Found]:
    """The documents of chunks that come best first, with their best chunks; in the order of `names`, if given."""
    shown: dict[str, list[str]] = {}
    best: dict[str, float] = {}
    for name, text, score in chunks:
        shown.setdefault(name, []).append(text)
        best.setdefault(name, score)
    return [Found(name, best[name], shown[name][:SHOWN]) for name in names or best]


SIZES = {"tokens": TOKENS, "overlap": OVERLAP}
WAYS: Mapping[str, Callable[[Corpus, Sequence[Query], Vectors], Answers]] = {
    "truncation": partial(diptych, passages=None),
    BASE: partial(diptych, passages=SIZES),
    "passages without title": partial(diptych, passages={**SIZES, "context": []}),
    "passages with headings": partial(diptych, passages={**SIZES, "context": ["title", "headings"]}),
    "passages with headings alone": partial(diptych, passages={**SIZES, "context": ["headings"]}),
    "passages and BM25": partial(diptych, passages=SIZES, words=True),
    "langchain": langchain,
    "haystack": partial(haystack, title=False),
    "haystack with title": partial(haystack, title=True),
}
