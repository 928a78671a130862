"""Texts for the steps of a plan, on the command line and in notebooks."""

from __future__ import annotations

from collections.abc import Iterator

from diptych.runtime.amounts import size
from diptych.swap.changes import ENCODES
from diptych.swap.plan import UNCHANGED, Plan, Step
from diptych.swap.query_override import describe

ACTIONS = {  # in the words of docs/swap.md; the keys are what `plan --json` and notebooks have always said
    "add": "add",
    "drop": "drop",
    "re-encode": "re-encode",
    "recalibrate": "recalibrate",
    "reuse": "use kept vectors",
    "re-prompt": "queries only",
    "storage": "storage only",
    "numerics": "settings only",
    "keep": "as it is",
}
SEARCH = "search: programs that open this config use these settings already, all others after diptych apply"


def change_of(step: Step) -> str:
    """What happens to the slot, in a word or three."""
    return "fill gaps" if step.action == "keep" and step.encode else ACTIONS[step.action]


def details(planned: Plan) -> Iterator[str]:
    """What differs, and what was measured of the new encoders' queries."""
    for step in planned.steps:
        if step.encode and step.action not in ENCODES:
            yield f"{step.slot}: {step.encode:,} documents have no vector yet and get one"
        if step.why:
            yield f"{step.slot}: {step.why}"
        if step.passages is not None:
            total = step.passages * step.encode
            yield f"{step.slot}: about {step.passages:,.1f} passages a document, {total:,.0f} in all"
        if step.reduced is not None:
            whole, kept = step.reduced
            sizes = f"{size(step.disk)} in place of {size(int(step.disk * whole / kept))}"
            yield f"{step.slot}: about {kept:,.1f} of {whole:,.1f} vectors of a document are kept, {sizes}"
        if step.unread and step.unread.longer:
            yield f"{step.slot}: {step.unread}"
        if step.action == "numerics" and step.likeness is not None:
            yield f"{step.slot}: canaries encode as before, lowest cosine {step.likeness:.5f}"
        if step.query_side is not None:
            yield f"{step.slot}: {describe(step.query_side)}{_to_do(step)}"
    if planned.search:
        yield planned.search_why or "search: the collection has no stored search settings yet"
        if not planned.under_way and all(step.action in UNCHANGED for step in planned.steps):
            yield SEARCH  # with any other change, opening the config is refused, or searches use the stored settings


def _to_do(step: Step) -> str:
    """Advice from the measurement, for slots that are re-encoded."""
    if step.query_side is None or step.action == "numerics":
        return ""
    if step.query_side.low > 0:
        return "; diptych apply --switch-queries lets the new one encode queries at once"
    return "; the old one encodes queries until the new vectors are ready, then the gate compares both"
