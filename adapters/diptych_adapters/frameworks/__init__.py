"""What the bridges to LangChain, LlamaIndex and Haystack share: media and details of hits, alike in all of them.

Begin with `hit_details`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


def in_thread(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """An async method that runs the method of this name in a thread, so that the event loop is not blocked."""

    @wraps(method)
    async def run(self: S, /, *args: P.args, **options: P.kwargs) -> R:
        return await asyncio.to_thread(getattr(self, method.__name__), *args, **options)

    return run
