"""Loads the packages that only evaluation needs, when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from diptych.errors import MissingExtra


def load(module: str, *, purpose: str) -> Any:
    """The imported `module`; `Any`, since these packages carry no types.

    Raises:
        MissingExtra: its distribution is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{purpose} needs the package {module.partition('.')[0]}",
            got=str(error),
            do="pip install 'diptych[eval]'",
        ) from error
