"""The result of `tune_search`: a row for each trial, what is chosen, and a verdict in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import unified_diff
from pathlib import Path
from typing import Any

from qdrant_client import models

from diptych.config import SearchParams
from diptych.config.load import as_yaml, read_lines, replace_config, yaml_of
from diptych.config.problems import redacted
from diptych.config.section import fields_of
from diptych.display import Display, Displayed, Table, differences
from diptych.registry import Registry
from diptych.search import Pipeline, Rerank, Stage
from diptych_lab.tune.trials import CONFIDENCE, LEAST, LEGEND, Against, mark

KEYS = ("retrieve", "fuse", "rescore", "params", "rerank")  # of the search section, which the tuner sets
SAID = ("kind", "slot", "candidates", "adapter", "k", "normalize")  # values of a stage that are always written
SHOWN = 12  # rows of a table, beside those that are marked


@dataclass(frozen=True, slots=True)
class SearchRow:
    """One pipeline that was tried.

    Args:
        pipeline: the stages.
        value: mean nDCG@10 over all queries; `error` is its standard error.
        milliseconds: median time of a query, encoding included; rows whose requests have the same shape share it.
        front: whether no row is both better and faster.
    """

    pipeline: Pipeline
    value: float
    error: float
    milliseconds: float
    front: bool = False

    @property
    def name(self) -> str:
        """The pipeline in short: `dense 100 + lexical 100 >> Rrf(k=60)`, without options that may hold a secret."""
        pipeline = self.pipeline
        # One slot alone returns as many hits as a search asks for.
        branches = (f"{own.slot} {own.candidates}" if pipeline.stages else own.slot for own in pipeline.retrieve)
        params = params_text(pipeline.retrieve[0].params)
        stages = (
            replace(stage, options=redacted(stage.options)) if isinstance(stage, Rerank) else stage
            for stage in pipeline.stages
        )
        return " >> ".join([" + ".join(branches) + (f" ({params})" if params else ""), *map(repr, stages)])

    def config(self) -> dict[str, Any]:
        """The keys of the config's `search` section that describe it, without the options of rerankers."""
        section: dict[str, Any] = {"retrieve": {branch.slot: branch.candidates for branch in self.pipeline.retrieve}}
        for name in ("fuse", "rescore"):
            if (stage := getattr(self.pipeline, name)) is not None:
                section[name] = stage_section(stage)
        if (params := self.pipeline.retrieve[0].params) is not None:
            flat = params.model_dump(exclude_none=True)
            flat |= flat.pop("quantization", {})
            section["params"] = {key: value for key, value in flat.items() if key in SearchParams.model_fields}
        if self.pipeline.rerank:
            section["rerank"] = [{**stage_section(stage), "adapter": stage.label} for stage in self.pipeline.rerank]
        return section


@dataclass(frozen=True, slots=True)
class SearchReport(Displayed):
    """What `tune_search` found.

    Args:
        collection: its name.
        queries: judged ones that have a relevant document.
        rows: one for each pipeline; the last is the present one.
        present, chosen, tuned: places of the present pipeline, of the recommended one, and of the rule's choice before
            the gate.
        passed: whether the gate lets the tuned one replace the present one.
        gains: of the choice on queries that did not choose it.
        seconds, calls, pairs: time, requests to the store, and pairs that rerankers scored.
        fits: whether the present pipeline is within the budget.
        rerankers: those that were tried.
        left_out: rerankers that were not tried, because their scores depend on the other candidates, or on
            which slots' passages they read.
    """

    collection: str
    queries: int
    rows: tuple[SearchRow, ...]
    present: int
    chosen: int
    tuned: int
    passed: bool
    gains: tuple[Against, ...]
    seconds: float
    calls: int
    pairs: int = 0
    fits: bool = True
    rerankers: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if self.queries < LEAST:
            more = f"at least {LEAST - self.queries} more are needed, {50 - self.queries} more are better"
            return f"{self.queries} judged queries are too few to choose by: {more}"
        if self.tuned == self.present:
            return "nothing simpler or better than the present pipeline was found: it stays"
        gain = self.gains[0]
        change = f"gains {gain.mean:+z.4f}" if gain.mean > 0 else f"loses {-gain.mean:.4f}"
        figures = (
            f"searching {self.rows[self.tuned].name}, {change} nDCG@10 on held-out queries, "
            f"{CONFIDENCE:.0%} interval [{gain.low:+z.4f}, {gain.high:+z.4f}]"
        )
        if self.passed and not self.fits:
            return f"{figures}: the best within the budget, which the present pipeline exceeds"
        if self.passed:
            return f"{figures}: it is better than the present pipeline"
        if gain.mean <= 0:
            return f"{figures}: the present pipeline stays"
        unclear = next((gain_over for gain_over in self.gains if gain_over.low <= 0), gain)
        more = f"; {self.more(unclear)} if the gain stays" if unclear.needed else ""
        return f"{figures}: not shown to be better than {unclear.name}, so the present pipeline stays{more}"

    def display(self) -> Display:
        """The verdict, the held-out gains, and the best pipelines."""
        rows, singles = self.rows, {n for n, row in enumerate(self.rows) if not row.pipeline.stages}
        best = sorted(range(len(rows)), key=lambda n: -rows[n].value)
        marked = {*best[:SHOWN], *singles, self.present, self.tuned, self.chosen}
        listed = [
            (
                mark(front=rows[n].front, chosen=n == self.chosen != self.present, present=n == self.present),
                rows[n].name,
                *(f"{rows[n].value:.4f}", f"{rows[n].error:.4f}", f"{rows[n].milliseconds:.2f}"),
            )
            for n in best
            if n in marked
        ]
        columns = ("", "pipeline", "nDCG@10", "±", "ms")
        cells = differences([(gain.mean, gain.low, gain.high) for gain in self.gains])
        gains = [(gain.name, *own, self.more(gain)) for gain, own in zip(self.gains, cells, strict=True)]
        held_out = Table(("gain over", "nDCG@10", f"{CONFIDENCE:.0%} interval", ""), gains, numbers=(1, 2))
        why = "its scores depend on the other candidates, or on whose passages it reads (read: document reads none)"
        scored = f", {self.pairs:,} pairs scored by rerankers" if self.rerankers else ""
        return Display(
            self.verdict,
            [
                f"{self.collection}: {len(rows)} pipelines tried on {self.queries} queries",
                *([held_out] if gains else []),
                Table(columns, listed, numbers=range(2, 5)),
                LEGEND,
                *(f"{name} is left out: {why}, so they cannot be computed once" for name in self.left_out),
                f"{self.seconds:.1f} s, {self.calls:,} searches{scored}",
            ],
            mood="good" if self.passed and self.chosen != self.present else "neutral",
        )

    def more(self, gain: Against) -> str:
        """How many queries would show a gain that is not shown yet; empty if there is none or it is shown."""
        if gain.needed is None:
            return ""
        return f"about {gain.needed} queries, {gain.needed - self.queries} more than now, would show it"


