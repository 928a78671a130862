"""Texts to measure with: a test collection below $DIPTYCH_DATA, else the one that comes with diptych."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

from diptych.types import Document

DEBIAN = Path(__file__).parents[2] / "examples" / "debian"


def folder_of(name: str) -> Path:
    """The folder of a collection, by its name or path. Without it `examples/debian` serves, and this says so."""
    data = os.environ.get("DIPTYCH_DATA")
    folder = Path(name) if os.sep in name or not data else Path(data) / name
    if folder.is_dir():
        return folder
    print(f"{name} is not at hand (DIPTYCH_DATA={data or ''}): examples/debian is used in its place")
    return DEBIAN


def read_texts(folder: Path) -> dict[str, str]:
    """Title and text of the documents by id; empty ones are left out."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        return {row["_id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in rows if row["text"].strip()}


def read_documents(folder: Path) -> dict[str, Document]:
    """The documents of a BEIR folder by id; empty ones are left out."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if f"{row.get('title') or ''}{row['text']}".strip()]
    documents = map(Document.from_mapping, rows)
    return {document.id: document for document in documents}
