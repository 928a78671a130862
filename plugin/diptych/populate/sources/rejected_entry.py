"""`Rejected`: yielded by a source for an entry that cannot be read as a document."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rejected:
    """An unreadable entry: where it is (`corpus.jsonl:17`), and why. Populate rejects it and continues.

    `id` is the document's id if it is known, as for a file in a folder; empty if not.
    """

    where: str
    reason: str
    id: str = ""
