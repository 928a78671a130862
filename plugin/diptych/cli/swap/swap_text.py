"""Texts that the commands of a swap share: for encoders, amounts and a swap under way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from diptych.cli.ui.output import printable
from diptych.config.secrets import redacted
from diptych.config.written import as_written
from diptych.errors import DiptychError, SwapError
from diptych.runtime.amounts import moment

if TYPE_CHECKING:
    from diptych.cli.ui.session import Session
    from diptych.config import Config
    from diptych.metadata.models import CollectionMetadata, State
    from diptych.swap import Judged

ReEncodeOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--re-encode", metavar="SLOT", help="Re-encode this slot even if nothing differs; repeat for more."),
]
WhyOption: TypeAlias = Annotated[str, typer.Option(metavar="TEXT", help="The reason, for the history.")]
LaterOption: TypeAlias = Annotated[
    bool,
    typer.Option("--later", help="Let a later finish, apply or populate drop the old vectors on a server."),
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


def unjudged(config: Config) -> Config:
    """The config without judgements, by which nothing is measured then."""
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"queries": None, "qrels": None})})


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
        parse_metrics([config.swap.gate.metric or judged.metric])
    return judged
