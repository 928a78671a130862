"""`diptych plan`: what the config asks of the collection, and its cost. `diptych apply`: moves the collection to it.

The work is in `diptych.swap`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from diptych.cli.options import (
    CONFIG,
    ConfigOption,
    JsonOption,
    option,
)
from diptych.cli.output import Bars, show, stdout, waiting, warn, write_json
from diptych.cli.populate import together
from diptych.cli.run_command import PENDING, Session
from diptych.cli.status import LaterOption, ReEncodeOption, WhyOption, judgements, slots_to_encode, under_way
from diptych.display import Display, Displayed, say
from diptych.errors import EvaluationError, GateFailed, MissingExtra
from diptych.runtime import interrupts

if TYPE_CHECKING:
    from diptych.collection.collection import Collection
    from diptych.config import Config
    from diptych.swap import ApplyOptions, ApplyReport, GateReport, Plan
    from diptych.swap.documents import SourceDocuments


SAMPLE = 64  # as diptych.swap.plan has it, which is slow to import
UNJUDGED = "no judgements: the gate will not measure quality; name them under evaluate: {queries: FILE, qrels: FILE}"


def plan(
    session: Session,
    config: ConfigOption = CONFIG,
    exit_code: Annotated[bool, option("Exit with 4 if there is something to apply, for CI.", "--exit-code")] = False,
    sample: Annotated[
        int, option("Documents to encode for estimates of time and size; 0 for none.", metavar="N", min=0)
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
    with waiting("opening the collection"):
        new_config = session.config(config)
        again = slots_to_encode(re_encode, new_config)
        stored = session.stored(config, None, None)
    with stored as opened, waiting("comparing with the collection"):
        result = opened.plan(new_config, again=again, sample=sample)
        progress = under_way(opened.handle.read(), new_config)
    if as_json:
        write_json(document(result))
    else:
        evaluated = new_config.evaluate
        show_plan(result, progress, judged=evaluated.queries is not None or evaluated.qrels is not None)
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


def show_plan(planned: Plan, progress: str = "", *, judged: bool = True) -> None:
    """The plan, and what became of a swap that was begun; `judged`: whether the config names judgements."""
    shown = planned.display()
    lines = [progress] if progress else [UNJUDGED] if planned.gated and not judged else []
    show(dataclasses.replace(shown, parts=(*shown.parts, *lines)))


# It does not name `diptych rollback`: before this swap has begun, that would undo the previous cut-over.
RESUME = "nothing is lost and the collection answers as before; to continue: diptych apply; to see it: diptych status"
CUT_OVER = "the new encoders answer already; old vectors are dropped by the next diptych finish, apply or populate"


def apply(
    session: Session,
    config: ConfigOption = CONFIG,
    rate: Annotated[
        int | None, option("Maximum documents per second; by default the config's.", metavar="N", min=1)
    ] = None,
    pace: Annotated[
        Literal["gentle", "full"] | None,
        option("gentle writes slowly enough not to delay searches, full does not; by default the config's."),
    ] = None,
    re_encode: ReEncodeOption = None,
    source: Annotated[
        list[str] | None,
        option("The populated documents, if payloads hold no text; repeat for more.", metavar="SOURCE"),
    ] = None,
    queries: Annotated[
        Path | None,
        option("Queries for the gate, queries.jsonl(.gz); by default the config's.", metavar="FILE"),
    ] = None,
    qrels: Annotated[Path | None, option("Judgements for the gate; by default the config's.", metavar="FILE")] = None,
    no_gate: Annotated[bool, option("Cut over without running the gate.", "--no-gate")] = False,
    ignore_gate: Annotated[bool, option("Run the gate, and cut over whatever it measures.", "--ignore-gate")] = False,
    unmeasured: Annotated[
        bool,
        option("Without judgements: accept changes beyond swap.gate.unmeasured.", "--unmeasured"),
    ] = False,
    no_cut_over: Annotated[bool, option("Only fill and measure; apply again to cut over.", "--no-cut-over")] = False,
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
    with waiting("reading the config"):
        from diptych.swap import ApplyOptions

        new_config = session.config(config)
        given = {"rate": rate, "pace": pace}
        changed = {name: value for name, value in given.items() if value is not None}
        new_config = new_config.model_copy(update={"swap": new_config.swap.model_copy(update=changed)})
    options = ApplyOptions(
        why=why,
        again=slots_to_encode(re_encode, new_config),
        judged=judgements(new_config, queries, qrels),
        gate=not no_gate,
        ignore_gate=ignore_gate,
        unmeasured=unmeasured,
        cut_over=not no_cut_over,
        later=later,
    )
    with waiting("opening the collection"):
        stored = session.stored(config, None, None)
    with interrupts.resumable(hint(stored)), stored as opened, _documents(opened, source) as documents:
        report = run_apply(opened, new_config, dataclasses.replace(options, documents=documents), as_json)
    write_json(dataclasses.asdict(report)) if as_json else show(report.display())


def hint(opened: Collection) -> Callable[[], str]:
    """What an interrupt leaves behind, by whether it has cut over by then."""
    before = opened.handle.metadata

    def left() -> str:
        now = opened.handle.metadata
        cut_over = before is not None and now is not None and now.live != before.live
        return CUT_OVER if cut_over else RESUME

    return left


def run_apply(opened: Collection, config: Config, options: ApplyOptions, as_json: bool) -> ApplyReport:
    """Apply the config with progress, after showing the plan, or that a swap continues, unless it prints JSON.

    Raises:
        GateFailed: what the gate measured is shown before.
    """
    opened.handle.keep_candidates()
    if not as_json and opened.handle.read().swap is None:
        with waiting("comparing with the collection"):
            plan = opened.plan(config, again=options.again, sample=0)
        # what is said of a threshold is said again by the report or the error
        doubts = tuple(warning for warning in plan.warnings if not warning.startswith("search.score_threshold"))
        show_plan(dataclasses.replace(plan, warnings=doubts))
    elif not as_json and (progress := under_way(opened.handle.read(), config)):
        say(stdout(), progress.partition("; ")[0])
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
        show(report.display())
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
    from diptych.swap.documents import SourceDocuments

    with SourceDocuments(opened.handle, together([open_source(path) for path in sources])) as documents:
        yield documents


def _show_failed(name: str, error: GateFailed, as_json: bool, shown: Sequence[GateReport]) -> None:
    """What the gate measured, unless it was shown with the question; the error itself says why it was not enough."""
    report, missing = error.context.get("report"), error.context.get("missing") or 0
    unfilled: Mapping[object, str] = error.context.get("left") or {}  # type: ignore[assignment]
    if as_json:
        gate = dataclasses.asdict(report) if dataclasses.is_dataclass(report) else None  # type: ignore[arg-type]
        facts = {"collection": name, "outcome": "not applied", "gate": gate, "left": unfilled}
        return write_json({**facts, "missing": missing})
    if isinstance(report, Displayed) and report not in shown:
        show(report.display())
    warnings = [f"{missing:,} points have no new vector"] if missing else []
    warnings += [f"{point}: {reason}" for point, reason in list(unfilled.items())[:SHOWN]]
    return show(Display("", (), warnings))


SHOWN = 5  # points without vector that are named
