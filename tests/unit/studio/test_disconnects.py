"""Work that nobody waits for any more is not begun."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from diptych.service.error_answers import Refused
from diptych.studio.disconnects import unless_gone


def request(*messages: str) -> Request:
    """A request of a client that sends these messages, then waits."""
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return {"type": left.pop(0)}

    return Request({"type": "http"}, receive)


def test_an_answer_comes_while_the_client_waits() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    assert asyncio.run(unless_gone(request(), work())) == "done"
    assert asyncio.run(unless_gone(request("http.request"), work())) == "done"


def test_an_error_of_the_work_is_its_own() -> None:
    async def work() -> str:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        asyncio.run(unless_gone(request(), work()))


def test_work_is_cancelled_when_the_client_goes() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(Refused, match="went away") as caught:
        asyncio.run(unless_gone(request("http.disconnect"), work()))
    assert caught.value.status == 499
    assert ended == ["cancelled"]


def test_work_that_ends_at_the_same_moment_still_answers() -> None:
    async def work() -> str:
        return "done"

    async def run() -> str:
        return await unless_gone(request("http.disconnect"), work())

    assert asyncio.run(run()) == "done"
