"""Makes relative paths in a config absolute, from the folder of the config file.

| where | what counts as a path |
|---|---|
| `store: edge:PATH` | PATH, unless it starts with `${` |
| `evaluate.queries`, `evaluate.qrels`, `cache.path` | the whole value |
| options of adapters and rerankers | a value that starts with `./`, `../` or `~/`; others may be names |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.config.models import Config, RerankStage, SlotConfig

EMBEDDED = ("edge:", "local:")  # store URLs that end in a path


def resolve_paths(config: Config, folder: Path) -> Config:
    """`config` with absolute paths; relative ones start at `folder`."""
    files = {"queries": config.evaluate.queries, "qrels": config.evaluate.qrels}
    evaluate = config.evaluate.model_copy(
        update={name: _path(value, folder) for name, value in files.items() if value is not None}
    )
    rerank = [_with_options(stage, folder) for stage in config.search.rerank]
    return config.model_copy(
        update={
            "store": _store(config.store, folder),
            "slots": {name: _with_options(slot, folder) for name, slot in config.slots.items()},
            "search": config.search.model_copy(update={"rerank": rerank}),
            "evaluate": evaluate,
            "cache": config.cache.model_copy(update={"path": config.cache.path and _path(config.cache.path, folder)}),
        }
    )


def _store(url: str | tuple[str, ...], folder: Path) -> str | tuple[str, ...]:
    if not isinstance(url, str):
        return url  # nodes of a server
    scheme, colon, path = url.partition(":")
    return f"{scheme}:{_path(path, folder)}" if path and scheme + colon in EMBEDDED else url


def _path(value: str, folder: Path) -> str:
    return value if value.startswith("${") else str((folder / Path(value).expanduser()).resolve())


def _with_options(section: Any, folder: Path) -> SlotConfig | RerankStage:
    return section.model_copy(update={"options": _options(section.options, folder)})  # type: ignore[no-any-return]


def _options(value: Any, folder: Path) -> Any:
    if isinstance(value, str):
        return _path(value, folder) if value.startswith(("./", "../", "~/")) else value
    if isinstance(value, Mapping):
        return {key: _options(item, folder) for key, item in value.items()}
    return [_options(item, folder) for item in value] if isinstance(value, list) else value
