"""`diptych status`: which vectors are live, being built and kept, and what was done to the collection."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from diptych.cli.swap.swap_text import encoder_text
from diptych.cli.ui.options import CONFIG, CollectionOption, ConfigOption, JsonOption, StoreOption
from diptych.cli.ui.output import say, stderr, stdout, table, write_json
from diptych.cli.ui.session import Session
from diptych.config.secrets import redacted
from diptych.runtime.amounts import moment

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
) -> None:
    """Show each vector of a collection: live, being built or kept, and how many documents lack it. Loads no model.

    [dim]Examples:[/dim]

      diptych status

      diptych status --history

      diptych status --store http://localhost:6333 --collection packages --json
    """
    session: Session = context.obj
    with session.stored(config, store, collection) as opened:
        state = opened.status()
        written = opened.handle.read().written()
    options = {vector: redacted(generation.options) for vector, (_, generation) in written.items()}
    if as_json:
        return write_json(_document(state, options, history=history))
    _show(stdout(), state, options)
    if history:
        _history(stdout(), state.history)
    return None


def _document(state: Status, options: Options, *, history: bool) -> dict[str, object]:
    """The status as JSON values; the history only when asked for."""
    vectors = [{**dataclasses.asdict(vector), "options": options.get(vector.vector, {})} for vector in state.vectors]
    swap = dataclasses.asdict(state.swap) if state.swap else None
    document: dict[str, object] = {"collection": state.collection, "documents": state.documents, "vectors": vectors}
    document |= {"swap": swap, "orphans": list(state.orphans), "can_roll_back": state.can_roll_back}
    document |= {"refused": state.refused, "refused_at": state.refused_at}
    if history:
        document["history"] = [event.model_dump(mode="json") for event in state.history]
    return document


def _show(console: Console, state: Status, options: Options) -> None:
    say(console, f"{state.collection}: {state.documents:,} documents", "bold")
    listing = table("slot", "vector", "is", "lack it", "made by")
    listing.columns[3].justify = "right"
    for vector in state.vectors:
        made_by = encoder_text(vector.adapter, options.get(vector.vector, {}))
        listing.add_row(vector.slot, vector.vector or "(unnamed)", _state(vector), f"{vector.missing:,}", made_by)
    console.print(listing)
    for vector in state.vectors:
        if vector.asking:
            say(console, f"{vector.slot}: {vector.asking}")
    for line in _what_next(state):
        say(console, line)
    if state.orphans:
        say(
            stderr(),
            f"warning: no generation uses {', '.join(state.orphans)}; the next finish, apply or populate drops them",
            "yellow",
        )


def _state(vector: VectorStatus) -> str:
    return f"{vector.role}, behind" if vector.behind else vector.role


def _what_next(state: Status) -> Iterator[str]:
    kept = [vector for vector in state.vectors if vector.role == "kept"]
    behind = [vector.vector for vector in kept if vector.behind]
    drop = f"to drop {'them' if len(kept) > 1 else 'it'}: diptych finish"
    if state.refused:
        yield f"the gate refused other settings {moment(state.refused_at)}: {state.refused}"
    if state.swap:
        yield from _swap(state.swap)
    elif behind:
        lack = "lack" if len(behind) > 1 else "lacks"
        missed = f"{', '.join(behind)} {lack} documents that a populate could not write"
        yield f"{missed}; to roll back anyway: diptych rollback --anyway; {drop}"
    elif kept:
        names = ", ".join(vector.vector for vector in kept)
        are = "are" if len(kept) > 1 else "is"
        yield f"{names} {are} kept for a rollback; to roll back: diptych rollback; {drop}"
    elif state.can_roll_back:
        yield "the last cut-over replaced no vector; to undo it: diptych rollback; to give that up: diptych finish"


def _swap(swap: SwapStatus) -> Iterator[str]:
    why = f" ({swap.why})" if swap.why else ""
    yield f"a swap is under way, started {moment(swap.began)} by {swap.by}{why}"
    if swap.refused and not swap.running:
        yield f"the gate refused it {moment(swap.refused_at)}: {swap.refused}"
    if swap.running:
        yield f"{swap.holder} is applying it; last sign of life {moment(swap.last_heard)}"
    else:
        go_on = "diptych apply"
        if swap.refused:
            go_on += ", after more judgements or another config; to cut over anyway: diptych apply --ignore-gate"
        yield f"no process is applying it; to continue: {go_on}; to abandon it: diptych rollback"


def _history(console: Console, events: tuple[Event, ...]) -> None:
    for event in events:
        config = f", config {event.config}" if event.config else ""
        console.print()
        say(console, f"{moment(event.when)}  {event.what}", "bold")
        say(console, f"  by {event.by}{config}")
        for slot, encoder in event.slots.items():
            say(console, f"  {slot}: {encoder}")
        for label, text in (("gate", event.gate), ("why", event.why)):
            if text:
                say(console, f"  {label}: {text}")
