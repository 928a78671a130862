"""`diptych status`: which vectors are live, being built and kept, and what was done to the collection."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from diptych.cli.swap.swap_text import encoder_text, moment, say
from diptych.cli.ui.options import CONFIG, CollectionOption, ConfigOption, DebugOption, JsonOption, StoreOption
from diptych.cli.ui.output import stderr, stdout, table, write_json
from diptych.cli.ui.session import Session
from diptych.config.secrets import redacted

if TYPE_CHECKING:
    from diptych.metadata.models import Event
    from diptych.swap import Status, SwapStatus, VectorStatus

Options = Mapping[str, Mapping[str, Any]]


def status(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    history: Annotated[bool, typer.Option("--history", help="Also show what was done, by whom, when and why.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show each vector of a collection: live, being built or kept, and how many documents lack it. Loads no model.

    [dim]Examples:[/dim]

      diptych status

      diptych status --history

      diptych status --store http://localhost:6333 --collection packages --json
    """
    session: Session = context.obj
    with session.stored(config, store, collection) as opened:
        found = opened.status()
        written = opened.handle.read().written()
    options = {vector: redacted(generation.options) for vector, (_, generation) in written.items()}
    if as_json:
        return write_json(_document(found, options, history=history))
    _show(stdout(), found, options)
    if history:
        _history(stdout(), found.history)
    return None


def _document(found: Status, options: Options, *, history: bool) -> dict[str, object]:
    """The status as JSON values; the history only when asked for."""
    vectors = [{**dataclasses.asdict(own), "options": options.get(own.vector, {})} for own in found.vectors]
    swap = dataclasses.asdict(found.swap) if found.swap else None
    shown: dict[str, object] = {"collection": found.collection, "documents": found.documents, "vectors": vectors}
    shown |= {"swap": swap, "orphans": list(found.orphans)}
    if history:
        shown["history"] = [event.model_dump(mode="json") for event in found.history]
    return shown


def _show(console: Console, found: Status, options: Options) -> None:
    say(console, f"{found.collection}: {found.documents:,} documents", "bold")
    listing = table("slot", "vector", "is", "lack it", "made by")
    listing.columns[3].justify = "right"
    for own in found.vectors:
        made_by = encoder_text(own.adapter, options.get(own.vector, {}))
        listing.add_row(own.slot, own.vector or "(unnamed)", _state(own), f"{own.missing:,}", made_by)
    console.print(listing)
    for own in found.vectors:
        if own.asking:
            say(console, f"{own.slot}: {own.asking}")
    for line in _what_next(found):
        say(console, line)
    if found.orphans:
        say(
            stderr(),
            f"warning: no generation uses {', '.join(found.orphans)}; the next finish, apply or populate drops them",
            "yellow",
        )


def _state(own: VectorStatus) -> str:
    return f"{own.role}, behind" if own.behind else own.role


def _what_next(found: Status) -> Iterator[str]:
    kept = [own for own in found.vectors if own.role == "kept"]
    behind = ", ".join(own.vector for own in kept if own.behind)
    if found.swap:
        yield from _swap(found.swap)
    elif behind:
        missed = f"{behind} lacks documents that a populate could not write"
        yield f"{missed}; to go back anyway: diptych rollback --anyway; to drop it: diptych finish"
    elif kept:
        names = ", ".join(own.vector for own in kept)
        yield f"{names} is kept for a rollback; to go back: diptych rollback; to drop it: diptych finish"


def _swap(swap: SwapStatus) -> Iterator[str]:
    why = f" ({swap.why})" if swap.why else ""
    yield f"a swap is under way, started {moment(swap.began)} by {swap.by}{why}"
    if swap.running:
        yield f"{swap.holder} is applying it; last sign of life {moment(swap.last_heard)}"
    else:
        yield "no process is applying it; to continue: diptych apply; to abandon it: diptych rollback"


def _history(console: Console, events: tuple[Event, ...]) -> None:
    for event in events:
        config = f", config {event.config}" if event.config else ""
        console.print()
        say(console, f"{moment(event.when)}  {event.what}", "bold")
        say(console, f"  by {event.by}{config}")
        for slot, made in event.slots.items():
            say(console, f"  {slot}: {made}")
        for label, text in (("gate", event.gate), ("why", event.why)):
            if text:
                say(console, f"  {label}: {text}")
