"""Refuses file names and addresses from clients for encoders that would open them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from diptych.collection.collection import Collection
from diptych.errors import SearchError

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
                "a server opens no file and no address that a client names",
                where=where,
                got=repr(text[:80]),
                expected="words",
            )


def accepted(collection: Collection) -> list[str]:
    """All kinds of input that the collection's encoders accept."""
    return [kind for slot in collection.handle.slots.values() for kind in slot.spec.accepts]


def _is_file(text: str) -> bool:
    """Whether an encoder could find a file with this name."""
    try:
        return text.startswith(("/", "~", "\\\\")) or Path(text).exists()
    except (OSError, ValueError):
        return False
