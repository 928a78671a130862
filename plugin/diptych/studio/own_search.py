"""Reads the `search` section that a user of Studio writes, and refuses what a page may not ask of a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from diptych.config.locations import Source
from diptych.config.models import RerankStage, SearchConfig
from diptych.config.pipeline import pipeline_problems
from diptych.config.problems import Problem, problems_of, raise_problems
from diptych.config.read_yaml import Sort, parse_yaml
from diptych.config.size_limits import check_values
from diptych.errors import ConfigError
from diptych.service.error_answers import Refused
from diptych.slots.slot import Slot

MOST_CANDIDATES, MOST_RERANKED = 10_000, 1000
_NAME, _SORT = Path("pipeline"), Sort("pipeline", "write a search section, such as retrieve: {dense: 100}")


class _Section(BaseModel):
    """A config of one section."""

    model_config = ConfigDict(extra="forbid")

    search: SearchConfig


def own_search(text: str, live: SearchConfig, slots: Mapping[str, Slot]) -> SearchConfig:
    """The settings that a `search` section says, with or without its heading.

    Rerankers can only be those of the live settings: others would be code and addresses that the server is made to
    load by whoever sees the page.

    Args:
        text: YAML.
        live: the collection's own settings.
        slots: the collection's.

    Raises:
        Refused: it is no such section, or asks too much of the server; with the line.
    """
    try:
        return _read(text, live, slots)
    except ConfigError as error:
        raise Refused(400, str(error), code="config_error", param="side.yaml") from None


def _read(text: str, live: SearchConfig, slots: Mapping[str, Slot]) -> SearchConfig:
    raw, source = parse_yaml(text, _NAME, _SORT) if text.strip() else ({}, Source(_NAME))
    if "search" not in raw:
        raw, source = {"search": raw}, Source(_NAME, {("search", *key): line for key, line in source.lines.items()})
        check_values(raw, source)
    problems: list[Problem] = []
    try:
        found = _Section.model_validate(raw).search
    except ValidationError as error:
        problems = problems_of(error, _Section, raw)
    raise_problems(problems, source)
    raise_problems([*pipeline_problems(found, slots), *_too_much(found), *_other_rerankers(found, live)], source)
    rerank = [_with_options(stage, live) for stage in found.rerank]
    # What the server remembers is not for a page to say.
    return found.model_copy(update={"rerank": rerank, "remember": live.remember})


def _too_much(search: SearchConfig) -> Iterator[Problem]:
    widths: list[tuple[tuple[Any, ...], int, int]] = [
        (("search", "retrieve", name), width, MOST_CANDIDATES) for name, width in search.retrieve.items()
    ]
    if search.rescore:
        widths.append((("search", "rescore", "candidates"), search.rescore.candidates, MOST_CANDIDATES))
    if search.diversify:
        widths.append((("search", "diversify", "candidates"), search.diversify.candidates, MOST_CANDIDATES))
    for place, stage in enumerate(search.rerank):
        widths.append((("search", "rerank", place), max(stage.candidates, stage.passes_on), MOST_RERANKED))
    for location, width, most in widths:
        if width > most:
            yield Problem(location, "more candidates than Studio asks a server for", str(width), f"at most {most}")


def _other_rerankers(search: SearchConfig, live: SearchConfig) -> Iterator[Problem]:
    known = ", ".join(dict.fromkeys(stage.adapter for stage in live.rerank)) or "none: its config has no reranker"
    for place, stage in enumerate(search.rerank):
        if not any(_is_same(stage, own) for own in live.rerank):
            what = "Studio runs only the rerankers of the collection's own pipeline, with their options"
            do = "put another one into the config, diptych.yaml, to try it"
            yield Problem(("search", "rerank", place), what, got=stage.adapter, expected=known, do=do)


def _is_same(stage: RerankStage, own: RerankStage) -> bool:
    """Whether it is this reranker; its options may be left out, or be written as they are there."""
    return stage.adapter == own.adapter and (not stage.options or stage.options == own.options)


def _with_options(stage: RerankStage, live: SearchConfig) -> RerankStage:
    own = next(own for own in live.rerank if _is_same(stage, own))
    return stage.model_copy(update={"options": own.options})
