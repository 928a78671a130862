"""`diptych status`, `diptych rollback` and `diptych finish`: what became of a swap, the way back, and the end of it.

Also the texts that the commands of a swap share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from diptych.cli.options import CONFIG, CollectionOption, ConfigOption, JsonOption, StoreOption, option
from diptych.cli.output import show, waiting, write_json
from diptych.cli.run_command import Session
from diptych.config.load import as_written
from diptych.config.problems import redacted
from diptych.display import Display, Table, moment, printable
from diptych.errors import DiptychError, SwapError
from diptych.runtime import interrupts

if TYPE_CHECKING:
    from diptych.config import Config
    from diptych.metadata.models import CollectionMetadata, State
    from diptych.swap import Judged, Status


Options = Mapping[str, Mapping[str, Any]]


def status(
    session: Session,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    history: Annotated[bool, option("Also show what was done, by whom, when and why.", "--history")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show each vector of a collection: live, being built or kept, and how many documents lack it. Loads no model.

    [dim]Examples:[/dim]

      diptych status

      diptych status --history

      diptych status --store http://localhost:6333 --collection packages --json
    """
    with session.stored(config, store, collection) as opened:
        state = opened.status()
        written = opened.handle.read().written()
    options = {vector: redacted(generation.options) for vector, (_, generation) in written.items()}
    if as_json:
        vectors = [{**dataclasses.asdict(own), "options": options.get(own.vector, {})} for own in state.vectors]
        swap = dataclasses.asdict(state.swap) if state.swap else None
        document: dict[str, object] = {"collection": state.collection, "documents": state.documents, "vectors": vectors}
        document |= {"swap": swap, "orphans": list(state.orphans), "can_roll_back": state.can_roll_back}
        document |= {"refused": state.refused, "refused_at": state.refused_at, "stale": state.stale}
        events = {"history": [event.model_dump(mode="json") for event in state.history]} if history else {}
        return write_json(document | events)
    rows = [
        (
            *(own.slot, own.vector or "(unnamed)", f"{own.role}, behind" if own.behind else own.role),
            *(f"{own.missing:,}", encoder_text(own.adapter, options.get(own.vector, {}))),
        )
        for own in state.vectors
    ]
    asking = [f"{own.slot}: {own.asking}" for own in state.vectors if own.asking]
    orphans = f"no generation uses {', '.join(state.orphans)}; the next finish, apply or populate drops them"
    table = Table(("slot", "vector", "is", "lack it", "made by"), rows, numbers=(3,))
    head = f"{state.collection}: {state.documents:,} documents"
    warnings = [*([orphans] if state.orphans else ()), *([state.stale] if state.stale else ())]
    show(Display(head, [table, *asking, *_what_next(state)], warnings))
    for event in state.history if history else ():
        config_text = f", config {event.config}" if event.config else ""
        slots = [f"  {slot}: {encoder}" for slot, encoder in event.slots.items()]
        reasons = [f"  {label}: {text}" for label, text in (("gate", event.gate), ("why", event.why)) if text]
        by = f"  by {event.by}{config_text}"
        show(Display(f"{moment(event.when)}  {event.what}", [by, *slots, *reasons]))
    return None


def _what_next(state: Status) -> Iterator[str]:
    kept = [vector for vector in state.vectors if vector.role == "kept"]
    behind = [vector.vector for vector in kept if vector.behind]
    drop = f"to drop {'them' if len(kept) > 1 else 'it'}: diptych finish"
    if state.refused:
        yield f"the gate refused other settings {moment(state.refused_at)}: {state.refused}"
    if swap := state.swap:
        why = f" ({swap.why})" if swap.why else ""
        yield f"a swap is under way, started {moment(swap.began)} by {swap.by}{why}"
        if swap.running:
            yield f"{swap.holder} is applying it; last sign of life {moment(swap.last_heard)}"
        else:
            go_on = "diptych apply"
            if swap.refused:
                yield f"the gate refused it {moment(swap.refused_at)}: {swap.refused}"
                go_on += ", after more judgements or another config; to cut over anyway: diptych apply --ignore-gate"
            yield f"no process is applying it; to continue: {go_on}; to abandon it: diptych rollback"
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


