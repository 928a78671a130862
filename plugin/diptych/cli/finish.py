"""`diptych finish`: drops the vectors that were kept for a rollback."""

from __future__ import annotations

import dataclasses

import typer

from diptych.cli.options import CONFIG, CollectionOption, ConfigOption, DebugOption, JsonOption, StoreOption
from diptych.cli.output import stderr, stdout, write_json
from diptych.cli.session import Session
from diptych.cli.swapping import say


def finish(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Drop the vectors from before the last cut-over: their disk and memory are free again, and there is no way back.

    [dim]Examples:[/dim]

      diptych finish

      diptych finish --store http://localhost:6333 --collection packages
    """
    session: Session = context.obj
    with session.stored(config, store, collection) as opened:
        done = opened.finish()
    if as_json:
        return write_json(dataclasses.asdict(done))
    dropped = ", ".join(done.dropped) or ("nothing" if done.warnings else "no vector, since none was kept")
    say(stdout(), f"{done.collection}: {done.outcome}, dropped {dropped}", "bold")
    for warning in done.warnings:
        say(stderr(), f"warning: {warning}", "yellow")
    return None
