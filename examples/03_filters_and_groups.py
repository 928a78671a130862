"""Qdrant filters as they are, groups, and why a hit stands where it stands. Needs no extra."""

from __future__ import annotations

import tempfile
from pathlib import Path

from qdrant_client import models

from diptych import Collection
from diptych.config import parse_config
from diptych.populate import open_source

DATA = Path(__file__).parent / "debian"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = parse_config(
            {
                "store": f"edge:{folder}",
                "collection": "debian",
                "slots": {"lexical": {"adapter": "bm25", "language": "english"}},
                "populate": {"indexes": {"section": "keyword"}},
            }
        )
        with Collection.open(config) as packages:
            packages.populate(open_source(DATA / "corpus.jsonl.gz"))
            sound = models.FieldCondition(key="section", match=models.MatchValue(value="sound"))
            for hit in packages.search("play music files", filter=models.Filter(must=[sound]), limit=3):
                print(f"{hit.score:6.3f}  {hit.id} [{hit.document.metadata['section']}]")
            for group in packages.search_groups("play music files", group_by="section", group_size=2, limit=3):
                print(f"{group.value}: {', '.join(hit.id for hit in group.hits)}")
            print(packages.explain("play music files", limit=1)[0])


if __name__ == "__main__":
    main()
