"""Long documents with one sentence each to look for, and slots that encode them passage by passage."""

from __future__ import annotations

from typing import Any

from diptych import Document

SLOTS: dict[str, Any] = {
    "dense": {"adapter": "fake-dense", "passages": {"tokens": 24, "overlap": 4}},
    "lexical": {"adapter": "fake-sparse"},
}
QUERY = "convert audio files"
SENTENCES = {
    "sox": "The player can convert audio files to any format.",
    "lame": "It makes MP3 audio out of WAV files.",
    "gimp": "Retouch photographs and convert pictures.",
    "mutt": "Reads mail in a terminal.",
}


def manuals() -> list[Document]:
    """Four documents of thirteen sentences; the one to look for is the eighth."""
    return [
        Document(
            name,
            " ".join([*(_filler(name, n) for n in range(7)), sentence, *(_filler(name, n) for n in range(7, 12))]),
            name.title(),
            {"section": "sound" if name in ("sox", "lame") else "other"},
        )
        for name, sentence in SENTENCES.items()
    ]


def _filler(name: str, n: int) -> str:
    return f"Part {n} of {name} says {name}{n} and {name}{n + 1} once more."