def rollback(
    session: Session,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    anyway: Annotated[
        bool,
        option("Roll back even if a populate could not write some documents to the old vectors.", "--anyway"),
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
    with session.stored(config, store, collection) as opened:
        with interrupts.resumable(RETIRED), waiting("rolling back"):
            result = opened.rollback(why=why, anyway=anyway, later=later)
        live = opened.handle.read().live
    if as_json:
        return write_json(dataclasses.asdict(result))
    slots = [f"  {slot}: {encoder}" for slot, encoder in result.live.items()]
    dropped = [f"dropped: {', '.join(result.dropped)}"] if result.dropped else []
    stale = [stale_config(session, config, live)] if store is None else []
    warnings = [*result.warnings, *filter(None, stale)]
    return show(Display(f"{result.collection}: {result.outcome}; live now:", [*slots, *dropped], warnings))


def finish(
    session: Session,
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
    with session.stored(config, store, collection) as opened, interrupts.resumable(RETIRED), waiting("finishing"):
        result = opened.finish(later=later)
    if as_json:
        return write_json(dataclasses.asdict(result))
    if result.outcome == "nothing to finish":
        sentence = "nothing to finish, no earlier vectors are kept"
    elif result.retired and not result.dropped:
        sentence = f"{result.outcome}, retired {', '.join(result.retired)}"
    else:
        dropped = ", ".join(result.dropped) or ("nothing" if result.warnings else "no vector, since none was kept")
        sentence = f"{result.outcome}, dropped {dropped}"
    return show(Display(f"{result.collection}: {sentence}", warnings=result.warnings))


ReEncodeOption: TypeAlias = Annotated[
    list[str] | None,
    option("Re-encode this slot even if nothing differs; repeat for more.", "--re-encode", metavar="SLOT"),
]
WhyOption: TypeAlias = Annotated[str, option("The reason, for the history.", metavar="TEXT")]
LaterOption: TypeAlias = Annotated[
    bool,
    option("Let a later finish, apply or populate drop the old vectors on a server.", "--later"),
]
RETIRED = "the change is done; the next diptych finish, apply or populate drops the old vectors"


def encoder_text(adapter: str, options: Mapping[str, Any]) -> str:
    """Adapter and options in a line, without secrets: `bm25, language: english`."""
    return printable(", ".join([adapter, *(f"{key}: {as_written(value)}" for key, value in redacted(options).items())]))


def slots_to_encode(names: Iterable[str] | None, config: Config) -> frozenset[str]:
    """The slots that `--re-encode` names.

    Raises:
        SwapError: the config has no such slot.
    """
    from diptych.runtime.validation_messages import nearest

    slots = frozenset(names or ())
    for name in sorted(slots - config.slots.keys()):
        raise SwapError(
            f"--re-encode names no slot of the config: {name!r}",
            expected=", ".join(config.slots),
            do=nearest(name, config.slots),
        )
    return slots


def under_way(metadata: CollectionMetadata, config: Config) -> str:
    """What became of a swap that was begun, and what to do about it; empty without one."""
    from diptych.handle.open_handle import describes

    swap = metadata.swap
    if swap is None:
        return ""
    started = f"a swap is under way, started {moment(swap.began)} by {swap.by}"
    if describes(config, swap.target):
        return f"{started}; to continue: diptych apply; to abandon it: diptych rollback"
    return f"{started}, with another config; restore that config to continue; to abandon it: diptych rollback"


def stale_config(session: Session, path: Path, live: State) -> str:
    """That the config file asks for other encoders than those that answer now; empty where it does not, or is none."""
    from diptych.handle.open_handle import describes, waiting_student

    try:
        config = session.config(path)
    except DiptychError:
        return ""
    if describes(config, live):
        return ""
    waiting = [name for name, slot in config.slots.items() if waiting_student(slot, live.asking.get(name))]
    own = {name: config.slots[name].model_copy(update={"query": None}) for name in waiting}
    if own and describes(config.model_copy(update={"slots": {**config.slots, **own}}), live):
        slots = ", ".join(map(repr, waiting))
        return f"{path} names a student for {slots}: its own encoder makes the queries until diptych apply admits it"
    return f"{path} names other encoders than those that are live now: edit it before you search or populate with it"


def judgements(config: Config, queries: Path | None, qrels: Path | None) -> Judged | None:
    """The queries and judgements of the options, else of the config; read now, not after hours of encoding.

    Raises:
        EvaluationError: only one of the two is there, a file cannot be read, or the metric is unknown.
        MissingExtra: ir-measures is not installed.
    """
    from diptych.evaluate.scoring import parse_metrics
    from diptych.swap import Judged

    options = {"queries": queries, "qrels": qrels}
    paths = {name: str(path) for name, path in options.items() if path is not None}
    judged = Judged.of(config.evaluate.model_copy(update=paths))
    if judged is not None:
        parse_metrics([judged.metric])
    return judged
