"""`diptych cache`: what the embedding cache holds, and emptying it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.ui.options import CONFIG, ConfigOption, JsonOption
from diptych.cli.ui.output import printable, stdout, table, warn, write_json
from diptych.cli.ui.run_command import FAILED

if TYPE_CHECKING:
    from diptych.slots.cache import EmbeddingCache, Usage


class Action(StrEnum):
    """What to do with the cache."""

    INFO = "info"
    CLEAR = "clear"


def cache(
    context: typer.Context,
    action: Annotated[Action, typer.Argument(metavar="ACTION", help="info, or clear to empty it.")] = Action.INFO,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show the embedding cache of this machine, or empty it.

    Populate and apply store document vectors there, so that no text is encoded twice with the same encoder.

    [dim]Examples:[/dim]

      diptych cache

      diptych cache clear

      DIPTYCH_CACHE=/mnt/big/diptych diptych cache
    """
    opened = _opened(config)
    if opened is None:
        return write_json({"path": None}) if as_json else stdout().print("the embedding cache is off")
    with opened:
        usages = opened.usage() if opened.path.exists() else []
        size = opened.size() if usages else 0
        if action is Action.CLEAR and opened.path.exists():
            opened.clear()
        if warnings := opened.take_warnings():
            warn(warnings)
            raise typer.Exit(FAILED)
    if as_json:
        return write_json({"path": str(opened.path), "limit": opened.limit, "size": size, "spaces": usages})
    return _show(opened, usages, size, cleared=action is Action.CLEAR)


def _opened(path: Path) -> EmbeddingCache | None:
    """The cache that the config names; without a config file that of everybody."""
    from diptych.config import load_config
    from diptych.config.models import CacheConfig
    from diptych.slots.cache import EmbeddingCache

    is_named = path.exists() or path != CONFIG
    return EmbeddingCache.open(load_config(path).cache if is_named else CacheConfig())


def _show(opened: EmbeddingCache, usages: list[Usage], size: int, *, cleared: bool) -> None:
    console = stdout()
    entries = sum(usage.entries for usage in usages)
    if cleared:
        return console.print(f"{opened.path}: {entries:,} vectors dropped", soft_wrap=True)
    console.print(f"{opened.path}: {_megabytes(size)} of {_megabytes(opened.limit)}", style="bold", soft_wrap=True)
    if usages:
        rows = table("vectors", "size", "space")
        for usage in usages:
            rows.add_row(f"{usage.entries:,}", _megabytes(usage.size), printable(usage.space))
        console.print(rows)
    return None


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
