"""`diptych train --into`: checks the config before anything is trained, and puts the trained model into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli.swap.swap_text import encoder_text, say
from diptych.cli.ui.output import stderr
from diptych.cli.ui.session import Session
from diptych.errors import ConfigError

if TYPE_CHECKING:
    from diptych.config import Config
    from diptych.protocols import Kind
    from diptych.training import Registration, TrainReport

BASELINES = {"first stage": "in the first stage's order", "before": "before training"}  # the first that was measured

REFUSED = (
    "until diptych apply has made the vectors anew, whatever opens {config} to search is refused, since another "
    "encoder made the vectors; what has it open goes on"
)


def check(into: Path | None, kind: Kind | None, slot: str | None, session: Session) -> None:
    """Refuse, before anything is done, a config that the model cannot go into; kind None is not known yet."""
    from diptych.config import check_adapters, load_config
    from diptych.training import slot_for

    if into and kind:
        slot_for(into, kind, session.registry, slot=slot)
    elif into:
        check_adapters(load_config(into), session.registry)


def put(report: TrainReport, config: Path, slot: str | None, model: str | None, session: Session) -> Change:
    """Put a trained model into the config, whatever it was measured at; a doubt is said on standard error."""
    from diptych.config import load_config
    from diptych.training import register

    chosen, before = _chosen(report, model), load_config(config)
    place = register(config, chosen, session.registry, slot=slot)
    change = Change(place, _encoder(before, place), _encoder(load_config(config), place))
    doubted = doubt(report) if chosen is report.models[0] else ""
    effect = f"{place} takes effect at once, without plan or apply: what opens {config} from now on reranks by it"
    for sentence in filter(None, [doubted, effect if change.at_once else ""]):
        say(stderr(), sentence, "yellow")
    return change


@dataclass(frozen=True, slots=True)
class Change:
    """What became what in a config, written as `slots.lexical (bm25 -> splade, model: ./runs/x)`.

    Args:
        place: such as `slots.dense`.
        before, after: adapter and options, without secrets; "nothing" where none stood.
    """

    place: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.place} ({self.before} -> {self.after})"

    @property
    def at_once(self) -> bool:
        """Whether it is no slot, so that nothing has to be applied before it answers."""
        return self.place.startswith("search.")


def _encoder(config: Config, place: str) -> str:
    """Adapter and options at a place of the config."""
    stages = config.search.rerank
    found = config.slots.get(place.removeprefix("slots.")) or (stages[0] if stages and "[0]" in place else None)
    return encoder_text(found.adapter, found.options) if found else "nothing"


def doubt(report: TrainReport) -> str:
    """That the held-out queries do not speak for the main model; empty where they do, or where there were none."""
    metric, measured = report.chosen_by, report.measured
    baseline = next((name for name in BASELINES if metric in measured.get(name, {})), None)
    after = measured.get("after", {}).get(metric)
    if baseline is None or after is None or after > measured[baseline][metric]:
        return ""
    values = f"{metric} is {after:.4f} after training and {measured[baseline][metric]:.4f} {BASELINES[baseline]}"
    return f"warning: the held-out queries do not say that it got better: {values}"


def _chosen(report: TrainReport, name: str | None) -> Registration:
    for found in report.models:
        if name is None or found.name == name:
            return found
    names = ", ".join(found.name or "(the main one)" for found in report.models)
    raise ConfigError(f"the training made no model {name!r}", where="--model", expected=names)
