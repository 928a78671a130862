"""What populate and search say about what they did. Plain values; hooks and the CLI read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diptych.metadata import Generation


@dataclass(frozen=True, slots=True)
class SetAside:
    """A document that was not indexed: its id (or position), and why."""

    id: str
    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class PopulateReport:
    """Counts of one populate. `read` is the sum of new, changed, unchanged, duplicates and set aside.

    `encoded` counts vectors by slot; `cache_hits` those of them that were not computed but taken from the embedding
    cache, for the slots that use it.
    """

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
    cache_hits: Mapping[str, int] = field(default_factory=dict)
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


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """A slot as `diptych info` shows it."""

    name: str
    kind: str
    adapter: str
    options: Mapping[str, object]
    vector: str
    fingerprint: str
    statistics: Mapping[str, float] | None
    generation: int = 1

    @classmethod
    def of(cls, name: str, live: Generation) -> SlotInfo:
        """From the live generation of a slot."""
        facts = (live.kind, live.adapter, live.options, live.vector, str(live.fingerprint), live.statistics)
        return cls(name, *facts, generation=live.number)


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection: name, documents, slots."""

    name: str
    documents: int
    slots: tuple[SlotInfo, ...]
