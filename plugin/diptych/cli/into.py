"""`diptych train --into`: checks the config before anything is trained, and puts the trained model into it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli.output import stderr
from diptych.cli.session import Session
from diptych.cli.swapping import say
from diptych.errors import ConfigError

if TYPE_CHECKING:
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


def put(report: TrainReport, config: Path, slot: str | None, model: str | None, session: Session) -> str:
    """Put a trained model into the config, whatever it was measured at; a doubt is said on standard error."""
    from diptych.training import register

    chosen = _chosen(report, model)
    written = register(config, chosen, session.registry, slot=slot)
    doubted = doubt(report) if chosen is report.models[0] else ""
    effect = f"{written} takes effect at once, without plan or apply: what opens {config} from now on reranks by it"
    for sentence in filter(None, [doubted, effect if at_once(written) else ""]):
        say(stderr(), sentence, "yellow")
    return written


def at_once(written: str) -> bool:
    """Whether what was changed is no slot, so that nothing has to be applied before it answers."""
    return written.startswith("search.")


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
