"""`Section`: the base class of the config's models, and the types that several of them use."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|[smhdw])\s*")


def duration(value: object) -> object:
    """The seconds of a duration such as `300ms`, `2s`, `5m`, `12h`, `30d` or `2w`; other types are unchanged.

    Raises:
        ValueError: text of another form.
    """
    if not isinstance(value, str):
        return value
    if (match := _DURATION.fullmatch(value)) is None:
        raise ValueError("a duration such as 300ms, 2s, 5m, 12h, 30d or 2w; a number counts seconds")
    return float(match[1]) * _UNITS[match[2]]


Duration = Annotated[float, BeforeValidator(duration, json_schema_input_type=float | str), Field(gt=0)]


class Section(BaseModel):
    """A part of the config: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def gather_options(raw: Any, section_keys: tuple[str, ...]) -> Any:
    """`raw` with all keys but `section_keys` moved under `options`; what is no mapping is left to pydantic."""
    nested = (raw.get("options") or {}) if isinstance(raw, dict) else None
    if not isinstance(nested, dict):
        return raw
    options = {key: value for key, value in raw.items() if key not in (*section_keys, "options")}
    return {**{key: raw[key] for key in section_keys if key in raw}, "options": {**nested, **options}}
