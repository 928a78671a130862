"""`Check`: the result of one check of `diptych doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diptych.errors import DiptychError

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found, and what to do about it."""

    name: str
    status: Status
    found: str
    do: str = ""


def failed(name: str, error: Exception) -> Check:
    """A failed check for an error."""
    text = str(error) if isinstance(error, DiptychError) else f"{type(error).__name__}: {error}"
    what, *rest = text.splitlines()
    return Check(name, "fail", what, "\n".join(line.strip() for line in rest))
