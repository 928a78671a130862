"""Shared by Studio's routes: `Studio`, `Call`, and `unless_gone`, which ends work that nobody waits for.

A page cancels its search with each further key that is typed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar, cast

from starlette.requests import Request

from diptych_serve.service.admission import Refused
from diptych_serve.service.context import Serving
from diptych_serve.studio.evaluations import QuerySets
from diptych_serve.studio.jobs import Jobs
from diptych_serve.studio.judging import JudgingSessions

THREADS = 2  # explanations and locations that are made at once
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Studio:
    """What Studio may read and write, and the work that it does between requests.

    Args:
        sets: judged queries.
        jobs: work that takes longer than a request.
        judging: sessions of judges; None where nobody may judge.
        writes: whether a rollback may be asked for.
        opened: by collection, the arguments of `Collection.open` that a user of this machine would write.
        threads: for what takes longer than a search, so that typing never waits for it.
    """

    sets: QuerySets = field(default_factory=QuerySets)
    jobs: Jobs = field(default_factory=Jobs)
    judging: JudgingSessions | None = None
    writes: bool = False
    opened: Mapping[str, str] = field(default_factory=dict)
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "diptych-studio"))

    def close(self) -> None:
        """End what was begun, before the collections are closed."""
        self.jobs.stop()
        self.threads.shutdown(cancel_futures=True)

    def require_judging(self) -> JudgingSessions:
        """The sessions of judges.

        Raises:
            Refused: nobody may judge.
        """
        if self.judging is None:
            do = "start Studio with --judgements FOLDER, where grades are saved"
            raise Refused(403, f"this Studio cannot save grades\n  do: {do}", code="read_only")
        return self.judging


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the service and Studio that it reached, and the id in its path."""

    serving: Serving
    studio: Studio
    id: str

    @classmethod
    def of(cls, request: Request) -> Call:
        """From a request."""
        studio = cast(Studio, request.app.state.studio)
        return cls(Serving.of(request), studio, request.path_params.get("id", ""))


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What `work` returns; it is cancelled when the client goes away. Call it when the body has been read.

    Work that waits for its turn is not begun then; a call of an encoder or of the store that is under way ends.

    Raises:
        Refused: the client went away, so nobody reads this.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Refused(499, "the client went away", code="disconnected")
    finally:
        for task in (working, leaving):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await leaving
