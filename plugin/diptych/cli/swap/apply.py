"""`diptych apply`: moves the collection to the encoders of the config while it keeps answering."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.collections.populate import from_cache, together
from diptych.cli.swap import plan as planning
from diptych.cli.swap.show_gate import show_gate
from diptych.cli.swap.swap_text import (
    LaterOption,
    ReEncodeOption,
    WhyOption,
    judgements,
    slots_to_encode,
    under_way,
    unjudged,
)
from diptych.cli.ui.options import CONFIG, ConfigOption, IgnoreGateOption, JsonOption, NoGateOption, UnmeasuredOption
from diptych.cli.ui.output import printable, say, stderr, stdout, warn, write_json
from diptych.cli.ui.progress import Bars, waiting
from diptych.cli.ui.session import Session
from diptych.errors import GateFailed
from diptych.runtime import interrupts

if TYPE_CHECKING:
    from diptych.collection.collection import Collection
    from diptych.config import Config
    from diptych.swap import ApplyOptions, ApplyReport, GateReport
    from diptych.swap.backfill.documents import SourceDocuments

SHOWN = 5  # points without vector that are named
# It does not name `diptych rollback`: before this swap has begun, that would undo the previous cut-over.
RESUME = (
    "nothing is lost and the collection answers as before; to continue: {command}; what is under way: diptych status"
)
CUT_OVER = "the new encoders answer already; old vectors are dropped by the next diptych finish, apply or populate"
CHANGED = {"cut over": "encoders", "changed settings": "settings"}  # what a gate that did not pass keeps, by outcome


class Pace(StrEnum):
    """How a back-fill writes."""

    gentle = "gentle"
    full = "full"


def apply(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    rate: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Maximum documents per second; by default the config's.")
    ] = None,
    pace: Annotated[
        Pace | None,
        typer.Option(help="gentle writes slowly enough not to delay searches, full does not; by default the config's."),
    ] = None,
    parallel: Annotated[
        bool | None,
        typer.Option("--parallel/--no-parallel", help="Fill several slots at once; by default the config's."),
    ] = None,
    re_encode: ReEncodeOption = None,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE", help="The populated documents, if payloads hold no text; repeat for more."),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Queries for the gate, queries.jsonl(.gz); by default the config's."),
    ] = None,
    qrels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Judgements for the gate; by default the config's.")
    ] = None,
    no_judgements: Annotated[
        bool,
        typer.Option("--no-judgements", help="Let the gate compare neighbours even if the config names judgements."),
    ] = False,
    no_gate: NoGateOption = False,
    ignore_gate: IgnoreGateOption = False,
    unmeasured: UnmeasuredOption = False,
    no_cut_over: Annotated[
        bool, typer.Option("--no-cut-over", help="Only fill and measure; apply again to cut over.")
    ] = False,
    switch_queries: Annotated[
        bool,
        typer.Option(
            "--switch-queries", help="Encode queries with the new encoders at once in slots where that measures better."
        ),
    ] = False,
    bridge: Annotated[
        bool,
        typer.Option(
            "--bridge", help="If the old encoder is gone: search through a drift map where that measures well."
        ),
    ] = False,
    why: WhyOption = "",
    later: LaterOption = False,
    as_json: JsonOption = False,
) -> None:
    """Re-encode what the config changes while the collection keeps answering, run the gate, and cut over.

    After a kill, run it again to continue. If the gate keeps the old encoders, the exit code says why: 5, the new
    ones are worse; 6, too few judgements to decide; 7, no judgements, and more answers change than are allowed.

    [dim]Examples:[/dim]

      diptych plan && diptych apply

      diptych apply --rate 200 --why "smaller vectors"

      diptych apply --queries queries.jsonl --qrels qrels.tsv

      diptych apply --no-cut-over
    """
    session: Session = context.obj
    with waiting("reading the config"):
        from diptych.swap import ApplyOptions

        new_config = session.config(config)
    options = ApplyOptions(
        why=why,
        again=slots_to_encode(re_encode, new_config),
        judged=None if no_judgements else judgements(new_config, queries, qrels),
        gate=not no_gate,
        ignore_gate=ignore_gate,
        unmeasured=unmeasured,
        cut_over=not no_cut_over,
        switch_queries=switch_queries,
        bridge=bridge,
        rate=rate,
        pace=pace.value if pace else None,
        parallel=parallel,
        later=later,
    )
    if no_judgements:
        new_config = unjudged(new_config)
    with waiting("opening the collection"):
        stored = session.stored(config, None, None)
    with interrupts.resumable(hint(stored)), stored as opened, _documents(opened, source) as documents:
        report = run_apply(opened, new_config, dataclasses.replace(options, documents=documents), as_json)
    write_json(dataclasses.asdict(report)) if as_json else show_report(report)


def hint(opened: Collection, command: str = "diptych apply") -> Callable[[], str]:
    """What an interrupt of the command leaves behind, by whether it has cut over by then."""
    before = opened.handle.metadata

    def left() -> str:
        now = opened.handle.metadata
        cut_over = before is not None and now is not None and now.live != before.live
        return CUT_OVER if cut_over else RESUME.format(command=command)

    return left


def run_apply(opened: Collection, config: Config, options: ApplyOptions, as_json: bool) -> ApplyReport:
    """Apply the config with progress, after showing the plan unless the output is JSON.

    Raises:
        GateFailed: what the gate measured is shown before.
    """
    opened.handle.keep_candidates()
    if not as_json:
        _announce(opened, config, options.again)
    asked: list[GateReport] = []
    try:
        with Bars(lines=not as_json) as bars:
            if not (as_json or options.unmeasured) and sys.stdin.isatty() and sys.stdout.isatty():
                options = dataclasses.replace(options, unmeasured=lambda report: _consent(report, bars, asked))
            report = opened.apply(config, options, progress=bars)
    except GateFailed as error:
        _show_failed(opened.name, error, as_json, asked)
        raise
    return dataclasses.replace(report, gate=None) if asked else report  # it was shown with the question


def _consent(report: GateReport, bars: Bars, asked: list[GateReport]) -> bool:
    """Show what the change does, and ask whether it may go live without judgements."""
    asked.append(report)
    with bars.paused():
        show_gate(stdout(), report)
        try:
            return typer.confirm("accept these changes without judgements?", err=True)
        except typer.Abort:
            raise KeyboardInterrupt from None


@contextmanager
def _documents(opened: Collection, sources: Sequence[str] | None) -> Iterator[SourceDocuments | None]:
    """The documents of the sources by point, None when none are named."""
    if not sources:
        yield None
        return
    from diptych.populate import open_source
    from diptych.swap.backfill.documents import SourceDocuments

    with SourceDocuments(opened.handle, together([open_source(path) for path in sources])) as documents:
        yield documents


def _announce(opened: Collection, config: Config, again: frozenset[str]) -> None:
    """Print what is about to be done: the plan, or that a swap continues."""
    swap = opened.handle.read().swap
    if swap is None:
        with waiting("comparing with the collection"):
            plan = opened.plan(unjudged(config), again=again, sample=0)
        # made without judgements, the plan would call a threshold stale that the gate carries over and speaks of below
        doubts = tuple(warning for warning in plan.warnings if not warning.startswith("search.score_threshold"))
        planning.show(dataclasses.replace(plan, warnings=doubts))
    elif progress := under_way(opened.handle.read(), config):
        say(stdout(), progress.partition("; ")[0])


def _show_failed(name: str, error: GateFailed, as_json: bool, shown: Sequence[GateReport]) -> None:
    """What the gate measured, unless it was shown with the question; the error itself says why it was not enough."""
    report, missing = error.context.get("report"), error.context.get("missing") or 0
    unfilled, asking = (error.context.get(key) or {} for key in ("left", "asking"))
    if as_json:
        gate = dataclasses.asdict(report) if dataclasses.is_dataclass(report) else None  # type: ignore[arg-type]
        facts = {"collection": name, "outcome": "not applied", "gate": gate, "asking": asking, "left": unfilled}
        return write_json({**facts, "missing": missing})
    if report is not None and report not in shown:
        show_gate(stdout(), report)  # type: ignore[arg-type]
    _show_query_encoders(asking)  # type: ignore[arg-type]
    _show_unfilled(unfilled, missing)  # type: ignore[arg-type]
    return None


def show_report(report: ApplyReport) -> None:
    """Print what was done, and what to do next."""
    console = stdout()
    if report.gate is not None:
        show_gate(console, report.gate)
        if report.gate.reasons and report.outcome in CHANGED:
            say(console, f"the gate would have kept the old {CHANGED[report.outcome]} without your consent")
    say(console, _outcome(report), "bold")
    _show_query_encoders(report.asking, "until the cut-over " if report.outcome == "cut over" else "")
    for line in _next(report):
        say(console, line)
    warn(report.warnings)
    _show_unfilled(report.left, report.missing)


def _outcome(report: ApplyReport) -> str:
    encoded = ", ".join(
        f"{vector} {count:,}{from_cache(report.cache_hits.get(vector))}"
        for vector, count in report.encoded.items()
        if count
    )
    encoded_text = f", encoded: {encoded}" if encoded else ""
    changed = f", {report.changed:,} of them again because they changed meanwhile" if report.changed else ""
    return f"{report.collection}: {report.outcome} in {report.seconds:.1f} s{encoded_text}{changed}"


def _show_query_encoders(asking: Mapping[str, str], until: str = "") -> None:
    for slot, encoders in asking.items():
        say(stdout(), f"{slot}: {until}{encoders}")


def _next(report: ApplyReport) -> Iterator[str]:
    if report.dropped:
        yield f"dropped: {', '.join(report.dropped)}"
    if report.retired:
        them = "them" if len(report.retired) > 1 else "it"
        yield f"retired: {', '.join(report.retired)}; the next diptych finish, apply or populate drops {them}"
    if report.outcome == "cut over":
        if report.kept:
            yield "the old vectors are still updated; to undo: diptych rollback; to drop them: diptych finish"
        else:
            yield "no vector was replaced, so none is kept; to undo: diptych rollback"
    elif report.outcome == "measured":
        yield "nothing was changed: diptych apply without --no-cut-over changes the settings"
    elif report.outcome == "filled":
        subject = "vectors" if report.asking else "encoders"
        yield f"the old {subject} still answer; to cut over: diptych apply; to abandon it: diptych rollback"


def _show_unfilled(unfilled: Mapping[int | str, str], missing: int) -> None:
    if not missing:
        return
    say(stderr(), f"{missing:,} points have no new vector", "yellow")
    for point, reason in list(unfilled.items())[:SHOWN]:
        say(stderr(), printable(f"  {point}: {reason}", limit=200))
