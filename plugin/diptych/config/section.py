"""What every part of the config is."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]


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
