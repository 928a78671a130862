"""`diptych plan`: what the config asks of the collection, and its cost. `diptych apply`: moves the collection to it.

The work is in `diptych.swap`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import set_cell_size
from rich.console import Console
from rich.table import Table

from diptych.cli.options import CONFIG, ConfigOption, IgnoreGateOption, JsonOption, NoGateOption, UnmeasuredOption
from diptych.cli.output import Bars, printable, say, stderr, stdout, table, waiting, warn, write_json
from diptych.cli.populate import from_cache, together
from diptych.cli.run_command import PENDING, Session
from diptych.cli.status import LaterOption, ReEncodeOption, WhyOption, judgements, slots_to_encode, under_way, unjudged
from diptych.errors import EvaluationError, GateFailed, MissingExtra
from diptych.runtime import interrupts
from diptych.runtime.amounts import duration, size

if TYPE_CHECKING:
    from diptych.collection.collection import Collection
    from diptych.config import Config
    from diptych.swap import ApplyOptions, ApplyReport, GateReport, Plan, Step
    from diptych.swap.backfill.documents import SourceDocuments
    from diptych.swap.gate.answers import KnownItem, SideBySide
    from diptych.swap.gate.judged import QueryLoss


SAMPLE = 64  # as diptych.swap.plan has it, which is slow to import
UNJUDGED = "no judgements: the gate will not measure quality; name them under evaluate: {queries: FILE, qrels: FILE}"


def plan(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 4 if there is something to apply, for CI.")
    ] = False,
    sample: Annotated[
        int, typer.Option(min=0, metavar="N", help="Documents to encode for estimates of time and size; 0 for none.")
    ] = SAMPLE,
    re_encode: ReEncodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what applying the edited config would change in the collection, and what it would cost.

    [dim]Examples:[/dim]

      diptych plan

      diptych plan && diptych apply

      diptych plan --exit-code --sample 0 --json
    """
    session: Session = context.obj
    with waiting("opening the collection"):
        new_config = session.config(config)
        again = slots_to_encode(re_encode, new_config)
        stored = session.stored(config, None, None)
    with stored as opened, waiting("comparing with the collection"):
        result = opened.plan(new_config if sample else unjudged(new_config), again=again, sample=sample)
        progress = under_way(opened.handle.read(), new_config)
    if as_json:
        write_json(document(result))
    else:
        evaluated = new_config.evaluate
        show_plan(result, progress, advice=True, judged=evaluated.queries is not None or evaluated.qrels is not None)
        try:
            judgements(new_config, None, None)
        except (EvaluationError, MissingExtra) as error:  # apply would stop at it
            warn([f"the gate cannot measure quality: {error.what}; {error.do}"])
    if exit_code and result.pending:
        raise typer.Exit(PENDING)


def document(planned: Plan) -> dict[str, object]:
    """The plan as JSON values."""
    return {
        **dataclasses.asdict(planned),
        "pending": planned.pending,
        "encoding": planned.encoding,
        "seconds": planned.seconds,
    }


def show_plan(planned: Plan, progress: str = "", *, advice: bool = False, judged: bool = True) -> None:
    """The plan as a table, what differs in each slot, warnings, and with `advice` what to do next.

    Args:
        progress: what became of a swap that was begun.
        advice: whether to say what to do next.
        judged: whether the config names judgements.
    """
    from diptych.swap.plan import details

    console = stdout()
    say(console, f"{planned.collection}: {planned.documents:,} documents", "bold")
    console.print(_table(planned))
    for line in details(planned):
        say(console, line)
    warn(planned.warnings)
    if progress:
        say(console, progress)
    elif advice:
        if not judged and planned.gated:
            say(console, UNJUDGED)
        say(console, _advice(planned))


def _table(planned: Plan) -> Table:
    estimated = any(step.rate for step in planned.steps)
    names = ("slot", "change", "documents", "encode", "time", "disk", "memory")[: 7 if estimated else 4]
    listing = table(*names, right=2)
    for step in planned.steps:
        listing.add_row(*_row(step)[: len(names)])
    return listing


def _row(step: Step) -> tuple[str, ...]:
    """The cells: documents that the change affects, those that are encoded, and what that costs."""
    from diptych.swap.plan import change_of

    documents, encode = (f"{count:,}" if count else "" for count in (step.points, step.encode))
    if not step.rate:
        return step.slot, change_of(step), documents, encode, "", "", ""
    costs = (duration(step.seconds), f"+{size(step.disk)}", f"+{size(step.memory)}")
    return step.slot, change_of(step), documents, encode, *costs


