"""`Clients`: HTTP clients of which each serves one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx


class Clients:
    """At most `limit` clients of one event loop, made when they are needed and kept with their connections.

    A client whose request failed or was cancelled is closed: its connection may be in any state.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient], *, limit: int) -> None:
        self._make, self._idle, self._free = make, list[httpx.AsyncClient](), asyncio.Semaphore(limit)

    @asynccontextmanager
    async def borrow(self, *, new: bool = False) -> AsyncIterator[tuple[httpx.AsyncClient, bool]]:
        """A client for exclusive use, and whether it has served before; waits while all are in use.

        Args:
            new: make a client, whose connection the server cannot have closed yet.
        """
        async with self._free:
            reused = bool(self._idle) and not new
            client = self._idle.pop() if reused else self._make()
            try:
                yield client, reused
            except BaseException:
                await client.aclose()
                raise
            self._idle.append(client)

    async def close(self) -> None:
        """Close the clients that are not in use."""
        idle, self._idle = self._idle, []
        for client in idle:
            await client.aclose()
