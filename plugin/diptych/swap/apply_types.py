"""`ApplyOptions`, `ApplyContext`, `ApplyReport`: how a swap is applied, what its parts share, and what it did."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from diptych.config.models import Config
from diptych.display import Display, Displayed, Table, duration
from diptych.handle.collection_handle import CollectionHandle
from diptych.reports import SwapReport, from_cache
from diptych.runtime.phases import Progress
from diptych.swap.documents import SourceDocuments
from diptych.swap.gate.gate import MOODS, GateReport, Judged
from diptych.swap.lease import Lease

POINTS_SHOWN = 20  # points without vector that a report names


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """Options of an apply.

    Args:
        why: the reason, for the history.
        again: slots to re-encode although nothing differs.
        judged: queries and judgements for the gate instead of the config's; without any, it compares neighbours.
        documents: the original documents, for payloads that hold no text.
        gate: whether a gate runs; False measures nothing.
        ignore_gate: cut over, or change settings, whatever the gate measures.
        unmeasured: without judgements, accept more changed answers than `swap.gate.unmeasured` allows, if no judgements
            refused the swap before; or a function that decides by the gate's report.
        cut_over: False stops before it: the new vectors exist, the old ones answer, and settings are unchanged.
        later: do not wait until vectors that nothing needs any more can be dropped, see `finish`.
    """

    why: str = ""
    again: frozenset[str] = frozenset()
    judged: Judged | None = None
    documents: SourceDocuments | None = None
    gate: bool = True
    ignore_gate: bool = False
    unmeasured: bool | Callable[[GateReport], bool] = False
    cut_over: bool = True
    later: bool = False


@dataclass(frozen=True, slots=True)
class ApplyReport(SwapReport, Displayed):
    """The result of an apply: `SwapReport` and more.

    Args:
        left: points without the new vector, with the reason; at most 20 of them.
        gate: what the gate measured; None where there was nothing to compare.
        kept: after a cut-over the vectors that it replaced, which are still updated for a rollback; none if it only
            added slots or changed who makes the queries.
        dropped: vectors that nothing needs any more.
        retired: such vectors that are still to be dropped, by the next finish, apply or populate.
    """

    left: Mapping[int | str, str] = field(default_factory=dict)
    gate: GateReport | None = None
    kept: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()

    def display(self) -> Display:
        """What was done, the gate's decision, and what can be done next."""
        encoded = ", ".join(
            f"{name} {count:,}{from_cache(self.cache_hits.get(name))}" for name, count in self.encoded.items() if count
        )
        changed = f", {self.changed:,} of them again because they changed meanwhile" if self.changed else ""
        done = f"{self.outcome} in {duration(self.seconds)}{f', encoded: {encoded}' if encoded else ''}{changed}"
        parts: list[Table | Display | str] = [self.gate.display()] if self.gate else []
        if self.gate and self.gate.reasons and self.outcome in CHANGED:
            parts.append(f"the gate would have kept the old {CHANGED[self.outcome]} without your consent")
        parts += _next(self)
        missing = [f"{self.missing:,} points have no new vector"] if self.missing else []
        if self.left:
            rows = [(str(point), reason) for point, reason in self.left.items()]
            parts.append(Table(("point without the new vector", "why"), rows))
        warnings = (*self.warnings, *missing)
        mood = MOODS[self.gate.outcome] if self.gate else "good"
        return Display(
            f"{self.collection}: {done}", parts, warnings, "warning" if warnings and mood == "good" else mood
        )


CHANGED = {"cut over": "encoders", "changed settings": "settings"}  # what a gate that did not pass keeps, by outcome


def _next(report: ApplyReport) -> Iterator[str]:
    if report.dropped:
        yield f"dropped: {', '.join(report.dropped)}"
    if report.retired:
        them = "them" if len(report.retired) > 1 else "it"
        yield f"retired: {', '.join(report.retired)}; the next diptych finish, apply or populate drops {them}"
    if report.outcome == "cut over" and report.kept:
        yield "the old vectors are still updated; to undo: diptych rollback; to drop them: diptych finish"
    elif report.outcome == "cut over":
        yield "no vector was replaced, so none is kept; to undo: diptych rollback"
    elif report.outcome == "measured":
        yield "nothing was changed: diptych apply without --no-cut-over changes the settings"
    elif report.outcome == "filled":
        yield "the old encoders still answer; to cut over: diptych apply; to abandon it: diptych rollback"


def generation_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names, without first stages whose generation is among them."""
    known = set(names)
    return tuple(sorted(n for n in known if not (n.endswith(".first") and n.removesuffix(".first") in known)))


@dataclass(frozen=True, slots=True)
class ApplyContext:
    """One apply: collection, config, options, progress.

    Args:
        handle, config, options, progress: as given to `apply`.
        lease: held while the apply runs.
        stopped: ends the work at the next chunk.
        warnings: sentences for the report.

    `judged` holds the judgements to compare by, if there are any.
    """

    handle: CollectionHandle
    config: Config
    options: ApplyOptions
    lease: Lease
    progress: Progress
    stopped: threading.Event
    warnings: list[str] = field(default_factory=list)
    judged: Judged | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "judged", self.options.judged or Judged.of(self.config.evaluate))
