"""`diptych anchors`: scores of a reranker's anchors for every document, by which it explores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.swap import apply as applying
from diptych.cli.swap.swap_text import judgements, unjudged
from diptych.cli.ui.options import (
    CONFIG,
    CollectionOption,
    ConfigOption,
    IgnoreGateOption,
    JsonOption,
    NoGateOption,
    StoreOption,
    UnmeasuredOption,
)
from diptych.cli.ui.output import say, stdout, table, write_json
from diptych.cli.ui.progress import waiting
from diptych.cli.ui.run_command import command, group
from diptych.cli.ui.session import Session
from diptych.runtime import interrupts
from diptych.runtime.amounts import duration

if TYPE_CHECKING:
    from diptych.swap.anchors import AnchorsState, AnchorsToScore

app = group("anchors", "Score every document for a reranker's anchors, which let it find documents by itself.")


def build(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    count: Annotated[
        int | None,
        typer.Option(
            min=2, max=8192, metavar="N", help="Anchors to choose where the file does not exist. [default: 400]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed for choosing anchors.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Choose anchors and estimate calls and hours, but score nothing.")
    ] = False,
    no_gate: NoGateOption = False,
    ignore_gate: IgnoreGateOption = False,
    unmeasured: UnmeasuredOption = False,
    as_json: JsonOption = False,
) -> None:
    """Choose anchors if there are none, estimate calls and hours, and score every document.

    The collection keeps answering. After a kill, run it again to continue.

    [dim]Examples:[/dim]

      diptych anchors build --dry-run

      diptych anchors build --count 200
    """
    session: Session = context.obj
    with waiting("reading the config"):
        from diptych.swap import ApplyOptions
        from diptych.swap.anchors import choose_missing, slots_of_anchors, to_score

        new_config = session.config(config)
        slots_of_anchors(new_config)
    with waiting("opening the collection"):
        stored = session.stored(config, None, None)
    with interrupts.resumable(applying.hint(stored, "diptych anchors build")), stored as opened:
        with waiting("choosing anchors"):
            written = choose_missing(opened.handle, new_config, count=count, seed=seed)
        opened.handle.keep_candidates()
        with waiting("timing a few calls"):
            costs = to_score(opened.handle, opened.plan(unjudged(new_config)), new_config)
        if not as_json:
            for path in written:
                say(stdout(), f"wrote {path}: titles of the collection, by seed {seed}")
            _show_costs(costs)
        if dry_run:
            return write_json({"anchors": [_cost(cost) for cost in costs]}) if as_json else None
        judged = judgements(new_config, None, None)
        options = ApplyOptions(gate=not no_gate, ignore_gate=ignore_gate, unmeasured=unmeasured, judged=judged)
        report = applying.run_apply(opened, new_config, options, as_json)
    if as_json:
        return write_json({"anchors": [_cost(cost) for cost in costs], **dataclasses.asdict(report)})
    return applying.show_report(report)


def status(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the anchors of a collection, and how many documents have their scores. Loads no model.

    [dim]Examples:[/dim]

      diptych anchors status
    """
    from diptych.swap.anchors import anchors_status

    session: Session = context.obj
    with session.stored(config, store, collection) as opened:
        states = anchors_status(opened.handle)
    if as_json:
        return write_json({"collection": opened.name, "anchors": [dataclasses.asdict(state) for state in states]})
    return _show_states(opened.name, states)


def _show_costs(costs: Sequence[AnchorsToScore]) -> None:
    for own in costs:
        if not own.documents:
            say(stdout(), f"{own.slot}: all documents have scores of {own.anchors:,} anchors")
            continue
        about = "" if own.seconds is None or own.seconds < 1 else "about "
        time = f", {about}{duration(own.seconds)} on this machine" if own.seconds is not None else ""
        calls = f"{own.documents:,} documents x {own.anchors:,} anchors = {own.calls:,} calls of {own.reranker}"
        say(stdout(), f"{own.slot}: {calls}{time}", "bold")


def _cost(own: AnchorsToScore) -> dict[str, object]:
    return {**dataclasses.asdict(own), "calls": own.calls}


def _show_states(name: str, states: Sequence[AnchorsState]) -> None:
    if not states:
        say(stdout(), f"{name} has no anchors; to build those of the config: diptych anchors build")
        return
    counted = ("anchors", "scored", "lack it", "calls made", "calls left")
    listing = table("slot", "vector", "is", "reranker", *counted, right=4)
    for own in states:
        counts = (own.anchors, own.scored, own.missing, own.scored * own.anchors, own.missing * own.anchors)
        listing.add_row(own.slot, own.vector, own.role, own.reranker, *(f"{count:,}" for count in counts))
    stdout().print(listing)


command(app, "build", build)
command(app, "status", status)
