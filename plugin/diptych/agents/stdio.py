"""Serves over standard input and output until the client closes it or a signal arrives."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from diptych.agents.server import AgentServer
from diptych.service.shutdown import Ending

_PAUSE = 0.02  # seconds between two looks at whether calls are under way


def serve_stdio(server: AgentServer, close: Callable[[], None], *, grace: float) -> None:
    """Serve until standard input ends, or until SIGTERM or Ctrl-C; calls under way have `grace` seconds to end.

    After a signal the process ends here, because a thread is blocked reading standard input and cannot be interrupted.

    Args:
        server: what is served.
        close: closes what it holds.
        grace: seconds.
    """

    def orderly() -> None:
        while server.under_way:
            time.sleep(_PAUSE)
        close()

    ending = Ending(grace, orderly=orderly)

    def end(number: int, frame: FrameType | None) -> None:
        ending.begin(number)

    previous: dict[int, Any] = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run("stdio")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if server.under_way:
            ending.bound()
