"""Checks that the parts of a search pipeline fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from diptych.config.problems import Problem, nearest
from diptych.config.source import Location

if TYPE_CHECKING:
    from diptych.config.models import Config


def pipeline_problems(config: Config) -> list[Problem]:
    """What does not fit: slots that do not exist, weights of slots that are not retrieved, stages that widen."""
    return [*_unknown_slots(config), *_weights(config), *_cascade(config), *_limit(config)]


def _unknown_slots(config: Config) -> Iterator[Problem]:
    search = config.search
    named: list[tuple[Location, str]] = [(("search", "retrieve", name), name) for name in search.retrieve]
    if search.rescore:
        named.append((("search", "rescore", "slot"), search.rescore.slot))
    if search.diversify:
        named.append((("search", "diversify", "slot"), search.diversify.slot))
    for location, name in named:
        if name not in config.slots:
            do = nearest(name, config.slots) or "define it under slots"
            yield Problem(location, f"there is no slot {name!r}", expected=", ".join(config.slots), do=do)


def _weights(config: Config) -> Iterator[Problem]:
    retrieved = config.search.retrieved(config.slots)
    for name in getattr(config.search.fuse, "weights", {}):
        if name not in retrieved:
            location = ("search", "fuse", "weights", name)
            what = f"a weight for {name!r}, which is not retrieved"
            yield Problem(location, what, expected=", ".join(retrieved), do=f"add {name!r} to search.retrieve")


def _cascade(config: Config) -> Iterator[Problem]:
    for n, (before, after) in enumerate(pairwise(config.search.rerank), 1):
        if after.candidates > before.candidates:
            yield Problem(
                ("search", "rerank", n, "candidates"),
                "a reranker asks for more candidates than the one before it passes on",
                got=str(after.candidates),
                expected=f"at most {before.candidates}",
            )


def _limit(config: Config) -> Iterator[Problem]:
    """More hits than the last stage passes on; a slot alone gives as many as are asked for."""
    search = config.search
    last = search.rerank[-1] if search.rerank else search.diversify or search.rescore
    retrieved = search.retrieved(config.slots)
    depth = last.candidates if last else sum(retrieved.values()) if len(retrieved) > 1 else search.limit
    if search.limit > depth and "limit" in search.model_fields_set:
        do = "raise the candidates of the last stage, or lower the limit"
        expected = f"at most {depth}, what the last stage passes on"
        yield Problem(("search", "limit"), "the limit can never be reached", str(search.limit), expected, do)
