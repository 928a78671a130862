"""The folder of the embedding cache."""

from __future__ import annotations

import os
from pathlib import Path

from diptych.config.models import CacheConfig
from diptych.runtime.environment import interpolate

VARIABLE = "DIPTYCH_CACHE"
OFF = "off"


def cache_folder(config: CacheConfig) -> Path | None:
    """The folder: from DIPTYCH_CACHE, else the config, else the user's cache folder; None when the cache is off.

    Raises:
        ConfigError: `cache.path` refers to a variable that is not set.
    """
    variable = os.environ.get(VARIABLE, "")
    if variable.lower() == OFF or not config.enabled:
        return None
    path = variable or interpolate(config.path or "", where="cache.path")
    return Path(path).expanduser().absolute() if path else _of_the_user()


def make_folder(folder: Path) -> None:
    """Create the folder, readable only by the user: vectors reveal much about their texts.

    Raises:
        OSError: it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def _of_the_user() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("diptych", appauthor=False)
