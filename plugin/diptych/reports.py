"""Reports of populate, search and swap. Plain values, read by hooks and by the CLI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from diptych.display import Display, Displayed


@dataclass(frozen=True, slots=True)
class SetAside:
    """A rejected document: its id (or position) and the reason."""

    id: str
    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class UnreadTokens:
    """How much of its documents an encoder left unread.

    As text: "31% of 5,183 documents are longer than 254 tokens, 18% of all tokens unread".

    Args:
        max_tokens: tokens of a document that it reads.
        documents: how many were counted.
        longer: those of them that have more tokens.
        tokens: of all counted documents; estimated for very short and very long ones.
        unread: those of them that were not read.
        sampled: whether more documents were encoded than counted.
    """

    max_tokens: int
    documents: int
    longer: int
    tokens: int
    unread: int
    sampled: bool = False

    @property
    def share(self) -> float:
        """The share of all tokens that was not read, 0 to 1."""
        return self.unread / self.tokens if self.tokens else 0.0

    def __add__(self, other: UnreadTokens) -> UnreadTokens:
        return UnreadTokens(
            max_tokens=other.max_tokens,
            documents=self.documents + other.documents,
            longer=self.longer + other.longer,
            tokens=self.tokens + other.tokens,
            unread=self.unread + other.unread,
            sampled=self.sampled or other.sampled,
        )

    def __str__(self) -> str:
        documents = f"{'a sample of ' if self.sampled else ''}{self.documents:,} documents"
        if not self.longer:
            return f"none of {documents} is longer than {self.max_tokens:,} tokens"
        longer, unread = _percent(self.longer / self.documents), _percent(self.share)
        return f"{longer} of {documents} are longer than {self.max_tokens:,} tokens, {unread} of all tokens unread"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.005 else "under 1%"


def from_cache(hits: int | None) -> str:
    """How many vectors came from the cache, behind the number that was encoded; nothing where it is not used."""
    return "" if hits is None else f" ({hits:,} from the cache)"


@dataclass(frozen=True, slots=True)
class PopulateReport(Displayed):
    """Counts of one populate. `read` is the sum of new, changed, unchanged, duplicate and rejected documents.

    `encoded` counts vectors by slot; `cache_hits` those of them that were not computed but taken from the embedding
    cache, for the slots that use it. `started` is when it began, in nanoseconds since 1970; 0 is unknown. By slot,
    `encode_times` has when encoding began and ended, `encode_seconds` how much of that time the encoder was at work;
    what other processes encoded is not in them. `unread`, by slot, is what encoders with a known limit did not read of
    the documents that were encoded. `deleted_examples` are some ids of the documents that a sync deleted.
    With `dry_run` the counts say what a run would do, and nothing was written.
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
    started: int = 0
    encode_seconds: Mapping[str, float] = field(default_factory=dict)
    encode_times: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    deleted_examples: tuple[str, ...] = ()
    dry_run: bool = False
    unread: Mapping[str, UnreadTokens] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every document that was read is in the collection."""
        return self.set_aside == 0

    def display(self) -> Display:
        """What was read, written and encoded; rejected documents as warnings."""
        counts = {
            "new": self.new,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "duplicates": self.duplicates,
            "rejected": self.set_aside,
            "deleted": self.deleted,
        }
        nonzero = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        parts = []
        if self.deleted_examples:
            verb, more = "to delete" if self.dry_run else "deleted", self.deleted > len(self.deleted_examples)
            parts.append(f"{verb}: {', '.join(self.deleted_examples)}{', …' if more else ''}")
        encoded = ", ".join(
            f"{slot} {n:,}{from_cache(self.cache_hits.get(slot))}" for slot, n in self.encoded.items() if n
        )
        if encoded:
            parts.append(f"encoded: {encoded}")
        elif self.dry_run:
            parts.append("nothing was encoded, written or deleted")
        elif self.complete and self.read:
            parts.append("nothing to encode: the collection is up to date")
        parts += [f"{slot}: {unread}" for slot, unread in self.unread.items() if unread.longer]
        name = f"{self.collection}, dry run" if self.dry_run else self.collection
        head = f"{name}: {self.read:,} read{': ' if nonzero else ''}{nonzero} in {self.seconds:.1f} s"
        rejected = []
        if self.set_aside:
            place = f", with reasons in {self.report_file}" if self.report_file else ""
            first = [f"  {own.id or f'number {own.position}'}: {own.reason}" for own in self.examples[:5]]
            rejected = [f"{self.set_aside:,} rejected{place}", *first]
        return Display(head, parts, (*self.warnings, *rejected), "warning" if rejected else "good")


@dataclass(frozen=True, slots=True)
class SearchReport:
    """One batch of queries. Times are in nanoseconds since 1970; 0 is unknown.

    Args:
        collection: its name.
        pipeline: what was run, as text.
        queries: how many there were.
        seconds: of each stage: `encode`, `retrieve`, `rerank`. Queries that were joined in a batch share the first two.
        started, ended: when the call began and ended; time outside the stages was spent waiting for other calls.
        times: when each stage began and ended.
        slots: the slots that were searched.
        hits: how many were found.
        texts: of the queries. Users wrote them: they are left out of the repr, and plugins must not store them unasked.
        tenant: whose documents were searched; left out of the repr as well.
    """

    collection: str
    pipeline: str
    queries: int
    seconds: Mapping[str, float]
    started: int = 0
    ended: int = 0
    times: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    slots: tuple[str, ...] = ()
    hits: int = 0
    texts: Sequence[str] = field(default=(), repr=False)
    tenant: str | None = field(default=None, repr=False)


GateOutcome: TypeAlias = Literal["passed", "worse", "undecided", "not measured"]


@dataclass(frozen=True, slots=True)
class GateSummary:
    """The decision of a swap's gate.

    Args:
        outcome: `passed`: judgements show that the new is about as good; `worse`: it is not, is broken or is too slow;
            `undecided`: too few judgements; `not measured`: no judgements, and nothing is broken.
        reasons: why it does not go live by itself; empty if it does.
    """

    outcome: GateOutcome
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SwapReport:
    """What plugins receive after an apply. `diptych.swap.ApplyReport` has more.

    Args:
        collection: its name.
        outcome: `nothing to do`, `filled gaps` of vectors that some points lacked, `changed settings`, `measured` when
            it stopped before it changed settings, `filled` when it stopped before the cut-over, or `cut over`.
        encoded: documents encoded, by new vector; after a resume only those of this run.
        cache_hits: how many of them came from the embedding cache, by new vector.
        changed: documents that changed while they were encoded, and were encoded again.
        missing: number of points that lack the new vector.
        gate: what the gate decided; None where there was nothing to compare.
        seconds: the whole run.
        warnings: what to look at.
        started: when it began, in nanoseconds since 1970; 0 is unknown.
    """

    collection: str
    outcome: str
    encoded: Mapping[str, int] = field(default_factory=dict)
    cache_hits: Mapping[str, int] = field(default_factory=dict)
    changed: int = 0
    missing: int = 0
    gate: GateSummary | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    started: int = 0


@dataclass(frozen=True, slots=True)
class FailureReport:
    """A search, populate or swap that raised. Times are in nanoseconds since 1970.

    Args:
        collection: its name.
        operation: `search`, `populate` or `swap`.
        error: name of the error's class; its text may contain users' words and is left out.
        started, ended: when it began and failed.
    """

    collection: str
    operation: str
    error: str
    started: int
    ended: int


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """A slot as `diptych info` shows it.

    `unread`: how much its encoder left unread of all documents encoded for it so far; None if that is unknown.
    `of`: what it reads of documents: their text, or media of one modality.
    """

    name: str
    kind: str
    adapter: str
    options: Mapping[str, object]
    vector: str
    fingerprint: str
    statistics: Mapping[str, float] | None
    generation: int = 1
    unread: UnreadTokens | None = None
    of: str = "text"


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection: name, documents, slots, its tenants' metadata key, what its server lacks, how slots are fused.

    `fusion` has the form of `search.fuse` in the config; empty if one slot alone is retrieved.
    """

    name: str
    documents: int
    slots: tuple[SlotInfo, ...]
    tenant_field: str = ""
    warnings: tuple[str, ...] = ()
    fusion: Mapping[str, Any] = field(default_factory=dict)
