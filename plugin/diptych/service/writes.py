"""`Writes`: runs the populates of a service one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from diptych.service.refusals import Refused

T = TypeVar("T")


class Writes:
    """Runs populates one after another in a separate thread, so that they take no threads from searches.

    Args:
        waiting: the number of populates that may wait.
    """

    def __init__(self, waiting: int = 16) -> None:
        self._pool, self._room = ThreadPoolExecutor(1, "diptych-write"), waiting + 1

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` when it is its turn, and return its result.

        Raises:
            Refused: too many wait already.
        """
        if not self._room:
            message = "too many writes wait already\n  do: send more documents in each, and ask again in a while"
            raise Refused(429, message, code="rate_limit_exceeded", headers={"Retry-After": "5"})
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._room += 1
