"""A collection whose only slot is Qdrant's own text index: no vectors at all."""

from __future__ import annotations

from pathlib import Path

from diptych import Collection, Document
from diptych.config import parse_config

DOCUMENTS = [Document("a", "cats and dogs"), Document("b", "converting audio files"), Document("c", "birds")]


def test_documents_are_found_by_words_without_a_vector(tmp_path: Path) -> None:
    slots = {"words": {"adapter": "qdrant-text-index", "language": "english"}}
    config = parse_config({"store": f"edge:{tmp_path}/store", "collection": "c", "slots": slots})
    with Collection.open(config) as collection:
        assert collection.populate(DOCUMENTS).new == 3
        assert collection.populate(DOCUMENTS).unchanged == 3
        assert [hit.id for hit in collection.search("convert an audio file")] == ["b"]
        (explanation,) = collection.explain("convert an audio file")
        assert explanation.document == DOCUMENTS[1], "without the copy of the text that the index reads"
    with Collection.open(f"edge:{tmp_path}/store", "c") as again:
        assert [hit.id for hit in again.search("cat")] == ["a"]
