"""Texts searched as qdrant-client documents it: each `models.Document` is encoded by the model that it names."""

from __future__ import annotations

from qdrant_client import models
from qdrant_client import QdrantClient
from carried import MODEL, OPTIONS

TEXTS = {
    1: "Swiss army knife of sound processing: converts audio files between formats.",
    2: "Digital audio workstation: record, edit and mix many tracks.",
    3: "Image manipulation program: retouch photographs and compose pictures.",
    4: "Network exploration tool and port scanner.",
}


def main() -> None:
    client = QdrantClient(":memory:")
    client.create_collection("demo", models.VectorParams(size=384, distance=models.Distance.COSINE))
    documents = {number: models.Document(text=text, model=MODEL, options=OPTIONS) for number, text in TEXTS.items()}
    client.upload_points(
        "demo", [models.PointStruct(id=i, vector=d, payload={"text": d.text}) for i, d in documents.items()]
    )
    query = models.Document(text="turn an mp3 into a wav", model=MODEL, options=OPTIONS)
    for point in client.query_points("demo", query, limit=2).points:
        print(f"{point.score:.4f}", point.payload)
    client.close()


if __name__ == "__main__":
    main()
