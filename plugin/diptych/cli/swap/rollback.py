"""`diptych rollback` and `diptych finish`: return to the encoders before the last cut-over, or drop their vectors."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.swap.swap_text import RETIRED, LaterOption, WhyOption, stale_config
from diptych.cli.ui.options import CONFIG, CollectionOption, ConfigOption, JsonOption, StoreOption
from diptych.cli.ui.output import say, stdout, warn, write_json
from diptych.cli.ui.progress import waiting
from diptych.cli.ui.session import Session
from diptych.runtime import interrupts

if TYPE_CHECKING:
    from diptych.swap import StepBack


def rollback(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway", help="Roll back even if a populate could not write some documents to the old vectors."
        ),
    ] = False,
    why: WhyOption = "",
    later: LaterOption = False,
    as_json: JsonOption = False,
) -> None:
    """Undo the last cut-over in one update, or abandon the swap that is under way.

    Nothing is encoded. A second rollback redoes the cut-over. After `diptych finish` no rollback is possible.

    [dim]Examples:[/dim]

      diptych rollback --why "users find less"

      diptych rollback --anyway

      diptych rollback --store http://localhost:6333 --collection packages
    """
    session: Session = context.obj
    with session.stored(config, store, collection) as opened:
        with interrupts.resumable(RETIRED), waiting("rolling back"):
            result = opened.rollback(why=why, anyway=anyway, later=later)
        live = opened.handle.read().live
    if as_json:
        return write_json(dataclasses.asdict(result))
    console = stdout()
    say(console, f"{result.collection}: {result.outcome}; live now:", "bold")
    for slot, encoder in result.live.items():
        say(console, f"  {slot}: {encoder}")
    if result.dropped:
        say(console, f"dropped: {', '.join(result.dropped)}")
    warn(result.warnings)
    if store is None and (warning := stale_config(session, config, live)):
        warn([warning])
    return None


def finish(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    later: LaterOption = False,
    as_json: JsonOption = False,
) -> None:
    """Drop the vectors kept from before the last cut-over. Frees disk and memory; rollback is then impossible.

    A server must first flush all writes that name them: the command waits for three of its flush intervals. With
    Ctrl-C or --later, the next finish, apply or populate drops them. Running it again does nothing.

    [dim]Examples:[/dim]

      diptych finish

      diptych finish --later

      diptych finish --store http://localhost:6333 --collection packages
    """
    session: Session = context.obj
    with session.stored(config, store, collection) as opened, interrupts.resumable(RETIRED), waiting("finishing"):
        result = opened.finish(later=later)
    if as_json:
        return write_json(dataclasses.asdict(result))
    say(stdout(), f"{result.collection}: {_sentence(result)}", "bold")
    warn(result.warnings)
    return None


def _sentence(done: StepBack) -> str:
    if done.outcome == "nothing to finish":
        return "nothing to finish, no earlier vectors are kept"
    if done.retired and not done.dropped:
        return f"{done.outcome}, retired {', '.join(done.retired)}"
    dropped = ", ".join(done.dropped) or ("nothing" if done.warnings else "no vector, since none was kept")
    return f"{done.outcome}, dropped {dropped}"