def _advice(planned: Plan) -> str:
    if not planned.pending:
        return "nothing to do: the collection matches the config"
    if not any(step.rate for step in planned.steps):
        return "to apply: diptych apply"
    parts = {"loading": planned.loading, "encoding": planned.encoding, "the gate": planned.gate}
    times = ", ".join(f"{part} {duration(seconds)}" for part, seconds in parts.items() if seconds)
    return f"to apply: diptych apply; it takes {duration(planned.seconds)} by a sample on this machine: {times}"


SHOWN = 5  # points without vector that are named
# It does not name `diptych rollback`: before this swap has begun, that would undo the previous cut-over.
RESUME = "nothing is lost and the collection answers as before; to continue: diptych apply; to see it: diptych status"
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


def hint(opened: Collection) -> Callable[[], str]:
    """What an interrupt leaves behind, by whether it has cut over by then."""
    before = opened.handle.metadata

    def left() -> str:
        now = opened.handle.metadata
        cut_over = before is not None and now is not None and now.live != before.live
        return CUT_OVER if cut_over else RESUME

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
        show_plan(dataclasses.replace(plan, warnings=doubts))
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


SNIPPET = 60  # characters of a query or hit where the terminal does not decide


def show_gate(console: Console, report: GateReport) -> None:
    """What was measured: the judged comparison, or checks without judgements and queries side by side."""
    say(console, printable(f"gate: {report.sentence}", limit=2000), "bold")
    if report.known_items:
        console.print(_known_items(report.known_items))
    for line in _lines(report):
        say(console, f"  {line}")
    if report.judged and report.judged.worst:
        console.print(_worst(report.judged.worst))
    _samples(console, report.samples)
    for remark in report.remarks:
        say(console, f"  {remark}", "dim")


def _known_items(items: Sequence[KnownItem]) -> Table:
    """How many documents their own words find."""
    heading = f"  {items[0].documents:,} documents, found among the first 10 by"
    listing = table(heading, "old", "new", "lost", "at most", right=1)
    for item in items:
        slot = "" if item.of == "pipeline" else f"{printable(item.of)} alone, "
        lost = f"{item.losses:,} of {item.found:,}", f"{item.most_lost:.1%}"
        listing.add_row(f"  {slot}{item.by}", f"{item.old:.1%}", f"{item.new:.1%}", *lost)
    return listing


def _lines(report: GateReport) -> Iterator[str]:
    """Judged queries, neighbours and times."""
    if (judged := report.judged) and judged.wins + judged.ties + judged.losses:
        counts = f"queries better {judged.wins:,}, equal {judged.ties:,}, worse {judged.losses:,}"
        yield f"{counts}; {judged.changed:.0%} of their first 10 hits change"
        for part in judged.slices:
            interval = f"[{part.low:+z.4f}, {part.high:+z.4f}]"
            yield f"{part.slice}: {part.mean:+z.4f} {interval} on {len(part.slice.queries):,} queries"
    if report.overlaps:
        shares = ", ".join(f"{overlap.of} {overlap.mean:.2f}" for overlap in report.overlaps)
        yield f"neighbours in common: {shares}"
    if report.latency is not None:
        yield report.latency.sentence


def _worst(queries: Sequence[QueryLoss]) -> Table:
    lost = table("queries that lost most", "old", "new")
    lost.columns[0].no_wrap = True
    for query in queries:
        lost.add_row(printable(query.text, limit=SNIPPET), f"{query.old:.3f}", f"{query.new:.3f}")
    return lost


def _samples(console: Console, samples: Sequence[SideBySide]) -> None:
    """Each query, and beneath it the first hits of the old encoders beside those of the new ones."""
    if not samples:
        return
    width = (console.width - 4) // 2 if console.is_terminal else SNIPPET
    console.print(_pair("old", "new", width), style="dim", soft_wrap=True)
    for sample in samples:
        console.print(printable(sample.query, limit=2 * width), style="cyan", soft_wrap=True)
        for old, new in zip_longest(sample.old, sample.new, fillvalue=""):
            console.print(_pair(old, new, width), soft_wrap=True)


def _pair(old: str, new: str, width: int) -> str:
    """Two columns of `width` cells, behind two spaces."""
    old_cell = set_cell_size(printable(old, limit=width - 1), width)
    return f"  {old_cell}{printable(new, limit=width - 1)}".rstrip()
