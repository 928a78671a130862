"""Config files and mappings become a `Config`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from diptych.config.limits import check_values
from diptych.config.models import Config
from diptych.config.paths import resolve_paths
from diptych.config.problems import Problem, problems_of, raise_problems
from diptych.config.read_yaml import read_yaml
from diptych.config.source import Source


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


def _config(raw: dict[str, Any], source: Source) -> Config:
    problems: list[Problem] = []
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems = problems_of(error, Config, raw)
    raise_problems(problems, source)  # outside, so that no traceback quotes the values that pydantic saw
    return resolve_paths(config, source.folder).from_source(source)
