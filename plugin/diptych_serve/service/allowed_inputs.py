"""Refuses file names and addresses from clients, for encoders that would open them and as media."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.collection.collection import Collection
from diptych.errors import SearchError, brief
from diptych.media.read import is_data_uri

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:|file:", re.IGNORECASE)


def require_words(texts: Iterable[str], accepts: Sequence[str], *, where: str) -> None:
    """Raise SearchError for a path or address, if the encoder accepts more than text and would open it.

    Args:
        texts: what a client sent.
        accepts: kinds of input that the encoder takes.
        where: how the error calls the encoder.
    """
    if set(accepts) <= {"text"}:
        return
    for text in filter(str.strip, texts):
        if _ADDRESS.match(text.strip()) or _is_file(text.strip()):
            raise SearchError(
                "a server does not open files or addresses that a client names",
                where=where,
                got=repr(text[:80]),
                expected="words",
            )


def require_inline(media: Mapping[Any, Any], *, where: str) -> None:
    """Raise SearchError for media that a client sent by their name, not as data: URIs or lists of numbers."""
    for modality, raw in media.items():
        if not isinstance(raw, list) and not (isinstance(raw, str) and is_data_uri(raw)):
            raise SearchError(
                "a server does not open files or addresses that a client names",
                where=f"{where}, {str(modality)[:80]}",
                got=brief(raw),
                expected="media as a data: URI, or numbers in lists",
            )


def accepted(collection: Collection, *, documents: bool = False) -> list[str]:
    """All kinds of input that the collection's encoders accept; with `documents`, of those that read texts of them."""
    slots = collection.handle.slots.values()
    return [kind for slot in slots if not (documents and slot.reads_media) for kind in slot.spec.accepts]


def reads_media(collection: Collection) -> bool:
    """Whether a slot of the collection reads media, so that `media` of a document are not metadata."""
    return any(slot.reads_media for slot in collection.handle.slots.values())


def _is_file(text: str) -> bool:
    """Whether an encoder could find a file with this name."""
    try:
        return text.startswith(("/", "~", "\\\\")) or Path(text).exists()
    except (OSError, ValueError):
        return False
