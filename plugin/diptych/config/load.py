"""Config files and mappings become a `Config`, and a changed file is written back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from diptych.config.models import Config, SlotConfig
from diptych.config.problems import Problem, Source, problems_of, raise_problems
from diptych.config.yaml_files import check_values, read_yaml
from diptych.errors import ConfigError

EMBEDDED = ("edge:", "local:")  # store URLs that end in a path


def load_config(path: str | Path = "diptych.yaml") -> Config:
    """The config in a YAML file, its relative paths taken from the file's folder.

    `${NAME}` is left as it stands; it is filled in where a value is used, so that secrets never travel in a config.

    Raises:
        ConfigError: the file cannot be read, or says something that no config may say; names file, line and key.
    """
    raw, source = read_yaml(path)
    return _config(raw, source)


def parse_config(raw: Mapping[str, Any]) -> Config:
    """The config that a mapping describes, its relative paths taken from the working directory.

    Raises:
        ConfigError: it says something that no config may say; names the key.
    """
    check_values(raw, Source())
    return _config(dict(raw), Source())


def replace_config(path: Path, text: str) -> None:
    """Replace a config file, whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_text(text, "utf-8")
        beside.replace(path)
    except OSError as error:
        raise ConfigError("cannot write the config", where=path, got=error.strerror or str(error)) from error


def _config(raw: dict[str, Any], source: Source) -> Config:
    problems: list[Problem] = []
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems = problems_of(error, Config, raw)
    raise_problems(problems, source)  # outside, so that no traceback quotes the values that pydantic saw
    resolved = resolve_paths(config, source.folder)
    resolved._source = source
    return resolved


# Makes relative paths in a config absolute, from the folder of the config file.


def resolve_paths(config: Config, folder: Path) -> Config:
    """`config` with absolute paths; relative ones start at `folder`."""
    files = {"queries": config.evaluate.queries, "qrels": config.evaluate.qrels}
    evaluate = config.evaluate.model_copy(
        update={name: _path(value, folder) for name, value in files.items() if value is not None}
    )
    rerank = [replace(stage, options=with_paths(stage.options, folder)) for stage in config.search.rerank]
    return config.model_copy(
        update={
            "store": _store(config.store, folder),
            "slots": {name: _slot(slot, folder) for name, slot in config.slots.items()},
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


def _slot(slot: SlotConfig, folder: Path) -> SlotConfig:
    own, query = slot.model_copy(update={"options": with_paths(slot.options, folder)}), slot.query
    if query is not None:
        paths = {"student": with_paths(query.student, folder), "options": with_paths(query.options, folder)}
        own = own.model_copy(update={"query": query.model_copy(update=paths)})
    return own


def with_paths(value: Any, folder: Path) -> Any:
    """The value with every text that looks like a path made absolute; other texts may be names."""
    if isinstance(value, str):
        return _path(value, folder) if value.startswith(("./", "../", "~/")) else value
    if isinstance(value, Mapping):
        return {key: with_paths(item, folder) for key, item in value.items()}
    return [with_paths(item, folder) for item in value] if isinstance(value, list) else value
