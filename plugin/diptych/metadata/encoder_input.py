"""`Reading`: what an encoder reads of a document."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from diptych.media import Media, Readable
from diptych.types import Document


class Reading(BaseModel):
    """What an encoder reads of a document: its text, the parts of which are joined, or media of one modality."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: tuple[Literal["title", "text"], ...] = ("title", "text")
    separator: str = " "
    modality: Readable = "text"

    def input_of(self, document: Document) -> str | Media | None:
        """The part of a document that an encoder reads; None if the document does not have it."""
        if self.modality == "text":
            return self.of(document.title, document.text) or None
        found = document.media.get(self.modality)
        return found if isinstance(found, Media) else None

    def as_text(self) -> Reading:
        """The same parts of texts, whatever this one reads."""
        return self if self.modality == "text" else self.model_copy(update={"modality": "text"})

    def of(self, title: str, text: str) -> str:
        """The text that an encoder reads of a document; empty if all parts are."""
        parts = {"title": title.strip(), "text": text.strip()}
        return self.separator.join(filter(None, map(parts.__getitem__, self.input)))