def params_text(params: models.SearchParams | None) -> str:
    """The parameters of the approximate search in a few words, such as `ef 64, rescore x2`; empty without any."""
    if params is None:
        return ""
    shown = [f"ef {params.hnsw_ef}"] if params.hnsw_ef else []
    if params.exact:
        shown.append("exact")
    if params.quantization:
        quantization = params.quantization
        shown.append("no rescore" if quantization.rescore is False else f"rescore x{quantization.oversampling or 1:g}")
    return ", ".join(shown)


def stage_section(stage: Stage) -> dict[str, Any]:
    """The stage as a section of a config: what says which it is, and what differs from the default; no options."""
    facts, values = fields_of(type(stage)), asdict(stage)
    kept = [n for n in facts if n in SAID or values[n] != facts[n].get_default(call_default_factory=True)]
    return {name: values[name] for name in sorted(kept, key="kind".__ne__) if name != "options"}


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """The changed config file: the keys that are set or removed, the diff in one style, and the whole text."""

    keys: str = ""
    diff: str = ""
    text: str = ""


def config_change(config: Path, found: SearchReport, registry: Registry) -> ConfigChange:
    """The config file with the chosen pipeline, not yet written; comments and everything else stay.

    Args:
        config: the file.
        found: what the tuner found for the collection of this config.
        registry: where the adapters that it names come from.

    Raises:
        ConfigError: the file cannot be read, or would not be valid.
    """

    def edit(raw: Any) -> str:
        raw["search"], keys = _tuned(raw.get("search") or {}, found)
        return keys

    return edited(config, registry, edit, ("search",))


def edited(config: Path, registry: Registry, edit: Callable[[Any], str], sections: Sequence[str]) -> ConfigChange:
    """The config file after `edit`, which changes its mapping and names what it set; not yet written.

    Raises:
        ConfigError: the file cannot be read, or would not be valid.
    """
    from diptych.config.adapters import check_text

    source = config.read_text("utf-8-sig")
    raw = read_lines(source)
    before = _lines(raw, sections)
    keys, text = edit(raw), as_yaml(raw)
    check_text(text, registry)
    diff = unified_diff(before, _lines(raw, sections), config.name, f"{config.name}, tuned", lineterm="")
    return ConfigChange(keys, "\n".join(diff), text)


def write_config(config: Path, change: ConfigChange) -> None:
    """Put the change into the config file.

    Raises:
        ConfigError: the file cannot be written.
    """
    replace_config(config, change.text)


def _lines(raw: Mapping[str, Any], sections: Sequence[str]) -> list[str]:
    """These sections as lines, in one style and without secrets, so that a diff shows what a change means."""
    return yaml_of({name: redacted(raw.get(name) or {}) for name in sections}).splitlines()


def _tuned(section: Any, found: SearchReport) -> tuple[Any, str]:
    """The search section with the chosen pipeline, and the keys that are set or removed; changes `section`."""
    wanted, before = found.rows[found.chosen].config(), list(section)
    if found.rerankers and "rerank" in wanted:
        wanted["rerank"] = _rerankers(section.get("rerank") or [], found)
    for key in KEYS:
        if key in wanted and section.get(key) != wanted[key]:  # what is the same keeps its style
            section[key] = wanted[key]
        elif key not in wanted and key != "params" and (key != "rerank" or found.rerankers):
            section.pop(key, None)
    removed = [f"search.{key} (removed)" for key in before if key not in section]
    return section, ", ".join([*(f"search.{key}" for key in wanted), *removed])


def _rerankers(stages: Sequence[Any], found: SearchReport) -> list[Any]:
    """The config's own stages that the chosen pipeline has, with its candidates and weights; their options stay."""
    configured = found.rows[found.present].pipeline.rerank
    places = {repr((stage.adapter, stage.options)): place for place, stage in enumerate(configured)}
    kept, chosen = [], found.rows[found.chosen]
    for stage, settings in zip(chosen.pipeline.rerank, chosen.config()["rerank"], strict=True):
        own = stages[places[repr((stage.adapter, stage.options))]]
        for key in ("weight", "early_exit"):
            own.pop(key, None)
        own.update(settings)
        kept.append(own)
    return kept
