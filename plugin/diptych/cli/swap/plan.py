"""`diptych plan`: what the config asks of the collection, and what it would cost."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from diptych.cli.swap.swap_text import ReEncodeOption, judgements, slots_to_encode, under_way, unjudged
from diptych.cli.ui.options import CONFIG, ConfigOption, JsonOption
from diptych.cli.ui.output import say, stdout, table, warn, write_json
from diptych.cli.ui.progress import waiting
from diptych.cli.ui.run_command import PENDING
from diptych.cli.ui.session import Session
from diptych.errors import EvaluationError, MissingExtra
from diptych.runtime.amounts import duration, size

if TYPE_CHECKING:
    from diptych.swap import Plan, Step

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
        show(result, progress, advice=True, judged=evaluated.queries is not None or evaluated.qrels is not None)
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


def show(planned: Plan, progress: str = "", *, advice: bool = False, judged: bool = True) -> None:
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
