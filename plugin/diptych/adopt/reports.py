"""The result of an adoption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diptych.metadata.models import Layout


@dataclass(frozen=True, slots=True)
class AdoptedSlot:
    """A slot, its vector, and how similar the stored vectors are to those of the re-encoded texts.

    Args:
        vector: its name in the collection, "" for Qdrant's unnamed one.
        sampled: points whose texts were encoded again.
        lowest, median: cosine of stored and new vectors over them.
    """

    name: str
    vector: str
    adapter: str
    sampled: int
    lowest: float
    median: float


@dataclass(frozen=True, slots=True)
class AdoptReport:
    """An adopted collection: its points, the layout of its documents, its slots, and warnings.

    Args:
        media: how many references to media were stored, by modality.
    """

    collection: str
    points: int
    layout: Layout
    slots: tuple[AdoptedSlot, ...]
    warnings: tuple[str, ...] = ()
    media: Mapping[str, int] = field(default_factory=dict)
