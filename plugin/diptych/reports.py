"""What populate and search say about what they did. Plain values; hooks and the CLI read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SetAside:
    """A document that was not indexed: its id (or position), and why."""

    id: str
    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class PopulateReport:
    """Counts of one populate. `read` is the sum of new, changed, unchanged, duplicates and set aside."""

    collection: str
    read: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    duplicates: int = 0
    deleted: int = 0
    set_aside: int = 0
    examples: tuple[SetAside, ...] = ()
    report_file: str = ""
    seconds: float = 0.0
    encoded: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every document that was read is in the collection."""
        return self.set_aside == 0


@dataclass(frozen=True, slots=True)
class SearchReport:
    """One batch of queries: the pipeline as text, how many queries, and seconds per stage."""

    collection: str
    pipeline: str
    queries: int
    seconds: Mapping[str, float]
