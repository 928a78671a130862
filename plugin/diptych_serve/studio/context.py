"""Shared by Studio's routes: `Studio`, and `unless_gone`, which ends work that nobody waits for.

A page cancels its search with each further key that is typed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

from starlette.requests import Request

from diptych_serve.service.admission import Refused
from diptych_serve.studio.evaluations import QuerySets
from diptych_serve.studio.jobs import Jobs
from diptych_serve.studio.judging import JudgingSessions
from diptych_serve.studio.swaps import Rates

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
        rates: how fast the back-fills are that somebody looks at.
        threads: for what takes longer than a search, so that typing never waits for it.
    """

    sets: QuerySets = field(default_factory=QuerySets)
    jobs: Jobs = field(default_factory=Jobs)
    judging: JudgingSessions | None = None
    writes: bool = False
    opened: Mapping[str, str] = field(default_factory=dict)
    rates: Rates = field(default_factory=Rates)
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "diptych-studio"))

    def close(self) -> None:
        """End what was begun, before the collections are closed."""
        self.jobs.stop()
        self.threads.shutdown(cancel_futures=True)

    async def aside(self, call: Callable[..., T], *args: Any) -> T:
        """The result of a call that takes longer than a search; one that waits is dropped when it is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, partial(call, *args))

    def require_judging(self) -> JudgingSessions:
        """The sessions of judges.

        Raises:
            Refused: nobody may judge.
        """
        if self.judging is None:
            message = (
                "this Studio cannot save grades\n  do: start Studio with --judgements FOLDER, where grades are saved"
            )
            raise Refused(403, message, code="read_only")
        return self.judging

    @classmethod
    def of(cls, request: Request) -> Studio:
        """The `Studio` of the application that received the request."""
        return cast(Studio, request.app.state.studio)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; it is cancelled when the client goes away. Call it when the body has been read.

    Work that waits for its turn is not begun then; a call of an encoder or of the store that is under way ends.

    Raises:
        Refused: the client went away, so nobody reads this.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
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


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
