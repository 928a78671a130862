"""`Studio`: what the routes of Studio share beside the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from diptych.service.error_answers import Refused
from diptych.studio.jobs.query_sets import QuerySets
from diptych.studio.jobs.queue import Jobs
from diptych.studio.judging import JudgingSessions
from diptych.studio.swaps import Rates


@dataclass(frozen=True, slots=True)
class Studio:
    """What Studio may read and write, and the work that it does between requests.

    Args:
        sets: judged queries.
        jobs: work that takes longer than a request.
        judging: sessions of judges; None where nobody may judge.
        writes: whether a rollback may be asked for.
        opened: by collection, the arguments of `Collection.open` that a user of this machine would write.
        rates: how fast the back-fills are that somebody looks at.
    """

    sets: QuerySets = field(default_factory=QuerySets)
    jobs: Jobs = field(default_factory=Jobs)
    judging: JudgingSessions | None = None
    writes: bool = False
    opened: Mapping[str, str] = field(default_factory=dict)
    rates: Rates = field(default_factory=Rates)

    def close(self) -> None:
        """End what was begun, before the collections are closed."""
        self.jobs.stop()

    def require_judging(self) -> JudgingSessions:
        """The sessions of judges.

        Raises:
            Refused: nobody may judge.
        """
        if self.judging is None:
            message = "nothing can be judged here\n  do: begin Studio with --judgements FOLDER, where grades are saved"
            raise Refused(403, message, code="read_only")
        return self.judging

    @classmethod
    def of(cls, request: Request) -> Studio:
        """The `Studio` of the application that received the request."""
        return cast(Studio, request.app.state.studio)
