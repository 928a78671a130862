"""`Section`, the base class of the config's models, and types and checks that sections, stages and searches share."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from typing import Annotated, Any, TypeGuard

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from diptych.errors import SearchError, brief

# Strict where they stand: a stage that takes mappings, as configs have them, can itself not be strict.
Positive = Annotated[int, Field(ge=1, strict=True)]
MOST_CANDIDATES = 100_000  # of a stage; Qdrant reserves memory for them before it looks
Candidates = Annotated[int, Field(ge=1, le=MOST_CANDIDATES, strict=True)]
_MOST = 1e6  # weights and deviations beyond could make a score infinite
Factor = Annotated[float, Field(ge=-_MOST, le=_MOST, strict=True)]
Weight = Annotated[float, Field(ge=0, le=_MOST, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
_LARGEST_SCORE = 3.4e38  # Qdrant's scores are float32; a larger one would become infinite
Score = Annotated[float, Field(ge=-_LARGEST_SCORE, le=_LARGEST_SCORE)]
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|[smhdw])\s*")


def duration(value: object) -> object:
    """The seconds of a timedelta, or of text such as `300ms`, `2s`, `5m`, `12h`, `30d` or `2w`; others are unchanged.

    Raises:
        ValueError: text of another form.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if not isinstance(value, str):
        return value
    if value.isdecimal():
        raise ValueError(f"a unit: {value}ms or {value}s")
    if (match := _DURATION.fullmatch(value)) is None:
        raise ValueError("a duration such as 300ms, 2s, 5m, 12h, 30d or 2w; a number counts seconds")
    return float(match[1]) * _UNITS[match[2]]


Duration = Annotated[
    float, BeforeValidator(duration, json_schema_input_type=float | str), Field(ge=1e-6, le=1e15, strict=True)
]


class Section(BaseModel):
    """A part of the config: unknown keys are errors, no value is converted, such as `"60"` to 60, and none changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def fields_of(section: object) -> dict[str, FieldInfo]:
    """The fields of a class of sections by name; none for other types."""
    return getattr(section, "model_fields", None) or getattr(section, "__pydantic_fields__", {})


def gather_options(raw: Any, section_keys: tuple[str, ...]) -> Any:
    """`raw` with all keys but `section_keys` moved under `options`; what is no mapping is left to pydantic."""
    nested = (raw.get("options") or {}) if isinstance(raw, dict) else None
    if not isinstance(nested, dict):
        return raw
    options = {key: value for key, value in raw.items() if key not in (*section_keys, "options")}
    return {**{key: raw[key] for key in section_keys if key in raw}, "options": {**nested, **options}}


def require_count(what: str, value: object, where: str, most: int | None = None) -> None:
    """Raise SearchError unless `value` is an integer of at least 1, and at most `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SearchError(f"{what} is not a positive integer", where=where, got=brief(value), expected="1 or more")
    if most is not None and value > most:
        raise SearchError(f"{what} is too large", where=where, got=brief(value), expected=f"at most {most:,}")


def require_duration(what: str, value: object, where: str) -> float:
    """The seconds of a duration: a positive number, or text such as `300ms` or `30d`.

    Raises:
        SearchError: it is neither.
    """
    try:
        seconds = duration(value)
    except ValueError:
        seconds = None
    if not is_number(seconds) or seconds <= 0:
        expected = "seconds, or text such as 300ms, 2s, 12h, 30d; more than 0"
        do = f"add a unit: {value}ms or {value}s" if isinstance(value, str) and value.isdecimal() else ""
        raise SearchError(f"{what} is not a duration", where=where, got=brief(value), expected=expected, do=do)
    return float(seconds)


def is_number(value: object) -> TypeGuard[float]:
    """Whether the value is a number that a float can be."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
