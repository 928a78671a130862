"""`Studio`: what the routes of Studio share beside the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Studio:
    """What Studio may read and write.

    Args:
        queries: folders with judged queries.
        judgements: the file that judging saves to; None where nobody may judge.
        writes: whether a rollback may be asked for.
        opened: by collection, the arguments of `Collection.open` that a user of this machine would write.
    """

    queries: tuple[Path, ...] = ()
    judgements: Path | None = None
    writes: bool = False
    opened: Mapping[str, str] = field(default_factory=dict)

    def close(self) -> None:
        """End what was begun, before the collections are closed."""

    @classmethod
    def of(cls, request: Request) -> Studio:
        """The `Studio` of the application that received the request."""
        return cast(Studio, request.app.state.studio)
