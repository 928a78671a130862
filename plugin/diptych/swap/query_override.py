"""Measures whether the new encoder's queries already do better on the old vectors, and switches to them.

This often works for close relatives, such as a model and its fine-tuned child: queries can change at once while the
back-fill goes on. It is measured, never assumed, done only on request, and reported.
"""

from __future__ import annotations

from diptych.config.models import GateConfig, SearchConfig
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.models import CollectionMetadata, Generation, QueryEncoder, State
from diptych.slots import guard
from diptych.swap.gate.judged import Judged, JudgedComparison, compare_judged
from diptych.swap.transitions import switched_queries, write

CANDIDATES = 100


def comparable(old: Generation, new: Generation) -> bool:
    """Whether the new encoder's queries can search the old vectors at all."""
    if guard.takes_text_queries(old) and not guard.takes_text_queries(new):
        return False  # queries of words would go unanswered
    same = (old.kind, old.dimension, old.similarity) == (new.kind, new.dimension, new.similarity)
    return same and old.kind == "dense"


def query_side(
    handle: CollectionHandle,
    metadata: CollectionMetadata,
    slot: str,
    new: Generation,
    judged: Judged,
    config: GateConfig,
) -> JudgedComparison:
    """The old and the new encoder's queries on the old vectors of one slot, compared by judgements.

    `low > 0` says that the new encoder's do better.

    Raises:
        RegistryError, FingerprintMismatch: an encoder cannot be loaded.
        EvaluationError, MissingExtra: an unknown metric, or ir-measures is not installed.
    """
    # The slot alone: fused with other slots or reranked, a difference between its query encoders would be diluted.
    alone = SearchConfig(retrieve={slot: CANDIDATES})
    old = State(slots=metadata.live.slots)
    switched = State(slots=metadata.live.slots, asking={slot: QueryEncoder(generation=new)})
    return compare_judged(handle.at(old, metadata, alone), handle.at(switched, metadata, alone), judged, config)


def switch(handle: CollectionHandle, slot: str, new: Generation, comparison: JudgedComparison) -> CollectionMetadata:
    """Encode queries with the new encoder from now on, on the old vectors, since it was shown to do better."""
    metadata = handle.read()  # again: the comparison took a while, and others may have written meanwhile
    after = switched_queries(metadata, slot, QueryEncoder(generation=new, why=describe(comparison)))
    write(handle.client, handle.name, metadata, after)
    handle.install(after)
    return after


def query_encoders(live: State) -> dict[str, str]:
    """For each slot with another query encoder: which one, and why."""
    return {slot: f"queries by {named(asking.generation)}: {asking.why}" for slot, asking in live.asking.items()}


def named(generation: Generation) -> str:
    """Its adapter and, where it has one, its model."""
    return f"{generation.adapter} {generation.options.get('model', '')}".strip()


def describe(comparison: JudgedComparison) -> str:
    """The measurement in a line."""
    return (
        f"on the existing vectors, {comparison.metric} is {comparison.old:.3f} with queries by the old encoder and "
        f"{comparison.new:.3f} with queries by the new one (difference {comparison.difference:+z.3f} "
        f"[{comparison.low:+z.3f}, {comparison.high:+z.3f}], {comparison.queries} queries)"
    )
