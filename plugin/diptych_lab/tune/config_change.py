"""`config_change`: a config file with a tuned pipeline, as a diff and as a whole, not yet written."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

from diptych.config.load import replace_config
from diptych.config.models import SearchConfig
from diptych.config.secrets import redacted
from diptych.config.spliced import as_yaml, changed_entries, read_lines, spliced
from diptych.config.written import plain_values, yaml_of
from diptych.registry import Registry
from diptych_lab.tune.search_report import SearchReport

KEYS = ("retrieve", "fuse", "rescore", "params", "rerank")  # of the search section, which the tuner sets
_USER = re.compile(r"//[^/\s]*@")  # of an address, with a password


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """The changed config file: the keys that are set or removed, the diff of what is tuned, and the whole text.

    `diff` has the sections in one style. `patch` has the lines of the file, so that `patch` applies it; it is empty
    where it might show a secret.
    """

    keys: str = ""
    diff: str = ""
    text: str = ""
    patch: str = ""


def config_change(config: Path, found: SearchReport, registry: Registry, *, row: int | None = None) -> ConfigChange:
    """The config file with a tuned pipeline, not yet written; comments and everything else stay.

    Args:
        config: the file.
        found: what the tuner found for the collection of this config.
        registry: where the adapters that it names come from.
        row: the pipeline's place in `found.rows`; the chosen one's unless given.

    Raises:
        ConfigError: the file cannot be read, or would not be valid.
    """

    def edit(raw: Any) -> str:
        raw["search"], keys = _tuned(raw.get("search") or {}, found, found.chosen if row is None else row)
        return keys

    return edited(config, registry, edit, ("search",))


def search_change(search: SearchConfig, found: SearchReport, *, row: int | None = None) -> ConfigChange:
    """As `config_change`, for search settings that no file holds, such as those a collection stores."""
    before = search.model_dump(mode="json", exclude_defaults=True)
    after, keys = _tuned(copy.deepcopy(before), found, found.chosen if row is None else row)
    old, new = (_lines({"search": section}, ("search",)) for section in (before, after))
    diff = unified_diff(old, new, "search settings of the collection", "search settings, tuned", lineterm="")
    return ConfigChange(keys, "\n".join(diff), "\n".join([*new, ""]))


def edited(config: Path, registry: Registry, edit: Callable[[Any], str], sections: Sequence[str]) -> ConfigChange:
    """The config file after `edit`, which changes its mapping and names what it set; not yet written.

    Raises:
        ConfigError: the file cannot be read, or would not be valid.
    """
    from diptych.config.adapters import check_text

    source = config.read_text("utf-8-sig")
    raw = read_lines(source)
    before = _lines(raw, sections)
    may_show = redacted(raw) == raw and not _USER.search(source)
    keys, text = edit(raw), as_yaml(raw, source)
    check_text(text, registry)
    diff = unified_diff(before, _lines(raw, sections), config.name, f"{config.name}, tuned", lineterm="")
    whole = spliced(source, text, changed_entries(plain_values(source), plain_values(text), sections))
    return ConfigChange(keys, "\n".join(diff), whole, _patch(config.name, source, whole) if may_show else "")


def write_config(config: Path, change: ConfigChange) -> None:
    """Put the change into the config file.

    Raises:
        ConfigError: the file cannot be written.
    """
    replace_config(config, change.text)


def _lines(raw: Mapping[str, Any], sections: Sequence[str]) -> list[str]:
    """These sections as lines, in one style and without secrets, so that a diff shows what a change means."""
    return yaml_of({name: redacted(raw.get(name) or {}) for name in sections}).splitlines()


def _patch(name: str, source: str, text: str) -> str:
    """A patch that makes `text` of the file's text."""
    if not source.endswith("\n"):
        return ""  # a patch would need a remark on the last line, which copying easily loses
    old, new = source.split("\n")[:-1], text.split("\n")[:-1]
    patch = "\n".join(unified_diff(old, new, name, name, lineterm=""))
    return f"{patch}\n" if patch else ""


def _tuned(section: Any, found: SearchReport, row: int) -> tuple[Any, str]:
    """The search section with the pipeline of a row, and the keys that are set or removed; changes `section`."""
    wanted, before = found.rows[row].config(), list(section)
    if found.rerankers and "rerank" in wanted:
        wanted["rerank"] = _rerankers(section.get("rerank") or [], found, row)
    for key in KEYS:
        if key in wanted and section.get(key) != wanted[key]:  # what is the same keeps its style
            section[key] = wanted[key]
        elif key not in wanted and key != "params" and (key != "rerank" or found.rerankers):
            section.pop(key, None)
    removed = [f"search.{key} (removed)" for key in before if key not in section]
    return section, ", ".join([*(f"search.{key}" for key in wanted), *removed])


def _rerankers(stages: Sequence[Any], found: SearchReport, row: int) -> list[Any]:
    """The config's own stages that the pipeline of a row has, with its candidates and weights; their options stay."""
    configured = found.rows[found.present].pipeline.rerank
    places = {repr((stage.adapter, stage.options)): place for place, stage in enumerate(configured)}
    kept = []
    for stage, settings in zip(found.rows[row].pipeline.rerank, found.rows[row].config()["rerank"], strict=True):
        own = stages[places[repr((stage.adapter, stage.options))]]
        for key in ("weight", "early_exit", "explore"):
            own.pop(key, None)
        own.update(settings)
        kept.append(own)
    return kept
